package storetest

import (
	"errors"
	"io"
	"strings"

	"github.com/google/go-cmp/cmp"

	"herald/store"
)

func uploadCases() []testCase {
	return append([]testCase{
		{"Life", uploadLife},
		{"Life_LargeParts", func(f *Fixture) { f.uploadShapes(1<<20, 300_001) }},
		{"Shapes", func(f *Fixture) { f.uploadShapes(100_000, 1000) }},
		{"Part_Replaced", uploadReplace},
		{"Part_Aborted", uploadPartAbort},
		{"Part_Copied", uploadPartCopy},
		{"Part_Empty", uploadEmptyParts},
		{"Parts_Concurrent", uploadConcurrent},
		{"Complete_Subset", uploadSubset},
		{"Complete_InvalidPart", uploadInvalid},
		{"Complete_Conditions", uploadConditions},
		{"Complete_Versions", uploadVersions},
		{"Complete_Outcome", uploadOutcome},
		{"Complete_Race", uploadCompleteRace},
		{"Complete_RacingReplacement", uploadReplaceRace},
		{"Complete_AwkwardKeys", uploadAwkwardKeys},
		{"Abort", uploadAbort},
		{"Abort_RacingParts", uploadAbortRace},
		{"NoSuchUpload", uploadMissing},
		{"DeleteBucket", uploadDeleteBucket},
	}, uploadListCases()...)
}

func uploadLife(f *Fixture) {
	f.Put("k", "old")
	u := f.begin("k")
	u.check()
	u.part(1, pattern(1, 100_000))
	u.check()
	u.part(2, pattern(2, 100_000))
	f.Want("k", "", "old") // nothing shows before the end
	if keys := f.Keys(); len(keys) != 1 {
		f.Errorf("keys = %q", keys)
	}
	f.Crash()
	u.check()
	u.part(3, "the rest")
	u.check()
	attrs := store.Attrs{"content-type": "a/b", "x-amz-meta-m": "n"}
	out := u.finish(WithAttrs(attrs))
	if out.Prior == nil || out.Prior.ETag != ETagOf("old") {
		f.Errorf("Prior = %+v, want the old object", out.Prior)
	}
	_, data := u.completed()
	for range 2 {
		f.Want("k", "", data)
		f.wantAttrs("k", "", attrs)
		u.gone()
		f.Crash()
	}
	f.Put("k", "new")
	f.Want("k", "", "new")
	f.Remove("k", "")
	f.deleteBucket()
}

// uploadShapes: sizes and orders of parts, with a restart before completing.
func (f *Fixture) uploadShapes(n, last int) {
	type part struct{ number, size int }
	shapes := map[string][]part{
		"one":               {{1, n}},
		"one small":         {{1, last}},
		"regular":           {{1, n}, {2, n}, {3, n}, {4, last}},
		"regular, all full": {{1, n}, {2, n}, {3, n}},
		"backwards":         {{4, last}, {3, n}, {2, n}, {1, n}},
		"mixed order":       {{2, n}, {4, last}, {1, n}, {3, n}},
		"irregular":         {{1, n}, {2, n + 1}, {3, n - 1}, {4, n}},
		"small first":       {{1, last}, {2, n}, {3, n}},
		"small middle":      {{1, n}, {2, last}, {3, n}},
		"large last":        {{1, n}, {2, n}, {3, n + last}},
		"with gaps":         {{3, n}, {7, n}, {9000, last}},
		"starts at 2":       {{2, n}, {3, n}},
		"highest":           {{9999, n}, {10000, last}},
	}
	var all []*upload
	seed := 0
	for name, parts := range shapes {
		u := f.begin("shape/" + name)
		for _, p := range parts {
			seed++
			u.part(p.number, pattern(seed, p.size))
		}
		all = append(all, u)
	}
	f.Crash()
	for _, u := range all {
		u.check()
		u.finish()
	}
	f.Crash()
	for _, u := range all {
		_, data := u.completed()
		f.Want(u.key, "", data)
	}
}

func uploadReplace(f *Fixture) {
	for _, sizes := range [][]int{{1000, 1000, 1000}, {1000, 500}, {500, 1000}, {70_000, 70_000}, {70_000, 0, 70_000}, {1, 70_000, 70_000, 70_000}} {
		u := f.begin("k")
		u.part(2, pattern(100, sizes[0]))
		for i, size := range sizes {
			u.part(1, pattern(i, size))
			u.check()
		}
		u.part(3, pattern(200, sizes[0]))
		f.Crash()
		u.check()
		u.part(2, pattern(300, sizes[0]))
		u.part(2, pattern(300, sizes[0])) // the same again
		u.finish()
	}
}

func uploadPartAbort(f *Fixture) {
	u := f.begin("k")
	u.part(1, pattern(1, 70_000))
	for _, n := range []int{1, 2} {
		w, err := f.ups().CreatePart(f.Context(), "k", u.id, n, store.CreateHint{Size: 70_000})
		if err != nil {
			f.Fatal(err)
		}
		if _, err := io.WriteString(w, pattern(9, 50_000)); err != nil {
			f.Fatal(err)
		}
		if err := w.Abort(); err != nil {
			f.Errorf("Abort = %v", err)
		}
	}
	u.check()
	u.part(2, pattern(2, 70_000))
	u.finish()
}

func uploadPartCopy(f *Fixture) {
	src := pattern(5, 3<<20)
	f.Put("src", src)
	r := f.open("src", "")
	defer func() { _ = r.Close() }()
	u := f.begin("k")
	for i := range 3 {
		off, size := int64(i)<<20, int64(1<<20)
		if i == 2 {
			size = 1<<20 - 77
		}
		w, err := f.ups().CreatePart(f.Context(), "k", u.id, i+1, store.CreateHint{Size: size})
		if err != nil {
			f.Fatal(err)
		}
		data := src[off : off+size]
		if n, err := io.Copy(w, io.NewSectionReader(r, off, size)); err != nil || n != size {
			f.Fatalf("Copy = %d, %v", n, err)
		}
		if _, err := w.Commit(f.Context(), store.CommitOptions{ETag: ETagOf(data), Attrs: partAttrs(i+1, data)}); err != nil {
			f.Fatal(err)
		}
		u.parts[i+1] = data
	}
	f.Remove("src", "")
	u.check()
	u.finish()
}

func uploadEmptyParts(f *Fixture) {
	u := f.begin("k")
	u.part(1, "")
	u.finish()
	u = f.begin("k")
	u.part(1, pattern(1, 70_000))
	u.part(2, "")
	u.part(3, pattern(3, 70_000))
	f.Crash()
	u.check()
	u.finish()
}

func uploadSubset(f *Fixture) {
	for _, leave := range [][]int{{1}, {2}, {4}, {1, 2, 3}, {2, 3}} {
		u := f.begin("k")
		for n := 1; n <= 4; n++ {
			u.part(n, pattern(n, 70_000))
		}
		for _, n := range leave {
			delete(u.parts, n)
		}
		u.finish()
		_, data := u.completed()
		f.Crash()
		f.Want("k", "", data)
	}
	f.Remove("k", "")
	f.deleteBucket()
}

func uploadInvalid(f *Fixture) {
	f.Put("k", "old")
	u := f.begin("k")
	u.part(1, pattern(1, 1000))
	u.part(2, pattern(2, 1000))
	parts, data := u.completed()
	op := store.NewOpID()
	missing := append(parts[:2:2], store.CompletedPart{Number: 3, ETag: ETagOf("")})
	_, err := u.complete(missing, data, WithOp(op))
	f.wantIs("Complete with a missing part", err, store.ErrInvalidPart)
	_, err = u.complete([]store.CompletedPart{parts[0], {Number: 2, ETag: ETagOf("other")}}, data)
	f.wantIs("Complete with another ETag", err, store.ErrInvalidPart)
	f.wantNoOp(op, "k")
	f.Want("k", "", "old")
	u.check()
	u.finish()
}

func uploadConditions(f *Fixture) {
	f.Put("k", "old")
	u := f.begin("k")
	u.part(1, pattern(1, 100_000))
	parts, data := u.completed()
	_, err := u.complete(parts, data, WithCond(store.Conditions{IfNoneMatch: "*"}))
	f.wantIs("Complete if-none-match", err, store.ErrPreconditionFailed)
	_, err = u.complete(parts, data, WithCond(store.Conditions{IfMatch: ETagOf("x")}))
	f.wantIs("Complete if-match", err, store.ErrPreconditionFailed)
	f.Want("k", "", "old")
	f.Crash()
	u.check()
	u.finish(WithCond(store.Conditions{IfMatch: ETagOf("old")}))
	u = f.begin("none")
	u.part(1, "x")
	parts, data = u.completed()
	_, err = u.complete(parts, data, WithCond(store.Conditions{IfMatch: "*"}))
	f.wantIs("Complete if-match of none", err, store.ErrNoSuchKey)
	u.finish(WithCond(store.Conditions{IfNoneMatch: "*"}))
}

func uploadVersions(f *Fixture) {
	m := Model{}
	for i, v := range []store.Versioning{store.Unversioned, store.Enabled, store.Enabled, store.Suspended, store.Suspended, store.Enabled} {
		f.Versioning = v
		u := f.begin("d/k")
		u.part(1, pattern(i, 80_000))
		u.part(2, pattern(-i, 10))
		out := u.finish()
		_, data := u.completed()
		if prior := m.Put("d/k", data, versionID(out.Info), v); !samePrior(out.Prior, prior) {
			f.Errorf("%d: Prior = %+v, want %+v", i, out.Prior, prior)
		}
		f.Compare(m)
		f.Crash()
		f.Compare(m)
	}
}

func uploadOutcome(f *Fixture) {
	u := f.begin("k")
	u.part(1, pattern(1, 100_000))
	barred := store.NewOpID()
	f.wantNoOp(barred, "k")
	parts, data := u.completed()
	_, err := u.complete(parts, data, WithOp(barred))
	f.wantIs("Complete of a barred op", err, store.ErrOpBarred)
	u.check()
	op := store.NewOpID()
	out := u.finish(WithOp(op))
	f.wantOutcome(op, "k", out)
	f.Crash()
	f.wantOutcome(op, "k", out)
	u.gone()
}

func uploadAwkwardKeys(f *Fixture) {
	keys := awkwardKeys()
	var all []*upload
	for i, k := range keys {
		u := f.begin(k)
		u.part(1, pattern(i, 300))
		all = append(all, u)
	}
	f.Crash()
	for _, u := range all {
		u.part(2, u.key)
		u.finish()
	}
	f.Crash()
	for _, u := range all {
		_, data := u.completed()
		f.Want(u.key, "", data)
	}
	if diff := cmp.Diff(keys, f.Keys()); diff != "" {
		f.Errorf("keys (-want +got):\n%s", diff)
	}
}

func uploadAbort(f *Fixture) {
	u := f.begin("k")
	u.part(1, pattern(1, 100_000))
	if err := f.ups().AbortUpload(f.Context(), "other", u.id); !errors.Is(err, store.ErrNoSuchUpload) {
		f.Errorf("AbortUpload under another key = %v", err)
	}
	if err := f.ups().AbortUpload(f.Context(), "k", u.id); err != nil {
		f.Fatalf("AbortUpload = %v", err)
	}
	u.gone()
	f.Crash()
	u.gone()
	f.Absent("k")
	f.deleteBucket()
}

func uploadMissing(f *Fixture) {
	u := f.begin("k")
	u.part(1, "x")
	for _, id := range []string{"", ".", "..", "../x", "a/b", "nope", u.id + "0", u.id[1:], strings.Repeat("x", 300), "\x00", strings.ToUpper(u.id)} {
		other := &upload{f: f, key: "k", id: id}
		other.gone()
	}
	other := &upload{f: f, key: "l", id: u.id}
	other.gone()
	u.check()
	u.finish()
}

func uploadDeleteBucket(f *Fixture) {
	u := f.begin("d/k")
	u.part(1, pattern(1, 100_000))
	f.deleteBucket()
	_, _, _, err := f.ups().ListParts(f.Context(), "d/k", u.id, 0, 10)
	if !isOneOf(err, []error{store.ErrNoSuchUpload, store.ErrNoSuchBucket}) {
		f.Errorf("ListParts after DeleteBucket = %v", err)
	}
	if err := f.Driver().CreateBucket(f.Context(), f.Name); err != nil {
		f.Fatal(err)
	}
	f.openBucket()
	u.gone()
	f.Crash()
	u.gone()
	if p := f.listUploads(store.UploadListOptions{Max: 10}); len(p.Uploads) != 0 {
		f.Errorf("uploads = %+v, want none", p.Uploads)
	}
}
