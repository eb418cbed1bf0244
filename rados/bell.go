//go:build rados

package rados

// #include "aio.h"
import "C"

import (
	"fmt"
	"os"
	"runtime/cgo"
)

// bell is how Go hears that operations are done: librados' threads put them in
// a list and write to a descriptor, on which Go's poller waits. So they need
// none of Go's processors, as they would to call Go, and the thread that the
// poller wakes goes on with the request itself.
type bell struct {
	c    *C.herald_bell
	file *os.File
	done chan struct{} // closed when nobody listens any more
}

func newBell() (*bell, error) {
	var fd C.int
	c, err := C.herald_bell_new(&fd)
	if c == nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	return &bell{c: c, file: os.NewFile(uintptr(fd), "eventfd"), done: make(chan struct{})}, nil
}

// takeAtOnce is how many operations are taken by one call into C.
const takeAtOnce = 64

// listen tells those who wait that their operations are done, until close. It
// never reads from the descriptor: Go's poller tells of each write to it.
func (b *bell) listen(c *Conn) {
	defer close(b.done)
	raw, err := b.file.SyscallConn()
	if err != nil {
		return // it is closed
	}
	var handles [takeAtOnce]C.uintptr_t
	_ = raw.Read(func(uintptr) bool {
		for n := takeAtOnce; n == takeAtOnce; {
			n = int(C.herald_take(b.c, &handles[0], takeAtOnce))
			for _, handle := range handles[:n] {
				h := cgo.Handle(handle)
				p := h.Value().(*pending)
				h.Delete()
				p.into.Unpin()
				c.finish(p.room)
				close(p.done)
			}
		}
		return false
	})
}

// close frees a bell when there are no operations any more.
func (b *bell) close() {
	C.herald_bell_still(b.c)
	_ = b.file.Close() // ends listen
	<-b.done
	C.herald_bell_free(b.c)
}
