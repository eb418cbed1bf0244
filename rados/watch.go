//go:build rados

package rados

// #include "watch.h"
// #include <stdlib.h>
import "C"

import (
	"context"
	"fmt"
	"runtime/cgo"
	"sync"
	"time"
	"unsafe"

	ceph "github.com/ceph/go-ceph/rados"
)

// NotifyTimeout is how long Notify waits for a watcher that does not answer,
// such as one that died less than 30 s ago: the shortest time that librados
// can say.
const NotifyTimeout = time.Second

// Watch has a function called when an object's watchers are notified.
type Watch struct {
	io       *IO
	oid      string
	notified func()
	cookie   uint64

	lost     chan struct{}
	loseOnce sync.Once
}

// Watch watches an object, which has to be there. notified is called, perhaps
// concurrently, before the Notify that caused it returns; it must not block.
// Errors are *Error, ErrClosed, or of the context. A watch that librados may
// still be making or ending when its context ends keeps the connection's
// memory until the process ends.
//
// A few bytes for each watch that was ever made stay, too: librados may still
// call them.
func (io *IO) Watch(ctx context.Context, oid string, notified func()) (*Watch, error) {
	w := &Watch{io: io, oid: oid, notified: notified, lost: make(chan struct{})}
	cookie, err := io.call(ctx, "watch", oid, func(io C.rados_ioctx_t, oid *C.char, call C.uintptr_t) C.int {
		return C.herald_watch(io, oid, call, C.uintptr_t(cgo.NewHandle(w)))
	})
	w.cookie = cookie
	return w, err
}

// Lost is closed when the cluster does not notify this watch any more. What
// was notified before may not have arrived.
func (w *Watch) Lost() <-chan struct{} { return w.lost }

// Close ends the watch.
func (w *Watch) Close(ctx context.Context) error {
	_, err := w.io.call(ctx, "unwatch", w.oid, func(io C.rados_ioctx_t, _ *C.char, call C.uintptr_t) C.int {
		return C.herald_unwatch(io, C.uint64_t(w.cookie), call)
	})
	return err
}

// Notify notifies the watchers of an object. It returns when all have been
// called; ETIMEDOUT after NotifyTimeout when some have not answered.
func (io *IO) Notify(ctx context.Context, oid string) error {
	_, err := io.call(ctx, "notify", oid, func(io C.rados_ioctx_t, oid *C.char, call C.uintptr_t) C.int {
		return C.herald_notify(io, oid, C.uint64_t(NotifyTimeout/time.Millisecond), call)
	})
	return err
}

// call is a call under way that is none of Operate's.
type call struct {
	conn   *Conn
	done   chan struct{} // closed when rc and cookie are there
	rc     int
	cookie uint64
}

// call begins a call and waits for its end, or for the context's.
func (io *IO) call(ctx context.Context, op, oid string, begin func(C.rados_ioctx_t, *C.char, C.uintptr_t) C.int) (cookie uint64, err error) {
	if err := clean("object name", oid); err != nil {
		return 0, err
	}
	if err := io.conn.enter(); err != nil {
		return 0, err
	}
	defer io.conn.leave()
	name := C.CString(oid)
	defer C.free(unsafe.Pointer(name))
	c := &call{conn: io.conn, done: make(chan struct{})}
	handle := cgo.NewHandle(c)
	io.conn.calls.Add(1)
	if rc := begin(ioctx(io.ctx), name, C.uintptr_t(handle)); rc < 0 {
		io.conn.calls.Add(-1)
		handle.Delete()
		return 0, &Error{Op: op, OID: oid, Code: int(rc)}
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return 0, fmt.Errorf("rados: %s %s: %w", op, oid, context.Cause(ctx))
	}
	if c.rc < 0 {
		return 0, &Error{Op: op, OID: oid, Code: c.rc}
	}
	return c.cookie, nil
}

func ioctx(c *ceph.IOContext) C.rados_ioctx_t { return C.rados_ioctx_t(c.Pointer()) }

// heraldRadosCalled is called by librados' threads when a call has ended.
//
//export heraldRadosCalled
func heraldRadosCalled(handle C.uintptr_t, rc C.int, cookie C.uint64_t) {
	h := cgo.Handle(handle)
	c := h.Value().(*call)
	h.Delete()
	c.rc, c.cookie = int(rc), uint64(cookie)
	c.conn.calls.Add(-1)
	close(c.done)
}

// heraldRadosNotified is called by a thread of librados, which must not wait.
//
//export heraldRadosNotified
func heraldRadosNotified(handle C.uintptr_t, notification, cookie C.uint64_t) {
	w := cgo.Handle(handle).Value().(*Watch)
	go w.answer(notification, cookie) // a few instructions and a message
}

// answer calls the function and tells who notified.
func (w *Watch) answer(notification, cookie C.uint64_t) {
	if w.io.conn.enter() != nil {
		return
	}
	defer w.io.conn.leave()
	w.notified()
	name := C.CString(w.oid)
	defer C.free(unsafe.Pointer(name))
	// Whoever notified does not wait longer than it has to for an answer that
	// cannot be sent.
	_ = C.rados_notify_ack(ioctx(w.io.ctx), name, notification, cookie, nil, 0)
}

// heraldRadosLost is called by a thread of librados, which must not wait.
//
//export heraldRadosLost
func heraldRadosLost(handle C.uintptr_t) {
	w := cgo.Handle(handle).Value().(*Watch)
	w.loseOnce.Do(func() { close(w.lost) })
}
