package storetest

import (
	"slices"
	"sort"
	"strings"

	"herald/store"
)

// Model is in memory what a bucket has to look like. It follows the contract
// in the plainest way: a list of versions per key, newest first.
type Model map[string][]ModelVersion

// ModelVersion is one version, or a delete marker.
type ModelVersion struct {
	ID     string // as clients see it: "null" for the null version
	Marker bool
	Data   string
}

// Current returns a key's current object, nil if it has none.
func (m Model) Current(key string) *ModelVersion {
	if vs := m[key]; len(vs) > 0 && !vs[0].Marker {
		return &vs[0]
	}
	return nil
}

// Put is Writer.Commit; id is what the store chose for a versioned object. It
// returns the object that was current before.
func (m Model) Put(key, data, id string, v store.Versioning) (prior *ModelVersion) {
	return m.add(key, ModelVersion{ID: id, Data: data}, v)
}

func (m Model) add(key string, version ModelVersion, v store.Versioning) (prior *ModelVersion) {
	if c := m.Current(key); c != nil {
		prior = &ModelVersion{ID: c.ID, Data: c.Data}
	}
	rest := m[key]
	if v != store.Enabled {
		version.ID = store.NullVersion
		rest, _ = without(rest, store.NullVersion)
	}
	m[key] = append([]ModelVersion{version}, rest...)
	return prior
}

// Remove is Bucket.Remove; markerID is what the store chose for a delete
// marker. changed and prior are what the outcome has to say.
func (m Model) Remove(key, id, markerID string, v store.Versioning) (changed bool, prior *ModelVersion) {
	switch {
	case id == "" && v == store.Unversioned:
		c := m.Current(key)
		if c == nil {
			return false, nil
		}
		id = c.ID
	case id == "":
		return true, m.add(key, ModelVersion{ID: markerID, Marker: true}, v)
	}
	rest, gone := without(m[key], id)
	if gone == nil {
		return false, nil
	}
	if c := m.Current(key); c != nil && c.ID == id {
		prior = gone
	}
	if m[key] = rest; len(rest) == 0 {
		delete(m, key)
	}
	return true, prior
}

func without(vs []ModelVersion, id string) ([]ModelVersion, *ModelVersion) {
	i := slices.IndexFunc(vs, func(v ModelVersion) bool { return v.ID == id })
	if i < 0 {
		return vs, nil
	}
	gone := vs[i]
	return slices.Concat(vs[:i], vs[i+1:]), &gone
}

// Keys returns all keys with a version, in byte order.
func (m Model) Keys() []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// item is an entry or a common prefix of a listing.
type item struct {
	name   string // key or common prefix
	prefix bool
	id     string // version id, in a listing of versions
	text   string // all that is compared
}

// List is Bucket.List: the page, one line per entry, with entries and
// common prefixes in one order.
func (m Model) List(o store.ListOptions) (lines []string, truncated bool) {
	var items []item
	for _, k := range m.Keys() {
		for _, i := range m.itemsOf(k, o) {
			if n := len(items); i.prefix && n > 0 && items[n-1].text == i.text {
				continue // one common prefix stands for many keys
			}
			items = append(items, i)
		}
	}
	if o.Max <= 0 {
		return nil, false
	}
	items = items[afterMarker(items, o):]
	if truncated = len(items) > o.Max; truncated {
		items = items[:o.Max]
	}
	for _, i := range items {
		lines = append(lines, i.text)
	}
	return lines, truncated
}

func (m Model) itemsOf(key string, o store.ListOptions) (items []item) {
	rest, ok := strings.CutPrefix(key, o.Prefix)
	if !ok || !o.Versions && m.Current(key) == nil {
		return nil
	}
	if o.Delimiter != "" {
		if i := strings.Index(rest, o.Delimiter); i >= 0 {
			cp := o.Prefix + rest[:i+len(o.Delimiter)]
			if cp > o.Marker { // the marker itself, or one within it, is past
				return []item{{name: cp, prefix: true, text: "prefix " + cp}}
			}
			return nil
		}
	}
	for i, v := range m[key] {
		if o.Versions {
			items = append(items, item{name: key, id: v.ID, text: key + " " + v.line(i == 0)})
		} else if i == 0 {
			items = append(items, item{name: key, text: key})
		}
	}
	return items
}

func (v ModelVersion) line(latest bool) string {
	s := v.ID
	if v.Marker {
		s += " marker"
	}
	if latest {
		s += " latest"
	}
	return s
}

// afterMarker returns the place where a page begins.
func afterMarker(items []item, o store.ListOptions) int {
	n := slices.IndexFunc(items, func(i item) bool {
		return i.name > o.Marker
	})
	if n < 0 {
		n = len(items)
	}
	if o.VersionMarker != "" {
		at := slices.IndexFunc(items, func(i item) bool { return i.name == o.Marker && i.id == o.VersionMarker })
		if at >= 0 {
			n = at + 1
		}
	}
	return n
}
