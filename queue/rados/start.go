//go:build rados

package rados

import (
	"context"

	"herald/queue"
)

// StartCommit is Commit without a goroutine, but for the one that ctx takes
// when it ends first. done is called by the queue's runner.
func (q *Queue) StartCommit(ctx context.Context, id queue.ID, entries [][]byte, done func(error)) {
	if err := q.d.enter(); err != nil {
		done(err)
		return
	}
	c := commitCall(id, entries)
	c.ctx = ctx
	c.then = func(err error) {
		defer q.d.leave()
		done(err)
	}
	if err := q.submit(c); err != nil {
		c.then(err)
	}
}

// commitCall is the call of a commit. It has copies of the entries: the runner
// may look at them when nobody waits any more.
func commitCall(id queue.ID, entries [][]byte) *call {
	size := 0
	for _, e := range entries {
		size += len(e)
	}
	all, data := make([]byte, 0, size), make([][]byte, len(entries))
	for i, e := range entries {
		from := len(all)
		all = append(all, e...)
		data[i] = all[from:len(all):len(all)]
	}
	return &call{request: request{kind: kindCommit, id: id, data: data}}
}

// leave tells who started a call that its time is over, unless it was answered.
func (q *Queue) leave(c *call) {
	q.mu.Lock()
	told := c.finished || c.left
	c.left = true
	q.mu.Unlock()
	if !told {
		c.then(context.Cause(c.ctx))
	}
}
