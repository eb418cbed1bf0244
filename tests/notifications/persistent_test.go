package notifications

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"herald/tests/gatewaytest"
)

// dead is the URL of an endpoint where nobody listens.
func dead(t *testing.T) string { return "http://" + gatewaytest.FreeAddress(t) + "/" }

// Rows test_persistent_topic_stats_http and test_notification_caching: entries
// wait while the endpoint is wrong; a good one drains them, whether the topic
// is created again or its attribute set.
func TestPersistentTopicStats(t *testing.T) {
	for _, how := range []string{"create", "set"} {
		t.Run(how, func(t *testing.T) {
			e := newEnv(t)
			bucket := e.bucket()
			arn := e.topic("t", dead(t), "persistent", "true", "retry_sleep_duration", "1")
			e.notify(bucket, "n", arn, created, removed)
			names := keys("k", 10)
			for _, k := range names {
				e.put(bucket, k, "x")
			}
			e.wantEntries("t", 10)
			for _, k := range names {
				e.delete(bucket, k)
			}
			e.wantEntries("t", 20)
			if _, reservations, size := e.stats("t"); reservations != 0 || size < 20*150 {
				t.Errorf("%d reservations, %d bytes", reservations, size)
			}
			r := newReceiver(t)
			if how == "create" {
				e.topic("t", r.URL, "persistent", "true")
			} else {
				_, err := e.sns.SetTopicAttributes(t.Context(), &sns.SetTopicAttributesInput{TopicArn: &arn, AttributeName: aws.String("push-endpoint"), AttributeValue: &r.URL})
				e.check(err)
			}
			e.drained("t")
			r.wantExactly(e, append(perEvent("ObjectCreated:Put", names), perEvent("ObjectRemoved:Delete", names)...)...)
			checkOrder(t, r)
		})
	}
}

// checkOrder: per key, sequencers grow.
func checkOrder(t *testing.T, r *receiver) {
	t.Helper()
	last := map[string]string{}
	for _, ev := range r.all() {
		k := ev.S3.Bucket.Name + "/" + ev.S3.Object.Key
		if ev.S3.Object.Sequencer <= last[k] {
			t.Errorf("%s: sequencer %s after %s", k, ev.S3.Object.Sequencer, last[k])
		}
		last[k] = ev.S3.Object.Sequencer
	}
}

// Row test_persistent_topic_dump.
func TestPersistentTopicDump(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", dead(t), "persistent", "true", "retry_sleep_duration", "1"), created, removed)
	count := func() int {
		var dump []json.RawMessage
		e.adminJSON(&dump, "topic", "dump", "--topic", "t")
		return len(dump)
	}
	for _, k := range keys("k", 20) {
		e.put(bucket, k, "x")
	}
	e.eventually("topic dump has 20 entries", func() bool { return count() == 20 })
	for _, k := range keys("k", 20) {
		e.delete(bucket, k)
	}
	e.eventually("topic dump has 40 entries", func() bool { return count() == 40 })
	r := newReceiver(t)
	e.topic("t", r.URL, "persistent", "true")
	e.drained("t")
	if n := count(); n != 0 {
		t.Errorf("topic dump has %d entries after the drain, want 0", n)
	}
}

// Rows test_persistent_topic_configs_ttl and _max_retries: what is given up
// leaves the queue, and is found among the dead letters, from where it can be
// sent again.
func TestPersistentTopicConfigs(t *testing.T) {
	tests := []struct {
		name, reason     string
		ttl, max, sleep  string
		wantTTL, wantMax string
	}{
		// All are there together for long enough, also on a slow machine.
		{"ttl", "time_to_live", "15", "None", "None", "15", "None"},
		{"max retries", "max_retries", "None", "3", "5", "None", "3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			bucket := e.bucket()
			endpoint := dead(t)
			e.notify(bucket, "n", e.topic("t", endpoint, "persistent", "true", "time_to_live", tt.ttl, "max_retries", tt.max, "retry_sleep_duration", tt.sleep), created, removed)
			var doc topicDoc
			e.adminJSON(&doc, "topic", "get", "--topic", "t")
			if doc.Dest.TimeToLive != tt.wantTTL || doc.Dest.MaxRetries != tt.wantMax || doc.Dest.RetrySleep != tt.sleep {
				t.Errorf("topic get = %+v", doc)
			}
			names := keys("k", 10)
			for _, k := range names {
				e.put(bucket, k, "x")
			}
			e.wantEntries("t", 10)
			e.drained("t")
			var letters []struct {
				Reason   string
				Attempts int
				Entry    struct{ Event record }
			}
			e.adminJSON(&letters, "topic", "dead-letters", "list", "--topic", "t")
			var got []string
			for _, l := range letters {
				got = append(got, l.Entry.Event.S3.Object.Key)
				// With a time to live the endpoint may be left alone until it ends.
				if l.Reason != tt.reason || (tt.reason == "max_retries" && l.Attempts != 4) {
					t.Errorf("dead letter = %+v, want reason %s", l, tt.reason)
				}
			}
			if !slices.Equal(sorted(got), names) {
				t.Errorf("dead letters = %q, want %q", sorted(got), names)
			}
			r := newReceiverAt(t, strings.Trim(strings.TrimPrefix(endpoint, "http://"), "/"))
			for _, args := range []string{"topic dead-letters purge --topic t --marker=", "topic dead-letters redrive --topic t --marker ,", "notification rm --bucket " + bucket + " --notification-id="} {
				if out, code := e.g.Admin(strings.Fields(args)...); code != 22 {
					t.Errorf("%s = %d %s, want 22", args, code, out)
				}
			}
			e.g.MustAdmin("topic", "dead-letters", "redrive", "--topic", "t")
			r.wantExactly(e, perEvent("ObjectCreated:Put", names)...)
			e.adminJSON(&letters, "topic", "dead-letters", "list", "--topic", "t")
			if len(letters) != 0 {
				t.Errorf("%d dead letters after redrive, want 0", len(letters))
			}
		})
	}
}

// TestAttemptsSurviveRestart: max_retries counts across a restart.
func TestAttemptsSurviveRestart(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", dead(t), "persistent", "true", "max_retries", "9", "retry_sleep_duration", "2"), created, removed)
	e.put(bucket, "k", "x")
	attempts := func() int {
		var dump []struct{ Attempts int }
		e.adminJSON(&dump, "topic", "dump", "--topic", "t")
		if len(dump) == 0 {
			return -1
		}
		return dump[0].Attempts
	}
	e.eventually("two attempts", func() bool { return attempts() >= 2 })
	e.check(e.g.Stop())
	e.check(e.g.Run())
	if n := attempts(); n < 2 {
		t.Errorf("%d attempts after a restart, want at least 2", n)
	}
	e.drained("t")
}

// Row test_persistent_notification_pushback: a full queue answers SlowDown
// with nothing written; all is well once the endpoint is back.
func TestPushback(t *testing.T) {
	e := newEnv(t, "--topic-shards", "1", "--queue-capacity", "1048576")
	r := newReceiver(t)
	r.status.Store(http.StatusServiceUnavailable)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", r.URL, "persistent", "true"), created, removed)
	accepted, slow := 0, ""
	for i := 0; i < 10_000 && slow == ""; i++ {
		key := fmt.Sprintf("k-%05d", i)
		_, err := e.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("x")})
		if err != nil {
			e.wantCode("PutObject on a full queue", err, "SlowDown")
			slow = key
			break
		}
		accepted++
	}
	if slow == "" {
		t.Fatal("the queue never was full")
	}
	status, header, _ := e.raw("s3", "PUT", "/"+bucket+"/"+slow, []byte("x"), "")
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("PUT on a full queue = %d, Retry-After %q", status, header.Get("Retry-After"))
	}
	_, err := e.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: &slow})
	e.wantCode("HeadObject of what was refused", err, "NotFound")
	_, err = e.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("k-00000")})
	e.wantCode("DeleteObject on a full queue", err, "SlowDown")
	e.wantEntries("t", int64(accepted))
	if _, reservations, _ := e.stats("t"); reservations != 0 {
		t.Errorf("%d reservations, want none", reservations)
	}
	r.status.Store(0)
	e.drained("t")
	e.put(bucket, slow, "x")
	e.drained("t")
	r.want(e, accepted+1)
	checkOrder(t, r)
}

// Row test_persistent_multiple_endpoints_http: a dead endpoint of one topic
// does not hold up another's.
func TestPersistentMultipleEndpoints(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	e.notify(bucket, "bad", e.topic("bad", dead(t), "persistent", "true", "retry_sleep_duration", "1"), created, removed)
	e.notify(bucket, "slow", e.topic("slow", slowEndpoint(t), "persistent", "true"), created, removed)
	e.notify(bucket, "good", e.topic("good", r.URL, "persistent", "true"), created, removed)
	for _, k := range keys("k", 30) {
		e.put(bucket, k, "x")
	}
	r.want(e, 30)
	e.drained("good")
	e.wantEntries("bad", 30)
}

func slowEndpoint(t *testing.T) string {
	r := newReceiver(t)
	r.delay.Store(int64(2 * time.Second))
	return r.URL
}

// TestSuccessesAreNotSentAgain: what was delivered behind a failed entry does
// not come twice.
func TestSuccessesAreNotSentAgain(t *testing.T) {
	e := newEnv(t, "--topic-shards", "1")
	r := newReceiver(t)
	bucket := e.bucket()
	poison := &poisoned{receiver: r}
	e.notify(bucket, "n", e.topic("t", poison.start(t), "persistent", "true", "retry_sleep_duration", "1"), created)
	for _, k := range append([]string{"poison"}, keys("k", 20)...) {
		e.put(bucket, k, "x")
	}
	r.wantExactly(e, perEvent("ObjectCreated:Put", keys("k", 20))...)
	e.eventually("the poison was tried three times", func() bool { return poison.count() >= 3 })
	poison.cure()
	e.drained("t")
	r.wantExactly(e, append(perEvent("ObjectCreated:Put", keys("k", 20)), "ObjectCreated:Put poison")...)
}

// Row test_persistent_notification_http_account, its part without accounts: a
// tenant's user; stats by tenant.
func TestPersistentTenant(t *testing.T) {
	e := newEnv(t).user("u", "tenant")
	r := newReceiver(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", r.URL, "persistent", "true"), created, removed)
	e.put(bucket, "k", "x")
	e.drained("t")
	ev := r.want(e, 1)[0]
	if ev.UserIdentity.PrincipalID != "tenant$u" || ev.S3.Bucket.Arn != "arn:aws:s3:default:tenant:"+bucket {
		t.Errorf("record = %s", ev.body)
	}
}

// Row test_persistent_notification_large_amqp (over HTTP): records that are
// larger than what is reserved at first.
func TestPersistentLarge(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	opaque := strings.Repeat("o", 2000)
	e.notify(bucket, "n", e.topic("t", r.URL, "persistent", "true", "OpaqueData", opaque), created, removed)
	meta := map[string]string{"big": strings.Repeat("m", 1500)}
	var names []string
	for i := range 20 {
		key := fmt.Sprintf("%s-%02d", strings.Repeat("k", 1000), i)
		_, err := e.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Metadata: meta, Body: strings.NewReader("x")})
		e.check(err)
		names = append(names, key)
	}
	for _, ev := range r.wantExactly(e, perEvent("ObjectCreated:Put", names)...) {
		if ev.OpaqueData != opaque || len(ev.S3.Object.Metadata) != 1 {
			t.Errorf("record = %s", ev.body)
		}
	}
	e.drained("t")
}

// Rows test_persistent_cleanup, test_persistent_reload: after kill -9 under
// load no reservation stays and nothing is lost.
func TestPersistentCleanup(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", r.URL, "persistent", "true"), created)
	var (
		mu    sync.Mutex
		acked []string
		wg    sync.WaitGroup
	)
	for i := range 8 {
		wg.Go(func() {
			for n := range 10_000 {
				key := fmt.Sprintf("k-%d-%d", i, n)
				ctx, cancel := background()
				_, err := e.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("x")})
				cancel()
				if err != nil {
					return // killed
				}
				mu.Lock()
				acked = append(acked, "ObjectCreated:Put "+key)
				mu.Unlock()
			}
		})
	}
	e.eventually("some PUTs", func() bool { mu.Lock(); defer mu.Unlock(); return len(acked) > 100 })
	e.g.Kill()
	wg.Wait()
	e.check(e.g.Run())
	e.drained("t")
	got := map[string]bool{}
	for _, name := range r.names() {
		got[name] = true
	}
	for _, want := range acked {
		if !got[want] {
			t.Errorf("no event for %s", want)
		}
	}
}

// Rows test_backward_compatibility_persistent_sharded_topic_http and
// test_persistent_sharded_topic_config_change_http: the option concerns new
// topics only.
func TestShardedTopicConfigChange(t *testing.T) {
	e := newEnv(t, "--topic-shards", "1")
	r := newReceiver(t)
	bucket := e.bucket()
	e.notify(bucket, "old", e.topic("old", r.URL, "persistent", "true"), created)
	e.put(bucket, "a", "x")
	r.want(e, 1)
	e.check(e.g.Stop())
	e.g.SetArgs("--topic-shards", "11")
	e.check(e.g.Run())
	e.topic("old", r.URL, "persistent", "true")
	e.notify(bucket, "new", e.topic("new", r.URL, "persistent", "true"), created)
	for topic, want := range map[string]int{"old": 1, "new": 11} {
		var doc topicDoc
		e.adminJSON(&doc, "topic", "get", "--topic", topic)
		if doc.Dest.Shards != want {
			t.Errorf("topic %s has %d shards, want %d", topic, doc.Dest.Shards, want)
		}
	}
	e.put(bucket, "b", "x")
	r.want(e, 3)
	e.drained("old")
	e.drained("new")
}

// TestPersistentOff: to make a topic not persistent drops what waits.
func TestPersistentOff(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	arn := e.topic("t", dead(t), "persistent", "true")
	e.notify(bucket, "n", arn, created, removed)
	e.put(bucket, "k", "x")
	e.wantEntries("t", 1)
	_, err := e.sns.SetTopicAttributes(t.Context(), &sns.SetTopicAttributesInput{TopicArn: &arn, AttributeName: aws.String("persistent"), AttributeValue: aws.String("false")})
	e.check(err)
	e.wantEntries("t", 0)
}

// TestListen: `gateway listen` shows a change as it happens.
func TestListen(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	cmd := e.g.Command(t.Context(), "listen", bucket)
	out, err := cmd.StdoutPipe()
	e.check(err)
	errOut, err := cmd.StderrPipe()
	e.check(err)
	e.check(cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	ready := make([]byte, 9)
	_, err = io.ReadFull(errOut, ready)
	e.check(err)
	e.put(bucket, "hello.txt", "hello")
	want := "ObjectCreated:Put " + bucket + "/hello.txt 5 bytes"
	line := make(chan string, 1)
	go func() {
		buf := make([]byte, 1000)
		n, _ := out.Read(buf)
		line <- string(buf[:n])
	}()
	select {
	case got := <-line:
		if !strings.Contains(got, want) {
			t.Errorf("listen = %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Error("listen shows nothing")
	}
}

// TestMetrics: numbers and readiness tell of topics.
// TestMetrics has a topic whose endpoint gets all, one whose endpoint is dead, and
// one that gives up.
func TestMetrics(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	r := newReceiver(t)
	e.notify(bucket, "good", e.topic("good", r.URL, "persistent", "true"), created)
	e.notify(bucket, "dead", e.topic("dead", dead(t), "persistent", "true"), created)
	e.notify(bucket, "vain", e.topic("vain", dead(t), "persistent", "true", "max_retries", "1", "retry_sleep_duration", "1"), created)
	e.put(bucket, "k", "x")
	r.want(e, 1)
	e.drained("good")
	e.drained("vain")
	get := func(path string) string {
		resp, err := http.Get(e.g.Ops + path)
		e.check(err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		e.check(err)
		return string(body)
	}
	var missing []string
	defer func() {
		if t.Failed() {
			t.Logf("missing: %q", missing)
		}
	}()
	lacks := func(path string, want ...string) (out []string) {
		body := "\n" + get(path)
		for _, w := range want {
			if !strings.Contains(body, w) {
				out = append(out, w)
			}
		}
		return out
	}
	for path, want := range map[string][]string{
		"/healthz": {"ok"}, "/readyz": {`"ready":true`, `"arn:aws:sns:default::dead":"dial tcp`, `"arn:aws:sns:default::good":"ok"`},
		"/metrics": {
			"\nherald_journal_flush_seconds", `operation="PutObject"`,
			// RGW's.
			"\npubsub_event_triggered 3\n", "\npubsub_event_lost 0\n", "\npubsub_push_ok 1\n", "\npubsub_push_failed ", "\npubsub_push_pending ",
			"\npubsub_store_ok 3\n", "\npubsub_store_fail 0\n", "\npubsub_missing_conf 0\n", "\npersistent_topic_len{queue=\":dead", "\npersistent_topic_size{queue=\":dead",
			// Of each topic.
			"\nherald_topic_entries{topic=\"dead\"} 1\n", "\nherald_topic_entries{topic=\"good\"} 0\n", "\nherald_topic_bytes{topic=\"dead\"} ",
			"\nherald_topic_reservations{topic=\"dead\"} 0\n", "\nherald_topic_oldest_age_seconds{topic=\"dead\"} ", "\nherald_topic_stalled_seconds{topic=\"dead\"} ",
			"\nherald_topic_in_flight{topic=\"good\"} 0\n", "\nherald_topic_endpoint_up{topic=\"good\"} 1\n", "\nherald_topic_endpoint_up{topic=\"dead\"} 0\n",
			"\nherald_notify_delivery_seconds_count{topic=\"good\"} 1\n", "\nherald_notify_push_seconds_bucket{topic=\"good\",le=", "\nherald_notify_retries_total{topic=\"dead\"} ",
			"\nherald_notify_pushes_total{result=\"acked\",topic=\"good\"} 1\n", "\nherald_notify_pushes_total{result=\"retry\",topic=\"vain\"} 2\n",
			"\nherald_notify_dead_letters_total{reason=\"max_retries\",topic=\"vain\"} 1\n", "\nherald_topic_dead_letters{topic=\"vain\"} 1\n",
		},
	} {
		e.eventually(path, func() bool {
			missing = lacks(path, want...)
			return len(missing) == 0
		})
	}
}
