package storetest

import (
	"errors"
	"slices"
	"sort"

	"github.com/google/go-cmp/cmp"

	"herald/store"
)

func asMarker(err error) (*store.DeleteMarkerError, bool) {
	var e *store.DeleteMarkerError
	return e, errors.As(err, &e)
}

// pageLines renders a page: entries and common prefixes in one order.
func pageLines(p *store.Page, versions bool) []string {
	items := make([]item, 0, len(p.Entries)+len(p.CommonPrefixes))
	for _, e := range p.Entries {
		text := e.Key
		if versions {
			text += " " + ModelVersion{ID: versionID(&e), Marker: e.DeleteMarker}.line(e.IsLatest)
		}
		items = append(items, item{name: e.Key, text: text})
	}
	for _, c := range p.CommonPrefixes {
		items = append(items, item{name: c, prefix: true, text: "prefix " + c})
	}
	sort.SliceStable(items, func(i, j int) bool { return items[i].name < items[j].name })
	lines := make([]string, len(items))
	for i, it := range items {
		lines[i] = it.text
	}
	return lines
}

// allLines follows the pages of a listing to its end.
func (f *Fixture) allLines(o store.ListOptions) (lines []string, pages int) {
	f.Helper()
	for {
		p := f.List(o)
		pages++
		lines = append(lines, pageLines(p, o.Versions)...)
		if !p.Truncated {
			return lines, pages
		}
		if p.NextMarker < o.Marker || p.NextMarker == o.Marker && (!o.Versions || p.NextVersionMarker == o.VersionMarker) {
			f.Fatalf("List(%+v): the next markers, %.80q %q, do not advance", o, p.NextMarker, p.NextVersionMarker)
		}
		o.Marker, o.VersionMarker = p.NextMarker, p.NextVersionMarker
	}
}

// Compare compares the whole bucket with a model: the listings of keys and of
// versions, and the data of each version.
func (f *Fixture) Compare(m Model) {
	f.Helper()
	for _, versions := range []bool{false, true} {
		o := store.ListOptions{Versions: versions, Max: 1 << 30}
		want, _ := m.List(o)
		o.Max = 1000
		got, _ := f.allLines(o)
		if !slices.Equal(want, got) {
			f.Fatalf("listing (versions %t), (-want +got):\n%s", versions, cmp.Diff(want, got))
		}
	}
	for k := range m {
		f.compareKey(m, k)
	}
}

// compareKey reads all versions of one key.
func (f *Fixture) compareKey(m Model, key string) {
	f.Helper()
	switch c := m.Current(key); {
	case c != nil:
		if i := f.Want(key, "", c.Data); versionID(i) != c.ID || !i.IsLatest {
			f.Fatalf("current version of %.60q = %+v, want %s", key, i, c.ID)
		}
	case len(m[key]) == 0:
		f.Absent(key)
	default:
		f.WantErr(key, "", store.ErrDeleteMarker)
	}
	for i, v := range m[key] {
		if v.Marker {
			f.WantErr(key, v.ID, store.ErrDeleteMarker)
			continue
		}
		if info := f.Want(key, v.ID, v.Data); info.IsLatest != (i == 0) {
			f.Fatalf("version %s of %.60q: Info = %+v, want latest %t", v.ID, key, info, i == 0)
		}
	}
	if !slices.ContainsFunc(m[key], func(v ModelVersion) bool { return v.ID == store.NullVersion }) {
		f.WantErr(key, store.NullVersion, store.ErrNoSuchVersion, store.ErrNoSuchKey)
	}
}
