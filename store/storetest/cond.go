package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"herald/store"
)

func conditionCases() []testCase {
	return []testCase{
		{"Table", conditionTable},
		{"UnderMarker", conditionMarker},
		{"Race_IfNoneMatch", conditionRaceNone},
		{"Race_IfMatch", conditionRaceMatch},
		{"Race_RemoveIfMatch", conditionRaceRemove},
	}
}

// conditionTable: every kind of condition, on a put and on a removal, in each
// state of versioning.
func conditionTable(f *Fixture) {
	when := time.Date(2020, 2, 2, 2, 2, 2, 555, time.UTC)
	size, other := int64(3), int64(4)
	tests := []struct {
		name    string
		cond    store.Conditions
		absent  error // for a key that is not there
		present error // for one that has data "old", written at when
	}{
		{"none", store.Conditions{}, nil, nil},
		{"IfNoneMatch any", store.Conditions{IfNoneMatch: "*"}, nil, store.ErrPreconditionFailed},
		{"IfNoneMatch same", store.Conditions{IfNoneMatch: `"` + ETagOf("old") + `"`}, nil, store.ErrPreconditionFailed},
		{"IfNoneMatch other", store.Conditions{IfNoneMatch: ETagOf("other")}, nil, nil},
		{"IfMatch same", store.Conditions{IfMatch: ETagOf("old")}, store.ErrNoSuchKey, nil},
		{"IfMatch list", store.Conditions{IfMatch: `"x", "` + ETagOf("old") + `"`}, store.ErrNoSuchKey, nil},
		{"IfMatch any", store.Conditions{IfMatch: "*"}, store.ErrNoSuchKey, nil},
		{"IfMatch other", store.Conditions{IfMatch: ETagOf("other")}, store.ErrNoSuchKey, store.ErrPreconditionFailed},
		{"Size same", store.Conditions{IfMatchSize: &size}, store.ErrNoSuchKey, nil},
		{"Size other", store.Conditions{IfMatchSize: &other}, store.ErrNoSuchKey, store.ErrPreconditionFailed},
		{"ModTime same", store.Conditions{IfMatchModTime: when.Truncate(time.Second)}, store.ErrNoSuchKey, nil},
		{"ModTime other", store.Conditions{IfMatchModTime: when.Add(time.Hour)}, store.ErrNoSuchKey, store.ErrPreconditionFailed},
	}
	at := func(o *store.CommitOptions) { o.ModTime = when }
	for _, v := range []store.Versioning{store.Unversioned, store.Enabled, store.Suspended} {
		f.NewBucket()
		f.Versioning = v
		for i, tt := range tests {
			what := fmt.Sprintf("versioning %d, %s", v, tt.name)
			key := fmt.Sprintf("put/%d", i)
			_, err := f.TryPut(key, "new", WithCond(tt.cond))
			f.wantIs("Put where nothing is: "+what, err, tt.absent)
			key += "/present"
			f.Put(key, "old", at)
			op := store.NewOpID()
			_, err = f.TryPut(key, "new", WithCond(tt.cond), WithOp(op))
			f.wantIs("Put over an object: "+what, err, tt.present)
			f.conditionResult(key, tt.present == nil, "new")
			f.wantSettled(key, op, tt.present)

			key = fmt.Sprintf("remove/%d", i)
			f.Put(key, "old", at)
			op = store.NewOpID()
			_, err = f.TryRemove(key, "", WithCond(tt.cond), WithOp(op))
			f.wantIs("Remove of an object: "+what, err, tt.present)
			f.wantSettled(key, op, tt.present)
			if tt.present != nil {
				f.Want(key, "", "old")
			} else {
				f.WantErr(key, "", store.ErrNoSuchKey, store.ErrDeleteMarker)
			}
		}
	}
}

func (f *Fixture) conditionResult(key string, happened bool, data string) {
	f.Helper()
	if !happened {
		data = "old"
	}
	f.Want(key, "", data)
}

// wantSettled checks that an op has an outcome exactly if it succeeded.
func (f *Fixture) wantSettled(key string, op store.OpID, err error) {
	f.Helper()
	_, settled := f.Driver().Outcomes().Settle(f.Context(), store.OpRef{ID: op, Bucket: f.Name, Key: key})
	if err == nil && settled != nil || err != nil && !errors.Is(settled, store.ErrNoSuchOp) {
		f.Fatalf("the op ended with %v, Settle says %v", err, settled)
	}
}

// conditionMarker: a key whose current version is a delete marker has no
// current object.
func conditionMarker(f *Fixture) {
	f.Versioning = store.Enabled
	f.Put("k", "old")
	f.Remove("k", "")
	_, err := f.TryPut("k", "new", WithCond(store.Conditions{IfMatch: ETagOf("old")}))
	f.wantIs("Put if-match under a marker", err, store.ErrNoSuchKey)
	_, err = f.TryPut("k", "new", WithCond(store.Conditions{IfNoneMatch: "*"}))
	f.wantIs("Put if-none-match under a marker", err, nil)
	f.Want("k", "", "new")
	_, err = f.TryPut("k", "newer", WithCond(store.Conditions{IfNoneMatch: "*"}))
	f.wantIs("Put if-none-match over an object", err, store.ErrPreconditionFailed)
}

// conditionRaceNone: of 16 that create a key if it does not exist, one wins.
func conditionRaceNone(f *Fixture) {
	for round := range 20 {
		key := fmt.Sprintf("race/%d", round)
		var won atomic.Int32
		var winner atomic.Value
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				data := pattern(i, 10+3000*i) // some are staged, some are not
				_, err := f.TryPut(key, data, WithCond(store.Conditions{IfNoneMatch: "*"}))
				switch {
				case err == nil:
					won.Add(1)
					winner.Store(data)
				case !errors.Is(err, store.ErrPreconditionFailed):
					f.Errorf("Put = %v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			f.Fatalf("%d of 16 conditional creations won", won.Load())
		}
		f.Want(key, "", winner.Load().(string))
	}
}

// conditionRaceMatch: 8 writers count upwards by compare-and-swap; no step is
// lost.
func conditionRaceMatch(f *Fixture) {
	f.Put("counter", "0")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for done := 0; done < 10; {
				cur, info, err := ReadObject(f.Context(), f.Bucket, "counter", "")
				if err != nil {
					f.Errorf("Open = %v", err)
					return
				}
				var n int
				_, _ = fmt.Sscan(cur, &n)
				_, err = f.TryPut("counter", fmt.Sprint(n+1), WithCond(store.Conditions{IfMatch: `"` + info.ETag + `"`}))
				switch {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrPreconditionFailed):
					f.Errorf("Put = %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	f.Want("counter", "", "80")
}

func conditionRaceRemove(f *Fixture) {
	f.Put("k", "v")
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			out, err := f.TryRemove("k", "", WithCond(store.Conditions{IfMatch: ETagOf("v")}))
			switch {
			case err == nil && out.Changed:
				won.Add(1)
			case err != nil && !errors.Is(err, store.ErrNoSuchKey) && !errors.Is(err, store.ErrPreconditionFailed):
				f.Errorf("Remove = %v", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		f.Errorf("%d of 16 conditional removals won", won.Load())
	}
	f.Absent("k")
}
