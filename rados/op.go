//go:build rados

package rados

// #include "aio.h"
import "C"

import (
	"errors"
	"strings"
	"time"
)

// Comparison is how CmpXattr and OmapCmp compare. Which value stands on the
// left differs: with CmpXattr it is the one that is given (Greater: the given
// one is greater than the object's), with OmapCmp it is the object's.
type Comparison uint8

// The comparisons. OmapCmp knows only Equal, Less and Greater.
const (
	Equal          Comparison = C.LIBRADOS_CMPXATTR_OP_EQ
	NotEqual       Comparison = C.LIBRADOS_CMPXATTR_OP_NE
	Greater        Comparison = C.LIBRADOS_CMPXATTR_OP_GT
	GreaterOrEqual Comparison = C.LIBRADOS_CMPXATTR_OP_GTE
	Less           Comparison = C.LIBRADOS_CMPXATTR_OP_LT
	LessOrEqual    Comparison = C.LIBRADOS_CMPXATTR_OP_LTE
)

// Flags of an operation.
type Flags int

const (
	// ReturnVec lets a class method that writes return bytes. It goes with a
	// ReadOp whose Exec calls such a method, because librados' C interface has
	// no room for output in a write operation; to the OSD it is a write.
	ReturnVec Flags = C.LIBRADOS_OPERATION_RETURNVEC
	// FullForce lets a removal pass although the pool is full.
	FullForce Flags = C.LIBRADOS_OPERATION_FULL_FORCE
	// OrderReadsWrites keeps a read behind the writes that were submitted
	// before it.
	OrderReadsWrites Flags = C.LIBRADOS_OPERATION_ORDER_READS_WRITES
	// Urgent does not wait for room among the operations in flight, which may
	// all be stuck at one dead OSD. It is for the few on which others depend,
	// such as the renewal of a lease.
	Urgent Flags = 1 << 30
)

// Pair is a key with its value: of an omap, or the name and value of an
// extended attribute.
type Pair struct {
	Key   string
	Value []byte
}

// Step is the answer to one step of an operation. Its fields are set when
// Operate returns without an error, and belong to the caller. After an error
// only Code is set, where the OSD told one.
type Step struct {
	Code  int       // what the step returned: negative error number, or 0 and more
	Data  []byte    // of Read, ReadInto, Exec and Xattr
	Pairs []Pair    // of Xattrs and OmapGet...; sorted by key
	More  bool      // OmapGet... with a limit: there are more keys
	Size  uint64    // of Stat: bytes
	MTime time.Time // of Stat: whole seconds

	what string
	kind int
	attr string // of Xattr: the name that is wanted
}

// Err returns the error of this step, nil for none.
func (s *Step) Err() error { return stepError(s.what, s.Code) }

// request is what a step asks for, in Go.
type request struct {
	kind           int
	arg            int
	offset, length uint64
	name           string
	second         string // method, prefix, end of a range
	data           []byte
	keys           []string
	pairs          []Pair
	into           []byte // where to read to
	step           *Step
}

// Op is an operation: a ReadOp or a WriteOp.
type Op interface{ operation() *op }

// op is what both kinds of operation have in common.
type op struct {
	write bool
	reqs  []request
	bytes int64 // that it moves, for the gate
	err   error // of building it
}

// ReadOp is an operation that reads. It must not be changed during Operate;
// afterwards it may be done again, which writes its Steps anew.
type ReadOp struct{ op }

// WriteOp is an operation that changes an object. It must not be changed during
// Operate; afterwards it may be done again, which writes its Steps anew.
type WriteOp struct{ op }

// NewRead returns an empty operation that reads.
func NewRead() *ReadOp { return &ReadOp{} }

// NewWrite returns an empty operation that writes.
func NewWrite() *WriteOp { return &WriteOp{op{write: true}} }

func (o *op) operation() *op { return o }

// overhead is what a step counts for in the gate besides its bytes.
const overhead = 128

func (o *op) add(what string, r request, names ...string) *Step {
	for _, name := range names {
		o.err = errors.Join(o.err, clean(what, name))
	}
	r.step = &Step{what: what, kind: r.kind}
	o.bytes += overhead + int64(len(r.data))
	for _, k := range r.keys {
		o.bytes += int64(len(k))
	}
	for _, p := range r.pairs {
		o.bytes += int64(len(p.Key) + len(p.Value))
	}
	o.reqs = append(o.reqs, r)
	return r.step
}

// describe names the steps of an operation for its errors.
func (o *op) describe() string {
	var names []string
	for _, r := range o.reqs {
		names = append(names, r.step.what)
	}
	return strings.Join(names, "+")
}

// AssertExists fails the operation with ENOENT unless the object exists.
// Without it a class method that writes meets an empty object instead.
func (o *op) AssertExists() { o.add("assert-exists", request{kind: C.HERALD_ASSERT_EXISTS}) }

// AssertVersion fails the operation with ErrMismatch unless the object has the
// version that an earlier Operate returned: ERANGE when the object is newer,
// EOVERFLOW when it is older.
func (o *op) AssertVersion(version uint64) {
	o.add("assert-version", request{kind: C.HERALD_ASSERT_VERSION, offset: version})
}

// CmpExt fails the operation with ErrMismatch unless the object holds data at
// an offset. What lies beyond the object's end counts as zeros.
func (o *op) CmpExt(data []byte, offset uint64) *Step {
	return o.add("cmpext", request{kind: C.HERALD_CMPEXT, data: data, offset: offset})
}

// CmpXattr fails the operation with ErrMismatch unless an extended attribute
// compares. An absent attribute counts as empty.
func (o *op) CmpXattr(name string, c Comparison, value []byte) {
	o.add("cmpxattr "+name, request{kind: C.HERALD_CMPXATTR, arg: int(c), name: name, data: value}, name)
}

// OmapCmp fails the operation with ErrMismatch unless the value of a key
// compares. An absent key counts as empty.
func (o *op) OmapCmp(key string, c Comparison, value []byte) *Step {
	return o.add("omap-cmp", request{kind: C.HERALD_OMAP_CMP, arg: int(c), name: key, data: value})
}

// Exec calls a method of an object class. Step.Data is what it returned: of a
// ReadOp always, but with ReturnVec if the method writes, and then at most 64
// bytes (osd_max_write_op_reply_len); of a WriteOp never.
//
// A method does not see what earlier steps of the operation changed.
func (o *op) Exec(class, method string, in []byte) *Step {
	return o.add("exec "+method, request{kind: C.HERALD_EXEC, name: class, second: method, data: in}, class, method)
}

// limit is a number of pairs as librados takes it.
func limit(n int) uint64 { return uint64(max(n, 1)) }
