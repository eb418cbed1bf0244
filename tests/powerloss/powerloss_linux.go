package powerloss

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// FS is a mounted filesystem.
type FS struct {
	// Dir is where it is mounted.
	Dir     string
	image   string
	mounted bool
}

// Mount makes and mounts a filesystem of the given size, until the test ends.
func Mount(t testing.TB, mebibytes int64) *FS {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "root")
	}
	base := t.TempDir()
	fs := &FS{Dir: filepath.Join(base, "mnt"), image: filepath.Join(base, "image")}
	if err := os.Mkdir(fs.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(fs.image)
	if err == nil {
		err = f.Truncate(mebibytes << 20)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	// Initialized at once: no kernel thread writes to it later.
	if err := command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", fs.image); err != nil {
		missing(t, err.Error())
	}
	t.Cleanup(func() { fs.unmount(t) })
	if err := fs.mount(); err != nil {
		missing(t, err.Error())
	}
	return fs
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("a power loss cannot be simulated: %s", what)
	}
	t.Skipf("a power loss cannot be simulated: %s", what)
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

func (fs *FS) mount() error {
	err := command("mount", "-t", "ext4", "-o", "loop", fs.image, fs.Dir)
	fs.mounted = err == nil
	return err
}

func (fs *FS) unmount(t testing.TB) {
	t.Helper()
	if !fs.mounted {
		return
	}
	if err := command("umount", fs.Dir); err != nil {
		t.Errorf("files are still open? %v", err)
		_ = command("umount", "-l", fs.Dir) // so that the directory can be removed
	}
	fs.mounted = false
}

// The request EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32), and its flag for not
// flushing the filesystem's journal.
const (
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2
)

// Cut cuts the power: from now on every call that needs the filesystem fails
// with EIO. It may be called while others write.
func (fs *FS) Cut(t testing.TB) {
	t.Helper()
	d, err := os.Open(fs.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := unix.IoctlSetPointerInt(int(d.Fd()), ioctlShutdown, noLogFlush); err != nil {
		t.Fatalf("shut the filesystem down: %v", err)
	}
}

// Restore mounts the filesystem again. All files on it must have been closed.
func (fs *FS) Restore(t testing.TB) {
	t.Helper()
	fs.unmount(t)
	if err := fs.mount(); err != nil {
		t.Fatal(err)
	}
}
