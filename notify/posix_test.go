package notify

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"herald/journal"
	"herald/queue/embedded"
	"herald/store"
	"herald/store/posix"

	"github.com/google/go-cmp/cmp"
)

// realRig is the whole line on one journal, as the gateway wires it.
type realRig struct {
	*rig
	dir   string
	real  *store.Service
	close func()
}

func (r *realRig) openAll(t *testing.T) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	j, err := journal.Open(r.dir+"/journal", journal.Options{NoSync: true, SegmentBytes: 1 << 20, Segments: 8})
	must(err)
	objects, err := posix.Open(r.dir+"/data", j, posix.Options{Relaxed: true})
	must(err)
	queues, err := embedded.Open(r.dir+"/queue", j, embedded.Options{})
	must(err)
	must(j.Recover())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- j.Run(ctx) }()
	r.real = store.NewService(objects)
	r.queues = queues
	r.s, err = New(Config{Records: objects.Records(), Outcomes: objects.Outcomes(), Queues: queues, HostID: "host", Options: quick()})
	must(err)
	r.close = func() {
		r.stop()
		cancel()
		<-done
		must(j.Close())
		must(queues.Close())
		must(r.real.Close())
	}
}

// putReal writes an object through the store.
func (r *realRig) putReal(key, body string, v store.Versioning, attrs store.Attrs) CommitFunc {
	return func(ctx context.Context, op store.OpID) (store.Outcome, error) {
		b, err := r.real.OpenBucket(ctx, "", "bucket")
		if err != nil {
			return store.Outcome{}, err
		}
		w, err := b.Create(ctx, key, store.CreateHint{Size: int64(len(body))})
		if err != nil {
			return store.Outcome{}, err
		}
		defer func() { _ = w.Abort() }() // after Commit it does nothing
		if _, err := io.Copy(w, strings.NewReader(body)); err != nil {
			return store.Outcome{}, err
		}
		return w.Commit(ctx, store.CommitOptions{Op: op, Versioning: v, ETag: "etag-" + body, Attrs: attrs})
	}
}

func (r *realRig) removeReal(key, versionID string, v store.Versioning) CommitFunc {
	return func(ctx context.Context, op store.OpID) (store.Outcome, error) {
		b, err := r.real.OpenBucket(ctx, "", "bucket")
		if err != nil {
			return store.Outcome{}, err
		}
		return b.Remove(ctx, key, versionID, store.RemoveOptions{Op: op, Versioning: v})
	}
}

// Every kind of change, once as it should go, and once with the gateway gone
// between the change and its event: the records are the same.
func TestPosix_RecordsOfChanges(t *testing.T) {
	for _, crash := range []bool{false, true} {
		name := "straight"
		if crash {
			name = "resolved"
		}
		t.Run(name, func(t *testing.T) {
			r := &realRig{rig: &rig{t: t, ctx: t.Context(), stop: func() {}}, dir: t.TempDir()}
			r.openAll(t)
			defer func() { r.close() }()
			sink := newSink(t, nil)
			if err := r.real.CreateBucket(r.ctx, store.BucketInfo{Name: "bucket", Owner: "owner"}); err != nil {
				t.Fatal(err)
			}
			topic := r.topic("t", sink.URL, "persistent", "true")
			err := r.real.UpdateBucket(r.ctx, "", "bucket", func(b *store.BucketInfo) error {
				b.Attrs[AttrNotification] = FormatRules([]Rule{rule("n", topic, Filter{})})
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if r.bucket, err = r.real.BucketInfo(r.ctx, "", "bucket"); err != nil {
				t.Fatal(err)
			}
			if !crash {
				r.run()
			}
			r.changes(t, sink, crash)
		})
	}
}

// changes makes them and checks the records.
func (r *realRig) changes(t *testing.T, sink *sink, crash bool) {
	attrs := store.Attrs{"x-amz-meta-a": "1", AttrTags: "k=v"}
	var outs []store.Outcome
	do := func(typ EventType, key, versionID string, commit CommitFunc) store.Outcome {
		t.Helper()
		p, err := r.s.Publisher().Reserve(r.ctx, Change{Type: typ, Bucket: r.bucket, Key: key, VersionID: versionID, RequestID: "req"})
		if err != nil {
			t.Fatal(err)
		}
		var out store.Outcome
		if crash { // the store knows, the queue does not
			out, err = commit(r.ctx, p.facts.op)
		} else {
			out, err = p.Do(r.ctx, commit)
		}
		if err != nil {
			t.Fatal(err)
		}
		outs = append(outs, out)
		return out
	}
	do(ObjectCreatedPut, "a/b", "", r.putReal("a/b", "one", store.Unversioned, attrs))
	do(ObjectRemovedDelete, "a/b", "", r.removeReal("a/b", "", store.Unversioned))
	versioned := *r.bucket
	versioned.Versioning = store.Enabled
	r.bucket = &versioned
	v := do(ObjectCreatedPut, "v", "", r.putReal("v", "two2", store.Enabled, attrs))
	m := do(ObjectRemovedDeleteMarkerCreated, "v", "", r.removeReal("v", "", store.Enabled))
	do(ObjectRemovedDelete, "v", m.Info.VersionID, r.removeReal("v", m.Info.VersionID, store.Enabled))
	do(ObjectRemovedDelete, "v", v.Info.VersionID, r.removeReal("v", v.Info.VersionID, store.Enabled))
	do(ObjectCreatedPut, "s", "", r.putReal("s", "three", store.Suspended, attrs))
	do(ObjectRemovedDelete, "s", "", r.removeReal("s", "", store.Suspended))
	do(ObjectRemovedDelete, "never", "", r.removeReal("never", "", store.Unversioned))
	if crash {
		r.close()
		r.openAll(t)
		r.run()
	}
	eventually(t, "8 events", func() bool { return len(sink.got()) >= 8 })
	eventually(t, "empty queues", func() bool { return r.stats("t") == TopicStats{} })
	want := map[string][]string{
		"a/b": {"ObjectCreated:Put 3 etag-one  meta", "ObjectRemoved:Delete 3 etag-one  meta"},
		"v": {
			"ObjectCreated:Put 4 etag-two2 " + v.Info.VersionID + " meta",
			"ObjectRemoved:DeleteMarkerCreated 4 etag-two2 " + m.Info.VersionID + " meta",
			"ObjectRemoved:Delete 0  " + m.Info.VersionID + " ",
			"ObjectRemoved:Delete 4 etag-two2 " + v.Info.VersionID + " meta",
		},
		"s": {"ObjectCreated:Put 5 etag-three null meta", "ObjectRemoved:Delete 5 etag-three null meta"},
	}
	compareRecords(t, sink.got(), want)
	if out := outs[len(outs)-1]; out.Changed {
		t.Error("a delete of nothing changed something")
	}
}

func compareRecords(t *testing.T, records []Record, want map[string][]string) {
	t.Helper()
	got := make(map[string][]string)
	last := make(map[string]string)
	for _, rec := range records {
		o := rec.S3.Object
		if o.Sequencer <= last[o.Key] {
			t.Errorf("key %s: sequencer %s after %s", o.Key, o.Sequencer, last[o.Key])
		}
		last[o.Key] = o.Sequencer
		meta := ""
		if len(o.Metadata) == 1 && len(o.Tags) == 1 {
			meta = "meta"
		}
		got[o.Key] = append(got[o.Key], fmt.Sprintf("%s %d %s %s %s", rec.EventName, o.Size, o.ETag, o.VersionID, meta))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("records: -want +got\n%s", d)
	}
}
