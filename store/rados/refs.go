//go:build rados

package rados

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// References. A copy does not write the bytes of its source again: its segments
// name the source's tails, and itself as the holder of a reference to them
// (segment.ref). Tails are removed when their owner, who wrote them, and all
// holders have let go of them.
//
// What is kept of it:
//
//   - r.BID.TAG, in the pool of heads: the holder (BID, TAG), which is a change of
//     a head in bucket BID, or a part. Its data lists the tails to which it may
//     hold references (refList). It is written before the first is taken, and
//     removed after the last was released.
//   - xattr "refs" of t.BID.TAG.0, the first tail of an upload of bytes
//     (refSet): the holders, and whether the owner has let go. Absent or empty:
//     only the owner holds them. Whoever removes tails removes the first one
//     first, by an operation that compares this attribute: so as long as it is
//     there all are, and a reference can be taken by one operation.
//
// Who has to account for what (fsck, repair):
//
//   - r.BID.TAG is accounted for just as tails t.BID.TAG.N would be that it
//     owned: by a mark p/KEY TAG in the index, by a version in BID with a segment
//     whose ref is TAG, by a part with that TAG, by a note w/TAG of a part that is
//     being written, or by a note g/TAG in a head or an upload. A note g/TAG of
//     length 0 stands for all that TAG has: references and tails. What nothing
//     accounts for is removed by Driver.removeAll(BID, TAG).
//   - Tails t.BID.TAG.N are accounted for by their owner (as before: a segment
//     without ref, a part, a note, a mark), or by a holder in their refSet whose
//     r.BID.TAG lists them. Their bucket may be gone.
//   - A segment with a ref needs: its tails; the holder in their refSet; the
//     holder's r.BID.TAG, which lists them. If one is missing, bytes may get lost.
//   - A holder in a refSet that has no r.BID.TAG, or is not listed there, is a
//     leak; Driver.release mends it.
//   - While a gateway copies, all this is announced before it is there (mark or
//     w/TAG, then r.BID.TAG, then the references, then the head).

// prefixRefs begins the name of a holder's object: BID.TAG follows.
const prefixRefs = "r."

// xattrRefs is the attribute of the first tail that says who else holds it.
const xattrRefs = "refs"

// maxHolders is how many may hold references to the same tails. Who comes later
// copies the bytes.
const maxHolders = 500

// tailsName names an upload of bytes, or who holds references.
type tailsName struct {
	bid string
	tag store.OpID
}

func (n tailsName) refsOID() string { return prefixRefs + n.bid + "." + n.tag.String() }

func compareTails(a, b tailsName) int {
	if a.bid != b.bid {
		return bytes.Compare([]byte(a.bid), []byte(b.bid))
	}
	return bytes.Compare(a.tag[:], b.tag[:])
}

// refSet is the value of xattrRefs.
type refSet struct {
	ownerGone bool
	holders   []tailsName // sorted
}

func (r *refSet) encode() []byte {
	if !r.ownerGone && len(r.holders) == 0 {
		return nil
	}
	e := encoder{make([]byte, 0, 2+24*len(r.holders))}
	e.byte(codecVersion)
	if r.ownerGone {
		e.byte(1)
	} else {
		e.byte(0)
	}
	for _, h := range r.holders {
		e.bid(h.bid)
		e.raw(h.tag[:])
	}
	return e.b
}

func decodeRefSet(b []byte) (*refSet, error) {
	r := &refSet{}
	if len(b) == 0 {
		return r, nil
	}
	d := decoder{b: b}
	version, owner := d.byte(), d.byte()
	if version != codecVersion || owner > 1 {
		return nil, errCorrupt
	}
	r.ownerGone = owner == 1
	for d.err == nil && len(d.b) > 0 {
		h := tailsName{bid: d.bid()}
		d.raw(h.tag[:])
		r.holders = append(r.holders, h)
	}
	if d.err == nil && !slices.IsSortedFunc(r.holders, compareTails) {
		d.fail()
	}
	return r, d.err
}

// refList is the content of r.BID.TAG: the tails to which there may be
// references, with their bucket.
type refList struct {
	tails []segment
	mixed bool // there may be tails of TAG itself as well
}

func (l *refList) encode() []byte {
	e := encoder{make([]byte, 0, 8+32*len(l.tails))}
	e.byte(codecVersion)
	if l.mixed {
		e.byte(1)
	} else {
		e.byte(0)
	}
	e.uint(uint64(len(l.tails)))
	for _, s := range l.tails {
		e.bid(s.bid)
		e.raw(s.tag[:])
		e.uint(uint64(s.size))
	}
	return e.b
}

func decodeRefList(b []byte) (*refList, error) {
	d := decoder{b: b}
	version, mixed := d.byte(), d.byte()
	if version != codecVersion || mixed > 1 {
		return nil, errCorrupt
	}
	l := &refList{mixed: mixed == 1}
	for range d.count() {
		s := segment{bid: d.bid()}
		d.raw(s.tag[:])
		s.size = d.size()
		l.tails = append(l.tails, s)
	}
	return l, d.end()
}

// writeRefList writes what a holder may have references to. It must be durable
// before one is taken.
func (d *Driver) writeRefList(ctx context.Context, h tailsName, l *refList) error {
	op := librados.NewWrite()
	op.WriteFull(l.encode())
	_, err := d.heads.Operate(ctx, h.refsOID(), op, 0)
	return err
}

// readRefList returns nil if a holder has none.
func (d *Driver) readRefList(ctx context.Context, h tailsName) (*refList, error) {
	op := librados.NewRead()
	step := op.Read(0, tailSize)
	_, err := d.heads.Operate(ctx, h.refsOID(), op, 0)
	if errors.Is(err, syscall.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l, err := decodeRefList(step.Data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.refsOID(), err)
	}
	return l, nil
}

// Why a reference cannot be had.
var (
	errTailsGone = errors.New("the bytes were removed meanwhile")
	errTooShared = errors.New("too many hold references to the bytes")
)

// take lets a holder, whose list is written, have a reference to tails. To take
// it again is no error. Errors: errTailsGone, errTooShared.
func (d *Driver) take(ctx context.Context, tails, h tailsName) error {
	gone, err := d.changeRefs(ctx, tails, func(r *refSet) (bool, error) {
		i, found := slices.BinarySearchFunc(r.holders, h, compareTails)
		if found {
			return false, nil
		}
		if len(r.holders) >= maxHolders {
			return false, errTooShared
		}
		r.holders = slices.Insert(r.holders, i, h)
		return true, nil
	}, 0)
	if err == nil && gone {
		err = errTailsGone
	}
	return err
}

// release ends a reference to tails, which may never have been taken; the tails
// go with the last.
func (d *Driver) release(ctx context.Context, tails *segment, h tailsName) error {
	name := tailsName{tails.bid, tails.tag}
	gone, err := d.changeRefs(ctx, name, func(r *refSet) (bool, error) {
		if i, found := slices.BinarySearchFunc(r.holders, h, compareTails); found {
			r.holders = slices.Delete(r.holders, i, i+1)
		}
		return true, nil // also where nothing changes: one that is on its way must fail
	}, librados.FullForce)
	if err == nil && gone {
		err = d.removeRest(ctx, name, tails.size)
	}
	return err
}

// disown lets the owner of tails let go of them. gone tells that nobody holds
// them, and the first is not there (any more).
func (d *Driver) disown(ctx context.Context, tails tailsName) (gone bool, err error) {
	op := librados.NewWrite()
	op.AssertExists()
	op.CmpXattr(xattrRefs, librados.Equal, nil)
	op.Remove()
	_, err = d.data.Operate(ctx, tailOID(tails.bid, tails.tag, 0), op, librados.FullForce)
	switch {
	case err == nil, errors.Is(err, syscall.ENOENT):
		return true, nil
	case !errors.Is(err, librados.ErrMismatch):
		return false, err
	}
	return d.changeRefs(ctx, tails, func(r *refSet) (bool, error) {
		changed := !r.ownerGone
		r.ownerGone = true
		return changed || len(r.holders) == 0, nil
	}, librados.FullForce)
}

// changeRefs changes who holds tails, by one guarded operation on the first of
// them; f answers whether there is something to write, and may be called again.
// Where nobody is left, the tail is removed. gone tells that it is not there
// (any more).
func (d *Driver) changeRefs(ctx context.Context, tails tailsName, f func(*refSet) (bool, error), flags librados.Flags) (gone bool, err error) {
	oid := tailOID(tails.bid, tails.tag, 0)
	for try := 0; ; try++ {
		read := librados.NewRead()
		attr := read.GetXattr(xattrRefs)
		guard, err := d.data.Operate(ctx, oid, read, 0)
		if errors.Is(err, syscall.ENOENT) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		r, err := decodeRefSet(attr.Data)
		if err != nil {
			return false, fmt.Errorf("references to %s: %w", oid, err)
		}
		changed, err := f(r)
		if err != nil || !changed {
			return false, err
		}
		op := librados.NewWrite()
		op.AssertVersion(guard)
		last := r.ownerGone && len(r.holders) == 0
		if last {
			op.Remove()
		} else {
			op.SetXattr(xattrRefs, r.encode())
		}
		_, err = d.data.Operate(ctx, oid, op, flags)
		if err == nil {
			return last, nil
		}
		if !conflict(err) && !unsure(err) || ctx.Err() != nil {
			return false, err
		}
		wait(ctx, time.Duration(min(try, 20))*time.Millisecond) // many may copy the same
	}
}

// holds tells whether somebody has not let go of tails that he owns, or of
// references that he holds.
func (d *Driver) holds(ctx context.Context, h tailsName) (bool, error) {
	op := librados.NewRead()
	attr := op.GetXattr(xattrRefs)
	_, err := d.data.Operate(ctx, tailOID(h.bid, h.tag, 0), op, 0)
	if errors.Is(err, syscall.ENOENT) {
		list, err := d.readRefList(ctx, h)
		return list != nil, err
	}
	if err != nil {
		return false, err
	}
	r, err := decodeRefSet(attr.Data)
	return err == nil && !r.ownerGone, err
}

// removeAll removes all that TAG has, when nothing uses it: its tails, whose
// number nobody knows, and its references.
func (d *Driver) removeAll(ctx context.Context, bid string, tag store.OpID) error {
	h := tailsName{bid, tag}
	list, err := d.readRefList(ctx, h)
	if err != nil {
		return fmt.Errorf("remove references of %s: %w", tag, err)
	}
	if list == nil || list.mixed {
		err = d.removeUnknownTails(ctx, bid, tag)
	}
	if err == nil && list != nil {
		err = d.releaseAll(ctx, h, list)
	}
	return err
}

// releaseAll ends all references of a holder, and then its list.
func (d *Driver) releaseAll(ctx context.Context, h tailsName, list *refList) error {
	err := each(list.tails, func(s segment) error { return d.release(ctx, &s, h) })
	if err == nil {
		err = d.opts.Fault("refs.released")
	}
	if err == nil {
		op := librados.NewWrite()
		op.Remove()
		_, err = d.heads.Operate(ctx, h.refsOID(), op, librados.FullForce)
	}
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("release references of %s: %w", h.tag, err)
	}
	return nil
}
