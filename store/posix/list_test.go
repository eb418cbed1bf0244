package posix

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"herald/store"
)

// newTestIndex opens an index without a gateway around it.
func newTestIndex(t testing.TB, root string) *index {
	t.Helper()
	if err := os.MkdirAll(root+"/"+home, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &Driver{root: root, log: slog.New(slog.DiscardHandler), guards: newGuards()}
	var err error
	if d.rootFD, err = unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	if d.homeFD, err = unix.Open(root+"/"+home, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFD(d.rootFD); closeFD(d.homeFD) })
	if d.index, err = openIndex(d); err != nil {
		t.Fatal(err)
	}
	return d.index
}

// listModel is what a bucket's listings have to look like: all versions, flat
// and in order.
type listModel []store.Info

// add makes info the newest of its key.
func (m *listModel) add(info store.Info) {
	for i := range *m {
		if (*m)[i].Key == info.Key {
			(*m)[i].IsLatest = false
		}
	}
	info.IsLatest = true
	*m = append(*m, info)
	slices.SortFunc(*m, func(a, b store.Info) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), -cmp.Compare(a.Seq, b.Seq))
	})
}

// remove drops a version; the one below it becomes the latest.
func (m *listModel) remove(key, versionID string) {
	*m = slices.DeleteFunc(*m, func(i store.Info) bool { return i.Key == key && i.VersionID == versionID })
	for i := range *m {
		(*m)[i].IsLatest = i == 0 || (*m)[i-1].Key != (*m)[i].Key
	}
}

// list lists by going over everything.
func (m listModel) list(o store.ListOptions) *store.Page {
	p := &store.Page{}
	if o.Max <= 0 {
		return p
	}
	within := false // behind the version marker, in its key
	for _, e := range m {
		if !strings.HasPrefix(e.Key, o.Prefix) || !o.Versions && (!e.IsLatest || e.DeleteMarker) {
			continue
		}
		item, cp := e.Key, false
		if o.Delimiter != "" {
			if i := strings.Index(e.Key[len(o.Prefix):], o.Delimiter); i >= 0 {
				item, cp = e.Key[:len(o.Prefix)+i+len(o.Delimiter)], true
			}
		}
		after := item > o.Marker
		if !cp && o.Versions && o.VersionMarker != "" && e.Key == o.Marker {
			after = within
			within = within || e.VersionID == o.VersionMarker
		}
		if !after || cp && len(p.CommonPrefixes) > 0 && p.CommonPrefixes[len(p.CommonPrefixes)-1] == item {
			continue
		}
		if len(p.Entries)+len(p.CommonPrefixes) == o.Max {
			p.Truncated = true
			return p
		}
		p.NextMarker, p.NextVersionMarker = item, ""
		if cp {
			p.CommonPrefixes = append(p.CommonPrefixes, item)
			continue
		}
		p.Entries = append(p.Entries, e)
		if o.Versions {
			p.NextVersionMarker = e.VersionID
		}
	}
	p.NextMarker, p.NextVersionMarker = "", ""
	return p
}

var (
	keyPiece   = rapid.SampledFrom([]string{"a", "b", "/", "//", "-", "\x00", "\xff", "é", "ab", "0", "."})
	keyGen     = rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(keyPiece, 1, 5).Draw(t, "pieces"), "") })
	prefixGen  = rapid.OneOf(rapid.Just(""), keyGen)
	delimitGen = rapid.SampledFrom([]string{"", "/", "/", "a", "ab", "//", "\x00", "\xff", "é"})
)

// indexModel drives an index and its model by the same changes.
type indexModel struct {
	x   *index
	m   listModel
	seq uint64
}

const testBucket = "bucket"

func (im *indexModel) current(key string) *store.Info {
	for i := range im.m {
		if im.m[i].Key == key && im.m[i].IsLatest {
			info := im.m[i] // not what later changes make of it
			return &info
		}
	}
	return nil
}

// put adds a version, as the core does: what was current goes to the versions
// or is replaced.
func (im *indexModel) put(key string, versioned, marker bool, attrs store.Attrs) error {
	im.seq += 1 + im.seq%3
	info := store.Info{Key: key, VersionID: store.NullVersion, DeleteMarker: marker, Seq: im.seq,
		ModTime: time.Unix(0, int64(im.seq)).UTC(), Attrs: attrs}
	if !marker {
		info.Size, info.ETag = int64(im.seq)%7, fmt.Sprintf("%032x", im.seq)
	}
	if versioned {
		info.VersionID = fmt.Sprintf("%016x%016x", im.seq, 7)
	}
	var b indexBatch
	if cur := im.current(key); cur != nil && !cur.DeleteMarker &&
		(versioned || cur.VersionID != store.NullVersion) {
		b.putVersion(testBucket, cur)
	}
	if !versioned {
		b.removeVersion(testBucket, key, store.NullVersion, 0)
		im.m.remove(key, store.NullVersion)
	}
	if marker {
		b.setCurrent(testBucket, key, nil, areaNatural)
		b.putVersion(testBucket, &info)
	} else {
		b.setCurrent(testBucket, key, &info, areaKeys)
	}
	im.m.add(info)
	return im.x.apply(&b)
}

// remove removes a version for good and promotes the one below it.
func (im *indexModel) remove(key, versionID string) error {
	var b indexBatch
	cur := im.current(key)
	im.m.remove(key, versionID)
	next := im.current(key)
	b.removeVersion(testBucket, key, versionID, 0)
	if cur != nil && cur.VersionID == versionID {
		if next == nil || next.DeleteMarker {
			b.setCurrent(testBucket, key, nil, areaNatural)
		} else {
			b.setCurrent(testBucket, key, next, areaKeys)
			b.removeVersion(testBucket, key, next.VersionID, next.Seq)
		}
	}
	return im.x.apply(&b)
}

func (im *indexModel) page(o store.ListOptions) (*store.Page, error) {
	ib, err := im.x.bucket(testBucket)
	if err != nil {
		return nil, err
	}
	if o.Max == 0 {
		return &store.Page{}, nil
	}
	l, err := im.x.page(ib, o)
	return &l.page, err
}

// TestList_Model compares random listings of random buckets with the model,
// page by page.
func TestList_Model(t *testing.T) {
	x := newTestIndex(t, t.TempDir())
	defer x.close()
	rapid.Check(t, func(t *rapid.T) {
		if err := x.bucketGone(testBucket); err != nil {
			t.Fatal(err)
		}
		im := &indexModel{x: x, seq: 1}
		for range rapid.IntRange(0, 40).Draw(t, "changes") {
			changeIndex(t, im)
		}
		o := store.ListOptions{
			Prefix:    prefixGen.Draw(t, "prefix"),
			Delimiter: delimitGen.Draw(t, "delimiter"),
			Marker:    prefixGen.Draw(t, "marker"),
			Versions:  rapid.Bool().Draw(t, "versions"),
			Max:       rapid.IntRange(0, 6).Draw(t, "max"),
		}
		if o.Versions && len(im.m) > 0 && rapid.Bool().Draw(t, "version marker") {
			e := im.m[rapid.IntRange(0, len(im.m)-1).Draw(t, "entry")]
			o.Marker, o.VersionMarker = e.Key, e.VersionID
		}
		for {
			got, err := im.page(o)
			if err != nil {
				t.Fatalf("page(%+v) = %v", o, err)
			}
			want := im.m.list(o)
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Fatalf("page(%+v): -want +got\n%s", o, diff)
			}
			if !got.Truncated {
				break
			}
			o.Marker, o.VersionMarker = got.NextMarker, got.NextVersionMarker
		}
	})
}

func changeIndex(t *rapid.T, im *indexModel) {
	var err error
	switch rapid.IntRange(0, 9).Draw(t, "change") {
	case 0:
		if len(im.m) == 0 {
			return
		}
		e := im.m[rapid.IntRange(0, len(im.m)-1).Draw(t, "entry")]
		err = im.remove(e.Key, e.VersionID)
	case 1, 2:
		err = im.put(keyGen.Draw(t, "key"), rapid.Bool().Draw(t, "versioned"), true, nil)
	default:
		var attrs store.Attrs
		if rapid.Bool().Draw(t, "attrs") {
			attrs = store.Attrs{store.AttrOwner: "me", store.AttrChecksumType: "COMPOSITE"}
		}
		err = im.put(keyGen.Draw(t, "key"), rapid.Bool().Draw(t, "versioned"), false, attrs)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestList_VersionMarkerGone: who lists to remove continues after what is
// gone, also where the next version has become the current one meanwhile.
func TestList_VersionMarkerGone(t *testing.T) {
	for _, marker := range []bool{false, true} {
		x := newTestIndex(t, t.TempDir())
		defer x.close()
		im := &indexModel{x: x, seq: 1}
		for i := range 6 {
			if err := im.put("k", true, marker && i%2 == 0, nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, from := range []int{1, 0} { // first not the current one
			all := slices.Clone(im.m)
			for i := from; i < from+2; i++ {
				if err := im.remove("k", all[i].VersionID); err != nil {
					t.Fatal(err)
				}
				o := store.ListOptions{Versions: true, Marker: "k", VersionMarker: all[i].VersionID, Max: 1}
				p, err := im.page(o)
				if err != nil || len(p.Entries) != 1 || p.Entries[0].VersionID != all[i+1].VersionID ||
					p.Entries[0].IsLatest != (from == 0) {
					t.Errorf("markers %t: page after version %d of %v = %+v, %v", marker, i, all, p, err)
				}
			}
		}
	}
}

func FuzzIndexEntry(f *testing.F) {
	f.Add(encodeEntry(&store.Info{Seq: 5, ModTime: time.Unix(0, 5), ETag: "x-1", VersionID: "null",
		Attrs: store.Attrs{store.AttrOwner: "me"}}, areaKeys))
	f.Add(encodeEntry(&store.Info{Seq: 5, ETag: strings.Repeat("0f", 16), VersionID: strings.Repeat("0f", 16),
		DeleteMarker: true}, areaVersions))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEntry(b)
		if err != nil {
			return
		}
		info := e.info("k", false)
		again, err := decodeEntry(encodeEntry(&info, e.area))
		if err != nil {
			t.Fatal(err)
		}
		if *again != *e {
			t.Errorf("decode(encode(%+v)) = %+v", e, again)
		}
	})
}

func FuzzVersionKey(f *testing.F) {
	f.Add("a\x00b", "a", uint64(7))
	f.Add("a\x00", "a\xff", uint64(0))
	f.Fuzz(func(t *testing.T, a, b string, seq uint64) {
		ka, kb := versionKey(1, a, seq), versionKey(1, b, seq)
		if cmp.Compare(string(ka), string(kb)) != cmp.Compare(a, b) {
			t.Errorf("the order of %q and %q is lost", a, b)
		}
		got, s, ok := splitVersionKey(ka, nil)
		if !ok || string(got) != a || s != seq {
			t.Errorf("splitVersionKey(versionKey(%q, %d)) = %q, %d, %v", a, seq, got, s, ok)
		}
	})
}
