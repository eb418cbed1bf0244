package queue

import "context"

// Starter is the optional capability of a Queue to commit for who does not
// wait, without a goroutine that does.
type Starter interface {
	// StartCommit begins what Commit does, and returns. Then done is called
	// once, with Commit's error: perhaps before it returns, perhaps by a
	// goroutine that others wait for, so that it must not block. The entries
	// must not change until then.
	StartCommit(ctx context.Context, id ID, entries [][]byte, done func(error))
}
