package posix

import (
	"sync"

	"herald/journal"
)

// flight knows the journal records that were appended and not yet applied, so
// that a checkpoint can tell how far the tree is.
type flight struct {
	j       wal
	relaxed bool

	mu   sync.Mutex // guards open
	open map[*ticket]journal.LSN
}

// ticket is one record in flight.
type ticket struct{}

// append writes a record (its parts one after the other) to the journal and
// waits until it is durable. The caller applies it and then calls done with
// the ticket, always.
func (f *flight) append(parts ...[]byte) (*ticket, error) { panic("being written") }

// lazy is append without the wait: for what need not be durable on return.
func (f *flight) lazy(parts ...[]byte) (*ticket, error) { panic("being written") }

// done tells that a record was applied.
func (f *flight) done(t *ticket) { panic("being written") }
