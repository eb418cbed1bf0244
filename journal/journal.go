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
	// then Flushed). It may block new records of the stream for a moment.
	Checkpoint() (LSN, error)
	// Flushed tells that what was written before the last Checkpoint returned
	// is durable now.
	Flushed(LSN) error
}

// The API that the clients use; see the methods' comments in their files.
//
//	j, err := journal.Open(dir, journal.Options{})
//	j.Register(journal.StreamStore, client)      // each client, before Recover
//	err = j.Recover()                            // replays, then checkpoints
//	go j.Run(ctx)                                // checkpoints by fill and by time
//	lsn, err := j.Append(stream, parts...)       // in order, not yet durable; blocks while the ring is full
//	err = j.Wait(lsn)                            // one of the waiters flushes for all
//	j.Durable() LSN                              // what has been flushed
//	err = j.Close()                              // checkpoints and marks the journal clean
