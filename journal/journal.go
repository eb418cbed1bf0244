// Package journal is the write-ahead journal that store/posix and
// queue/embedded share: one flush for all requests that wait.
//
// Records of several streams are appended in one order. A record is durable
// when Wait for its LSN returns; records become durable in order, so that what
// survives a crash is always a prefix. A client (one per stream) applies what
// its records say to files of its own, without flushing them; Checkpoint makes
// those files durable and lets go of the journal before it. After a crash
// each client is given its records since the last checkpoint again, in order,
// and must apply them idempotently.
//
// On disk the journal is a ring of segment files, preallocated and written
// full once, then overwritten in aligned blocks through O_DIRECT: a flush then
// changes no metadata, and the filesystem need not commit its own journal
// with every fresh inode (docs/adr has the measurement).
package journal

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// LSN is a record's place in the journal. It grows with each record and is
// never used again. The zero LSN is before every record.
type LSN uint64

// Stream tells clients' records apart. Numbers are fixed for ever.
type Stream uint8

// The streams.
const (
	StreamStore Stream = 1
	StreamQueue Stream = 2
)

// Client applies the records of one stream.
type Client interface {
	// Replay applies one record again. It is called from Recover, in order,
	// before anything is appended; the payload is valid during the call.
	Replay(lsn LSN, payload []byte) error
	// Checkpoint returns an LSN such that the effect of every record of this
	// stream up to it has been written to files (not necessarily flushed: the
	// journal calls syncfs on its filesystem after all clients returned, and
	// then Flushed). It may block new records of the stream for a moment. An
	// error poisons the journal, except ENOSPC: then nothing is released for
	// the stream, and Checkpoint is called again later.
	Checkpoint() (LSN, error)
	// Flushed tells that what was written before the last Checkpoint returned
	// is durable now.
	Flushed(LSN) error
}

// Syncer is what a Client implements whose files live on a filesystem other
// than the journal's: Checkpoint then flushes them through it as well.
type Syncer interface {
	Syncfs() error
}

// Starter is what a Client implements that keeps more than one checkpoint of
// its own: Recover calls Start, before the first Replay, with the LSN that the
// last Checkpoint returned whose flush was completed (zero: none was). What
// later calls of Checkpoint wrote may be on the disk in part: it must not be
// relied on.
type Starter interface {
	Start(done LSN) error
}

// Errors of the journal. Besides these, Append and Wait return what made a
// write or a flush go wrong, for ever: see Journal.Err.
var (
	ErrClosed    = errors.New("journal: closed")
	ErrRingFull  = errors.New("journal: ring full")
	ErrTooLarge  = errors.New("journal: record too large")
	ErrInUse     = errors.New("journal: in use by another process")
	ErrNotReady  = errors.New("journal: not recovered")
	ErrNoClient  = errors.New("journal: record of an unregistered stream")
	ErrCorrupt   = errors.New("journal: corrupt")
	ErrBeyondEnd = errors.New("journal: LSN was never appended")
)

// CorruptError names the place of a batch that is damaged although others
// follow it. It is ErrCorrupt.
type CorruptError struct {
	File   string // segment
	Offset int64  // in the file, bytes
	Pos    uint64 // in the journal
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("journal: corrupt batch in %s at offset %d (position %d): %s", e.File, e.Offset, e.Pos, e.Reason)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Options for Open. The zero value is valid.
type Options struct {
	// SegmentBytes is the size of one segment file (default 64 MiB), a
	// multiple of 4096.
	SegmentBytes int64
	// Segments is how many of them the ring has (default 4, at least 2).
	Segments int
	// MaxRecord bounds one record, in bytes (default 8 MiB, at most an eighth
	// of the ring).
	MaxRecord int
	// FlushDelay is how long a record stays unflushed for which nobody waits,
	// about (default 50 ms).
	FlushDelay time.Duration
	// CheckpointInterval is how long after new records a checkpoint is done
	// though the ring is not half full (default 1 s).
	CheckpointInterval time.Duration
	// StallTimeout is how long Append waits while checkpoints can release
	// nothing, as when a client's disk is full (default 5 s).
	StallTimeout time.Duration
	// NoSync is the relaxed mode: Wait flushes nothing. What it returned for
	// survives the end of the process; of the machine only if a checkpoint
	// came in between.
	NoSync bool
	// NoDirect avoids O_DIRECT.
	NoDirect bool
	// Fault, if set, is called at named points, so that tests can kill the
	// process there. See FaultPoints.
	Fault func(point string)
	// OnFlush, if set, is called after each flush: how long writing and
	// flushing took, and what was in it.
	OnFlush func(d time.Duration, records, bytes int)
	// OnCheckpoint, if set, is called after each checkpoint.
	OnCheckpoint func(d time.Duration)
}

// FaultPoints are the names that Options.Fault is called with.
func FaultPoints() []string {
	return []string{
		"journal.flush.begin", "journal.flush.written", "journal.flush.synced",
		"journal.checkpoint.begin", "journal.checkpoint.clients", "journal.checkpoint.synced",
		"journal.checkpoint.header", "journal.recover.replayed",
	}
}

const (
	blockSize       = 4096
	defaultSegment  = 64 << 20
	defaultSegments = 4
	defaultRecord   = 8 << 20
	maxBatchSoft    = 4 << 20 // an appender that finds more flushes first
)

func (o Options) withDefaults() (Options, error) {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegment
	}
	if o.Segments == 0 {
		o.Segments = defaultSegments
	}
	if o.SegmentBytes < blockSize || o.SegmentBytes%blockSize != 0 || o.Segments < 2 {
		return o, fmt.Errorf("journal: %d segments of %d bytes: want 2 or more, of a multiple of %d", o.Segments, o.SegmentBytes, blockSize)
	}
	ring := o.SegmentBytes * int64(o.Segments)
	if o.MaxRecord == 0 {
		o.MaxRecord = int(min(defaultRecord, ring/8))
	}
	if int64(o.MaxRecord) > ring/8 {
		return o, fmt.Errorf("journal: records of %d bytes in a ring of %d: want at most an eighth", o.MaxRecord, ring)
	}
	if o.FlushDelay == 0 {
		o.FlushDelay = 50 * time.Millisecond
	}
	if o.CheckpointInterval == 0 {
		o.CheckpointInterval = time.Second
	}
	if o.StallTimeout == 0 {
		o.StallTimeout = 5 * time.Second
	}
	if o.Fault == nil {
		o.Fault = func(string) {}
	}
	return o, nil
}

// Journal is a write-ahead journal in one directory. After Recover all its
// methods may be called concurrently.
//
//	j, err := journal.Open(dir, journal.Options{})
//	err = j.Register(journal.StreamStore, client) // each client, before Recover
//	err = j.Recover()                             // replays, then checkpoints
//	go j.Run(ctx)                                 // flushes, checkpoints by fill and by time
//	lsn, err := j.Append(stream, parts...)        // in order, not yet durable
//	err = j.Wait(lsn)                             // one of the waiters flushes for all
//	err = j.Close()                               // checkpoints and marks the journal clean
type Journal struct {
	dir  string
	opts Options
	ring *ring
	lock *os.File
	fs   *os.File // the directory, for syncfs

	clients map[Stream]Client // fixed by Recover

	checkpointing sync.Mutex // held during a checkpoint; guards head
	head          header

	kick  chan struct{} // wakes Run
	dirty chan struct{} // wakes runFlush
	armed atomic.Bool   // runFlush looks by itself before long

	mu       sync.Mutex // guards what follows
	room     *sync.Cond // on mu: released has grown, or the journal has ended
	state    state
	err      error  // sticky: why the journal is poisoned
	cur      *batch // takes records
	inflight *batch // being flushed, or nil
	spare    []byte // buffer of the last batch flushed
	end      LSN    // of the last record appended
	durable  LSN
	released uint64 // position before which the ring may be overwritten
	limit    uint64 // position that the ring may not be written beyond
	last     [256]LSN
	marks    []uint64 // starts of some batches since released, ascending
	waiting  int      // appenders that wait for room
	asked    bool     // a checkpoint was asked for
	stalled  bool     // checkpoints release nothing: nobody waits for room
	stats    Stats
}

type state uint8

const (
	stateOpened state = iota
	stateReady
	stateClosed
)

// Stats are figures for metrics; all but Used and Size count since Open.
type Stats struct {
	Flushes     uint64
	Records     uint64 // flushed
	Bytes       uint64 // flushed, with headers and padding
	Checkpoints uint64
	Used, Size  int64 // bytes of the ring
	Direct      bool  // written by O_DIRECT
}

// Open prepares the journal in dir, which it creates if need be. It changes
// nothing there before Recover.
func Open(dir string, opts Options) (*Journal, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{
		dir:     dir,
		opts:    opts,
		clients: make(map[Stream]Client),
		kick:    make(chan struct{}, 1),
		dirty:   make(chan struct{}, 1),
	}
	j.room = sync.NewCond(&j.mu)
	return j, nil
}

// Register sets the client of a stream; before Recover, once for each.
func (j *Journal) Register(s Stream, c Client) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state != stateOpened {
		return fmt.Errorf("journal: register stream %d after Recover", s)
	}
	if _, ok := j.clients[s]; ok {
		return fmt.Errorf("journal: stream %d registered twice", s)
	}
	j.clients[s] = c
	return nil
}

// ID is a number that tells this journal from others, the same for ever. It is
// known when Recover calls the clients. A client that keeps it finds out when
// its files and the journal do not belong together.
func (j *Journal) ID() uint64 { return j.head.id }

// Durable returns the LSN up to which everything is durable.
func (j *Journal) Durable() LSN {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.durable
}

// End returns the LSN of the last record appended.
func (j *Journal) End() LSN {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.end
}

// Err returns why the journal is poisoned, or nil. After a write or a flush
// went wrong nobody can know what is on the disk (a second fsync may succeed
// although the pages were dropped), so nothing is ever written again.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// Stats returns the journal's figures.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	if j.ring != nil {
		s.Size, s.Direct = int64(j.ring.size()), j.ring.direct.Load()
	}
	if j.cur != nil {
		s.Used = int64(j.cur.end() - j.released)
	}
	return s
}
