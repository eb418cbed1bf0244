//go:build rados

package rados

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herald/store"
)

// exact compares unexported fields.
var exact = cmp.AllowUnexported(state{}, version{}, segment{}, outcome{}, bucketRecord{})

func someVersions() []*version {
	tag := store.OpID{1, 2, 3, 15: 9}
	return []*version{
		{id: store.NullVersion, size: 5, etag: strings.Repeat("ab", 16), modTime: 1, seq: 2},
		{id: newVersionID(7, tag), size: 5 << 20, etag: "x-2", modTime: -1, seq: 7, segments: []segment{{tag: tag, size: 4 << 20}, {tag: store.OpID{5}, size: 1 << 20}}},
		{id: newVersionID(8, tag), marker: true, seq: 8},
		{id: newVersionID(8, tag), size: 6 << 20, etag: "y", segments: []segment{{tag: tag, size: 4 << 20, ref: store.OpID{7}}, {tag: store.OpID{5}, size: 2 << 20, ref: store.OpID{7}, bid: "0123456789abcdef", stored: 77}}},
		{id: store.NullVersion, size: 60_000, stored: 1000, etag: "z"},
	}
}

func someStates() []*state {
	vs := someVersions()
	return []*state{
		{key: "k"},
		{key: "a/\x00\xff", seq: 9, gen: 8, current: vs[0], nullSeq: 3, others: 2, data: true, recent: []changeID{{1}, {2}}},
		{key: "", seq: 1 << 63, op: store.OpID{7}, outcome: &outcome{changed: true, seq: 4, info: vs[2], prior: vs[0], latest: true}},
		{key: "k", seq: 4, op: store.OpID{8}, outcome: &outcome{seq: 4, after: store.OpID{7}, attrs: []byte{1, 2}}},
	}
}

func TestState_RoundTrip(t *testing.T) {
	for _, want := range someStates() {
		got, err := decodeState(want.encode())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, exact); d != "" {
			t.Error(d)
		}
	}
}

func TestNoncurrent_RoundTrip(t *testing.T) {
	attrs := store.Attrs{"a": "", "content-type": "x/y", store.AttrOwner: "me"}
	for _, want := range someVersions() {
		got, encoded, err := decodeNoncurrent(encodeNoncurrent(want, encodeAttrs(attrs)))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, exact); d != "" {
			t.Error(d)
		}
		all, err := decodeAttrs(encoded)
		if d := cmp.Diff(attrs, all); d != "" || err != nil {
			t.Error(d, err)
		}
		if d := cmp.Diff(store.Attrs{store.AttrOwner: "me"}, listAttrs(encoded)); d != "" {
			t.Error(d)
		}
	}
}

func TestBucketRecord_RoundTrip(t *testing.T) {
	want := &bucketRecord{bid: newID(), created: 12345}
	got, err := decodeBucket(want.encode())
	if d := cmp.Diff(want, got, exact); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestNewVersionID_SortsNewestFirst(t *testing.T) {
	older, newer := newVersionID(1<<40, store.OpID{}), newVersionID(1<<40+1, store.OpID{15: 1})
	if newer >= older || newer >= store.NullVersion || !validVersionID(newer) {
		t.Errorf("ids %s (newer), %s", newer, older)
	}
}

// FuzzState: what decodes encodes to what decodes to the same.
func FuzzState(f *testing.F) {
	for _, s := range someStates() {
		f.Add(s.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			return
		}
		again, err := decodeState(s.encode())
		if d := cmp.Diff(s, again, exact); err != nil || d != "" && s.outcomeIsShort() {
			t.Error(d, err)
		}
	})
}

// outcomeIsShort tells whether the outcome is one that encode writes: of its
// versions it does not keep where the bytes are.
func (s *state) outcomeIsShort() bool {
	if o := s.outcome; o != nil {
		for _, v := range []*version{o.info, o.prior} {
			if v != nil && (v.segments != nil || v.stored != 0) {
				return false
			}
		}
	}
	return s.op.IsZero() == (s.outcome == nil)
}

func FuzzNoncurrent(f *testing.F) {
	for _, v := range someVersions() {
		f.Add(encodeNoncurrent(v, encodeAttrs(store.Attrs{"a": "b"})))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, attrs, err := decodeNoncurrent(b)
		if err != nil {
			return
		}
		again, attrsAgain, err := decodeNoncurrent(encodeNoncurrent(v, attrs))
		if d := cmp.Diff(v, again, exact); d != "" || err != nil || !bytes.Equal(attrs, attrsAgain) {
			t.Error(d, err)
		}
		if m, err := decodeAttrs(attrs); err == nil {
			if again, err := decodeAttrs(encodeAttrs(m)); err != nil || !cmp.Equal(m, again) {
				t.Error(m, again, err)
			}
		}
	})
}

func FuzzOutcome(f *testing.F) {
	for _, s := range someStates() {
		if s.outcome != nil {
			f.Add(encodeOutcome(s.outcome))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOutcome(b)
		if err != nil {
			return
		}
		if _, err := parseOutcome(encodeOutcome(o)); err != nil {
			t.Error(err)
		}
		_ = o.public("k")
	})
}

func FuzzRootAndOps(f *testing.F) {
	f.Add((&bucketRecord{bid: newID(), created: 1}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeBucket(b); err == nil {
			if again, err := decodeBucket(r.encode()); err != nil || *again != *r {
				t.Error(r, again, err)
			}
		}
		_, _ = decodeLine(b)
		_, _, _ = decodeNote(b)
	})
}

func FuzzEscapeKey(f *testing.F) {
	for _, k := range []string{"", "a/b", "%", "%41", "a%2", "\x00\xff", "é", "..", strings.Repeat("x", 2000)} {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, s string) {
		esc, ok := escapeKey(s)
		if back, fine := unescapeKey(esc); !fine || back != s {
			t.Errorf("unescapeKey(escapeKey(%q)) = %q, %t", s, back, fine)
		}
		if ok != (len(esc) <= maxEscaped) || strings.ContainsRune(esc, 0) {
			t.Errorf("escapeKey(%q) = %q, %t", s, esc, ok)
		}
		if key, fine := unescapeKey(s); fine {
			if again, _ := escapeKey(key); again != s {
				t.Errorf("escapeKey(unescapeKey(%q)) = %q", s, again)
			}
		}
		if name := (headKey{"0123456789abcdef", s}).oid(); len(name) > 2000 {
			t.Errorf("a name of %d bytes", len(name))
		}
	})
}
