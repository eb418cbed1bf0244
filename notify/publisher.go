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
	HostID    string // as in x-amz-id-2
	// Attrs are the attributes that the object will have, or nil when they
	// are not known yet (deletes; copies before the source is open).
	Attrs store.Attrs
}

// Publisher is all of notifications that s3api sees.
//
//	pending, err := pub.Reserve(ctx, change)      // ErrFull: answer 503 SlowDown, nothing was touched
//	defer pending.Abort()                         // does nothing after Do succeeded
//	... receive the body ...
//	out, err := pending.Do(ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
//		return w.Commit(ctx, store.CommitOptions{Op: op, ...})
//	})
//
// Do runs the commit without the request's cancellation and under a guard per
// bucket and key, so that entries enter their queues in the order of the
// changes; it then commits the entries, and pushes to synchronous topics with
// a deadline after the guard was released. When the outcome is unknown the
// reservation is left to the resolver. Its error is that of commit: a failed
// push does not fail the request.
type reserveDoc = func(context.Context, Change) // see publisher methods
