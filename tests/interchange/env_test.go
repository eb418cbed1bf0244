//go:build rados

package interchange

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"herald/queue/rados"
	"herald/tests/cephtest"
	"herald/tests/gatewaytest"
)

const (
	// patience is how long what happens at once may take on a busy machine.
	patience = 300 * time.Second
	// lookPatience is for what radosgw does when it looks for queues, every
	// 30 s; lockPatience for what has to wait for the end of its lock, 90 s.
	lookPatience = 30*time.Second + patience
	lockPatience = 90*time.Second + patience
)

// TestMain lets all tests run at once: most of their time they wait.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	cephtest.Main(m)
}

// site is one of the two: a gateway of Herald, or a radosgw.
type site struct {
	t   *testing.T
	s3  *s3.Client
	sns *sns.Client
}

func newSite(t *testing.T, endpoint, accessKey, secretKey string) *site {
	provider := credentials.StaticCredentialsProvider{Value: aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}}
	return &site{
		t: t,
		s3: s3.New(s3.Options{
			BaseEndpoint: &endpoint, Region: "default", UsePathStyle: true, Credentials: provider, RetryMaxAttempts: 1,
			RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
			ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		}),
		sns: sns.New(sns.Options{BaseEndpoint: &endpoint, Region: "default", Credentials: provider, RetryMaxAttempts: 1}),
	}
}

func (s *site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// topic makes a persistent topic, or changes it.
func (s *site) topic(name, endpoint string) (arn string) {
	s.t.Helper()
	out, err := s.sns.CreateTopic(s.t.Context(), &sns.CreateTopicInput{Name: &name, Attributes: map[string]string{
		"push-endpoint": endpoint, "persistent": "true", "OpaqueData": "of-" + name, "retry_sleep_duration": "1",
	}})
	s.check(err)
	return *out.TopicArn
}

// rules are ids of notifications, each with the topic that it is for.
type rules map[string]string

// bucket makes a bucket whose changes topics want.
func (s *site) bucket(name string, rules rules) {
	s.t.Helper()
	_, err := s.s3.CreateBucket(s.t.Context(), &s3.CreateBucketInput{Bucket: &name})
	s.check(err)
	var list []types.TopicConfiguration
	for id, topic := range rules {
		list = append(list, types.TopicConfiguration{Id: &id, TopicArn: &topic, Events: []types.Event{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"}})
	}
	_, err = s.s3.PutBucketNotificationConfiguration(s.t.Context(), &s3.PutBucketNotificationConfigurationInput{
		Bucket: &name, NotificationConfiguration: &types.NotificationConfiguration{TopicConfigurations: list},
	})
	s.check(err)
}

func (s *site) versioned(bucket string) {
	s.t.Helper()
	_, err := s.s3.PutBucketVersioning(s.t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	})
	s.check(err)
}

// put stores an object and returns its version and ETag.
func (s *site) put(bucket, key, body string) (version, etag string) {
	s.t.Helper()
	out, err := s.s3.PutObject(s.t.Context(), &s3.PutObjectInput{
		Bucket: &bucket, Key: &key, Body: strings.NewReader(body), Metadata: map[string]string{"mood": "good"}, Tagging: aws.String("kind=test"),
	})
	s.check(err)
	return aws.ToString(out.VersionId), strings.Trim(*out.ETag, `"`)
}

func (s *site) delete(bucket, key string) {
	s.t.Helper()
	_, err := s.s3.DeleteObject(s.t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
	s.check(err)
}

// pair is a Herald and a radosgw on one cluster, and an endpoint.
type pair struct {
	t        *testing.T
	cluster  *cephtest.Cluster
	rgw      *cephtest.Radosgw
	gateway  *gatewaytest.Gateway
	radosgw  *site
	herald   *site
	receiver *receiver
}

// newPair starts a cluster with a radosgw on it. Herald is started by
// startHerald. Tests mostly wait: others may run meanwhile.
func newPair(t *testing.T) *pair {
	t.Helper()
	t.Parallel()
	gatewaytest.Binary(t) // to build it takes longer than radosgw's pauses
	c := cephtest.StartOwn(t, cephtest.Options{Memstore: testing.Short()})
	p := &pair{t: t, cluster: c, rgw: cephtest.StartRadosgw(t, c), receiver: newReceiver(t)}
	p.radosgw = newSite(t, p.rgw.Endpoint, p.rgw.AccessKey, p.rgw.SecretKey)
	return p
}

func (p *pair) startHerald(flags ...string) {
	p.t.Helper()
	p.gateway = gatewaytest.Start(p.t, gatewaytest.Options{Args: append([]string{
		"--queue", "rados://" + rados.RGWPool + "/" + rados.RGWNamespace, "--queue.rados.rgw-compatible", "--queue.rados.conf", p.cluster.Conf,
	}, flags...)})
	p.herald = newSite(p.t, p.gateway.URL, gatewaytest.AccessKey, gatewaytest.SecretKey)
}

// rados runs Ceph's own tool in radosgw's namespace.
func (p *pair) rados(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "rados", append([]string{"-c", p.cluster.Conf, "-p", rados.RGWPool, "-N", rados.RGWNamespace}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("rados %q: %w: %s", args, err, errOut.String())
	}
	return out.String(), nil
}

// holder is who has the lock of a queue.
type holder struct{ Name, Cookie string }

// lockHolder returns who has the lock of a queue's object, if anybody.
func (p *pair) lockHolder(object string) *holder {
	out, err := p.rados("lock", "info", object, object+"_lock", "--format", "json")
	if err != nil {
		return nil // no such lock yet
	}
	var info struct{ Lockers []holder }
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		p.t.Fatalf("lock info %q: %v", out, err)
	}
	if len(info.Lockers) == 0 {
		return nil
	}
	return &info.Lockers[0]
}

// radosgw's cookies have 16 characters; ours are longer.
func (h *holder) isRadosgw() bool { return h != nil && len(h.Cookie) == 16 }
func (h *holder) isHerald() bool  { return h != nil && len(h.Cookie) > 16 }

// breakLock takes the lock away from whoever has it, as an operator would.
func (p *pair) breakLock(object string) {
	p.t.Helper()
	if h := p.lockHolder(object); h != nil {
		if _, err := p.rados("lock", "break", object, object+"_lock", h.Name, "--lock-cookie", h.Cookie); err != nil {
			p.t.Fatal(err)
		}
	}
}

// heraldOwns waits until Herald has the lock of a queue in which something
// waits that cannot be delivered. A radosgw that was there first loses it.
func (p *pair) heraldOwns(object string) {
	p.t.Helper()
	p.eventually("Herald owns the queue", patience, func() bool {
		h := p.lockHolder(object)
		if h.isRadosgw() {
			p.breakLock(object)
		}
		return h.isHerald()
	})
}

// entries counts what waits in a queue, as a driver sees it that nobody else
// uses.
func (p *pair) entries(name string) int64 {
	p.t.Helper()
	d, err := rados.OpenRGW(p.t.Context(), rados.Options{ConfFile: p.cluster.Conf}, rados.RGWNamesAuto)
	if err != nil {
		p.t.Fatal(err)
	}
	defer d.Close()
	q, err := d.Open(p.t.Context(), name)
	if err != nil {
		p.t.Fatal(err)
	}
	st, err := q.Stats(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return st.Entries
}

// eventually waits for something to become true.
func (p *pair) eventually(what string, patience time.Duration, ok func() bool) {
	p.t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > patience {
			p.tell()
			p.t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(200 * time.Millisecond)
	}
	p.t.Logf("%s: after %s", what, time.Since(start).Round(100*time.Millisecond))
}

// tell logs how things stand.
func (p *pair) tell() {
	p.t.Helper()
	came := make(map[string]int)
	for _, r := range p.receiver.all() {
		came[fmt.Sprintf("%s, by Herald %v", r.path, r.byHerald)]++
	}
	p.t.Logf("came: %v", came)
	objects, err := p.rados("listomapkeys", "queues_list_object")
	p.t.Logf("queues: %q, %v", objects, err)
	for _, object := range strings.Fields(objects) {
		p.t.Logf("%s: lock %+v, %d reservations", object, p.lockHolder(object), p.reservations(object))
	}
	logs, _ := filepath.Glob(filepath.Join(p.cluster.Dir, "client.*.log"))
	for _, name := range logs {
		if data, err := os.ReadFile(name); err == nil && bytes.Contains(data, []byte("Caught signal")) {
			p.t.Logf("radosgw has crashed: %s", data[bytes.Index(data, []byte("Caught signal")):][:2000])
		}
	}
	if p.gateway != nil {
		stats, _ := p.gateway.Admin("topic", "stats", "--topic", "shared")
		p.t.Logf("topic stats: %s", stats)
	}
}

// record is an event record as it arrives.
type record struct {
	EventVersion, EventSource, AwsRegion, EventTime, EventName string

	UserIdentity     struct{ PrincipalID string }
	ResponseElements struct {
		RequestID string `json:"x-amz-request-id"`
		ID2       string `json:"x-amz-id-2"`
	}
	S3 struct {
		S3SchemaVersion, ConfigurationID string
		Bucket                           struct {
			Name, Arn, ID string
			OwnerIdentity struct{ PrincipalID string }
		}
		Object struct {
			Key, ETag, VersionID, Sequencer string
			Size                            int64
			Metadata, Tags                  []struct{ Key, Val string }
		}
	}
	EventID, OpaqueData string

	path     string // where it came
	byHerald bool   // it was sent by Herald, not by radosgw
	raw      string
}

func (r *record) meta(name string) string {
	for _, m := range r.S3.Object.Metadata {
		if m.Key == name {
			return m.Val
		}
	}
	return ""
}

// radosgwPause is how long the endpoint lets a radosgw wait for an answer. A
// radosgw of before May 2024, 16.2.15 too, misses an answer that comes in the
// moment between its asking whether there is one and its waiting for it (Ceph:
// pull request 57632), and then never delivers from that queue again, whose
// lock it keeps. Without a pause it took between 1,000 and 40,000 requests to
// meet it; while the endpoint is down, radosgw sends thousands in a second.
const radosgwPause = 200 * time.Millisecond

// receiver is an HTTP endpoint.
type receiver struct {
	*httptest.Server
	down atomic.Bool // it answers 503

	mu  sync.Mutex // guards what follows
	got []record
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	byHerald, down := req.UserAgent() == "Herald", r.down.Load() // radosgw's has none
	body, err := io.ReadAll(req.Body)
	if !byHerald {
		time.Sleep(radosgwPause)
	}
	if err != nil || down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var doc struct{ Records []record }
	if err := json.Unmarshal(body, &doc); err != nil || len(doc.Records) != 1 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	rec := doc.Records[0]
	rec.path, rec.raw, rec.byHerald = req.URL.Path, string(body), byHerald
	r.mu.Lock()
	r.got = append(r.got, rec)
	r.mu.Unlock()
}

// all returns what has come, in the order of its coming.
func (r *receiver) all() []record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// of returns the records of a bucket that have come.
func (r *receiver) of(bucket string) (list []record) {
	for _, rec := range r.all() {
		if rec.S3.Bucket.Name == bucket {
			list = append(list, rec)
		}
	}
	return list
}
