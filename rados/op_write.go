//go:build rados

package rados

// #include "aio.h"
import "C"

// Create creates the object. With exclusive, an object that exists fails the
// operation with EEXIST.
func (o *WriteOp) Create(exclusive bool) {
	r := request{kind: C.HERALD_CREATE, arg: C.LIBRADOS_CREATE_IDEMPOTENT}
	if exclusive {
		r.arg = C.LIBRADOS_CREATE_EXCLUSIVE
	}
	o.add("create", r)
}

// Remove removes the object, with attributes and omap.
func (o *WriteOp) Remove() { o.add("remove", request{kind: C.HERALD_REMOVE}) }

// Write writes at an offset.
func (o *WriteOp) Write(data []byte, offset uint64) {
	o.add("write", request{kind: C.HERALD_WRITE, data: data, offset: offset})
}

// WriteFull makes data the whole content.
func (o *WriteOp) WriteFull(data []byte) {
	o.add("write-full", request{kind: C.HERALD_WRITE_FULL, data: data})
}

// Append writes at the object's end.
func (o *WriteOp) Append(data []byte) { o.add("append", request{kind: C.HERALD_APPEND, data: data}) }

// Truncate makes the object size bytes long.
func (o *WriteOp) Truncate(size uint64) {
	o.add("truncate", request{kind: C.HERALD_TRUNCATE, offset: size})
}

// Zero makes a range zeros, and frees its space where it can.
func (o *WriteOp) Zero(offset, length uint64) {
	o.add("zero", request{kind: C.HERALD_ZERO, offset: offset, length: length})
}

// SetXattr sets an extended attribute.
func (o *WriteOp) SetXattr(name string, value []byte) {
	o.add("setxattr "+name, request{kind: C.HERALD_SETXATTR, name: name, data: value}, name)
}

// RmXattr removes an extended attribute; an absent one is no error.
func (o *WriteOp) RmXattr(name string) {
	o.add("rmxattr "+name, request{kind: C.HERALD_RMXATTR, name: name}, name)
}

// OmapSet sets keys of the omap.
func (o *WriteOp) OmapSet(pairs ...Pair) {
	o.add("omap-set", request{kind: C.HERALD_OMAP_SET, pairs: pairs})
}

// OmapRm removes keys of the omap; absent ones are no error.
func (o *WriteOp) OmapRm(keys ...string) {
	o.add("omap-rm", request{kind: C.HERALD_OMAP_RM, keys: keys})
}

// OmapRmRange removes the keys of the omap from first up to, not including, end.
func (o *WriteOp) OmapRmRange(first, end string) {
	o.add("omap-rm-range", request{kind: C.HERALD_OMAP_RM_RANGE, name: first, second: end})
}

// OmapClear removes all keys of the omap.
func (o *WriteOp) OmapClear() { o.add("omap-clear", request{kind: C.HERALD_OMAP_CLEAR}) }

// AllocHint tells the OSD how large the object and its writes will be, in
// bytes.
func (o *WriteOp) AllocHint(objectSize, writeSize uint64) {
	o.add("alloc-hint", request{kind: C.HERALD_ALLOC_HINT, offset: objectSize, length: writeSize})
}

// ExecOut is Exec with Step.Data set, for a method that writes and answers: the
// operation needs the flag ReturnVec, and the answer has at most 64 bytes
// (osd_max_write_op_reply_len).
func (o *WriteOp) ExecOut(class, method string, in []byte) *Step {
	return o.add("exec "+method, request{kind: C.HERALD_EXEC_OUT, name: class, second: method, data: in}, class, method)
}
