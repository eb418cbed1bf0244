//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// prefixUpload begins the name of an upload's object: BID.ID follows.
const prefixUpload = "u."

// Extended attributes of an upload's object.
const (
	xattrUpload = "upload" // uploadInfo, never changed
	xattrEnd    = "end"    // uploadEnd
	xattrParts  = "parts"  // the TAG of the part that came last
)

// Keys of an upload's omap; keyGarbage as well: tails of parts that were
// replaced or given up, with length 0 where nobody knows it.
const (
	keyUsed   = "c"  // the numbers of the parts that the object is made of
	keyPart   = "p/" // and the number, five digits
	keyWriter = "w/" // and a TAG: a part that is being written; when that was known last
)

// uploadName names an upload.
type uploadName struct{ bid, id string }

func (n uploadName) oid() string { return prefixUpload + n.bid + "." + n.id }

// lock is what those in this process wait for who end the upload. No bucket has
// such an id, so it is no key's.
func (n uploadName) lock() headKey { return headKey{prefixUpload + n.bid, n.id} }

const maxUploadID = 128

// validUploadID tells whether an id may be a part of an object's name.
func validUploadID(id string) bool {
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return id != "" && len(id) <= maxUploadID
}

// States of an upload.
const (
	uploadLive       = 'l'
	uploadCompleting = 'c' // the head may name the change
	uploadCompleted  = 'd'
	uploadAborted    = 'x'
)

// uploadEnd is how an upload ends, if it does.
type uploadEnd struct {
	state   byte
	tag     store.OpID // of the change of the head
	witness store.OpID // of a part with bytes; zero: none has any
	gateway string     // who completes
}

func (e uploadEnd) encode() []byte {
	if e.state == uploadLive || e.state == uploadAborted {
		return []byte{e.state}
	}
	b := append([]byte{e.state}, e.tag[:]...)
	return append(append(b, e.witness[:]...), e.gateway...)
}

func decodeUploadEnd(b []byte) (e uploadEnd, err error) {
	d := decoder{b: b}
	switch e.state = d.byte(); e.state {
	case uploadLive, uploadAborted:
		return e, d.end()
	case uploadCompleting, uploadCompleted:
		d.raw(e.tag[:])
		d.raw(e.witness[:])
		e.gateway = string(d.b)
		return e, d.err
	}
	return e, errCorrupt
}

func encodeUpload(u *store.Upload) []byte {
	var e encoder
	e.byte(codecVersion)
	e.string(u.Key)
	e.int(u.Initiated.UnixNano())
	e.raw(encodeAttrs(u.Attrs))
	return e.b
}

func decodeUpload(id string, b []byte) (u store.Upload, err error) {
	d := decoder{b: b}
	if d.byte() != codecVersion {
		return u, errCorrupt
	}
	u.ID, u.Key, u.Initiated = id, d.string(), time.Unix(0, d.int()).UTC()
	if d.err != nil {
		return u, d.err
	}
	u.Attrs, err = decodeAttrs(d.b)
	return u, err
}

// part is a part in the omap.
type part struct {
	store.Part
	tag store.OpID // of its tails, or references
	// segments are where the bytes are, unless that is just the tails of tag.
	segments []segment
}

// runs are the part's bytes as an object has them.
func (p *part) runs() []segment {
	if p.segments == nil && p.Size > 0 {
		return []segment{{tag: p.tag, size: p.Size}}
	}
	return p.segments
}

// partSegments is the codecVersion of a part that has segments.
const partSegments = 2

func partKey(number int) string { return fmt.Sprintf("%s%05d", keyPart, number) }

func (p *part) encode() []byte {
	var e encoder
	if p.segments == nil {
		e.byte(codecVersion)
	} else {
		e.byte(partSegments)
	}
	e.raw(p.tag[:])
	e.uint(uint64(p.Size))
	e.int(p.ModTime.UnixNano())
	e.string(p.ETag)
	if p.segments != nil {
		e.uint(uint64(len(p.segments)))
		for i := range p.segments {
			p.segments[i].encode(&e, true)
		}
	}
	e.raw(encodeAttrs(p.Attrs))
	return e.b
}

func decodePart(pair librados.Pair) (*part, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(pair.Key, keyPart))
	d := decoder{b: pair.Value}
	version := d.byte()
	if version != codecVersion && version != partSegments || err != nil {
		return nil, fmt.Errorf("part %q: %w", pair.Key, errCorrupt)
	}
	p := &part{Part: store.Part{Number: n}}
	d.raw(p.tag[:])
	p.Size, p.ModTime, p.ETag = d.size(), time.Unix(0, d.int()).UTC(), d.string()
	if version == partSegments {
		n := d.count()
		p.segments = make([]segment, 0, n)
		for range n {
			p.segments = append(p.segments, decodeSegment(&d, true))
		}
	}
	if d.err == nil {
		p.Attrs, d.err = decodeAttrs(d.b)
	}
	if d.err != nil {
		return nil, fmt.Errorf("part %q: %w", pair.Key, d.err)
	}
	return p, nil
}

// encodeUsed is the value of keyUsed.
func encodeUsed(parts []store.CompletedPart) []byte {
	var e encoder
	for _, p := range parts {
		e.uint(uint64(p.Number))
	}
	return e.b
}

func decodeUsed(b []byte) (map[int]bool, error) {
	used := make(map[int]bool)
	d := decoder{b: b}
	for d.err == nil && len(d.b) > 0 {
		used[int(d.uint())] = true
	}
	return used, d.err
}

// upload is an upload as it was read.
type upload struct {
	uploadName
	info  store.Upload
	end   uploadEnd
	parts []byte            // xattrParts
	omap  map[string][]byte // of what was asked for
}

// readUpload reads an upload, and what is asked for of its omap, in one
// operation. Errors: store.ErrNoSuchUpload: there is no object.
func (d *Driver) readUpload(ctx context.Context, n uploadName, keys ...string) (*upload, error) {
	op := librados.NewRead()
	xattrs := op.Xattrs()
	var values *librados.Step
	if len(keys) > 0 {
		values = op.OmapGetByKeys(keys...)
	}
	_, err := d.heads.Operate(ctx, n.oid(), op, 0)
	if errors.Is(err, syscall.ENOENT) {
		return nil, store.ErrNoSuchUpload
	}
	if err != nil {
		return nil, storeError("read upload "+n.id, err)
	}
	u := &upload{uploadName: n}
	for _, p := range xattrs.Pairs {
		switch p.Key {
		case xattrUpload:
			u.info, err = decodeUpload(n.id, p.Value)
		case xattrEnd:
			u.end, err = decodeUploadEnd(p.Value)
		case xattrParts:
			u.parts = p.Value
		}
		if err != nil {
			return nil, fmt.Errorf("upload %s: attribute %s: %w", n.id, p.Key, err)
		}
	}
	if values != nil {
		u.omap = make(map[string][]byte, len(values.Pairs))
		for _, p := range values.Pairs {
			u.omap[p.Key] = p.Value
		}
	}
	return u, nil
}

// setEnd takes an upload from one state to another, if it still is in the
// first and what else op compares is so; op may be nil.
func (d *Driver) setEnd(ctx context.Context, u *upload, to uploadEnd, op *librados.WriteOp) (done bool, err error) {
	ctx, cancel := detached(ctx)
	defer cancel()
	if op == nil {
		op = librados.NewWrite()
	}
	op.AssertExists()
	op.CmpXattr(xattrEnd, librados.Equal, u.end.encode())
	op.SetXattr(xattrEnd, to.encode())
	for sent := false; ; {
		_, err := d.heads.Operate(ctx, u.oid(), op, librados.FullForce)
		switch {
		case err == nil:
			u.end = to
			return true, nil
		case conflict(err) && sent:
			now, err := d.readUpload(ctx, u.uploadName)
			if err != nil || now.end != to {
				return false, err
			}
			u.end = to
			return true, nil
		case conflict(err):
			return false, nil
		case !unsure(err) || ctx.Err() != nil:
			return false, storeError("change the state of upload "+u.id, err)
		}
		sent = true
	}
}
