//go:build rados

package rados

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"herald/store"
)

var someKeys = []string{"", "a", "a/b", "\x00", "\x01", "\x00\x01", "a\x00", "a\x01", "a\x02", "a\x01\x01", "é", "\xff\xff", strings.Repeat("\x00", 1024)}

func FuzzOmapKey(f *testing.F) {
	for _, k := range someKeys {
		f.Add(k, k+"\x00")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		an, bn := omapKey(spaceVersions, a), omapKey(spaceVersions, b)
		if strings.Contains(an, "\x00") {
			t.Errorf("%q contains a NUL", an)
		}
		if key, rest, ok := splitOmapKey(an + b); !ok || key != a || rest != b {
			t.Errorf("splitOmapKey(%q + %q) = %q, %q, %t", an, b, key, rest, ok)
		}
		if (a < b) != (an < bn) || (a < b) != (an+pastIDs < bn) {
			t.Errorf("%q and %q are in another order than %q and %q", an, bn, a, b)
		}
		if strings.HasPrefix(a, b) != strings.HasPrefix(an, spaceVersions+orderedKey(b)) {
			t.Errorf("prefix %q of %q is lost", b, a)
		}
		at := time.Unix(0, 1<<60+int64(len(b)))
		if key, got, ok := splitDeadKey(deadKey(a, at)); !ok || key != a || !got.Equal(at) {
			t.Errorf("splitDeadKey = %q, %v, %t", key, got, ok)
		}
		if key, got, id, ok := splitUploadKey(uploadKey(a, at, b)); !ok || key != a || !got.Equal(at) || id != b {
			t.Errorf("splitUploadKey = %q, %v, %q, %t", key, got, id, ok)
		}
		tag := store.NewOpID()
		if key, got, ok := splitMarkKey(markKey(a, tag)); !ok || key != a || got != tag {
			t.Errorf("splitMarkKey = %q, %v, %t", key, got, ok)
		}
	})
}

func FuzzSplitOmapKey(f *testing.F) {
	for _, k := range someKeys {
		f.Add(k)
		f.Add(omapKey(spaceCurrent, k))
		f.Add(markKey(k, store.OpID{1}))
		f.Add(versionKey(&store.Info{Key: k, Seq: 7, VersionID: "null"}))
		f.Add(deadKey(k, time.Unix(1, 2)))
	}
	f.Fuzz(func(t *testing.T, name string) {
		if key, rest, ok := splitOmapKey(name); ok && len(name) >= 2 {
			if again, rest2, ok := splitOmapKey(omapKey(name[:2], key) + rest); !ok || again != key || rest2 != rest {
				t.Errorf("splitOmapKey(%q) = %q, %q", name, key, rest)
			}
			_, _ = versionSeq(rest)
		}
		splitDeadKey(name)
		splitUploadKey(name)
		splitMarkKey(name)
	})
}

func FuzzIndexEntry(f *testing.F) {
	for _, e := range []indexEntry{
		{},
		{gen: 1 << 63, info: store.Info{Seq: 5, DeleteMarker: true, VersionID: "null", ModTime: time.Unix(-5, 7)}},
		{info: store.Info{Seq: 5, Size: 1 << 40, ETag: "x", ModTime: time.Unix(1e9, 999999999), Attrs: store.Attrs{store.AttrOwner: "o", store.AttrChecksumType: ""}}},
	} {
		f.Add(e.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeIndexEntry("k", b)
		if err != nil {
			return
		}
		again, err := decodeIndexEntry("k", e.encode())
		if err != nil {
			t.Fatal(err)
		}
		if d := gocmp.Diff(e, again, gocmp.AllowUnexported(indexEntry{})); d != "" {
			t.Errorf("decoded, encoded and decoded (-once +twice):\n%s", d)
		}
	})
}

func FuzzSums(f *testing.F) {
	f.Add(sums{1, -2, 1 << 50}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSums(b)
		if err != nil {
			return
		}
		if again, err := decodeSums(s.encode()); again != s || err != nil {
			t.Errorf("decodeSums(encode(%+v)) = %+v, %v", s, again, err)
		}
	})
}

func FuzzLayout(f *testing.F) {
	f.Add([]byte(`{"shards":[{"bits":"","tag":"x"}]}`))
	f.Add([]byte(`{"deleted":true,"shards":[{"bits":"0","tag":"x"},{"bits":"10","tag":"y"},{"bits":"11","tag":"z"}]}`))
	f.Add([]byte(`{"shards":[{"bits":"0","tag":"x"},{"bits":"0","tag":"y"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseLayout(b)
		if err != nil {
			return
		}
		for _, k := range someKeys {
			if _, ok := l.find(k); !ok {
				t.Errorf("no shard of %q in %s", k, b)
			}
		}
	})
}

func TestPlace_Order(t *testing.T) {
	places := []place{
		{}, {key: "a"}, {key: "a", state: placeWithin, seq: 9}, {key: "a", state: placeWithin, seq: 3}, {key: "a", state: placeAfter}, {key: "a\x00"}, {key: "b"},
	}
	shuffled := slices.Clone(places)
	rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	slices.SortFunc(shuffled, place.compare)
	if d := gocmp.Diff(places, shuffled, gocmp.AllowUnexported(place{})); d != "" {
		t.Error(d)
	}
	for i, p := range places[1:] {
		if was := places[i]; was.after(spaceVersions) >= p.after(spaceVersions) {
			t.Errorf("versions begin after %q at %v, after %q at %v", was.after(spaceVersions), was, p.after(spaceVersions), p)
		}
	}
}
