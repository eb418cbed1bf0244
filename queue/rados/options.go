//go:build rados

package rados

import (
	"cmp"
	"log/slog"
	"time"
)

// Options for Open. ConfFile, User and Pool say where the queues are; the zero
// value of the others is valid.
type Options struct {
	ConfFile  string // of Ceph; default: where Ceph looks, such as /etc/ceph/ceph.conf
	User      string // default client.admin
	Pool      string
	Namespace string

	// PollInterval is how often a waiting consumer looks for the commits of
	// other gateways (default 500 ms).
	PollInterval time.Duration
	// OpTimeout is how long an operation may take before it is sent again
	// (default 30 s).
	OpTimeout time.Duration
	// Logger is told what an operator should know (default: nobody).
	Logger *slog.Logger
	// Now is the clock of the caller (default time.Now).
	Now func() time.Time

	fault func(point string) // in tests, called between two steps
	lose  func() bool        // in tests, tells whether an answer is lost
}

func (o Options) withDefaults() Options {
	o.PollInterval = cmp.Or(o.PollInterval, 500*time.Millisecond)
	o.OpTimeout = cmp.Or(o.OpTimeout, 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.fault == nil {
		o.fault = func(string) {}
	}
	if o.lose == nil {
		o.lose = func() bool { return false }
	}
	return o
}

// MaxName is the longest name of a queue, in bytes.
const MaxName = 1024

// MaxCapacity is the largest capacity of a queue, in bytes: its ring must fit
// an object.
const MaxCapacity = maxRing - 2<<20

// ringFor returns the size of the ring for a capacity. It is larger, because
// what is gone from its middle, and the frames around small entries, take room
// that the capacity does not count.
func ringFor(capacity uint64) ring { return ring(min(8*capacity+1<<20, maxRing)) }
