package storetest

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herald/store"
)

func outcomeCases() []testCase {
	return []testCase{
		{"Settle", outcomeSettle},
		{"Settle_Versions", outcomeSettleVersions},
		{"Settle_Bars", outcomeBars},
		{"Settle_Race", outcomeRace},
		{"Forget", outcomeForget},
		{"List", outcomeList},
		{"Seq_Grows", outcomeSeq},
		{"Prior", outcomePrior},
		{"Attrs", outcomeAttrs},
		{"Many", outcomeMany},
	}
}

func (f *Fixture) ref(op store.OpID, key string) store.OpRef {
	return store.OpRef{ID: op, Bucket: f.Name, Key: key}
}

// wantOutcome checks that Settle answers what the change itself answered. For
// attributes there is outcomeAttrs.
func (f *Fixture) wantOutcome(op store.OpID, key string, want store.Outcome) {
	f.Helper()
	got, err := f.Driver().Outcomes().Settle(f.Context(), f.ref(op, key))
	if err != nil {
		f.Fatalf("Settle(%q) = %v, want %+v", key, err, want)
	}
	opts := cmp.Options{
		cmpopts.IgnoreFields(store.Info{}, "Attrs", "IsLatest"),
		cmpopts.EquateApproxTime(0),
	}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		f.Fatalf("Settle(%q) (-what the change answered +got):\n%s", key, diff)
	}
}

func (f *Fixture) wantNoOp(op store.OpID, key string) {
	f.Helper()
	out, err := f.Driver().Outcomes().Settle(f.Context(), f.ref(op, key))
	if !errors.Is(err, store.ErrNoSuchOp) {
		f.Fatalf("Settle(%q) = %+v, %v, want ErrNoSuchOp", key, out, err)
	}
}

// kept is an outcome that has to be found again.
type kept struct {
	op  store.OpID
	key string
	out store.Outcome
}

func outcomeSettle(f *Fixture) {
	var all []kept
	keep := func(key string, do func(Option) store.Outcome) {
		op := store.NewOpID()
		all = append(all, kept{op, key, do(WithOp(op))})
	}
	big := pattern(1, 300<<10)
	keep("k", func(o Option) store.Outcome { return f.Put("k", "one", o) })
	keep("k", func(o Option) store.Outcome { return f.Put("k", big, o) })
	keep("k", func(o Option) store.Outcome { return f.Put("k", "two", o, WithAttrs(store.Attrs{"a": "b"})) })
	keep("k", func(o Option) store.Outcome { return f.Remove("k", "", o) })
	keep("k", func(o Option) store.Outcome { return f.Remove("k", "", o) })
	keep("a/../b", func(o Option) store.Outcome { return f.Put("a/../b", "", o) })
	for i := range 3 {
		for _, k := range all {
			f.wantOutcome(k.op, k.key, k.out)
		}
		if i < 2 {
			f.Crash()
		}
	}
	f.Remove("a/../b", "")
	f.deleteBucket() // outcomes outlive their bucket
	for _, k := range all {
		f.wantOutcome(k.op, k.key, k.out)
	}
}

func outcomeSettleVersions(f *Fixture) {
	f.Versioning = store.Enabled
	var all []kept
	keep := func(do func(Option) store.Outcome) store.Outcome {
		op := store.NewOpID()
		out := do(WithOp(op))
		all = append(all, kept{op, "k", out})
		return out
	}
	one := keep(func(o Option) store.Outcome { return f.Put("k", "one", o) }).Info.VersionID
	keep(func(o Option) store.Outcome { return f.Put("k", "two", o) })
	marker := keep(func(o Option) store.Outcome { return f.Remove("k", "", o) }).Info.VersionID
	keep(func(o Option) store.Outcome { return f.Remove("k", marker, o) })
	keep(func(o Option) store.Outcome { return f.Remove("k", one, o) })
	keep(func(o Option) store.Outcome { return f.Put("k", "null", o, With(store.Suspended)) })
	keep(func(o Option) store.Outcome { return f.Remove("k", "", o, With(store.Suspended)) })
	keep(func(o Option) store.Outcome { return f.Remove("k", store.NullVersion, o) })
	keep(func(o Option) store.Outcome { return f.Remove("k", store.NullVersion, o) })
	for i := range 2 {
		for _, k := range all {
			f.wantOutcome(k.op, k.key, k.out)
		}
		if i == 0 {
			f.Crash()
		}
	}
}

func outcomeBars(f *Fixture) {
	f.Put("k", "old")
	put, remove := store.NewOpID(), store.NewOpID()
	f.wantNoOp(put, "k")
	f.wantNoOp(remove, "k")
	_, err := f.TryPut("k", "new", WithOp(put))
	f.wantIs("Put of a barred op", err, store.ErrOpBarred)
	_, err = f.TryRemove("k", "", WithOp(remove))
	f.wantIs("Remove of a barred op", err, store.ErrOpBarred)
	_, err = f.TryRemove("k", "", WithOp(remove), With(store.Enabled))
	f.wantIs("Remove (marker) of a barred op", err, store.ErrOpBarred)
	f.Want("k", "", "old")
	f.wantNoOp(put, "k")

	w, err := f.Bucket.Create(f.Context(), "k", store.CreateHint{Size: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := w.Write([]byte(pattern(1, 1<<20))); err != nil {
		f.Fatal(err)
	}
	late := store.NewOpID()
	f.wantNoOp(late, "k")
	_, err = w.Commit(f.Context(), store.CommitOptions{Op: late, ETag: ETagOf("x")})
	f.wantIs("Commit of an op barred meanwhile", err, store.ErrOpBarred)
	f.Want("k", "", "old")
	f.Put("k", "new", WithOp(store.NewOpID()))
	f.Want("k", "", "new")
}

// outcomeRace: an op either has its outcome or was barred, however commit and
// Settle race.
func outcomeRace(f *Fixture) {
	for i := range 100 {
		op := store.NewOpID()
		size := 10
		if i%4 == 0 {
			size = 200 << 10
		}
		data := pattern(i, size)
		var commitErr, settleErr error
		var out, settled store.Outcome
		var wg sync.WaitGroup
		wg.Go(func() { out, commitErr = f.TryPut("k", data, WithOp(op)) })
		wg.Go(func() { settled, settleErr = f.Driver().Outcomes().Settle(f.Context(), f.ref(op, "k")) })
		wg.Wait()
		switch {
		case commitErr == nil && settleErr == nil:
			if out.Seq != settled.Seq {
				f.Fatalf("Commit = %+v, Settle = %+v", out, settled)
			}
			f.Want("k", "", data)
		case errors.Is(commitErr, store.ErrOpBarred) && errors.Is(settleErr, store.ErrNoSuchOp):
		default:
			f.Fatalf("Commit = %v, Settle = %v", commitErr, settleErr)
		}
	}
}

func outcomeForget(f *Fixture) {
	one, two := store.NewOpID(), store.NewOpID()
	f.Put("k", "1", WithOp(one))
	out := f.Put("k", "2", WithOp(two))
	if err := f.Driver().Outcomes().Forget(f.Context(), f.ref(one, "k"), f.ref(store.NewOpID(), "none")); err != nil {
		f.Fatalf("Forget = %v", err)
	}
	if err := f.Driver().Outcomes().Forget(f.Context()); err != nil {
		f.Fatalf("Forget of nothing = %v", err)
	}
	f.wantNoOp(one, "k")
	f.wantOutcome(two, "k", out)
	f.Reopen()
	f.wantNoOp(one, "k")
	f.wantOutcome(two, "k", out)
	if err := f.Driver().Outcomes().Forget(f.Context(), f.ref(two, "k"), f.ref(one, "k")); err != nil {
		f.Fatalf("Forget = %v", err)
	}
	f.Want("k", "", "2")
}

// outcomeList: what was not forgotten can be found, page by page, and be
// forgotten by what List gave.
func outcomeList(f *Fixture) {
	var want []store.OpID
	for i := range 6 {
		op := store.NewOpID()
		f.Put("k", "v", WithOp(op))
		if i == 2 {
			if err := f.Driver().Outcomes().Forget(f.Context(), f.ref(op, "k")); err != nil {
				f.Fatalf("Forget = %v", err)
			}
			continue
		}
		want = append(want, op)
	}
	f.Put("k", "without an op")
	f.wantNoOp(store.NewOpID(), "k") // a bar is no outcome
	slices.SortFunc(want, func(a, b store.OpID) int { return bytes.Compare(a[:], b[:]) })
	f.Crash()
	outcomes := f.Driver().Outcomes()
	for _, limit := range []int{0, 2, 5} {
		var got []store.OpID
		for after := (store.OpID{}); ; after = got[len(got)-1] {
			refs, err := outcomes.List(f.Context(), after, limit)
			if err != nil || limit > 0 && len(refs) > limit {
				f.Fatalf("List(%v, %d) = %v, %v", after, limit, refs, err)
			}
			for _, ref := range refs {
				got = append(got, ref.ID)
			}
			if limit == 0 || len(refs) < limit {
				break
			}
		}
		got = slices.DeleteFunc(got, func(op store.OpID) bool { return !slices.Contains(want, op) }) // other cases' ops
		if diff := cmp.Diff(want, got); diff != "" {
			f.Fatalf("List by %d (-want +got):\n%s", limit, diff)
		}
	}
	refs, err := outcomes.List(f.Context(), store.OpID{}, 0)
	if err != nil {
		f.Fatal(err)
	}
	refs = slices.DeleteFunc(refs, func(r store.OpRef) bool { return !slices.Contains(want, r.ID) })
	if err := outcomes.Forget(f.Context(), refs...); err != nil {
		f.Fatalf("Forget = %v", err)
	}
	for _, op := range want {
		f.wantNoOp(op, "k")
	}
}

// outcomeSeq: seq grows with each change of a key, of whatever kind, across
// removal, reopening and promotion.
func outcomeSeq(f *Fixture) {
	last := map[string]uint64{}
	grow := func(key string, out store.Outcome) {
		f.Helper()
		if out.Seq <= last[key] {
			f.Fatalf("seq of %q went from %d to %d", key, last[key], out.Seq)
		}
		last[key] = out.Seq
	}
	for round := range 4 {
		for _, key := range []string{"k", "dir/k", "a//b"} {
			grow(key, f.Put(key, "1"))
			grow(key, f.Put(key, "2"))
			out := f.Put(key, "3", With(store.Enabled))
			grow(key, out)
			grow(key, f.Remove(key, out.Info.VersionID, With(store.Enabled)))
			out = f.Remove(key, "", With(store.Enabled))
			grow(key, out)
			grow(key, f.Remove(key, out.Info.VersionID, With(store.Enabled)))
			grow(key, f.Remove(key, store.NullVersion))
			grow(key, f.Put(key, "4"))
			if round%2 == 0 {
				grow(key, f.Remove(key, ""))
			}
		}
		f.Crash()
	}
	f.Put("future", "v", func(o *store.CommitOptions) { o.ModTime = time.Now().AddDate(200, 0, 0) })
	grow("k", f.Put("k", "5"))
}

func outcomePrior(f *Fixture) {
	wantPrior := func(what string, out store.Outcome, data string) {
		f.Helper()
		if data == "" && out.Prior != nil || data != "" && (out.Prior == nil || out.Prior.ETag != ETagOf(data) || out.Prior.Size != int64(len(data))) {
			f.Errorf("%s: Prior = %+v, want that of %q", what, out.Prior, data)
		}
	}
	wantPrior("first put", f.Put("k", "one"), "")
	wantPrior("overwrite", f.Put("k", "two"), "one")
	wantPrior("removal", f.Remove("k", ""), "two")
	wantPrior("removal of nothing", f.Remove("k", ""), "")
	wantPrior("put again", f.Put("k", "three"), "")
	f.Versioning = store.Enabled
	four := f.Put("k", "four")
	wantPrior("new version", four, "three")
	wantPrior("removal of a noncurrent version", f.Remove("k", store.NullVersion), "")
	marker := f.Remove("k", "")
	wantPrior("marker", marker, "four")
	wantPrior("put over a marker", f.Put("k", "five"), "")
	wantPrior("removal of a noncurrent marker", f.Remove("k", marker.Info.VersionID), "")
	second := f.Remove("k", "")
	wantPrior("second marker", second, "five")
	wantPrior("marker over a marker", f.Remove("k", ""), "")
}

// outcomeAttrs: an event shows, and is chosen by, the attributes of what was put,
// removed, or hidden by a marker, also after a crash.
func outcomeAttrs(f *Fixture) {
	type change struct {
		what, versionID string
		put, hides      bool
		versioning      store.Versioning
		attr            string
	}
	var middle string
	for _, c := range []change{
		{what: "put", put: true, attr: "one"},
		{what: "overwrite", put: true, attr: "two"},
		{what: "removal", attr: "two"},
		{what: "put again", put: true, attr: "three"},
		{what: "new version", put: true, versioning: store.Enabled, attr: "four"},
		{what: "newer version", put: true, versioning: store.Enabled, attr: "five"},
		{what: "marker", hides: true, versioning: store.Enabled, attr: "five"},
		{what: "removal of a version", versionID: "four", versioning: store.Enabled, attr: "four"},
		{what: "removal of the null version", versionID: store.NullVersion, versioning: store.Enabled, attr: "three"},
	} {
		f.Versioning = c.versioning
		op := store.NewOpID()
		var out store.Outcome
		switch {
		case c.put:
			out = f.Put("k", c.what, WithOp(op), WithAttrs(store.Attrs{"a": c.attr}))
		case c.versionID == "four":
			out = f.Remove("k", middle, WithOp(op))
		default:
			out = f.Remove("k", c.versionID, WithOp(op))
		}
		if c.attr == "four" && c.put {
			middle = out.Info.VersionID
		}
		want := func(when string, out store.Outcome) {
			f.Helper()
			subject := out.Info
			if c.hides {
				subject = out.Prior
			}
			if subject == nil || subject.Attrs["a"] != c.attr {
				f.Errorf("%s, %s: %+v, want attribute %q", c.what, when, subject, c.attr)
			}
		}
		want("at once", out)
		settle := func(when string) {
			f.Helper()
			kept, err := f.Driver().Outcomes().Settle(f.Context(), f.ref(op, "k"))
			if err != nil {
				f.Fatalf("%s, %s: Settle = %v", c.what, when, err)
			}
			want(when, kept)
		}
		settle("kept")
		f.Crash()
		settle("after a crash")
	}
}

func outcomeMany(f *Fixture) {
	var mu sync.Mutex
	var all []kept
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 40 {
				op := store.NewOpID()
				out, err := f.TryPut("same", op.String(), WithOp(op))
				if err != nil {
					f.Errorf("Put = %v", err)
					return
				}
				mu.Lock()
				all = append(all, kept{op, "same", out})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	f.Crash()
	var refs []store.OpRef
	for _, k := range all {
		f.wantOutcome(k.op, k.key, k.out)
		refs = append(refs, f.ref(k.op, k.key))
	}
	if err := f.Driver().Outcomes().Forget(f.Context(), refs...); err != nil {
		f.Fatalf("Forget = %v", err)
	}
	f.Reopen()
	for _, k := range all {
		f.wantNoOp(k.op, k.key)
	}
}
