//go:build rados

package rados

// #cgo LDFLAGS: -lrados
// #include "aio.h"
// #include <stdlib.h>
import "C"

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"runtime/cgo"
	"syscall"
	"time"
	"unsafe"
)

// pending is an operation under way.
type pending struct {
	room room
	done chan struct{}  // closed when it is done
	into runtime.Pinner // what librados reads to, until then
}

// builder turns requests into what C reads. What it points to is pinned until
// librados has copied it.
type builder struct {
	pinner runtime.Pinner
	steps  []C.herald_step
}

// build builds the steps; into pins what is needed until the operation is done.
func (b *builder) build(reqs []request, into *runtime.Pinner) {
	b.steps = make([]C.herald_step, len(reqs))
	for i, r := range reqs {
		s := &b.steps[i]
		s.kind, s.arg = C.int32_t(r.kind), C.int32_t(r.arg)
		s.offset, s.length = C.uint64_t(r.offset), C.uint64_t(r.length)
		s.name = b.text(r.name)
		s.data = b.bytes(r.data)
		switch {
		case r.kind == C.HERALD_EXEC || r.kind == C.HERALD_EXEC_OUT:
			s.in, s.data = s.data, b.text(r.second)
		case r.second != "" || r.kind == C.HERALD_OMAP_VALS:
			s.data = b.text(r.second)
		}
		if len(r.into) > 0 {
			to := unsafe.SliceData(r.into)
			into.Pin(to)
			s.data = C.herald_bytes{p: (*C.char)(unsafe.Pointer(to)), n: C.size_t(len(r.into))}
		}
		s.list, s.list_len = b.list(r)
	}
}

// bytes returns data as C sees it.
func (b *builder) bytes(data []byte) C.herald_bytes {
	if len(data) == 0 {
		return C.herald_bytes{}
	}
	p := unsafe.SliceData(data)
	b.pinner.Pin(p)
	return C.herald_bytes{p: (*C.char)(unsafe.Pointer(p)), n: C.size_t(len(data))}
}

// text returns a copy of s that ends in NUL.
func (b *builder) text(s string) C.herald_bytes {
	v := b.bytes(append([]byte(s), 0))
	v.n--
	return v
}

// list returns keys, or keys and values in turn.
func (b *builder) list(r request) (*C.herald_bytes, C.size_t) {
	list := make([]C.herald_bytes, 0, len(r.keys)+2*len(r.pairs))
	for _, k := range r.keys {
		list = append(list, b.text(k))
	}
	for _, p := range r.pairs {
		list = append(list, b.text(p.Key), b.bytes(p.Value))
	}
	if len(list) == 0 {
		return nil, 0
	}
	b.pinner.Pin(&list[0])
	return &list[0], C.size_t(len(list))
}

// submit hands an operation to librados. The caller holds its share of the
// gate, and gives it back when submit fails; else Conn.listen does.
func (io *IO) submit(oid string, o *op, flags Flags, p *pending) (*C.herald_req, int) {
	var b builder
	b.build(o.reqs, &p.into)
	defer b.pinner.Unpin()
	name := append([]byte(oid), 0)
	var steps *C.herald_step
	if len(b.steps) > 0 {
		steps = &b.steps[0]
	}
	write := C.int(0)
	if o.write {
		write = 1
	}
	var req *C.herald_req
	h := cgo.NewHandle(p)
	rc := C.herald_submit(C.rados_ioctx_t(io.ctx.Pointer()), io.conn.bell.c, write, (*C.char)(unsafe.Pointer(&name[0])),
		steps, C.size_t(len(b.steps)), C.int(flags)|C.LIBRADOS_OPERATION_FULL_TRY, C.uintptr_t(h), &req)
	if rc < 0 {
		h.Delete()
		p.into.Unpin()
		return nil, int(rc)
	}
	return req, 0
}

// collect copies the answers of an operation into its steps.
func collect(req *C.herald_req, o *op) {
	for i, r := range unsafe.Slice(req.results, int(req.n)) {
		s := o.reqs[i].step
		*s = Step{what: s.what, kind: s.kind, attr: s.attr, Code: int(r.rval)}
		if req.ret < 0 || r.rval < 0 {
			continue
		}
		out := unsafe.Slice((*byte)(unsafe.Pointer(r.out)), int(r.out_len))
		switch s.kind {
		case C.HERALD_READ, C.HERALD_EXEC, C.HERALD_EXEC_OUT:
			s.Data = append([]byte{}, out...)
		case C.HERALD_READ_INTO:
			s.Data = o.reqs[i].into[:len(out)]
		case C.HERALD_STAT:
			s.Size, s.MTime = uint64(r.size), time.Unix(int64(r.mtime), 0)
		case C.HERALD_GETXATTRS, C.HERALD_OMAP_KEYS, C.HERALD_OMAP_VALS, C.HERALD_OMAP_BY_KEYS:
			s.Pairs, s.More = parsePairs(out), r.more != 0
			s.pickAttr()
		}
	}
}

// pickAttr makes the one attribute that was asked for the answer.
func (s *Step) pickAttr() {
	if s.attr == "" {
		return
	}
	pairs := s.Pairs
	s.Pairs, s.Code = nil, -int(syscall.ENODATA)
	for _, p := range pairs {
		if p.Key == s.attr {
			s.Data, s.Code = p.Value, 0
		}
	}
}

// parsePairs copies pairs that C wrote: length and key, length and value.
func parsePairs(b []byte) []Pair {
	count := 0
	for rest := b; len(rest) > 0; count++ {
		_, rest = cutBytes(rest)
	}
	if count == 0 {
		return nil
	}
	b = bytes.Clone(b)
	pairs := make([]Pair, count/2)
	for i := range pairs {
		var key []byte
		key, b = cutBytes(b)
		pairs[i].Key = string(key)
		pairs[i].Value, b = cutBytes(b)
	}
	return pairs
}

// cutBytes splits b after the bytes that it begins with, behind their length.
func cutBytes(b []byte) (first, rest []byte) {
	n := 4 + binary.NativeEndian.Uint32(b)
	return b[4:n:n], b[n:]
}
