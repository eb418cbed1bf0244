package notify

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"

	"herald/store"
)

// TestCompact_Record makes entries of any change: the record that is read from
// one is that of the change.
func TestCompact_Record(t *testing.T) {
	text := func(t *rapid.T, name string) string { return string(rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, name)) }
	rapid.Check(t, func(t *rapid.T) {
		info := func(name string) *store.Info {
			if rapid.Bool().Draw(t, name+" is nil") {
				return nil
			}
			i := &store.Info{
				Size: rapid.Int64Min(0).Draw(t, "size"), ETag: text(t, "etag"), VersionID: rapid.SampledFrom([]string{"", store.NullVersion, "v1"}).Draw(t, "version"),
				DeleteMarker: rapid.Bool().Draw(t, "marker"), Attrs: store.Attrs{"content-type": "x", AttrTags: text(t, "tags")},
			}
			if rapid.Bool().Draw(t, "modified") {
				i.ModTime = time.Unix(0, rapid.Int64Min(0).Draw(t, "modtime"))
			}
			for range rapid.IntRange(0, 3).Draw(t, "metadata") {
				i.Attrs[metaPrefix+text(t, "name")] = text(t, "value")
			}
			return i
		}
		in := &intent{arn: TopicARN("r", "", "t"), rules: []intentRule{{id: text(t, "rule")}}, facts: facts{
			typ:    rapid.SampledFrom([]EventType{ObjectCreatedPut, ObjectRemovedDelete, ObjectRemovedDeleteMarkerCreated}).Draw(t, "type"),
			bucket: text(t, "bucket"), tenant: text(t, "tenant"), owner: text(t, "owner"), id: text(t, "id"), key: text(t, "key"),
			versionID: text(t, "version"), principal: text(t, "principal"), requestID: text(t, "request"), hostID: text(t, "host"),
			versioned: rapid.Bool().Draw(t, "versioned"),
			origin:    origin{text(t, "traceparent"), text(t, "tracestate"), text(t, "source")},
		}}
		topic := &Topic{Name: "t", ARN: in.arn, OpaqueData: text(t, "opaque"), Dest: Dest{PushEndpoint: "http://h", Args: "a=b", TimeToLive: 5, MaxRetries: Unset, RetrySleep: 7}}
		out := &store.Outcome{Changed: true, Seq: rapid.Uint64Range(1e18, 1<<62).Draw(t, "seq"), Info: info("info"), Prior: info("prior")}
		list := in.entries("region", topic, out)
		e, err := decodeEntry(list[0])
		if err != nil {
			t.Fatal(err)
		}
		if want := appendRecord(nil, &in.facts, "region", in.rules[0].id, topic.OpaqueData, out); !bytes.Equal(e.record, want) {
			t.Fatalf("record\n%s\nwant\n%s", e.record, want)
		}
		if e.origin != in.origin || e.order != in.orderKey() || e.arn != in.arn || e.endpoint != "http://h" || e.args != "a=b" || e.ttl != 5 || e.retries != Unset || e.sleep != 7 ||
			time.Since(e.created).Abs() > time.Hour {
			t.Fatalf("entry = %+v", e)
		}
		for i := range list[0] { // it is whole, or it is none
			if _, err := decodeOwnEntry(list[0][:i]); err == nil {
				t.Fatalf("the first %d of %d bytes are an entry", i, len(list[0]))
			}
		}
	})
}

// TestCompact_OddTimes has times that numbers do not stand for: the record is
// kept itself.
func TestCompact_OddTimes(t *testing.T) {
	in := goldenIntent()
	topic := &Topic{Name: "t", ARN: in.arn}
	attrs := store.Attrs{"x-amz-meta-a": "1"}
	for _, out := range []*store.Outcome{
		{Changed: true, Seq: 7, Info: &store.Info{Attrs: attrs}},
		{Changed: true, Seq: 2e18, Info: &store.Info{Attrs: attrs, ModTime: time.Unix(-1, 0)}},
		{Changed: true, Seq: 2e18, Info: &store.Info{Attrs: attrs, ModTime: time.Unix(1e11, 0)}},
	} {
		list := in.entries("region", topic, out)
		if version, _ := sealed(list[0]); version != entryV1 {
			t.Errorf("entry of %+v has version %d", out, version)
		}
		if e, err := decodeEntry(list[0]); err != nil || e.order != in.orderKey() || !bytes.HasPrefix(e.record, []byte(`{"eventVersion"`)) {
			t.Errorf("entry = %+v, %v", e, err)
		}
	}
}

func FuzzCompact(f *testing.F) {
	in := goldenIntent()
	out := &store.Outcome{Changed: true, Seq: 2e18, Info: &store.Info{Size: 1, ETag: "e", ModTime: time.Unix(1e9, 1), Attrs: store.Attrs{"x-amz-meta-a": "1", AttrTags: "k=v"}}}
	for _, e := range in.entries("region", &Topic{Name: "t", ARN: in.arn, OpaqueData: "o"}, out) {
		f.Add(e[entryStart:])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeOwnEntry(sealEntry(append([]byte{entryV2, 0, 0, 0, 0}, b...)))
		if err != nil {
			return
		}
		if again, err := decodeOwnEntry(e.renewed(e.created)); err != nil || !bytes.Equal(again.record, e.record) || again.order != e.order {
			t.Errorf("round trip of %x: %v", b, err)
		}
	})
}

// wantHead: decodeHead gives what decodeEntry gives, and takes what that takes.
func wantHead(t *testing.T, b []byte) {
	t.Helper()
	e, wantErr := decodeEntry(b)
	got, err := decodeHead(b)
	if ok := wantErr == nil && e.arn != ""; ok != (err == nil) {
		t.Errorf("decodeHead of %x = %v, of the whole %v, topic %q", b, err, wantErr, e.arn)
	} else if ok && (!got.created.Equal(e.created) || got.order != e.order) {
		t.Errorf("decodeHead of %x = %+v, want %v, %q", b, got, e.created, e.order)
	}
}

func TestHead(t *testing.T) {
	in := goldenIntent()
	topic := &Topic{Name: "t", ARN: in.arn, OpaqueData: "o"}
	traced := *in
	traced.traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	tenant := *in
	tenant.tenant = "tenant"
	for _, in := range []*intent{in, &traced, &tenant} {
		for _, seq := range []uint64{7, 2e18} { // not compact, compact
			out := &store.Outcome{Changed: true, Seq: seq, Info: &store.Info{Size: 1, ETag: "e", ModTime: time.Unix(1e9, 1), Attrs: store.Attrs{"x-amz-meta-a": "1", AttrTags: "k=v"}}}
			for _, own := range in.entries("region", topic, out) {
				if _, err := decodeHead(own); err != nil {
					t.Errorf("decodeHead: %v", err)
				}
				wantHead(t, own)
				for i := range own {
					wantHead(t, own[:i])
				}
				rgw, err := Recode(own, EntriesRGW)
				if err != nil {
					t.Fatal(err)
				}
				wantHead(t, rgw)
			}
		}
	}
}

func FuzzHead(f *testing.F) {
	in := goldenIntent()
	out := &store.Outcome{Changed: true, Seq: 2e18, Info: &store.Info{Size: 1, ETag: "e", ModTime: time.Unix(1e9, 1), Attrs: store.Attrs{"x-amz-meta-a": "1", AttrTags: "k=v"}}}
	for range 2 {
		for _, e := range in.entries("region", &Topic{Name: "t", ARN: in.arn, OpaqueData: "o"}, out) {
			f.Add(e)
		}
		in.sourceIP = "192.0.2.1"
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > entryStart {
			b = sealEntry(bytes.Clone(b)) // else nothing gets past the checksum
		}
		wantHead(t, b)
	})
}
