package posix

import (
	"bytes"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"herald/store"
)

func testAttrs() []*attr {
	return []*attr{
		{versionID: store.NullVersion, attrs: store.Attrs{}},
		{
			versionID: "0123456789abcdef0123456789abcdef", size: 1 << 40, tag: 1_700_000_000_123_456_789,
			modTime: 1_600_000_000_000_000_000, seq: 1_700_000_000_123_456_790, op: store.NewOpID(),
			etag: "d41d8cd98f00b204e9800998ecf8427e", attrs: store.Attrs{"content-type": "text/plain", "x-amz-meta-\xff": "\x00"},
		},
		{versionID: store.NullVersion, marker: true, tag: -1, modTime: -1, seq: 1, etag: "", attrs: store.Attrs{}},
		{versionID: "x", etag: "d41d8cd98f00b204e9800998ecf8427e-12", attrs: store.Attrs{"k": strings.Repeat("v", 10000)}},
	}
}

var cmpAttr = gocmp.AllowUnexported(attr{})

func TestAttr_RoundTrip(t *testing.T) {
	for _, a := range testAttrs() {
		got, side, err := decodeAttr(a.encode(nil))
		if err != nil || side {
			t.Fatalf("decodeAttr = side %t, %v", side, err)
		}
		if d := gocmp.Diff(a, got, cmpAttr); d != "" {
			t.Errorf("attr changed (-want +got):\n%s", d)
		}
		head, side, err := decodeAttr(a.encodeHead(nil, attrSide))
		if err != nil || !side || head.tag != a.tag || head.versionID != a.versionID {
			t.Errorf("decodeAttr of the head = %+v, %t, %v", head, side, err)
		}
	}
}

// FuzzAttr: no input makes the decoder panic or read on, and what it accepts
// means the same when it is written again.
func FuzzAttr(f *testing.F) {
	for _, a := range testAttrs() {
		f.Add(a.encode(nil))
		f.Add(a.encodeHead(nil, attrSide))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, side, err := decodeAttr(b)
		if err != nil || side {
			return
		}
		again, _, err := decodeAttr(a.encode(nil))
		if err != nil {
			t.Fatalf("decodeAttr of what was decoded: %v", err)
		}
		if d := gocmp.Diff(a, again, cmpAttr); d != "" {
			t.Errorf("attr changed (-want +got):\n%s", d)
		}
	})
}

// FuzzEntry does the same to the journal's records.
func FuzzEntry(f *testing.F) {
	blob := testAttrs()[1].encode(nil)
	f.Add((&pendingPut{entry: putEntry{bucket: "b", key: "k", attr: blob, prior: blob, archive: true, staged: "staging/x"}}).entry.encode(nil))
	f.Add(append((&putEntry{bucket: "b", key: "k", attr: blob}).encode(nil), "data"...))
	f.Add((&removeEntry{bucket: "b", key: "k", versionID: "null", current: true, changed: true, seq: 5, gone: blob}).encode(nil))
	f.Add((&updateEntry{bucket: "b", key: "k", attr: blob}).encode(nil))
	f.Add((&docEntry{name: "n", version: 3, value: []byte("v")}).encode(nil))
	f.Add((&forgetEntry{ops: []store.OpID{store.NewOpID()}}).encode(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		once, ok := recode(b)
		if !ok {
			return
		}
		if twice, ok := recode(once); !ok || !bytes.Equal(once, twice) {
			t.Errorf("record changed (%t):\n%x\n%x", ok, once, twice)
		}
	})
}

// recode decodes a record and encodes it again.
func recode(b []byte) ([]byte, bool) {
	d := &decoder{b: b}
	switch entryKind(d.byte()) {
	case kindPut:
		e, err := decodePut(d)
		return append(e.encode(nil), e.data...), err == nil
	case kindRemove:
		e, err := decodeRemove(d)
		return e.encode(nil), err == nil
	case kindUpdate:
		e, err := decodeUpdate(d)
		return e.encode(nil), err == nil
	case kindDoc:
		e, err := decodeDoc(d)
		return e.encode(nil), err == nil
	case kindForget:
		if e, err := decodeForget(d); err == nil {
			return e.encode(nil), true
		}
	}
	return nil, false
}
