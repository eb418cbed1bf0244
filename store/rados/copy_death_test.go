//go:build rados

package rados

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	librados "herald/rados"
	"herald/store"
	"herald/store/storetest"
)

// checkRef looks whether the holder of a reference lists it, and the tails know
// the holder.
func (d *Driver) checkRef(t *testing.T, bid string, s segment) {
	t.Helper()
	h := tailsName{bid, s.ref}
	list, err := d.readRefList(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if list == nil || !slices.ContainsFunc(list.tails, func(l segment) bool { return l.bid == s.in(bid) && l.tag == s.tag && l.size == s.size }) {
		t.Errorf("%s does not list %s: %+v", h.refsOID(), s.tag, list)
	}
	if r := d.refs(t, tailsName{s.in(bid), s.tag}); r == nil || !slices.Contains(r.holders, h) {
		t.Errorf("%s has no reference to %s: %+v", h.refsOID(), s.tag, r)
	}
}

// refs reads who holds tails; nil: there are none.
func (d *Driver) refs(t *testing.T, name tailsName) *refSet {
	t.Helper()
	op := librados.NewRead()
	attr := op.GetXattr(xattrRefs)
	_, err := d.data.Operate(t.Context(), tailOID(name.bid, name.tag, 0), op, 0)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	r, decodeErr := decodeRefSet(attr.Data)
	if err := errors.Join(err, decodeErr); err != nil {
		t.Fatal(err)
	}
	return r
}

// checkRefs looks at all lists of references: tails that know the holder must be
// there, and are taken out of the map. No tail may know a holder without a list.
func (d *Driver) checkRefs(t *testing.T, all, tails map[string]bool) {
	t.Helper()
	held := map[string]int{}
	n := 0
	for oid := range all {
		name, ok := strings.CutPrefix(oid, prefixRefs)
		if !ok {
			continue
		}
		n++
		bid, hex, _ := strings.Cut(name, ".")
		tag, ok := store.ParseOpID(hex)
		h := tailsName{bid, tag}
		list, err := d.readRefList(t.Context(), h)
		if err != nil || !ok || list == nil {
			t.Fatal(oid, list, err)
		}
		for _, s := range list.tails {
			r := d.refs(t, tailsName{s.bid, s.tag})
			if r == nil || !slices.Contains(r.holders, h) {
				continue // not taken yet, or released
			}
			held[tailOID(s.bid, s.tag, 0)]++
			for n := range tailCount(s.size) {
				oid := tailOID(s.bid, s.tag, n)
				if !all[oid] {
					t.Errorf("%s is held and not there", oid)
				}
				delete(tails, oid)
			}
		}
	}
	for oid := range all {
		rest, ok := strings.CutPrefix(oid, prefixTail)
		parts := strings.Split(rest, ".")
		if !ok || parts[2] != "0" {
			continue
		}
		tag, _ := store.ParseOpID(parts[1])
		if r := d.refs(t, tailsName{parts[0], tag}); r != nil && len(r.holders) != held[oid] {
			t.Errorf("%s is held by %+v, of which %d have it in their lists", oid, r, held[oid])
		}
	}
	t.Logf("%d holders of references", n)
}

// TestCopy_DieAtPoints lets a gateway die at each step of a copy, and of the
// removal of one; the repair of its mark, or the sweep of its upload, leaves no
// reference that nobody uses, and loses none.
func TestCopy_DieAtPoints(t *testing.T) {
	for _, point := range []string{"copy.noted", "copy.taken", "head.write", "head.written", "refs.released"} {
		for _, part := range []bool{false, true} {
			if part && strings.HasPrefix(point, "head.") {
				continue
			}
			t.Run(fmt.Sprint(point, " part=", part), func(t *testing.T) { dieInCopy(t, point, part) })
		}
	}
}

func dieInCopy(t *testing.T, point string, part bool) {
	p := newPlace(t)
	ctx := t.Context()
	var mu sync.Mutex
	dead, armed := false, false
	d := p.open(t, Options{KeepReplaced: time.Millisecond, Fault: func(at string) error {
		mu.Lock()
		defer mu.Unlock()
		if dead = dead || armed && at == point; dead {
			return fmt.Errorf("dead: %w", store.ErrUnknownOutcome)
		}
		return nil
	}})
	if err := d.CreateBucket(ctx, testBucket); err != nil {
		t.Fatal(err)
	}
	sb, err := d.OpenBucket(ctx, testBucket)
	if err != nil {
		t.Fatal(err)
	}
	b := sb.(*bucket)
	data := body20(tailSize + 20)
	if _, err := storetest.PutObject(ctx, b, "src", data, store.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	d.quiet(t)
	mu.Lock()
	armed = true
	mu.Unlock()
	id := store.NewOpID().String()
	if part {
		if err := b.CreateUpload(ctx, store.Upload{Key: "k", ID: id, Initiated: time.Now()}); err != nil {
			t.Fatal(err)
		}
		_, err = copyPart(ctx, b, "src", 0, int64(len(data)), b, "k", id, 1)
		if err == nil { // a part that replaces it releases it
			err = putPart(ctx, b, "k", id, 1, "other")
		}
	} else {
		err = copyObject(ctx, b, "src", b, "k", store.CommitOptions{})
		if err == nil {
			_, err = b.Remove(ctx, "k", "", store.RemoveOptions{})
		}
	}
	if (err == nil) != (point == "refs.released") {
		t.Errorf("the copy = %v", err)
	}
	if err == nil {
		d.quiet(t)
	}
	d.crash(t)
	survive(t, p, b.bid, data)
}

// survive repairs what a dead gateway left, and looks whether the source is all
// that there is, or a copy of it.
func survive(t *testing.T, p *testPlace, bid, data string) {
	t.Helper()
	ctx := t.Context()
	d := p.open(t, Options{})
	sb, err := d.OpenBucket(ctx, testBucket)
	if err != nil {
		t.Fatal(err)
	}
	b := sb.(*bucket)
	b.x.env.limits.mark = 10 * time.Millisecond
	f := &indexes{x: []*index{b.x}}
	sweepUntil(t, b.x, func() bool { return len(f.omap(t, spaceMarks)) == 0 })
	d.ageNotes(t, bid)
	if err := d.sweepUploadsNow(ctx, bid); err != nil {
		t.Error(err)
	}
	d.quiet(t)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	p.check(t, testBucket)
	d = p.open(t, Options{KeepReplaced: time.Millisecond})
	defer func() { _ = d.Close() }()
	if sb, err = d.OpenBucket(ctx, testBucket); err != nil {
		t.Fatal(err)
	}
	wantObject(t, sb, "src", data)
	if _, err := sb.Remove(ctx, "src", "", store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	d.quiet(t)
	if got, _, err := storetest.ReadObject(ctx, sb, "k", ""); err == nil && got != data {
		t.Error("the copy lost its bytes with the source")
	}
}
