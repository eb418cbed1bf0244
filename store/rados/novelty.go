//go:build rados

package rados

import "sync/atomic"

// novelty guesses whether the key of a PUT is new. A head that is not there
// need not be read: the operation that makes it fails where there is one, and
// then it is read.
type novelty struct {
	run atomic.Int32 // PUTs since the last one that found a head
}

// novelAfter is how many PUTs have to find none before the next is taken for
// one of a new key: a guess in vain costs an operation on the head, which is
// longer than its reading.
const novelAfter = 16

func (n *novelty) expected() bool { return n.run.Load() >= novelAfter }

// note counts a PUT that knows whether there was a head.
func (n *novelty) note(absent bool) {
	switch {
	case !absent:
		n.run.Store(0)
	case !n.expected():
		n.run.Add(1)
	}
}
