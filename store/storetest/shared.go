package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"herald/store"
)

// sharedCases are for stores that several processes can have open.
func sharedCases() []testCase {
	return []testCase{
		{"After", sharedAfter},
		{"After_Kinds", sharedAfterKinds},
		{"After_Load", sharedAfterLoad},
		{"Kept", sharedKept},
	}
}

// other is the fixture at a second driver, which is open beside the first.
func (f *Fixture) other() *Fixture {
	f.Helper()
	s := &suite{h: f.suite.h, d: f.suite.h.Open(f.T)}
	f.Cleanup(func() {
		if err := s.d.Close(); err != nil {
			f.Errorf("Close of a second driver = %v", err)
		}
	})
	o := &Fixture{T: f.T, suite: s, Name: f.Name, Versioning: f.Versioning}
	o.openBucket()
	return o
}

func (f *Fixture) outcomes() store.SharedOutcomes {
	f.Helper()
	o, ok := f.Driver().Outcomes().(store.SharedOutcomes)
	if !ok {
		f.Fatal("the driver's outcomes are no store.SharedOutcomes")
	}
	return o
}

func (f *Fixture) wantAfter(what string, out store.Outcome, want store.OpID) {
	f.Helper()
	if out.After != want {
		f.Errorf("%s: After = %s, want %s", what, out.After, want)
	}
}

func (f *Fixture) forget(op store.OpID, key string) {
	f.Helper()
	if err := f.outcomes().Forget(f.Context(), f.ref(op, key)); err != nil {
		f.Fatalf("Forget = %v", err)
	}
}

// sharedAfter: an outcome names the op before, whichever driver made it, until
// that is forgotten.
func sharedAfter(f *Fixture) {
	a, b := f, f.other()
	one, two, three, four, five := store.NewOpID(), store.NewOpID(), store.NewOpID(), store.NewOpID(), store.NewOpID()
	a.wantAfter("first", a.Put("k", "1", WithOp(one)), store.OpID{})
	second := b.Put("k", "2", WithOp(two))
	b.wantAfter("of another driver", second, one)
	a.wantAfter("another key", a.Put("l", "1", WithOp(store.NewOpID())), store.OpID{})
	a.Put("k", "without an op")
	third := b.Put("k", "3", WithOp(three))
	b.wantAfter("of the same driver", third, two)
	b.forget(one, "k")
	for _, d := range []*Fixture{a, b} {
		d.wantOutcome(two, "k", second) // as of then
		d.wantOutcome(three, "k", third)
	}
	b.forget(three, "k")
	b.wantAfter("a forgotten one", b.Put("k", "4", WithOp(four)), store.OpID{})
	b.forget(four, "k")
	a.wantAfter("one forgotten by another driver", a.Put("k", "5", WithOp(five)), store.OpID{})
	a.Crash()
	b.wantAfter("of a driver that is gone", b.Put("k", "6", WithOp(store.NewOpID())), five)
}

// sharedAfterKinds: changes of all kinds are in the chain, also those that
// change nothing, and those of keys that were removed.
func sharedAfterKinds(f *Fixture) {
	a, b := f, f.other()
	var last store.OpID
	step := func(what string, do func(Option) store.Outcome) {
		f.Helper()
		op := store.NewOpID()
		out := do(WithOp(op))
		f.wantAfter(what, out, last)
		if out.Changed || out.Seq != 0 {
			last = op
		}
	}
	step("put", func(o Option) store.Outcome { return a.Put("k", "1", o) })
	step("large put", func(o Option) store.Outcome { return b.Put("k", pattern(1, 300<<10), o) })
	step("remove", func(o Option) store.Outcome { return a.Remove("k", "", o) })
	step("remove nothing", func(o Option) store.Outcome { return b.Remove("k", "", o) })
	step("put again", func(o Option) store.Outcome { return a.Put("k", "2", o) })
	if !f.suite.h.NoUploads {
		step("complete", func(o Option) store.Outcome {
			u := b.begin("k")
			u.part(1, pattern(2, 1000))
			return u.finish(o)
		})
	}
	a.Versioning, b.Versioning = store.Enabled, store.Enabled
	var version string
	step("version", func(o Option) store.Outcome {
		out := a.Put("k", "3", o)
		version = out.Info.VersionID
		return out
	})
	step("marker", func(o Option) store.Outcome { return b.Remove("k", "", o) })
	step("removal of a version", func(o Option) store.Outcome { return a.Remove("k", version, o) })
}

// sharedAfterLoad: what two drivers do to a key at the same time is one chain,
// in the order of the numbers.
func sharedAfterLoad(f *Fixture) {
	drivers := []*Fixture{f, f.other()}
	var mu sync.Mutex
	var all []kept
	f.Parallel(4, func(worker int) {
		for i := range 30 {
			op := store.NewOpID()
			d := drivers[worker%2]
			out, err := d.TryPut("k", fmt.Sprint(worker, i), WithOp(op))
			if err != nil {
				f.Errorf("Put = %v", err)
				return
			}
			mu.Lock()
			all = append(all, kept{op, "k", out})
			mu.Unlock()
		}
	})
	slices.SortFunc(all, func(a, b kept) int { return cmp.Compare(a.out.Seq, b.out.Seq) })
	var before store.OpID
	for _, k := range all {
		f.wantAfter(fmt.Sprint("number ", k.out.Seq), k.out, before)
		f.wantOutcome(k.op, "k", k.out)
		before = k.op
	}
}

// sharedKept: an op is kept until any driver forgets it.
func sharedKept(f *Fixture) {
	a, b := f, f.other()
	want := func(op store.OpID, kept bool) {
		f.Helper()
		for _, d := range []*Fixture{a, b} {
			if got, err := d.outcomes().Kept(f.Context(), op); err != nil || got != kept {
				f.Errorf("Kept = %t, %v, want %t", got, err, kept)
			}
		}
	}
	one, two := store.NewOpID(), store.NewOpID()
	want(one, false)
	a.Put("k", "1", WithOp(one)) // to ask bars nothing
	want(one, true)
	b.Put("k", "2", WithOp(two))
	want(one, true)
	want(two, true)
	a.forget(two, "k")
	b.forget(one, "k")
	want(one, false)
	want(two, false)
	a.forget(one, "k")
	want(one, false)
}
