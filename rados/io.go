//go:build rados

package rados

// #include "aio.h"
import "C"

import (
	"context"
	"fmt"
	"iter"

	ceph "github.com/ceph/go-ceph/rados"
)

// IO does operations on the objects of one namespace of one pool. Its methods
// may be called concurrently.
type IO struct {
	Pool      string
	Namespace string

	conn *Conn
	ctx  *ceph.IOContext
}

// Operate does an operation on an object: all of its steps, in their order, or
// none. It returns the object's version, which AssertVersion takes: after a
// write the version that the write made.
//
// Errors are *Error, ErrClosed, or of the context. When the context ends,
// Operate leaves at once and librados is told to give up; whether the
// operation was or will be done is not known then.
func (io *IO) Operate(ctx context.Context, oid string, operation Op, flags Flags) (version uint64, err error) {
	o := operation.operation()
	if err := clean("object name", oid); err != nil || o.err != nil {
		return 0, joinFirst(err, o.err)
	}
	if err := io.conn.enter(); err != nil {
		return 0, err
	}
	defer io.conn.leave()
	r := room{bytes: o.bytes, urgent: flags&Urgent != 0}
	if err := io.conn.acquire(ctx, r); err != nil {
		return 0, fmt.Errorf("rados: wait to do %s %s: %w", o.describe(), oid, err)
	}
	p := &pending{room: r, done: make(chan struct{})}
	req, rc := io.submit(oid, o, flags&^Urgent, p)
	if rc < 0 {
		io.conn.finish(r)
		return 0, &Error{Op: o.describe(), OID: oid, Code: rc}
	}
	defer C.herald_put(req)
	select {
	case <-p.done:
	case <-ctx.Done():
		io.conn.abandoned.Add(1)
		C.herald_cancel(C.rados_ioctx_t(io.ctx.Pointer()), req)
		return 0, fmt.Errorf("rados: %s %s: %w", o.describe(), oid, context.Cause(ctx))
	}
	collect(req, o)
	if req.ret < 0 {
		return 0, &Error{Op: o.describe(), OID: oid, Code: int(req.ret)}
	}
	return uint64(req.version), nil
}

func joinFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Objects yields the names of the namespace's objects, in no useful order, and
// an error as the last pair. Each page blocks a thread until the OSD answers,
// however long that takes: not for a request's path. It counts in
// Stats.Blocking.
func (io *IO) Objects(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		done, err := io.conn.blocking()
		if err != nil {
			yield("", err)
			return
		}
		defer done()
		it, err := io.ctx.Iter()
		if err != nil {
			yield("", fmt.Errorf("rados: list %s/%s: %w", io.Pool, io.Namespace, err))
			return
		}
		defer it.Close()
		for it.Next() {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			if !yield(it.Value(), nil) {
				return
			}
		}
		if err := it.Err(); err != nil {
			yield("", fmt.Errorf("rados: list %s/%s: %w", io.Pool, io.Namespace, err))
		}
	}
}
