//go:build rados

package rados

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	librados "herald/rados"
	"herald/store"
	"herald/store/storetest"
)

// twoGateways returns two drivers, and a bucket as each of them has it.
func twoGateways(t *testing.T) (a, b *Driver, atA, atB store.Bucket) {
	t.Helper()
	p := newPlace(t)
	a, b = p.open(t, Options{}), p.open(t, Options{})
	t.Cleanup(func() {
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := a.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	for d, at := range map[*Driver]*store.Bucket{a: &atA, b: &atB} {
		var err error
		if *at, err = d.OpenBucket(t.Context(), "bucket"); err != nil {
			t.Fatal(err)
		}
	}
	return a, b, atA, atB
}

// TestOps_AcrossGateways: what one gateway did, another settles and forgets.
func TestOps_AcrossGateways(t *testing.T) {
	a, b, atA, atB := twoGateways(t)
	put := func(at store.Bucket, op store.OpID) (store.Outcome, error) {
		return storetest.PutObject(t.Context(), at, "k", "data", store.CommitOptions{Op: op})
	}
	ref := func(op store.OpID) store.OpRef { return store.OpRef{ID: op, Bucket: "bucket", Key: "k"} }
	settled := func(d *Driver, op store.OpID, want uint64) {
		t.Helper()
		out, err := d.Outcomes().Settle(t.Context(), ref(op))
		if want == 0 && !errors.Is(err, store.ErrNoSuchOp) || want != 0 && (err != nil || out.Seq != want) {
			t.Errorf("Settle = %+v, %v, want number %d", out, err, want)
		}
	}
	first, second, third := store.NewOpID(), store.NewOpID(), store.NewOpID()
	one, err := put(atA, first)
	if err != nil {
		t.Fatal(err)
	}
	two, err := put(atB, second) // moves the first outcome, of another gateway
	if err != nil {
		t.Fatal(err)
	}
	settled(b, first, one.Seq)
	settled(a, second, two.Seq)
	if err := b.Outcomes().Forget(t.Context(), ref(first)); err != nil {
		t.Fatal(err)
	}
	settled(a, first, 0)
	settled(b, first, 0)
	settled(b, third, 0)
	if _, err := put(atA, third); !errors.Is(err, store.ErrOpBarred) {
		t.Errorf("put of an op that another gateway barred = %v", err)
	}
	if err := a.Outcomes().Forget(t.Context(), ref(second), ref(third)); err != nil {
		t.Fatal(err)
	}
	refs, err := a.Outcomes().List(t.Context(), store.OpID{}, 0)
	if err != nil || len(refs) != 0 {
		t.Errorf("List = %v, %v, want none", refs, err)
	}
	h, err := a.readHead(t.Context(), atA.(*bucket).head("k"), headRead{omap: []string{keyOutcome + first.String(), keyBar + third.String()}})
	if err != nil || len(h.omap) != 0 {
		t.Errorf("the head still has %v (%v)", h.omap, err)
	}
}

// TestOps_ListsWhatCameTrue: an op that was begun, by a gateway that died, is
// not listed, and forgotten after a day.
func TestOps_ListsWhatCameTrue(t *testing.T) {
	a, b, atA, _ := twoGateways(t)
	k := atA.(*bucket).head("k")
	young, old, done := store.NewOpID(), store.OpID{5: 1, 15: 1}, store.NewOpID()
	for _, op := range []store.OpID{young, old} {
		if err := a.ops.start(t.Context(), op, k)(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := storetest.PutObject(t.Context(), atA, "k", "data", store.CommitOptions{Op: done}); err != nil {
		t.Fatal(err)
	}
	refs, err := b.Outcomes().List(t.Context(), store.OpID{}, 0)
	if err != nil || len(refs) != 1 || refs[0].ID != done {
		t.Errorf("List = %v, %v, want %s", refs, err, done)
	}
	eventually(t, func() bool {
		lines, _, err := b.ops.lines(t.Context(), store.OpID{})
		return err == nil && len(lines) == 2 && lines[0].op != old // two of the same millisecond may have either order
	})
	if _, err := storetest.PutObject(t.Context(), atA, "k", "data", store.CommitOptions{Op: old}); !errors.Is(err, store.ErrOpBarred) {
		t.Errorf("put of an op that was given up = %v", err)
	}
}

// TestRecords_AcrossGateways: a change is seen at another gateway within a
// second.
func TestRecords_AcrossGateways(t *testing.T) {
	a, b, _, _ := twoGateways(t)
	version := uint64(0)
	for _, value := range []string{"one", "two", "three"} {
		var err error
		if version, err = a.Records().Put(t.Context(), "r", []byte(value), version); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool {
			got, v, err := b.Records().Get(t.Context(), "r")
			return err == nil && string(got) == value && v == version
		})
	}
	if err := b.Records().Delete(t.Context(), "r", version); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		_, _, err := a.Records().Get(t.Context(), "r")
		return errors.Is(err, store.ErrNoSuchRecord)
	})
}

// TestSweepHead: the head of a removed key goes when nobody needs it.
func TestSweepHead(t *testing.T) {
	a, _, atA, _ := twoGateways(t)
	k := atA.(*bucket).head("k")
	op := store.NewOpID()
	if _, err := storetest.PutObject(t.Context(), atA, "k", "data", store.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	sweep := func(want bool) {
		t.Helper()
		if done, err := a.sweepHead(t.Context(), k.bid, k.key); err != nil || done != want {
			t.Errorf("sweepHead = %t, %v, want %t", done, err, want)
		}
	}
	sweep(true) // it is alive
	if _, err := atA.Remove(t.Context(), "k", "", store.RemoveOptions{Op: op}); err != nil {
		t.Fatal(err)
	}
	sweep(false) // too young
	age := func() {
		t.Helper()
		h, err := a.readHead(t.Context(), k, headRead{})
		if err != nil {
			t.Fatal(err)
		}
		e := newEdit(h, newTag(), store.OpID{})
		e.number(1)
		e.finish(&outcome{}, nil)
		if again, err := a.writeHead(t.Context(), e); again || err != nil {
			t.Fatal(again, err)
		}
	}
	age()
	sweep(false) // it has an outcome
	if err := a.Outcomes().Forget(t.Context(), store.OpRef{ID: op, Bucket: "bucket", Key: "k"}); err != nil {
		t.Fatal(err)
	}
	sweep(true)
	if h, err := a.readHead(t.Context(), k, headRead{}); err != nil || h.guard != 0 {
		t.Errorf("the head is still there: %+v, %v", h, err)
	}
	sweep(true)
}

// TestSweepHead_Bars: a living head lets go of bars and outcomes that nobody
// needs, and is looked at again as long as it has others.
func TestSweepHead_Bars(t *testing.T) {
	s := newSick(t)
	old, young := oldID(), store.NewOpID()
	for _, name := range []string{keyBar + old.String(), keyBar + young.String(), keyOutcome + old.String(), keyOutcome + young.String()} {
		s.note("small", name, encodeOutcome(&outcome{}))
	}
	s.opLine(young.String(), s.b.head("small"))
	left := func(want ...string) {
		t.Helper()
		var names []string
		s.must(eachPair(t.Context(), s.d.heads, s.b.head("small").oid(), "", "", func(p librados.Pair) bool {
			names = append(names, p.Key)
			return true
		}))
		if !slices.Equal(names, want) {
			t.Errorf("the head has %q, want %q", names, want)
		}
	}
	if done, err := s.d.sweepHead(t.Context(), s.b.bid, "small"); done || err != nil {
		t.Errorf("sweepHead = %t, %v: there is a young bar", done, err)
	}
	left(keyBar+young.String(), keyOutcome+young.String())
	s.do(s.d.heads, s.b.head("small").oid(), func(op *librados.WriteOp) { op.OmapRm(keyBar + young.String()) })
	if done, err := s.d.sweepHead(t.Context(), s.b.bid, "small"); done || err != nil {
		t.Errorf("sweepHead = %t, %v: there is an outcome that was not forgotten", done, err)
	}
	left(keyOutcome + young.String())
	s.do(s.d.heads, oidOps, func(op *librados.WriteOp) { op.OmapRm(young.String()) })
	if done, err := s.d.sweepHead(t.Context(), s.b.bid, "small"); !done || err != nil {
		t.Errorf("sweepHead = %t, %v", done, err)
	}
	left()
}

// outcomes are the outcomes in the omap of a head.
func (d *Driver) outcomes(t *testing.T, k headKey) (names []string) {
	t.Helper()
	err := eachPair(t.Context(), d.heads, k.oid(), "", keyOutcome, func(p librados.Pair) bool {
		names = append(names, p.Key)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestOps_ForgottenWhileAnotherFollows: an op is forgotten while the next one of
// its key, which has seen that it was not, writes the head. Nothing of it is left
// there.
func TestOps_ForgottenWhileAnotherFollows(t *testing.T) {
	var meanwhile atomic.Pointer[func() error]
	d := newPlace(t).open(t, Options{Fault: func(point string) error {
		if point == "head.write" {
			if f := meanwhile.Swap(nil); f != nil {
				return (*f)()
			}
		}
		return nil
	}})
	defer func() { _ = d.Close() }()
	if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	b, err := d.OpenBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	first := store.OpRef{ID: store.NewOpID(), Bucket: "bucket", Key: "k"}
	for i, op := range []store.OpID{first.ID, store.NewOpID()} {
		if i > 0 {
			forget := func() error { return d.Outcomes().Forget(t.Context(), first) }
			meanwhile.Store(&forget)
		}
		if _, err := storetest.PutObject(t.Context(), b, "k", "data", store.CommitOptions{Op: op}); err != nil {
			t.Fatal(err)
		}
	}
	if left := d.outcomes(t, b.(*bucket).head("k")); len(left) > 0 {
		t.Errorf("the head still has %q", left)
	}
}

// TestOps_ForgottenWhereAnotherFollowed: a gateway forgets its op without a look
// at the head, where another gateway kept the outcome. A sweep finds that.
func TestOps_ForgottenWhereAnotherFollowed(t *testing.T) {
	a, b, atA, atB := twoGateways(t)
	first := store.OpRef{ID: store.NewOpID(), Bucket: "bucket", Key: "k"}
	for _, at := range []store.Bucket{atA, atB} {
		op := first.ID
		if at == atB {
			op = store.NewOpID()
		}
		if _, err := storetest.PutObject(t.Context(), at, "k", "data", store.CommitOptions{Op: op}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Outcomes().Forget(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	x := atB.(*bucket).x
	shards, _, err := x.all(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.quiet(t)
	shards[0].x.env.limits.head = time.Nanosecond
	if err := shards[0].sweepHeads(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := b.outcomes(t, atB.(*bucket).head("k")); len(left) > 0 {
		t.Errorf("the head still has %q", left)
	}
}

// TestSweep_NameOfADeletedBucket: who deleted a bucket died before he took its
// name away.
func TestSweep_NameOfADeletedBucket(t *testing.T) {
	s := newSick(t)
	r, err := s.d.lookup(t.Context(), "empty")
	s.must(err)
	s.must(openIndex(s.d.indexEnv(), r.bid).drop(t.Context()))
	s.must(s.d.sweepBuckets(t.Context()))
	list, err := s.d.ListBuckets(t.Context())
	s.must(err)
	if len(list) != 1 || list[0].Name != testBucket {
		t.Errorf("buckets %+v, want only %s", list, testBucket)
	}
	s.d.wantWell(t, store.FsckOptions{})
}

// TestMarkGone: a change that was given up can be tried again.
func TestMarkGone(t *testing.T) {
	s := newSick(t)
	w, err := s.b.Create(t.Context(), "k", store.CreateHint{Size: -1})
	s.must(err)
	_, err = w.Write(make([]byte, tailSize+1))
	s.must(err)
	s.must(s.d.repairHead(t.Context(), s.b.bid, "k", w.(*writer).tag))
	if _, err := w.Commit(t.Context(), store.CommitOptions{ETag: "e"}); !errors.Is(err, errMarkGone) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Commit = %v, want one that clients try again", err)
	}
	s.d.quiet(t)
	s.d.wantWell(t, store.FsckOptions{})
}

// TestSettle_WithoutAHead: the head that is made for a bar goes with it.
func TestSettle_WithoutAHead(t *testing.T) {
	a, _, atA, _ := twoGateways(t)
	ref := store.OpRef{ID: store.NewOpID(), Bucket: "bucket", Key: "k"}
	if _, err := a.Outcomes().Settle(t.Context(), ref); !errors.Is(err, store.ErrNoSuchOp) {
		t.Fatalf("Settle = %v", err)
	}
	if _, err := storetest.PutObject(t.Context(), atA, "k", "data", store.CommitOptions{Op: ref.ID}); !errors.Is(err, store.ErrOpBarred) {
		t.Errorf("put of a barred op = %v", err)
	}
	if err := a.Outcomes().Forget(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	a.quiet(t)
	shards, _, err := atA.(*bucket).x.all(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shards[0].x.env.limits.head = time.Nanosecond
	if err := shards[0].sweepHeads(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h, err := a.readHead(t.Context(), atA.(*bucket).head("k"), headRead{}); err != nil || h.guard != 0 {
		t.Errorf("the head is still there: %+v, %v", h, err)
	}
}
