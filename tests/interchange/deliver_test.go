//go:build rados

package interchange

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// change is what a test did to an object, and so what its event must say.
type change struct {
	event, key, version, etag string
	size                      int64
}

// changes does several changes to each of n keys of a versioned bucket.
func changes(s *site, bucket string, n int) (done []change) {
	s.t.Helper()
	for i := range n {
		key := fmt.Sprintf("dir/k é+%03d", i)
		for _, body := range []string{"first", "second one"} {
			version, etag := s.put(bucket, key, body)
			done = append(done, change{"ObjectCreated:Put", key, version, etag, int64(len(body))})
		}
		s.delete(bucket, key)
		last := done[len(done)-1]
		done = append(done, change{"ObjectRemoved:DeleteMarkerCreated", key, "", last.etag, last.size})
	}
	return done
}

// match finds the one record of a change among those that came.
func match(t *testing.T, list []record, c change) *record {
	t.Helper()
	var found []record
	for _, r := range list {
		o := r.S3.Object
		if r.EventName == c.event && o.Key == c.key && (o.VersionID == c.version || c.version == "") && o.ETag == c.etag {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d records of %+v, want 1", len(found), c)
	}
	return &found[0]
}

// checkContent compares a record with its change.
func checkContent(t *testing.T, r *record, c change, opaque string) {
	t.Helper()
	o := r.S3.Object
	if o.Size != c.size || r.meta("x-amz-meta-mood") != "good" || len(o.Tags) != 1 || o.Tags[0].Key != "kind" || o.Tags[0].Val != "test" ||
		r.OpaqueData != opaque || r.S3.ConfigurationID != "n1" || r.EventID == "" || r.EventSource != "ceph:s3" || r.S3.S3SchemaVersion != "1.0" ||
		r.UserIdentity.PrincipalID == "" || r.ResponseElements.RequestID == "" || r.S3.Bucket.ID == "" || !strings.HasSuffix(r.S3.Bucket.Arn, ":"+r.S3.Bucket.Name) {
		t.Errorf("record of %+v: %s", c, r.raw)
	}
}

// A radosgw delivers what Herald queued: each event, and of it all that Herald
// would have sent itself. Herald's second topic, whose queue it owns, tells
// what that is.
func TestRadosgwDeliversHeraldsEvents(t *testing.T) {
	p := newPair(t)
	p.radosgw.topic("shared", p.receiver.URL+"/radosgw")
	p.eventually("radosgw owns the queue", lookPatience, func() bool { return p.lockHolder("shared").isRadosgw() })
	p.startHerald("--topic-shards", "1")
	shared := p.herald.topic("shared", p.receiver.URL+"/herald")
	own := p.herald.topic("own", p.receiver.URL+"/own")
	p.herald.bucket("hbucket", rules{"n1": shared, "n2": own})
	p.herald.versioned("hbucket")
	p.receiver.down.Store(true)
	version, etag := p.herald.put("hbucket", "before", "x")
	p.heraldOwns("own")
	p.receiver.down.Store(false)
	n := 100
	if testing.Short() {
		n /= 10
	}
	done := append(changes(p.herald, "hbucket", n), change{"ObjectCreated:Put", "before", version, etag, 1})
	p.eventually("all events came twice", patience, func() bool { return len(p.receiver.all()) >= 2*len(done) })
	var byRadosgw, byHerald []record
	for _, r := range p.receiver.all() {
		switch {
		case r.path == "/herald" && !r.byHerald:
			byRadosgw = append(byRadosgw, r)
		case r.path == "/own" && r.byHerald:
			byHerald = append(byHerald, r)
		default:
			t.Fatalf("came to %s, by Herald %v: %s", r.path, r.byHerald, r.raw)
		}
	}
	last := make(map[string]string) // sequencer, by key
	for _, c := range done {
		got := match(t, byRadosgw, c)
		checkContent(t, got, c, "of-shared")
		if d := cmp.Diff(withoutTopic(t, match(t, byHerald, c)), withoutTopic(t, got)); d != "" {
			t.Errorf("what Herald sends and what radosgw makes of it: -want +got\n%s", d)
		}
		if seq := got.S3.Object.Sequencer; seq <= last[c.key] {
			t.Errorf("sequencer of %+v is %s, not after %s", c, seq, last[c.key])
		} else {
			last[c.key] = seq
		}
	}
	if n := p.entries(":shared"); n != 0 {
		t.Errorf("%d entries are left", n)
	}
	t.Logf("%d records came out of turn: radosgw sends them at once", outOfTurn(byRadosgw))
	if n := outOfTurn(byHerald); n > 0 {
		t.Errorf("%d of Herald's own records came out of turn", n)
	}
}

// withoutTopic is a record without what differs between topics.
func withoutTopic(t *testing.T, r *record) map[string]any {
	t.Helper()
	var doc struct{ Records []map[string]any }
	if err := json.Unmarshal([]byte(r.raw), &doc); err != nil {
		t.Fatal(err)
	}
	rec := doc.Records[0]
	delete(rec, "opaqueData")
	delete(rec["s3"].(map[string]any), "configurationId")
	return rec
}

// outOfTurn counts records that came after a later one of their key.
func outOfTurn(list []record) (n int) {
	last := make(map[string]string)
	for _, r := range list {
		o := r.S3.Object
		if o.Sequencer < last[o.Key] {
			n++
		}
		last[o.Key] = max(last[o.Key], o.Sequencer)
	}
	return n
}

// Herald delivers what a radosgw queued, and leaves it an empty queue.
func TestHeraldDeliversRadosgwsEvents(t *testing.T) {
	p := newPair(t)
	p.receiver.down.Store(true)
	topic := p.radosgw.topic("shared", p.receiver.URL+"/radosgw")
	p.radosgw.bucket("rbucket", rules{"n1": topic})
	p.radosgw.versioned("rbucket")
	n := 100
	if testing.Short() {
		n /= 10
	}
	done := changes(p.radosgw, "rbucket", n)
	p.rgw.Kill(t)
	p.eventually("nobody has the lock", lockPatience, func() bool { return p.lockHolder("shared") == nil })
	p.receiver.down.Store(false)
	p.startHerald()
	p.herald.topic("shared", p.receiver.URL+"/herald")
	p.eventually("all events came", patience, func() bool { return len(p.receiver.all()) >= len(done) })
	list := p.receiver.all()
	for _, c := range done {
		checkContent(t, match(t, list, c), c, "of-shared")
	}
	if i := slices.IndexFunc(list, func(r record) bool { return r.path != "/herald" || !r.byHerald }); i >= 0 {
		t.Errorf("came to %s, by Herald %v", list[i].path, list[i].byHerald)
	}
	inOrder(t, list, done)
	p.eventually("the queue is empty", patience, func() bool { return p.entries(":shared") == 0 })

	// The radosgw that comes back finds nothing of it, and can go on.
	if err := p.gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	p.rgw.Run(t)
	p.radosgw.put("rbucket", "later", "x")
	p.eventually("radosgw delivers what is new", lookPatience, func() bool { return len(p.receiver.all()) > len(done) })
	rest := p.receiver.all()[len(done):]
	if len(rest) != 1 || rest[0].S3.Object.Key != "later" || rest[0].byHerald || rest[0].path != "/radosgw" {
		t.Errorf("radosgw delivered %d records, the first to %s: %s", len(rest), rest[0].path, rest[0].raw)
	}
}

// inOrder checks that the records of each key came in the order of its changes.
func inOrder(t *testing.T, list []record, done []change) {
	t.Helper()
	want, got := make(map[string][]string), make(map[string][]string)
	for _, c := range done {
		want[c.key] = append(want[c.key], c.event+" "+c.etag)
	}
	for _, r := range list {
		got[r.S3.Object.Key] = append(got[r.S3.Object.Key], r.EventName+" "+r.S3.Object.ETag)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("order by key: -want +got\n%s", d)
	}
}
