package notify

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/store"
)

// golden compares a message with that of a file, which docs/notifications.md
// shows. UPDATE_GOLDEN=1 writes the files anew.
func golden(t *testing.T, name string, message []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, message, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	path := filepath.Join("testdata", name+".json")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("%s: -want +got\n%s", path, d)
	}
}

// sampleFacts are those of the golden files.
func sampleFacts(typ EventType) facts {
	return facts{
		typ: typ, bucket: "photos", tenant: "acme", owner: "acme$owner", id: "b1d0", key: "2024/red flower+é=1.jpg",
		principal: "acme$alice", requestID: "tx00000000000000000001-default", hostID: "gw1-default-default", versioned: true,
		origin: origin{sourceIP: "192.0.2.7"},
	}
}

func TestDialect_Golden(t *testing.T) {
	when := time.Date(2024, 5, 1, 10, 11, 12, 123456789, time.UTC)
	object := &store.Info{
		Size: 1024, ETag: "37b51d194a7513e45b56f6524f2d51f2", VersionID: "v1", ModTime: when,
		Attrs: store.Attrs{metaPrefix + "a": "1", AttrTags: "color=red"},
	}
	created := &store.Outcome{Changed: true, Seq: uint64(when.UnixNano()), Info: object}
	removed := &store.Outcome{Changed: true, Seq: uint64(when.UnixNano()), Prior: object}
	marked := &store.Outcome{Changed: true, Seq: uint64(when.UnixNano()), Info: &store.Info{DeleteMarker: true, VersionID: "v2"}, Prior: object}
	for _, c := range []struct {
		name string
		typ  EventType
		out  *store.Outcome
	}{
		{"put", ObjectCreatedPut, created},
		{"delete", ObjectRemovedDelete, removed},
		{"delete-marker", ObjectRemovedDeleteMarkerCreated, marked},
		{"lifecycle", LifecycleExpirationDelete, removed},
	} {
		topic, err := NewTopic("default", "acme", "t", "acme$owner", map[string]string{AttrOpaqueData: "mine", ArgDialect: "aws"})
		if err != nil {
			t.Fatal(err)
		}
		in := intent{facts: sampleFacts(c.typ), arn: topic.ARN, rules: []intentRule{{id: "n1"}}}
		e, err := decodeEntry(in.entries("default", topic, c.out)[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, dialect := range []string{"ceph", "aws"} {
			ev := (&target{aws: dialect == "aws"}).event(&e)
			golden(t, dialect+"-"+c.name, ev.Message())
		}
	}
	test := entry{order: "photos/", record: testMessage("photos", "tx1", "gw1-default-default", when)}
	ev := (&target{aws: true}).event(&test)
	if !ev.Bare {
		t.Error("a test event is taken for a record")
	}
	golden(t, "aws-test-event", ev.Message())
}

func TestFormEncode(t *testing.T) {
	for key, want := range map[string]string{
		"red flower.jpg": "red+flower.jpg", "a/b": "a/b", "dt=1": "dt%3D1", "a+b": "a%2Bb", "é": "%C3%A9", "x:(y)~": "x%3A%28y%29%7E",
	} {
		if got := formEncode(key); got != want {
			t.Errorf("formEncode(%q) = %q, want %q", key, got, want)
		}
	}
}

func TestTopic_Choices(t *testing.T) {
	for name, value := range map[string]string{ArgDialect: "gcs", ArgWhenFull: "wait"} {
		if _, err := NewTopic("r", "", "t", "u", map[string]string{name: value}); err == nil {
			t.Errorf("%s=%s was accepted", name, value)
		}
	}
	topic, err := NewTopic("r", "", "t", "u", map[string]string{ArgDialect: "aws", ArgWhenFull: "drop-new"})
	if err != nil || topic.dialect() != dialectAWS {
		t.Errorf("NewTopic: %v, dialect %q", err, topic.dialect())
	}
}

func TestValidTraceParent(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for s, want := range map[string]bool{
		good: true, "": false, good[:54]: false, good + "-x": false, "cc" + good[2:] + "-what": true, "cc" + good[2:] + "what": false,
		"ff" + good[2:]: false, "00-00000000000000000000000000000000-b7ad6b7169203331-01": false,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": false, "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01": false,
	} {
		if got := validTraceParent(s); got != want {
			t.Errorf("validTraceParent(%q) = %v", s, got)
		}
	}
}

func TestEntry_RenewedKeepsOrigin(t *testing.T) {
	e := entry{order: "b/k", arn: "arn:aws:sns:r::t", record: []byte("{}"), origin: origin{traceParent: "00-1", sourceIP: "::1"}}
	got, err := decodeEntry(e.renewed(time.Now()))
	if err != nil || got.origin != e.origin || string(got.record) != "{}" {
		t.Errorf("renewed entry = %+v, %v", got, err)
	}
}

func TestIntent_Origin(t *testing.T) {
	in := intent{facts: sampleFacts(ObjectCreatedPut), arn: "arn:aws:sns:r::t", rules: []intentRule{{id: "n"}}, store: "s"}
	in.op = store.NewOpID()
	for _, maker := range []string{"", "gw"} {
		in.maker = maker
		got, err := decodeIntent(in.encode())
		if err != nil || got.origin != in.origin || got.maker != maker {
			t.Errorf("intent with maker %q = %+v, %v", maker, got, err)
		}
	}
}

func TestEntryEvent(t *testing.T) {
	e := entry{order: "acme:b/a/b c", arn: "arn:aws:sns:default:acme:t", record: []byte(`{"x":1}`)}
	got := e.event()
	if got.Bucket != "b" || got.Object != "a/b c" || got.Key != e.order || len(got.ID) != 32 {
		t.Errorf("event() = %+v", got)
	}
	if again := e.event(); again.ID != got.ID {
		t.Errorf("ID of the same event = %s, then %s", got.ID, again.ID)
	}
	for name, other := range map[string]entry{
		"another topic":  {order: e.order, arn: e.arn + "2", record: e.record},
		"another record": {order: e.order, arn: e.arn, record: []byte(`{"x":2}`)},
	} {
		if ev := other.event(); ev.ID == got.ID {
			t.Errorf("%s has the same ID", name)
		}
	}
}
