//go:build rados

package rados

import (
	"fmt"
	"slices"
	"time"

	librados "herald/rados"
	"herald/store"
)

// edit is a change of a head: from the state that was read to the next one.
// Nothing of it is done before writeHead.
type edit struct {
	*head
	tag  store.OpID // of the change
	op   store.OpID // zero: none
	next state
	made bool // there is something to write

	setAttrs, setData bool
	newAttrs, newData []byte
	set               []librados.Pair // omap
	rm                []string        // omap
	add, remove       []store.Info    // noncurrent versions that came and went
	garbage           []segment       // that nothing uses afterwards
	listed            bool            // what a listing shows has changed
	foreign           bool            // the outcome that it keeps is of an op of another gateway
}

func newEdit(h *head, tag, op store.OpID) *edit {
	return &edit{head: h, tag: tag, op: op, next: h.state}
}

// number gives the change its number.
func (e *edit) number(seq uint64) {
	e.next.seq = seq
	e.made = true
}

// archive makes the current version a noncurrent one.
func (e *edit) archive() {
	cur := e.next.current
	e.set = append(e.set, librados.Pair{Key: keyVersion + cur.id, Value: encodeNoncurrent(cur, e.attrs)})
	e.next.others++
	if cur.id == store.NullVersion {
		e.next.nullSeq = cur.seq
	}
	e.add = append(e.add, *cur.info(e.state.key, false, listAttrs(e.attrs)))
	e.next.current = nil
}

// drop takes the current version away.
func (e *edit) drop() {
	e.discard(e.next.current)
	e.next.current = nil
}

// noncurrent returns a noncurrent version that was asked for, nil if it is not
// there.
func (e *edit) noncurrent(id string) (*version, []byte, error) {
	b, ok := e.omap[keyVersion+id]
	if !ok {
		return nil, nil, nil
	}
	v, attrs, err := decodeNoncurrent(b)
	if err != nil {
		return nil, nil, fmt.Errorf("version %s of %s/%q: %w", id, e.bid, e.state.key, err)
	}
	return v, attrs, nil
}

// forget takes a noncurrent version out of the omap; its bytes remain.
func (e *edit) forget(v *version, attrs []byte) {
	e.rm = append(e.rm, keyVersion+v.id)
	e.next.others--
	if v.id == store.NullVersion {
		e.next.nullSeq = 0
	}
	e.remove = append(e.remove, *v.info(e.state.key, false, listAttrs(attrs)))
}

// discard makes the bytes of a version garbage.
func (e *edit) discard(v *version) {
	if v.inline() {
		e.next.data, e.setData, e.newData = false, true, nil
	}
	for _, s := range garbageOf(v.segments) {
		e.garbage = append(e.garbage, s)
		e.set = append(e.set, librados.Pair{Key: keyGarbage + s.tag.String(), Value: encodeNote(s.size, time.Now())})
	}
}

// dropNull takes the noncurrent null version away, if there is one.
func (e *edit) dropNull() error {
	v, attrs, err := e.noncurrent(store.NullVersion)
	if v != nil {
		e.forget(v, attrs)
		e.discard(v)
	}
	return err
}

// install makes v the current version. data are its bytes, if they go into the
// head.
func (e *edit) install(v *version, attrs, data []byte) {
	e.next.current = v
	e.setAttrs, e.newAttrs = true, attrs
	if v.inline() {
		e.next.data, e.setData, e.newData = true, true, data
	}
	e.listed = true
}

// promote makes the newest noncurrent version, which was asked for with the
// null version, the current one.
func (e *edit) promote() error {
	e.listed = true
	e.setAttrs, e.newAttrs = true, nil
	v, attrs, err := e.noncurrent(store.NullVersion)
	if err != nil {
		return err
	}
	if p := e.newest; p != nil && p.Key != keyVersion+store.NullVersion {
		first, firstAttrs, err := decodeNoncurrent(p.Value)
		if err != nil {
			return fmt.Errorf("version %s of %s/%q: %w", p.Key, e.bid, e.state.key, err)
		}
		if v == nil || first.seq > v.seq {
			v, attrs = first, firstAttrs
		}
	}
	if v != nil {
		e.forget(v, attrs)
		e.next.current, e.newAttrs = v, attrs
	}
	return nil
}

// update gives a version other attributes.
func (e *edit) update(v *version, latest bool, old, attrs []byte, seq uint64) {
	e.number(seq)
	e.listed = true
	if latest {
		e.setAttrs, e.newAttrs = true, attrs
		return
	}
	e.set = append(e.set, librados.Pair{Key: keyVersion + v.id, Value: encodeNoncurrent(v, attrs)})
	e.remove = append(e.remove, *v.info(e.state.key, false, listAttrs(old)))
	e.add = append(e.add, *v.info(e.state.key, false, listAttrs(attrs)))
}

// finish completes the next state. former is the outcome that it replaces and
// that is to be kept; nil: none.
func (e *edit) finish(out, former *outcome) {
	if former != nil {
		e.set = append(e.set, librados.Pair{Key: keyOutcome + e.state.op.String(), Value: encodeOutcome(former)})
	}
	if !e.op.IsZero() {
		e.next.op, e.next.outcome = e.op, out
	}
	if e.listed {
		e.next.gen = e.next.seq
	}
	e.next.recent = append(slices.Clone(e.recent), changeOf(e.tag))
	if n := len(e.next.recent); n > maxRecent {
		e.next.recent = e.next.recent[n-maxRecent:]
	}
}

// operation is what writes the next state over the one that was read.
func (e *edit) operation() *librados.WriteOp {
	op := librados.NewWrite()
	if e.guard == 0 {
		op.Create(true)
	} else {
		op.AssertVersion(e.guard)
	}
	if e.setData && (len(e.newData) > 0 || e.state.data) {
		op.WriteFull(e.newData)
	}
	op.SetXattr(xattrState, e.next.encode())
	switch {
	case e.setAttrs && len(e.newAttrs) > 0:
		op.SetXattr(xattrAttrs, e.newAttrs)
	case e.setAttrs && len(e.attrs) > 0:
		op.RmXattr(xattrAttrs)
	}
	if len(e.rm) > 0 {
		op.OmapRm(e.rm...)
	}
	if len(e.set) > 0 {
		op.OmapSet(e.set...)
	}
	return op
}

// indexed is what the index has to know of the change.
func (e *edit) indexed() indexChange {
	attrs := e.attrs
	if e.setAttrs {
		attrs = e.newAttrs
	}
	return indexChange{
		was: listedEntry(&e.state, e.attrs), now: listedEntry(&e.next, attrs), add: e.add, remove: e.remove,
		garbage: len(e.garbage) > 0 || e.foreign, // who forgets that op need not look here
	}
}

func listedEntry(s *state, attrs []byte) *indexEntry {
	if s.current == nil {
		return nil
	}
	return &indexEntry{gen: s.gen, info: *s.current.info(s.key, true, listAttrs(attrs))}
}

// listAttrs are the attributes that a listing shows, of encoded ones.
func listAttrs(b []byte) store.Attrs {
	var attrs store.Attrs
	for d := (decoder{b: b}); d.err == nil && len(d.b) > 0; {
		k, v := d.string(), d.string()
		if slices.Contains(store.ListAttrs[:], k) {
			if attrs == nil {
				attrs = make(store.Attrs, len(store.ListAttrs))
			}
			attrs[k] = v
		}
	}
	return attrs
}
