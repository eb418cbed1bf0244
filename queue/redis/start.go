package redis

import (
	"context"

	"herald/queue"
)

var _ queue.Starter = (*Queue)(nil)

// StartCommit is Commit without a goroutine, but for one that repeats a call
// whose answer was lost. What it does is done when the script has run.
func (q *Queue) StartCommit(ctx context.Context, id queue.ID, entries [][]byte, done func(error)) {
	args, size, err := commitArgs(entries)
	if err != nil {
		done(q.wrap("commit to", err))
		return
	}
	o := newOp(q, commitOp, idString(id), size, args)
	again := func() {
		err := q.d.spawn(func() {
			code, _, err := q.change(ctx, commitOp, o.id, size, args...) // by the same token
			done(q.committed(o.id, code, err))
		})
		if err != nil {
			done(q.wrap("commit to", err))
		}
	}
	o.then = func(r opResult) {
		if transient(r.err) {
			again()
			return
		}
		done(q.committed(o.id, r.code, r.err))
	}
	n, err := q.d.node(ctx, q.keys[0])
	if err == nil {
		err = n.lane.submit(o)
	}
	if err != nil {
		again()
	}
}
