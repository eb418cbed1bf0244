package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"golang.org/x/sync/errgroup"

	"herald/tests/gatewaytest"
)

const (
	clients = 16
	topic   = "crash"
)

// world is a gateway with its clients and its endpoint.
type world struct {
	t       *testing.T
	g       *gatewaytest.Gateway
	sink    *sink
	workers []*worker
}

func newWorld(t *testing.T, args ...string) *world {
	w := &world{t: t, sink: &sink{}}
	endpoint := httptest.NewServer(w.sink)
	t.Cleanup(endpoint.Close)
	w.g = gatewaytest.Start(t, gatewaytest.Options{Args: append([]string{"--log-level", "warn", "--reservation-stale", "5s"}, args...)})
	ctx := t.Context()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for id := range clients {
		w.workers = append(w.workers, newWorker(w.g.URL, id, seed))
	}
	client := w.workers[0].s3
	notifications := sns.New(sns.Options{
		BaseEndpoint: &w.g.URL, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(gatewaytest.AccessKey, gatewaytest.SecretKey, ""),
	})
	arn, err := notifications.CreateTopic(ctx, &sns.CreateTopicInput{
		Name: aws.String(topic), Attributes: map[string]string{"push-endpoint": endpoint.URL, "persistent": "true"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, bucket := range []string{plainBucket, versionedBucket} {
		w.makeBucket(ctx, client, bucket, arn.TopicArn)
	}
	return w
}

func (w *world) makeBucket(ctx context.Context, client *s3.Client, bucket string, topicARN *string) {
	w.t.Helper()
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket})
	if err == nil && bucket == versionedBucket {
		_, err = client.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
			Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
		})
	}
	if err == nil {
		_, err = client.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
			Bucket: &bucket,
			NotificationConfiguration: &types.NotificationConfiguration{TopicConfigurations: []types.TopicConfiguration{{
				Id: aws.String("n-" + bucket), TopicArn: topicARN,
				Events: []types.Event{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"},
			}}},
		})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// load runs all clients until stop is done, or the gateway ended by itself.
func (w *world) load(stop context.Context) error {
	ctx, cancel := context.WithCancel(stop)
	defer cancel()
	go func() {
		select {
		case <-w.g.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	var group errgroup.Group
	for _, worker := range w.workers {
		group.Go(func() error { return worker.run(ctx) })
	}
	return group.Wait()
}

// settle checks P1 for every key.
func (w *world) settle() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var group errgroup.Group
	for _, worker := range w.workers {
		group.Go(func() error { return worker.settle(ctx) })
	}
	if err := group.Wait(); err != nil {
		w.t.Fatal(err)
	}
}

// drain waits until every queue is empty, then checks P2 and P3.
func (w *world) drain() {
	w.t.Helper()
	w.sink.kind.Store(true)
	defer w.sink.kind.Store(false)
	deadline := time.Now().Add(2 * time.Minute)
	for {
		var stats struct {
			Topic struct{ Reservations, Entries int } `json:"Topic Stats"`
		}
		out := w.g.MustAdmin("topic", "stats", "--topic", topic)
		if err := json.Unmarshal([]byte(out), &stats); err != nil {
			w.t.Fatal(err)
		}
		if stats.Topic.Entries == 0 && stats.Topic.Reservations == 0 {
			break
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the queue does not drain: %s", out)
		}
		time.Sleep(20 * time.Millisecond) // there is nothing to wait on
	}
	events := w.sink.got.byKey()
	known := map[string]bool{}
	var wrong []string
	for _, worker := range w.workers {
		for _, k := range worker.keys {
			known[k.bucket+"/"+k.name] = true
			wrong = append(wrong, k.check(events[k.bucket+"/"+k.name])...)
		}
	}
	for id, records := range events {
		if !known[id] {
			wrong = append(wrong, fmt.Sprintf("P2: invented: %s %+v", id, records[0]))
		}
	}
	if len(wrong) > 0 {
		w.t.Fatalf("%d violations:\n%s", len(wrong), strings.Join(wrong[:min(20, len(wrong))], "\n"))
	}
}

func (w *world) report() {
	ops, cut := 0, 0
	for _, worker := range w.workers {
		for _, k := range worker.keys {
			ops += len(k.ops)
			for _, o := range k.ops {
				if !o.acked {
					cut++
				}
			}
		}
	}
	w.t.Logf("%d changes (%d of them cut and found to have come true), %d deliveries, %d refused by the endpoint",
		ops, cut, len(w.sink.got.records), w.sink.bad.Load())
}

// kills is how often TestKillAtRandom kills: HERALD_CRASH_KILLS, else a few.
func kills(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("HERALD_CRASH_KILLS"))
	if err != nil {
		return 12
	}
	t.Logf("%d kills", n)
	return n
}

// TestKillAtRandom kills the gateway at random moments, also while it starts,
// and checks after each restart that nothing acknowledged is lost, and every
// now and then that the events are exactly those of the changes, in order.
func TestKillAtRandom(t *testing.T) {
	w := newWorld(t)
	n := kills(t)
	for i := range n {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(50+rand.IntN(700))*time.Millisecond)
		killed := make(chan struct{})
		go func() {
			<-ctx.Done()
			w.g.Kill()
			close(killed)
		}()
		err := w.load(ctx)
		cancel()
		<-killed
		if err != nil {
			t.Fatalf("kill %d: %v", i+1, err)
		}
		if i%7 == 3 { // once more, while it replays
			w.killAtStart()
		}
		if err := w.g.Run(); err != nil {
			t.Fatalf("restart after kill %d: %v", i+1, err)
		}
		w.settle()
		if i%20 == 19 || i == n-1 {
			w.drain()
		}
	}
	w.report()
	if err := w.g.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if out, err := exec.Command(gatewaytest.Binary(t), "fsck", "--data", w.g.Data).CombinedOutput(); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}

// killAtStart starts the gateway and kills it at once, or a moment later.
func (w *world) killAtStart() {
	killed := make(chan struct{})
	go func() {
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		w.g.Kill()
		close(killed)
	}()
	_ = w.g.Run() // fails when it is killed before it is ready
	<-killed
	w.g.Kill() // it may have been started after the first
}

// TestFaultPoints ends the gateway once at every named fault point.
func TestFaultPoints(t *testing.T) {
	out, err := exec.Command(gatewaytest.Binary(t), "fault-points").Output()
	if err != nil {
		t.Fatal(err)
	}
	points := strings.Fields(string(out))
	if len(points) == 0 {
		t.Fatal("no fault points")
	}
	w := newWorld(t)
	for _, point := range points {
		w.dieAt(point)
	}
	w.drain()
	w.report()
}

func (w *world) dieAt(point string) {
	w.t.Helper()
	if err := w.g.Stop(); err != nil {
		w.t.Fatalf("stop before %s: %v", point, err)
	}
	w.g.SetEnv("HERALD_FAULT=" + point + ":" + strconv.Itoa(1+rand.IntN(3)))
	if err := w.g.Run(); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		err := w.load(ctx)
		cancel()
		if err != nil {
			w.t.Fatalf("%s: %v", point, err)
		}
	}
	select {
	case <-w.g.Done():
	default:
		w.t.Errorf("fault point %s was not reached", point)
	}
	w.g.Kill()
	w.g.SetEnv()
	if err := w.g.Run(); err != nil {
		w.t.Fatalf("restart after %s: %v", point, err)
	}
	w.settle()
	w.drain()
}
