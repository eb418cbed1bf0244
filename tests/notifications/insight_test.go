package notifications

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// explained is an item of what `notification explain` prints.
type explained struct {
	Notification, Kind, Reason, Topic, Delivery, Dialect, Endpoint, Queue string

	Matched  bool
	State    string `json:"endpoint_state"`
	WhenFull string `json:"when_full"`
	Entries  int64
}

func (e *env) explain(bucket, key, event string) map[string]explained {
	e.t.Helper()
	var doc struct{ Notifications []explained }
	e.adminJSON(&doc, "notification", "explain", "--bucket", bucket, "--key", key, "--event", event)
	out := map[string]explained{}
	for _, x := range doc.Notifications {
		out[x.Notification] = x
	}
	return out
}

func TestNotificationExplain(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	r := newReceiver(t)
	good := e.topic("good", r.URL, "event-dialect", "aws")
	bad := e.topic("bad", dead(t), "persistent", "true", "when-full", "drop-oldest")
	gone := e.topic("gone", r.URL)
	patient := e.topic("patient", dead(t), "persistent", "true", "retry_sleep_duration", "3600") // one failure for now
	filter := func(name, value string) *types.NotificationConfigurationFilter {
		return &types.NotificationConfigurationFilter{Key: &types.S3KeyFilter{FilterRules: []types.FilterRule{{Name: types.FilterRuleName(name), Value: &value}}}}
	}
	e.check(e.putNotifications(bucket,
		types.TopicConfiguration{Id: aws.String("good"), TopicArn: &good, Events: []types.Event{created}},
		types.TopicConfiguration{Id: aws.String("bad"), TopicArn: &bad, Events: []types.Event{created, removed}, Filter: filter("prefix", "log/")},
		types.TopicConfiguration{Id: aws.String("other"), TopicArn: &bad, Events: []types.Event{removed}},
		types.TopicConfiguration{Id: aws.String("gone"), TopicArn: &gone, Events: []types.Event{created}},
		types.TopicConfiguration{Id: aws.String("patient"), TopicArn: &patient, Events: []types.Event{created}, Filter: filter("prefix", "log/0")},
	))
	e.g.MustAdmin("topic", "rm", "--topic", "gone")
	for i := range 10 { // so that the endpoint is known to be down
		e.put(bucket, fmt.Sprint("log/", i), "x")
	}
	e.eventually("the endpoints are found to be down", func() bool {
		x := e.explain(bucket, "log/1", "s3:ObjectCreated:Put")
		return x["bad"].State != "ok" && strings.Contains(x["patient"].State, "refused")
	})
	got := e.explain(bucket, "log/1", "s3:ObjectCreated:Put")
	if x := got["good"]; !x.Matched || x.Delivery != "synchronous" || x.State != "ok" || x.Dialect != "aws" || x.Topic != good {
		t.Errorf("good = %+v", x)
	}
	if x := got["bad"]; !x.Matched || x.Delivery != "persistent" || x.WhenFull != "drop-oldest" || x.Queue == "" || x.Entries == 0 {
		t.Errorf("bad = %+v", x)
	}
	if x := got["other"]; x.Matched || !strings.Contains(x.Reason, "ObjectCreated:Put") {
		t.Errorf("other = %+v", x)
	}
	if x := got["gone"]; !x.Matched || x.Delivery != "none" || !strings.Contains(x.State, "gone") {
		t.Errorf("gone = %+v", x)
	}
	if x := e.explain(bucket, "x", "ObjectRemoved:Delete")["bad"]; x.Matched || !strings.Contains(x.Reason, "key") {
		t.Errorf("bad of another key = %+v", x)
	}
	for args, want := range map[string]int{
		"--bucket " + bucket + " --key k --event s3:NoSuch:Event": 22, "--bucket nope-nope --key k --event s3:ObjectCreated:Put": 2, "--key k": 22,
	} {
		if _, code := e.g.Admin(append([]string{"notification", "explain"}, strings.Fields(args)...)...); code != want {
			t.Errorf("explain %s: exit code %d, want %d", args, code, want)
		}
	}
}

// TestNotificationExplain_Metadata: filters on metadata are held against the
// object that is there.
func TestNotificationExplain_Metadata(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	arn := e.topic("t", newReceiver(t).URL)
	doc := `<NotificationConfiguration><TopicConfiguration><Id>m</Id><Topic>` + arn + `</Topic><Event>s3:ObjectCreated:*</Event><Filter><S3Metadata>
		<FilterRule><Name>x-amz-meta-color</Name><Value>red</Value></FilterRule></S3Metadata></Filter></TopicConfiguration></NotificationConfiguration>`
	if status, _, body := e.raw("s3", "PUT", "/"+bucket+"?notification", []byte(doc), "application/xml"); status != 200 {
		t.Fatal(status, body)
	}
	_, err := e.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("red"), Metadata: map[string]string{"color": "red"}, Body: strings.NewReader("x")})
	e.check(err)
	for key, want := range map[string]bool{"red": true, "none": false} {
		if x := e.explain(bucket, key, "s3:ObjectCreated:Put")["m"]; x.Matched != want {
			t.Errorf("%s = %+v", key, x)
		}
	}
}

func TestNotificationTest(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	r := newReceiver(t)
	e.notify(bucket, "sync", e.topic("sync", r.URL), created)
	e.notify(bucket, "queued", e.topic("queued", r.URL, "persistent", "true"), created)
	type results struct {
		Results []struct{ Topic, Endpoint, Status, Error, Message string }
	}
	var doc results
	e.adminJSON(&doc, "notification", "test", "--bucket", bucket)
	if len(doc.Results) != 2 || doc.Results[0].Status != "acked" || doc.Results[1].Status != "acked" {
		t.Errorf("results = %+v", doc)
	}
	for _, ev := range r.want(e, 2) {
		if ev.S3.Bucket.Name != bucket || ev.S3.Object.Key != "herald-test-event" {
			t.Errorf("record = %s", ev.body)
		}
		wantShape(t, strings.ReplaceAll(ev.body, `"metadata":[],"tags":[]`, `"metadata":[{"key":"","val":""}],"tags":[{"key":"","val":""}]`), "ceph-put")
	}
	e.topic("t", dead(t))
	out, code := e.g.Admin("notification", "test", "--topic", "t")
	var failed results
	e.check(json.NewDecoder(strings.NewReader(out)).Decode(&failed))
	if code != 5 || len(failed.Results) != 1 || failed.Results[0].Status != "retry" || !strings.Contains(failed.Results[0].Error, "refused") {
		t.Errorf("test of a dead endpoint = %d, %+v", code, failed)
	}
	if _, code := e.g.Admin("notification", "test", "--topic", "unknown"); code != 2 {
		t.Errorf("test of an unknown topic: exit code %d, want 2", code)
	}
}

// TestWhenFull: the policies of a full queue, over the wire.
func TestWhenFull(t *testing.T) {
	e := newEnv(t, "--topic-shards", "1", "--queue-capacity", "1048576")
	const puts = 700
	opaque := strings.Repeat("o", 3000)
	for _, policy := range []string{"drop-oldest", "drop-new"} {
		t.Run(policy, func(t *testing.T) {
			bucket := e.bucket()
			r := newReceiver(t)
			r.status.Store(http.StatusServiceUnavailable)
			e.notify(bucket, "n", e.topic(policy, r.URL, "persistent", "true", "when-full", policy, "OpaqueData", opaque), created)
			for _, k := range keys("k", puts) {
				e.put(bucket, k, "x") // none is refused
			}
			var entries, reservations, size int64
			e.eventually("all events are in the queue", func() bool {
				entries, reservations, size = e.stats(policy)
				return reservations == 0
			})
			if entries == 0 || entries >= puts || reservations != 0 || size > 1<<20 {
				t.Errorf("%d entries, %d reservations, %d bytes", entries, reservations, size)
			}
			if got, want := e.metric("herald_notify_dropped_total", policy), puts-entries; got != want {
				t.Errorf("dropped = %d, want %d", got, want)
			}
			r.status.Store(0)
			e.drained(policy)
			got := r.names()
			if policy == "drop-new" { // what is dropped of the oldest may be on its way already
				if want := perEvent("ObjectCreated:Put", keys("k", puts)[:1])[0]; !slices.Contains(got, want) {
					t.Errorf("no %s", want)
				}
				if int64(len(got)) != entries {
					t.Errorf("%d events, want %d", len(got), entries)
				}
				return
			}
			if want := perEvent("ObjectCreated:Put", keys("k", puts)[puts-1:])[0]; !slices.Contains(got, want) {
				t.Errorf("no %s", want)
			}
		})
	}
}

// metric sums the samples of a name that have a topic's label.
func (e *env) metric(name, topic string) int64 {
	e.t.Helper()
	resp, err := http.Get(e.g.Ops + "/metrics")
	e.check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	e.check(err)
	sum := int64(0)
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, `topic="`+topic+`"`) {
			var v float64
			_, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v)
			e.check(err)
			sum += int64(v)
		}
	}
	return sum
}
