package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herald/store"
)

func recordsCases() []testCase {
	return []testCase{
		{"CAS", recordsCAS},
		{"Versions_NotReused", recordsVersions},
		{"List", recordsList},
		{"Names", recordsNames},
		{"Sizes", recordsSizes},
		{"Race_Create", recordsRaceCreate},
		{"Race_Update", recordsRaceUpdate},
	}
}

func (f *Fixture) recPut(name, value string, version uint64) uint64 {
	f.Helper()
	v, err := f.Driver().Records().Put(f.Context(), name, []byte(value), version)
	if err != nil || v == 0 || v == version {
		f.Fatalf("Records.Put(%q, version %d) = %d, %v", name, version, v, err)
	}
	return v
}

func (f *Fixture) recWant(name, value string, version uint64) {
	f.Helper()
	got, v, err := f.Driver().Records().Get(f.Context(), name)
	if err != nil || string(got) != value || v != version {
		f.Fatalf("Records.Get(%q) = %s, %d, %v, want %s, %d", name, brief(string(got)), v, err, brief(value), version)
	}
}

func (f *Fixture) recDelete(name string, version uint64) error {
	return f.Driver().Records().Delete(f.Context(), name, version)
}

func (f *Fixture) recPutErr(name string, version uint64, want error) {
	f.Helper()
	_, err := f.Driver().Records().Put(f.Context(), name, []byte("x"), version)
	f.wantIs(fmt.Sprintf("Records.Put(%q, version %d)", name, version), err, want)
}

func recordsCAS(f *Fixture) {
	name := "cas/" + f.Name
	_, _, err := f.Driver().Records().Get(f.Context(), name)
	f.wantIs("Get of none", err, store.ErrNoSuchRecord)
	f.wantIs("Delete of none", f.recDelete(name, 1), store.ErrNoSuchRecord)
	f.recPutErr(name, 7, store.ErrRecordConflict)
	v1 := f.recPut(name, "one", 0)
	f.recWant(name, "one", v1)
	f.recPutErr(name, 0, store.ErrRecordConflict)
	v2 := f.recPut(name, "two", v1)
	f.recPutErr(name, v1, store.ErrRecordConflict)
	f.wantIs("Delete of an old version", f.recDelete(name, v1), store.ErrRecordConflict)
	f.Crash()
	f.recWant(name, "two", v2)
	f.recPutErr(name, v1, store.ErrRecordConflict)
	v3 := f.recPut(name, "", v2)
	f.recWant(name, "", v3)
	f.Crash()
	f.recWant(name, "", v3)
	f.wantIs("Delete", f.recDelete(name, v3), nil)
	f.wantIs("Delete again", f.recDelete(name, v3), store.ErrNoSuchRecord)
	f.Crash()
	_, _, err = f.Driver().Records().Get(f.Context(), name)
	f.wantIs("Get after Delete", err, store.ErrNoSuchRecord)
}

// recordsVersions: caches rely on it that a version names one content, also
// when a document was deleted and written again.
func recordsVersions(f *Fixture) {
	name := "reuse/" + f.Name
	seen := map[uint64]bool{}
	for i := range 9 {
		v := f.recPut(name, "a", 0)
		w := f.recPut(name, "b", v)
		if seen[v] || seen[w] {
			f.Fatalf("versions %d, %d were used before", v, w)
		}
		seen[v], seen[w] = true, true
		f.wantIs("Delete", f.recDelete(name, w), nil)
		f.recPutErr(name, w, store.ErrRecordConflict)
		if i%3 == 2 {
			f.Crash()
		}
	}
}

func (f *Fixture) recList(prefix, after string, n int) []string {
	f.Helper()
	names, err := f.Driver().Records().List(f.Context(), prefix, after, n)
	if err != nil {
		f.Fatalf("Records.List(%q, %q, %d) = %v", prefix, after, n, err)
	}
	return names
}

func recordsList(f *Fixture) {
	p := "list/" + f.Name + "/"
	names := []string{"a", "a/b", "a/b/c", "a-b", "a.b", "a:b", "a$b", "a@b", "b", "B", "b/", "c_1", "0"}
	for i, n := range names {
		names[i] = p + n
		f.recPut(names[i], n, 0)
	}
	slices.Sort(names)
	check := func() {
		f.Helper()
		for after := range len(names) {
			for _, n := range []int{0, 1, 3, 100} {
				want := names[after+1:]
				if n > 0 {
					want = want[:min(n, len(want))]
				}
				if diff := cmp.Diff(want, f.recList(p, names[after], n), cmpopts.EquateEmpty()); diff != "" {
					f.Fatalf("Records.List after %q, max %d (-want +got):\n%s", names[after], n, diff)
				}
			}
		}
		if diff := cmp.Diff(names, f.recList(p, "", 0)); diff != "" {
			f.Fatalf("Records.List (-want +got):\n%s", diff)
		}
		if got := f.recList(p+"a/", "", 0); len(got) != 2 {
			f.Fatalf("Records.List of a prefix = %q", got)
		}
		if got := f.recList(p+"nothing", "", 0); len(got) != 0 {
			f.Fatalf("Records.List of nothing = %q", got)
		}
	}
	check()
	f.Crash()
	check()
}

func recordsNames(f *Fixture) {
	for _, n := range []string{
		"x", "user/tenant$uid", "bucket/tenant:bucket", "a/../b", "../x", "..", ".", "a/./b", ".hidden", strings.Repeat("n", 512),
		strings.Repeat("d/", 256), "topic/arn:aws:sns:default:t:name", "user@example.org", "-", "_",
	} {
		v := f.recPut(n, "at "+n, 0)
		f.recWant(n, "at "+n, v)
		f.Crash()
		f.recWant(n, "at "+n, v)
		f.wantIs("Delete", f.recDelete(n, v), nil)
	}
}

func recordsSizes(f *Fixture) {
	version := uint64(0)
	for _, size := range []int{0, 1, 4000, 5000, 70_000, 1 << 20, 10} {
		version = f.recPut("size/"+f.Name, pattern(size, size), version)
		f.recWant("size/"+f.Name, pattern(size, size), version)
		f.Crash()
		f.recWant("size/"+f.Name, pattern(size, size), version)
	}
}

func recordsRaceCreate(f *Fixture) {
	for round := range 10 {
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				_, err := f.Driver().Records().Put(f.Context(), fmt.Sprintf("race/%s/%d", f.Name, round), []byte("x"), 0)
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, store.ErrRecordConflict) {
					f.Errorf("Put = %v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			f.Fatalf("%d of 16 made the same record", won.Load())
		}
	}
}

// recordsRaceUpdate: 8 goroutines count in one document; nothing is lost.
func recordsRaceUpdate(f *Fixture) {
	name := "count/" + f.Name
	f.recPut(name, "0", 0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for done := 0; done < 15; {
				value, version, err := f.Driver().Records().Get(f.Context(), name)
				if err != nil {
					f.Errorf("Get = %v", err)
					return
				}
				var n int
				_, _ = fmt.Sscan(string(value), &n)
				_, err = f.Driver().Records().Put(f.Context(), name, fmt.Append(nil, n+1), version)
				switch {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrRecordConflict):
					f.Errorf("Put = %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	f.Crash()
	value, _, err := f.Driver().Records().Get(f.Context(), name)
	if err != nil || string(value) != "120" {
		f.Fatalf("after 120 updates the count is %q, %v", value, err)
	}
}
