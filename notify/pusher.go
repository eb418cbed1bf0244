package notify

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Pusher sends events to one endpoint. It neither retries nor queues. All
// methods may be called concurrently.
type Pusher interface {
	// Push sends events, in their order, and returns one result for each. It
	// returns no later than when ctx is done.
	Push(ctx context.Context, events []Event) []Result
	// Close lets go of connections. What is in flight fails.
	Close() error
}

// Event is an event as pushers get it.
type Event struct {
	// Record is the record's JSON; the message is {"Records":[record]}.
	Record []byte
	// Key orders events: those with an equal one are sent one after another.
	Key string
}

// Result is what became of one event.
type Result struct {
	Status Status
	// Err says why, unless acked. It holds no secrets.
	Err error
}

// Status of a push.
type Status uint8

// The results of a push.
const (
	Acked    Status = iota // delivered
	Retry                  // not delivered; may be if sent again
	Rejected               // will never be taken: a dead letter at once
)

// Endpoint is what a Pusher is opened from.
type Endpoint struct {
	URL   string // may hold a secret
	Args  string // "k=v&k=v": see Dest.Args
	Topic string // name of the topic: the routing name at brokers
	// ConnectTimeout and Timeout bound one push.
	ConnectTimeout, Timeout time.Duration
}

// Arg returns one argument, or "".
func (e *Endpoint) Arg(name string) string { return argValue(e.Args, name) }

// BoolArg returns a boolean argument; anything but "true" and "false" is def.
func (e *Endpoint) BoolArg(name string, def bool) bool { return boolArg(e.Args, name, def) }

// openPusher is the list of openers. Errors: ErrInvalidEndpoint.
func openPusher(e Endpoint) (Pusher, error) {
	if e.URL == "" {
		return nil, fmt.Errorf("%w: topic has no push-endpoint", ErrInvalidEndpoint)
	}
	u, err := url.Parse(e.URL)
	if err != nil {
		return nil, ErrInvalidEndpoint // its text may hold a password
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https":
		return newHTTPPusher(e, u)
	}
	return nil, fmt.Errorf("%w: unknown schema %q", ErrInvalidEndpoint, u.Scheme)
}

// checkEndpoint tells whether an event may be sent to the endpoint at all, for
// readiness: nil, or why every push must fail.
func checkEndpoint(e Endpoint) error {
	p, err := openPusher(e)
	if err != nil {
		return err
	}
	return p.Close()
}

// String is the status as metrics name it.
func (s Status) String() string {
	switch s {
	case Acked:
		return "acked"
	case Retry:
		return "retry"
	}
	return "rejected"
}
