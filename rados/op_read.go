//go:build rados

package rados

// #include "aio.h"
import "C"

// Read reads up to length bytes from an offset into Step.Data; fewer where the
// object ends.
func (o *ReadOp) Read(offset, length uint64) *Step {
	o.bytes += int64(length)
	return o.add("read", request{kind: C.HERALD_READ, offset: offset, length: length})
}

// ReadInto reads from an offset into buf, of which Step.Data is the part that was
// read: fewer bytes than buf has where the object ends. When the context ends
// before the operation, librados may still write to buf: nobody may use it again.
func (o *ReadOp) ReadInto(offset uint64, buf []byte) *Step {
	o.bytes += int64(len(buf))
	return o.add("read", request{kind: C.HERALD_READ_INTO, offset: offset, into: buf})
}

// Stat tells Step.Size and Step.MTime. It fails the operation with ENOENT when
// the object does not exist.
func (o *ReadOp) Stat() *Step { return o.add("stat", request{kind: C.HERALD_STAT}) }

// Xattrs reads all extended attributes into Step.Pairs.
func (o *ReadOp) Xattrs() *Step { return o.add("xattrs", request{kind: C.HERALD_GETXATTRS}) }

// GetXattr reads one extended attribute into Step.Data. An absent one does not
// fail the operation; Step.Err is ENODATA then. librados reads all attributes
// of the object for it.
func (o *ReadOp) GetXattr(name string) *Step {
	s := o.add("getxattr "+name, request{kind: C.HERALD_GETXATTRS}, name)
	s.attr = name
	return s
}

// OmapGetVals reads at most n pairs after a key into Step.Pairs, in the order
// of their keys: those with a prefix, if that is not empty. The OSD may return
// fewer (osd_max_omap_entries_per_request, 1024, and
// osd_max_omap_bytes_per_request, 1 GiB); Step.More says that there are more.
func (o *ReadOp) OmapGetVals(after, prefix string, n int) *Step {
	return o.add("omap-get-vals", request{kind: C.HERALD_OMAP_VALS, name: after, second: prefix, length: limit(n)}, after, prefix)
}

// OmapGetKeys is OmapGetVals without values and without a prefix.
func (o *ReadOp) OmapGetKeys(after string, n int) *Step {
	return o.add("omap-get-keys", request{kind: C.HERALD_OMAP_KEYS, name: after, length: limit(n)}, after)
}

// OmapGetByKeys reads the values of keys into Step.Pairs, sorted by key. Keys
// that the object does not have are left out.
func (o *ReadOp) OmapGetByKeys(keys ...string) *Step {
	return o.add("omap-get", request{kind: C.HERALD_OMAP_BY_KEYS, keys: keys})
}
