package posix

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"herald/journal"
	"herald/store"
)

// Options of Open; the zero value is valid.
type Options struct {
	// Relaxed answers before the journal is flushed: a change survives the
	// death of the process, not of the machine. The journal should be opened
	// with NoSync then.
	Relaxed bool
	// NoXattr keeps all attributes in side files, also where the filesystem
	// has extended attributes.
	NoXattr bool
	// Holder is written to the lock file beside pid and host, so that a
	// second gateway can name the first (its address, say).
	Holder string
	// Reserve is the free space in bytes below which objects are refused with
	// store.ErrNoSpace, so that what was accepted can always be finished.
	// Default: 16 MiB, or 1/64 of a smaller filesystem.
	Reserve uint64
	Logger  *slog.Logger // default: discards
	// Fault is called at each of FaultPoints, for tests that kill the process
	// there. Default: none.
	Fault func(point string)
}

// FaultPoints are the names that Options.Fault is called with.
func FaultPoints() []string {
	return []string{
		"posix.staged.flushed", "posix.commit.prepared", "posix.commit.appended", "posix.commit.journaled",
		"posix.apply.archived", "posix.apply.placed", "posix.apply.swept", "posix.apply.indexed",
		"posix.move.moved", "posix.dir.made", "posix.temp.linked",
		"posix.remove.journaled", "posix.promote.placed", "posix.remove.promoted", "posix.remove.unlinked",
		"posix.update.journaled", "posix.update.applied",
		"posix.doc.journaled", "posix.doc.applied",
		"posix.upload.journaled", "posix.upload.applied", "posix.upload.ended",
		"posix.part.flushed", "posix.complete.assembled", "posix.replay.placed",
		"posix.checkpoint.begin", "posix.checkpoint.outcomes", "posix.checkpoint.end",
	}
}

// Driver keeps buckets in one directory tree. All methods may be called
// concurrently.
type Driver struct {
	root      string // absolute
	journal   *journal.Journal
	opts      Options
	log       *slog.Logger
	rootFD    int // the tree
	homeFD    int // .herald
	stagingFD int // .herald/staging
	lock      *os.File

	xattr       bool        // the filesystem has extended attributes
	granularity int64       // nanoseconds: what the filesystem keeps of mtime
	anonymous   bool        // files without a name can be made, and given one
	linkPlain   atomic.Bool // linkFD needs no /proc
	fsyncNames  bool        // an fsync of a new file flushes its name as well

	clock    clock
	guards   *guards
	dirs     *dirs
	flight   *flight
	index    *index
	docs     *records
	outcomes *outcomes
	replay   replay
	space    space
	uploads  uploads
	buffers  bodyBuffers

	stagingNames flushNames

	broken atomic.Pointer[error] // set when what was journaled could not be applied

	bucketMu sync.Mutex // held while a bucket is made or removed
	mu       sync.Mutex // guards buckets
	buckets  map[string]*bucket
}

var (
	_ store.Driver   = (*Driver)(nil)
	_ journal.Client = (*Driver)(nil)
	_ journal.Syncer = (*Driver)(nil)
)

// Open opens the tree in root, which is made if need be, takes its lock, and
// registers the driver as the journal's client. It is ready after
// journal.Recover.
func Open(root string, j *journal.Journal, opts Options) (*Driver, error) {
	d := &Driver{
		journal: j, opts: opts, log: opts.Logger,
		rootFD: -1, homeFD: -1, stagingFD: -1,
		guards: newGuards(), dirs: newDirs(), flight: newFlight(j),
		buckets: make(map[string]*bucket),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if err := d.open(root); err != nil {
		d.release()
		return nil, fmt.Errorf("open store %s: %w", root, err)
	}
	return d, nil
}

func (d *Driver) open(root string) (err error) {
	if d.root, err = filepath.Abs(root); err != nil {
		return err
	}
	if err := os.MkdirAll(d.root, 0o777); err != nil {
		return err
	}
	for _, dir := range []string{"", "staging", "keys", "versions", "meta", "uploads", "records"} {
		if err := os.MkdirAll(filepath.Join(d.root, home, dir), 0o700); err != nil {
			return err
		}
	}
	if d.lock, err = lockDir(filepath.Join(d.root, home), d.opts.Holder); err != nil {
		return err
	}
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	if d.rootFD, err = unix.Open(d.root, flags, 0); err != nil {
		return err
	}
	if d.homeFD, err = unix.Openat(d.rootFD, home, flags, 0); err != nil {
		return err
	}
	if d.stagingFD, err = unix.Openat(d.homeFD, "staging", flags, 0); err != nil {
		return err
	}
	if err := d.probe(); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	if err := d.replay.begin(d); err != nil {
		return err
	}
	if d.outcomes, err = loadOutcomes(d); err != nil {
		return fmt.Errorf("read outcomes: %w", err)
	}
	if d.docs, err = loadRecords(d); err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	if d.index, err = openIndex(d); err != nil {
		return err
	}
	if err := d.forgetGone(); err != nil {
		return err
	}
	return d.journal.Register(journal.StreamStore, d)
}

// release gives back what open took.
func (d *Driver) release() error {
	var errs []error
	d.mu.Lock()
	buckets := slices.Collect(maps.Values(d.buckets))
	clear(d.buckets)
	d.mu.Unlock()
	for _, b := range buckets {
		d.retire(b) // waits for who changes something; that wants the index
	}
	if d.index != nil {
		errs = append(errs, d.index.close())
	}
	for _, fd := range []int{d.stagingFD, d.homeFD, d.rootFD} {
		if fd >= 0 {
			closeFD(fd)
		}
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}

// Close implements store.Driver. It does not close the journal: close that
// first, so that it can ask for a last checkpoint.
func (d *Driver) Close() error {
	if err := d.release(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// Records implements store.Driver.
func (d *Driver) Records() store.Records { return d.docs }

// Outcomes implements store.Driver.
func (d *Driver) Outcomes() store.Outcomes { return d.outcomes }

// fault is a named place where tests may kill the process.
func (d *Driver) fault(point string) {
	if d.opts.Fault != nil {
		d.opts.Fault(point)
	}
}

// breakDown notes that a journaled change could not be applied. Nothing more
// is written then, and the record stays in the journal: the next start
// applies it. It returns what the caller answers.
func (d *Driver) breakDown(what string, err error) error {
	err = fmt.Errorf("%s: %w: %w", what, store.ErrUnknownOutcome, err)
	d.log.Error("a journaled change could not be applied; the store refuses changes until it is started anew", "error", err)
	d.broken.CompareAndSwap(nil, &err)
	return err
}

// onPanic is deferred by what journals a change and applies it: whoever recovers
// the panic and goes on must not find a change that is half made.
func (d *Driver) onPanic(what string) {
	if r := recover(); r != nil {
		_ = d.breakDown(what, fmt.Errorf("panic: %v", r)) // noted; the panic says it
		panic(r)
	}
}

// Checkpoint implements journal.Client.
func (d *Driver) Checkpoint() (journal.LSN, error) {
	d.fault("posix.checkpoint.begin")
	if err := d.replay.end(d); err != nil {
		return 0, fmt.Errorf("checkpoint store: %w", err)
	}
	lsn := d.flight.applied()
	if err := d.outcomes.save(); err != nil {
		return 0, fmt.Errorf("checkpoint store: outcomes: %w", err)
	}
	d.fault("posix.checkpoint.outcomes")
	if err := d.index.flush(); err != nil {
		return 0, fmt.Errorf("checkpoint store: %w", err)
	}
	d.fault("posix.checkpoint.end")
	return lsn, nil
}

// Flushed implements journal.Client.
func (d *Driver) Flushed(journal.LSN) error { return nil }

// Syncfs implements journal.Syncer: the tree may be on another filesystem
// than the journal.
func (d *Driver) Syncfs() error {
	return syncFS(d.rootFD)
}
