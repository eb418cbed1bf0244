package posix

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLocked: another gateway has the tree open. The error's text names it.
var ErrLocked = errors.New("in use by another gateway")

// lockDir takes the lock of a tree and writes down who holds it. Closing the
// file, or the end of the process, gives the lock back.
func lockDir(dir, holder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer func() { _ = f.Close() }()
		if err != unix.EWOULDBLOCK {
			return nil, fmt.Errorf("lock: %w", err)
		}
		who, _ := io.ReadAll(io.LimitReader(f, 1024))
		return nil, fmt.Errorf("%w: %s", ErrLocked, strings.TrimSpace(string(who)))
	}
	host, _ := os.Hostname()
	text := fmt.Sprintf("pid %d on %s %s", os.Getpid(), host, holder)
	if err := errors.Join(f.Truncate(0), writeAll(int(f.Fd()), []byte(strings.TrimSpace(text)+"\n"))); err != nil {
		return nil, errors.Join(fmt.Errorf("lock: %w", err), f.Close())
	}
	return f, nil
}
