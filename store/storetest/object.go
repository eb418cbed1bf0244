package storetest

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"herald/store"
)

func objectCases() []testCase {
	return []testCase{
		{"Put_Get", func(f *Fixture) {
			before := time.Now().Add(-time.Second)
			f.Absent("k")
			f.Put("k", "value")
			i := f.Want("k", "", "value")
			if !i.IsLatest || i.ModTime.Before(before) || i.ModTime.After(time.Now().Add(time.Second)) {
				f.Errorf("Info = %+v, want latest and of now", i)
			}
		}},
		{"Put_Overwrite", func(f *Fixture) {
			f.Put("k", "one")
			f.Put("k", "a longer second value")
			f.Want("k", "", "a longer second value")
			f.Put("k", "3")
			f.Want("k", "", "3")
			f.Crash()
			f.Want("k", "", "3")
		}},
		{"Put_Empty", func(f *Fixture) {
			f.Put("empty", "")
			f.Put("dir/empty", "")
			f.Want("empty", "", "")
			f.Crash()
			f.Want("empty", "", "")
			f.Want("dir/empty", "", "")
			f.Put("empty", "no more")
			f.Want("empty", "", "no more")
			f.Put("empty", "")
			f.Want("empty", "", "")
		}},
		{"Put_Sizes", objectSizes},
		{"Put_WrongHint", objectWrongHint},
		{"Put_ModTime", objectModTime},
		{"Remove", func(f *Fixture) {
			if out := f.Remove("k", ""); out.Changed {
				f.Errorf("Remove of nothing = %+v, want no change", out)
			}
			f.Put("k", "v")
			if out := f.Remove("k", ""); !out.Changed || out.Info == nil || out.Info.ETag != ETagOf("v") {
				f.Errorf("Remove = %+v, want what is gone", out)
			}
			f.Absent("k")
			f.Crash()
			f.Absent("k")
			if out := f.Remove("k", ""); out.Changed {
				f.Errorf("second Remove = %+v, want no change", out)
			}
		}},
		{"Null_IsTheUnversioned", func(f *Fixture) {
			f.Put("k", "v")
			f.Want("k", store.NullVersion, "v")
			f.WantErr("k", "0123456789abcdef0123456789abcdef", store.ErrNoSuchVersion)
			if out := f.Remove("k", "0123456789abcdef0123456789abcdef"); out.Changed {
				f.Errorf("Remove of a version that is not = %+v", out)
			}
			f.Want("k", "", "v")
			f.Remove("k", store.NullVersion)
			f.Absent("k")
		}},
		{"Abort_LeavesNothing", objectAbort},
		{"Commit_Cancelled", objectCancelled},
		{"Writers_SameKey", objectConcurrentWriters},
		{"Put_RacingRemoveOfSiblings", objectSiblingRace},
	}
}

func objectSizes(f *Fixture) {
	sizes := []int{1, 511, 512, 4095, 4096, 4097, 32 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 128 << 10, 200_000, 1 << 20, 1<<20 + 1, 5<<20 + 13}
	for i, n := range sizes {
		f.Put("size/"+time.Duration(n).String(), pattern(i, n))
	}
	check := func() {
		for i, n := range sizes {
			f.Want("size/"+time.Duration(n).String(), "", pattern(i, n))
		}
	}
	check()
	f.Crash()
	check()
	for i, n := range sizes { // the other way round: small over large, large over small
		f.Put("size/"+time.Duration(n).String(), pattern(-i, sizes[len(sizes)-1-i]))
	}
	f.Crash()
	for i, n := range sizes {
		f.Want("size/"+time.Duration(n).String(), "", pattern(-i, sizes[len(sizes)-1-i]))
	}
}

// objectWrongHint: a hint is a hint.
func objectWrongHint(f *Fixture) {
	for _, size := range []int{0, 10, 100 << 10, 3 << 20} {
		data := pattern(size, size)
		for _, hint := range []int64{-1, 0, 1, 100, 1 << 20, 1 << 30} {
			w, err := f.Bucket.Create(f.Context(), "k", store.CreateHint{Size: hint})
			if err != nil {
				f.Fatalf("Create(hint %d) = %v", hint, err)
			}
			if _, err := io.WriteString(w, data); err != nil {
				f.Fatalf("Write(hint %d) = %v", hint, err)
			}
			if _, err := w.Commit(f.Context(), store.CommitOptions{ETag: ETagOf(data)}); err != nil {
				f.Fatalf("Commit(hint %d) = %v", hint, err)
			}
			f.Want("k", "", data)
		}
	}
}

func objectModTime(f *Fixture) {
	for _, when := range []time.Time{
		time.Date(1999, 12, 31, 23, 59, 59, 123456789, time.UTC),
		time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC),
		time.Date(2026, 11, 21, 10, 0, 0, 987000000, time.FixedZone("", 3600)),
	} {
		setTime := func(o *store.CommitOptions) { o.ModTime = when }
		out := f.Put("k", "v", setTime)
		if !out.Info.ModTime.Equal(when) || !f.Stat("k", "").ModTime.Equal(when) {
			f.Errorf("ModTime = %v and %v, want %v", out.Info.ModTime, f.Stat("k", "").ModTime, when)
		}
		if e := f.List(store.ListOptions{Max: 1}).Entries[0]; !e.ModTime.Equal(when) {
			f.Errorf("listed ModTime = %v, want %v", e.ModTime, when)
		}
		f.Reopen()
		if got := f.Stat("k", "").ModTime; !got.Equal(when) {
			f.Errorf("ModTime after reopening = %v, want %v", got, when)
		}
	}
}

func objectAbort(f *Fixture) {
	f.Put("kept", "old")
	for _, size := range []int{0, 10, 3 << 20} {
		for _, key := range []string{"kept", "new", "dir/new"} {
			w, err := f.Bucket.Create(f.Context(), key, store.CreateHint{Size: int64(size)})
			if err != nil {
				f.Fatalf("Create(%q) = %v", key, err)
			}
			if _, err := io.WriteString(w, pattern(1, size)); err != nil {
				f.Fatalf("Write(%q) = %v", key, err)
			}
			if err := w.Abort(); err != nil {
				f.Errorf("Abort(%q) = %v", key, err)
			}
			if _, err := w.Commit(f.Context(), store.CommitOptions{ETag: ETagOf("")}); err == nil {
				f.Errorf("Commit after Abort succeeded")
			}
		}
	}
	f.Want("kept", "", "old")
	f.Absent("new")
	f.Absent("dir/new")
	f.Crash()
	f.Absent("dir/new")
	if keys := f.Keys(); len(keys) != 1 {
		f.Errorf("keys = %q, want only %q", keys, "kept")
	}
	w, err := f.Bucket.Create(f.Context(), "k", store.CreateHint{Size: 1})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := w.Commit(f.Context(), store.CommitOptions{ETag: ETagOf("")}); err != nil {
		f.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		f.Errorf("Abort after Commit = %v", err)
	}
	f.Want("k", "", "")
	f.Remove("kept", "")
	f.Remove("k", "")
	f.deleteBucket() // nothing is left that would be in the way
}

// objectCancelled: a commit whose context is done either happened whole and
// said so, or not at all.
func objectCancelled(f *Fixture) {
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	op := store.NewOpID()
	_, err := PutObject(ctx, f.Bucket, "k", "v", store.CommitOptions{Op: op})
	_, settled := f.Driver().Outcomes().Settle(f.Context(), store.OpRef{ID: op, Bucket: f.Name, Key: "k"})
	switch {
	case err == nil:
		f.Want("k", "", "v")
		if settled != nil {
			f.Errorf("Settle = %v for a commit that succeeded", settled)
		}
	case errors.Is(err, context.Canceled):
		f.Absent("k")
		f.wantIs("Settle of a cancelled op", settled, store.ErrNoSuchOp)
	default:
		f.Fatalf("Put with a cancelled context = %v", err)
	}
	f.Put("k", "w")
	f.Want("k", "", "w")
}

func objectConcurrentWriters(f *Fixture) {
	const n = 12
	var wg sync.WaitGroup
	var mu sync.Mutex
	bySeq := map[uint64]int{}
	for i := range n {
		wg.Go(func() {
			out, err := f.TryPut("same", pattern(i, 1000*i))
			if err != nil {
				f.Errorf("Put = %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if j, dup := bySeq[out.Seq]; dup {
				f.Errorf("writers %d and %d have the same seq", i, j)
			}
			bySeq[out.Seq] = i
		})
	}
	wg.Wait()
	last := f.Stat("same", "")
	for seq := range bySeq {
		if seq > last.Seq {
			f.Errorf("seq %d is greater than the winner's %d", seq, last.Seq)
		}
	}
	i := bySeq[last.Seq]
	f.Want("same", "", pattern(i, 1000*i))
	f.Crash()
	f.Want("same", "", pattern(i, 1000*i))
}

// objectSiblingRace: writers make keys in a directory that removers empty at
// the same time.
func objectSiblingRace(f *Fixture) {
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			key := "p/q/r/" + string(rune('a'+i))
			for range 25 {
				if _, err := f.TryPut(key, key); err != nil {
					f.Errorf("Put(%q) = %v", key, err)
					return
				}
				if got, _, err := ReadObject(f.Context(), f.Bucket, key, ""); err != nil || got != key {
					f.Errorf("Open(%q) = %q, %v", key, got, err)
				}
				if _, err := f.TryRemove(key, ""); err != nil {
					f.Errorf("Remove(%q) = %v", key, err)
				}
			}
		})
	}
	wg.Wait()
	if keys := f.Keys(); len(keys) != 0 {
		f.Errorf("keys = %q, want none", keys)
	}
	f.deleteBucket()
}
