package posix

import (
	"sync"

	"golang.org/x/sys/unix"

	"herald/store"
)

// body is the data of an object about to be committed: in memory, or in a
// file that has been flushed.
type body struct {
	data   []byte
	staged string // path of the file, relative to .herald; "": data
	fd     int    // the staged file, open for writing; the caller closes it
	size   int64
	taken  bool // set by commit: the staged file belongs to the journal's record now
}

// temp is a file that has its content, and waits for its name.
type temp struct {
	fd   int
	path string // where it is, relative to .herald; "": it has no name yet
	own  bool   // drop closes fd
}

// newName returns a name that was never used.
func newName() string { return store.NewOpID().String() }

// newTemp makes a temporary file, without a name if that is possible: in the
// filesystem of the directory dirFD.
func (d *Driver) newTemp(dirFD int) (*temp, error) {
	if d.anonymous {
		fd, err := openTemp(dirFD)
		if err != nil && dirFD != d.stagingFD {
			fd, err = openTemp(d.stagingFD) // in a removed directory ext4 answers EPERM
		}
		if err != nil {
			return nil, err
		}
		return &temp{fd: fd, own: true}, nil
	}
	return d.newStaged()
}

// newStaged makes a temporary file with a name.
func (d *Driver) newStaged() (*temp, error) {
	name := newName()
	fd, err := unix.Openat(d.stagingFD, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return nil, err
	}
	return &temp{fd: fd, path: "staging/" + name, own: true}, nil
}

// writeFlushed is writeTemp that makes the content durable.
func (d *Driver) writeFlushed(content []byte) (string, error) {
	name, err := d.writeTemp(content)
	if err != nil {
		return "", err
	}
	fd, err := unix.Openat(d.stagingFD, name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer closeFD(fd)
	return name, flushFile(fd)
}

// writeTemp writes a small file of our own and returns its name in staging.
func (d *Driver) writeTemp(content []byte) (string, error) {
	name := newName()
	fd, err := unix.Openat(d.stagingFD, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return "", err
	}
	defer closeFD(fd)
	if err := writeAll(fd, content); err != nil {
		_ = unix.Unlinkat(d.stagingFD, name, 0)
		return "", err
	}
	return name, nil
}

// naming says what is where a file gets its name.
type naming uint8

const (
	replacing naming = iota // perhaps a file
	fresh                   // nothing, as far as is known
	swapping                // surely a file
)

// into names the file.
func (t *temp) into(d *Driver, dirFD int, name string, how naming) error {
	if t.path == "" {
		if how == fresh {
			if err := linkFD(t.fd, dirFD, name, &d.linkPlain); err != unix.EEXIST {
				return err
			}
		}
		n := newName()
		if err := linkFD(t.fd, d.stagingFD, n, &d.linkPlain); err != nil {
			return err
		}
		t.path = "staging/" + n
		d.fault("posix.temp.linked")
	}
	if how == swapping && t.swap(d, dirFD, name) {
		return nil
	}
	if err := unix.Renameat(d.homeFD, t.path, dirFD, name); err != nil {
		return err
	}
	t.path = ""
	return nil
}

// swap is a rename that replaces a file without having the new one's data
// written out first, which is what ext4 does in a plain rename. It answers
// false, with nothing changed, where that cannot be done.
func (t *temp) swap(d *Driver, dirFD int, name string) bool {
	if exchange(d.homeFD, t.path, dirFD, name) != nil {
		return false
	}
	err := unix.Unlinkat(d.homeFD, t.path, 0)
	if err == unix.EISDIR || err == unix.EPERM {
		// Another program made a directory of it at the last moment.
		return exchange(d.homeFD, t.path, dirFD, name) != nil
	}
	t.path = "" // else it is swept at the next start
	return true
}

// drop closes the file, and throws it away unless it got its name.
func (t *temp) drop(d *Driver) {
	if t == nil {
		return
	}
	if t.path != "" {
		_ = unix.Unlinkat(d.homeFD, t.path, 0) // swept at the next start otherwise
		t.path = ""
	}
	if t.own && t.fd >= 0 {
		closeFD(t.fd)
	}
	t.fd = -1
}

// flushNames makes the names in staging durable, one flush for all who wait.
type flushNames struct {
	mu   sync.Mutex // held during a flush
	gate sync.Mutex // guards next
	next *flushGroup
}

type flushGroup struct {
	once sync.Once
	err  error
}

// flush flushes the directory; what was named before it was called is durable
// when it returns.
func (f *flushNames) flush(fd int) error {
	f.gate.Lock()
	g := f.next
	if g == nil {
		g = new(flushGroup)
		f.next = g
	}
	f.gate.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	g.once.Do(func() {
		f.gate.Lock()
		f.next = nil // later callers need a later flush
		f.gate.Unlock()
		g.err = flushFile(fd)
	})
	return g.err
}
