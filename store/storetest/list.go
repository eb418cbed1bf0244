package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herald/store"
)

func listCases() []testCase {
	return []testCase{
		{"Empty", func(f *Fixture) {
			for _, o := range []store.ListOptions{{Max: 10}, {Max: 0}, {Max: 10, Versions: true}, {Max: 1, Delimiter: "/", Prefix: "a"}} {
				if p := f.List(o); p.Truncated || len(p.Entries)+len(p.CommonPrefixes) != 0 {
					f.Errorf("List(%+v) of an empty bucket = %+v", o, p)
				}
			}
		}},
		{"MaxZero", func(f *Fixture) {
			f.Put("k", "v")
			if p := f.List(store.ListOptions{Max: 0}); p.Truncated || len(p.Entries) != 0 {
				f.Errorf("List(max 0) = %+v", p)
			}
		}},
		{"Order", listOrder},
		{"Delimiter", listDelimiter},
		{"Markers", listMarkers},
		{"VersionMarker_Removed", listMarkerRemoved},
		{"Model", func(f *Fixture) { f.listModel(1, false) }},
		{"Model_Versions", func(f *Fixture) { f.listModel(2, true) }},
		{"WhileChanging", listWhileChanging},
		{"DeepTree", listDeep},
	}
}

func (f *Fixture) wantList(o store.ListOptions, want ...string) {
	f.Helper()
	if o.Max == 0 {
		o.Max = 1000
	}
	if diff := cmp.Diff(want, pageLines(f.List(o), o.Versions), cmpopts.EquateEmpty()); diff != "" {
		f.Errorf("List(%+v) (-want +got):\n%s", o, diff)
	}
}

// listOrder: keys are sorted as bytes; a directory sorts with its slash.
func listOrder(f *Fixture) {
	keys := []string{"a!", "a-b", "a.b", "a/b", "a0", "a", "B", "b/", "b", "b/c", "é", "z", "\xff", "\x01", "a/", "a b"}
	for _, k := range keys {
		f.Put(k, "v")
	}
	slices.Sort(keys)
	f.wantList(store.ListOptions{}, keys...)
	f.Crash()
	f.wantList(store.ListOptions{}, keys...)
}

func listDelimiter(f *Fixture) {
	for _, k := range []string{"a", "a/", "a/b", "a/c/d", "ab", "b/c", "b//d", "c|d|e", "/x", "é/ü"} {
		f.Put(k, "v")
	}
	f.wantList(store.ListOptions{Delimiter: "/"}, "prefix /", "a", "prefix a/", "ab", "prefix b/", "c|d|e", "prefix é/")
	f.wantList(store.ListOptions{Delimiter: "/", Prefix: "a"}, "a", "prefix a/", "ab")
	f.wantList(store.ListOptions{Delimiter: "/", Prefix: "a/"}, "a/", "a/b", "prefix a/c/")
	f.wantList(store.ListOptions{Delimiter: "/", Prefix: "b/"}, "prefix b//", "b/c")
	f.wantList(store.ListOptions{Delimiter: "|"}, "/x", "a", "a/", "a/b", "a/c/d", "ab", "b//d", "b/c", "prefix c|", "é/ü")
	f.wantList(store.ListOptions{Delimiter: "c"}, "/x", "a", "a/", "a/b", "prefix a/c", "ab", "b//d", "prefix b/c", "prefix c", "é/ü")
	f.wantList(store.ListOptions{Delimiter: "/d"}, "/x", "a", "a/", "a/b", "prefix a/c/d", "ab", "prefix b//d", "b/c", "c|d|e", "é/ü")
	f.wantList(store.ListOptions{Delimiter: "\xc3"}, "/x", "a", "a/", "a/b", "a/c/d", "ab", "b//d", "b/c", "c|d|e", "prefix \xc3")
	f.wantList(store.ListOptions{Prefix: "nothing"})
	f.wantList(store.ListOptions{Delimiter: "/", Prefix: "/"}, "/x")
}

func listMarkers(f *Fixture) {
	for _, k := range []string{"a", "b/1", "b/2", "c", "d/1", "e"} {
		f.Put(k, "v")
	}
	f.wantList(store.ListOptions{Marker: "b/1"}, "b/2", "c", "d/1", "e")
	f.wantList(store.ListOptions{Marker: "b/11"}, "b/2", "c", "d/1", "e")
	f.wantList(store.ListOptions{Marker: "zz"})
	f.wantList(store.ListOptions{Delimiter: "/", Marker: "a"}, "prefix b/", "c", "prefix d/", "e")
	f.wantList(store.ListOptions{Delimiter: "/", Marker: "b/"}, "c", "prefix d/", "e")
	f.wantList(store.ListOptions{Delimiter: "/", Marker: "b/1"}, "c", "prefix d/", "e")
	f.wantList(store.ListOptions{Prefix: "b/", Marker: "a"}, "b/1", "b/2")
	f.wantList(store.ListOptions{Prefix: "b/", Marker: "c"})
	p := f.List(store.ListOptions{Delimiter: "/", Max: 2})
	if !p.Truncated || p.NextMarker != "b/" {
		f.Errorf("page = %+v, want it truncated after b/", p)
	}
	if p := f.List(store.ListOptions{Delimiter: "/", Max: 5}); p.Truncated {
		f.Errorf("a page that is just full = %+v, want it not truncated", p)
	}
}

// listMarkerRemoved: who removes while he lists misses nothing.
func listMarkerRemoved(f *Fixture) {
	f.Versioning = store.Enabled
	for i := range 3 {
		for range 5 {
			f.Put(fmt.Sprint("k", i), "v")
		}
	}
	o := store.ListOptions{Versions: true, Max: 2}
	for removed := 0; ; {
		p := f.List(o)
		for _, e := range p.Entries {
			f.Remove(e.Key, versionID(&e))
			removed++
		}
		if !p.Truncated {
			if removed != 15 {
				f.Fatalf("%d of 15 versions were listed and removed", removed)
			}
			f.deleteBucket()
			return
		}
		o.Marker, o.VersionMarker = p.NextMarker, p.NextVersionMarker
	}
}

// nasty is the alphabet of random keys: what sorts around '/', and the ends.
var nasty = []string{"/", "/", " ", "\x01", "\xff", "é", "a", "a", "b", ".", "-", "0", "%", "+"}

func randomKey(r *rand.Rand) string {
	var sb strings.Builder
	for range 1 + r.IntN(5) {
		sb.WriteString(nasty[r.IntN(len(nasty))])
	}
	return sb.String()
}

// listModel puts and removes random keys and compares random listings with
// the model's.
func (f *Fixture) listModel(seed uint64, versioned bool) {
	r := rand.New(rand.NewPCG(seed, seed))
	m := Model{}
	for round := range 12 {
		for range 60 {
			f.randomChange(r, m, randomKey(r), versioned)
		}
		for range 80 {
			f.compareRandomPage(r, m, versioned)
		}
		if round%4 == 3 {
			f.Crash()
			f.Compare(m)
		}
	}
}

func (f *Fixture) randomChange(r *rand.Rand, m Model, key string, versioned bool) {
	f.Helper()
	if keys := m.Keys(); len(keys) > 0 && r.IntN(2) == 0 {
		key = keys[r.IntN(len(keys))]
	}
	data := fmt.Sprint(r.Uint32())
	switch {
	case versioned:
		f.versionStep(m, key, versionOps[r.IntN(len(versionOps))], data)
	case r.IntN(3) > 0:
		f.Put(key, data)
		m.Put(key, data, "", store.Unversioned)
	default:
		changed, _ := m.Remove(key, "", "", store.Unversioned)
		if out := f.Remove(key, ""); out.Changed != changed {
			f.Fatalf("Remove(%q) = %+v, want changed %t", key, out, changed)
		}
	}
}

func (f *Fixture) compareRandomPage(r *rand.Rand, m Model, versioned bool) {
	f.Helper()
	o := store.ListOptions{Max: 1 + r.IntN(20), Versions: versioned && r.IntN(3) > 0}
	if r.IntN(2) == 0 {
		o.Prefix = randomKey(r)[:1]
	}
	if r.IntN(3) > 0 {
		o.Delimiter = []string{"/", "/", "a", "é", "/a", "\xff"}[r.IntN(6)]
	}
	if r.IntN(2) == 0 {
		o.Marker = randomKey(r)
		if vs := m[o.Marker]; o.Versions && len(vs) > 0 {
			o.VersionMarker = vs[r.IntN(len(vs))].ID
		}
	}
	want, truncated := m.List(o)
	p := f.List(o)
	if diff := cmp.Diff(want, pageLines(p, o.Versions), cmpopts.EquateEmpty()); diff != "" || p.Truncated != truncated {
		f.Fatalf("List(%+v): truncated %t, want %t (-want +got):\n%s", o, p.Truncated, truncated, diff)
	}
	o.Marker, o.VersionMarker = "", ""
	all := o
	all.Max = 1 << 30
	want, _ = m.List(all)
	if got, _ := f.allLines(o); !slices.Equal(want, got) {
		f.Fatalf("all pages of List(%+v) (-want +got):\n%s", o, cmp.Diff(want, got))
	}
}

// listWhileChanging: keys that do not change are listed exactly once,
// whatever happens to others meanwhile.
func listWhileChanging(f *Fixture) {
	var want []string
	for i := range 100 {
		k := fmt.Sprintf("d%d/still%03d", i%5, i)
		want = append(want, k)
		f.Put(k, "v")
	}
	slices.Sort(want)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			k := fmt.Sprintf("d%d/moving%03d", i%5, i%70)
			if _, err := f.TryPut(k, "v"); err != nil {
				f.Errorf("Put = %v", err)
				return
			}
			if _, err := f.TryRemove(fmt.Sprintf("d%d/moving%03d", (i+2)%5, (i+37)%70), ""); err != nil {
				f.Errorf("Remove = %v", err)
				return
			}
		}
	}()
	for range 30 {
		got, _ := f.allLines(store.ListOptions{Max: 7})
		got = slices.DeleteFunc(got, func(k string) bool { return strings.Contains(k, "moving") })
		if !slices.Equal(got, want) {
			f.Errorf("keys that stand still (-want +got):\n%s", cmp.Diff(want, got))
			break
		}
	}
	close(stop)
	<-done
}

func listDeep(f *Fixture) {
	m := Model{}
	for i := range 300 {
		key := fmt.Sprintf("l%d/m%d/n%d/o", i%3, i%7, i)
		f.Put(key, "v")
		m.Put(key, "v", "", store.Unversioned)
	}
	for _, o := range []store.ListOptions{{Max: 50}, {Max: 1, Delimiter: "/"}, {Max: 2, Delimiter: "/", Prefix: "l1/"}, {Max: 10, Prefix: "l2/m3/"}} {
		all := o
		all.Max = 1 << 30
		want, _ := m.List(all)
		if got, _ := f.allLines(o); !slices.Equal(want, got) {
			f.Errorf("all pages of List(%+v) (-want +got):\n%s", o, cmp.Diff(want, got))
		}
	}
}
