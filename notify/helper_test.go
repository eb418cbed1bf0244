package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herald/journal"
	"herald/queue"
	"herald/queue/embedded"
	"herald/store"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// modelStore is the part of a store that notify sees, in memory: records and
// outcomes, and objects that are nothing but their Info.
type modelStore struct {
	mu       sync.Mutex // guards all
	records  map[string]modelRecord
	version  uint64
	objects  map[string]*store.Info // current, by bucket/key
	seq      uint64
	outcomes map[store.OpID]store.Outcome
	barred   map[store.OpID]bool
	unsettle error // what Settle answers, if set
	chained  bool  // outcomes name the op before
	last     map[string]store.OpID
	flaky    bool // sharedOutcomes fail now and then
}

type modelRecord struct {
	data    []byte
	version uint64
}

func newModelStore() *modelStore {
	return &modelStore{
		records: make(map[string]modelRecord), objects: make(map[string]*store.Info),
		outcomes: make(map[store.OpID]store.Outcome), barred: make(map[store.OpID]bool),
		seq: uint64(time.Now().UnixNano()),
	}
}

func (m *modelStore) Get(_ context.Context, name string) ([]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.records[name]
	if !ok {
		return nil, 0, store.ErrNoSuchRecord
	}
	return r.data, r.version, nil
}

func (m *modelStore) Put(_ context.Context, name string, value []byte, version uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records[name].version != version {
		return 0, store.ErrRecordConflict
	}
	m.version++
	m.records[name] = modelRecord{slices.Clone(value), m.version}
	return m.version, nil
}

func (m *modelStore) Delete(_ context.Context, name string, version uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.records[name]
	switch {
	case !ok:
		return store.ErrNoSuchRecord
	case r.version != version:
		return store.ErrRecordConflict
	}
	delete(m.records, name)
	return nil
}

func (m *modelStore) List(_ context.Context, prefix, after string, max int) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m.records)) {
		if strings.HasPrefix(name, prefix) && name > after && (max == 0 || len(out) < max) {
			out = append(out, name)
		}
	}
	return out, nil
}

func (m *modelStore) Settle(_ context.Context, ref store.OpRef) (store.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unsettle != nil {
		return store.Outcome{}, m.unsettle
	}
	if out, ok := m.outcomes[ref.ID]; ok {
		return out, nil
	}
	m.barred[ref.ID] = true
	return store.Outcome{}, store.ErrNoSuchOp
}

// modelOutcomes are those of a modelStore, whose List is of records.
type modelOutcomes struct{ *modelStore }

func (m modelOutcomes) List(_ context.Context, after store.OpID, max int) ([]store.OpRef, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []store.OpRef
	for op := range m.outcomes {
		if bytes.Compare(op[:], after[:]) > 0 {
			out = append(out, store.OpRef{ID: op})
		}
	}
	slices.SortFunc(out, func(a, b store.OpRef) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	if max > 0 {
		out = out[:min(max, len(out))]
	}
	return out, nil
}

// kept is how many outcomes are not forgotten.
func (m *modelStore) kept() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.outcomes)
}

func (m *modelStore) Forget(_ context.Context, refs ...store.OpRef) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ref := range refs {
		delete(m.outcomes, ref.ID)
		delete(m.barred, ref.ID)
	}
	return nil
}

// put makes an object current.
func (m *modelStore) put(bucket, key, etag string, attrs store.Attrs) CommitFunc {
	return func(_ context.Context, op store.OpID) (store.Outcome, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.barred[op] {
			return store.Outcome{}, store.ErrOpBarred
		}
		m.seq++
		info := &store.Info{Key: key, IsLatest: true, Size: int64(len(etag)), ETag: etag, ModTime: time.Now(), Seq: m.seq, Attrs: attrs}
		out := store.Outcome{Changed: true, Seq: m.seq, Info: info, Prior: m.objects[bucket+"/"+key]}
		m.objects[bucket+"/"+key] = info
		return m.keep(bucket, key, op, out), nil
	}
}

// keep notes what an op became. mu is held.
func (m *modelStore) keep(bucket, key string, op store.OpID, out store.Outcome) store.Outcome {
	if op.IsZero() {
		return out
	}
	if m.chained {
		if m.last == nil {
			m.last = make(map[string]store.OpID)
		}
		if before := m.last[bucket+"/"+key]; !before.IsZero() {
			if _, ok := m.outcomes[before]; ok {
				out.After = before
			}
		}
		m.last[bucket+"/"+key] = op
	}
	m.outcomes[op] = out
	return out
}

func (m *modelStore) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// remove removes an object of an unversioned bucket.
func (m *modelStore) remove(bucket, key string) CommitFunc {
	return func(_ context.Context, op store.OpID) (store.Outcome, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.barred[op] {
			return store.Outcome{}, store.ErrOpBarred
		}
		info := m.objects[bucket+"/"+key]
		if info == nil && !m.chained {
			return store.Outcome{}, nil
		}
		m.seq++
		if info == nil {
			return m.keep(bucket, key, op, store.Outcome{Seq: m.seq}), nil
		}
		delete(m.objects, bucket+"/"+key)
		return m.keep(bucket, key, op, store.Outcome{Changed: true, Seq: m.seq, Info: info, Prior: info}), nil
	}
}

// openQueues opens embedded queues in a fresh directory.
func openQueues(t testing.TB) queue.Driver {
	t.Helper()
	dir := t.TempDir()
	j, err := journal.Open(dir+"/journal", journal.Options{NoSync: true, SegmentBytes: 1 << 20, Segments: 8})
	if err != nil {
		t.Fatal(err)
	}
	queues, err := embedded.Open(dir+"/queue", j, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Recover(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- j.Run(ctx) }()
	t.Cleanup(func() {
		if err := queues.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		<-done
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return queues
}

// rig is a service over a model store and real queues.
type rig struct {
	t       testing.TB
	ctx     context.Context
	store   *modelStore
	queues  queue.Driver
	s       *Service
	metrics *prometheus.Registry
	bucket  *store.BucketInfo
	stop    func()
}

// quick are options for tests that wait for nothing long. A push does not end
// before its answer when the machine pauses: it would be sent twice.
func quick() Options {
	return Options{
		Shards: 3, ScanEvery: 20 * time.Millisecond, MaxBackoff: 200 * time.Millisecond,
		ConnectTimeout: time.Minute, PushTimeout: time.Minute, DrainTimeout: 30 * time.Second,
	}
}

func newRig(t testing.TB, opt Options) *rig {
	t.Helper()
	r := &rig{t: t, ctx: t.Context(), store: newModelStore(), queues: openQueues(t), stop: func() {}}
	r.bucket = &store.BucketInfo{Name: "b", ID: "b-id", Owner: "owner"}
	r.open(opt)
	t.Cleanup(func() { r.stop() })
	return r
}

// open makes a fresh service over what is there.
func (r *rig) open(opt Options) {
	r.t.Helper()
	r.metrics = prometheus.NewRegistry()
	var log *slog.Logger
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(testWriter{r.t}, &slog.HandlerOptions{Level: slog.LevelError}))
	}
	s, err := New(Config{
		Records: r.store, Outcomes: modelOutcomes{r.store}, Queues: r.queues, HostID: "host", Registerer: r.metrics, Logger: log, Options: opt,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.s = s
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	fmt.Print(string(p))
	return len(p), nil
}

// run starts the service; stop waits for its end.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := r.s
	go func() { done <- s.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

// topic creates a topic.
func (r *rig) topic(name, endpoint string, attrs ...string) *Topic {
	r.t.Helper()
	m := map[string]string{AttrPushEndpoint: endpoint}
	for i := 0; i < len(attrs); i += 2 {
		m[attrs[i]] = attrs[i+1]
	}
	topic, err := NewTopic("default", "", name, "owner", m)
	if err == nil {
		topic, err = r.s.Topics().Create(r.ctx, topic, nil)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return topic
}

// notify sets the bucket's rules.
func (r *rig) notify(rules ...Rule) {
	b := *r.bucket
	b.Attrs = map[string]string{AttrNotification: FormatRules(rules)}
	r.bucket = &b
}

func rule(id string, t *Topic, filter Filter) Rule {
	return Rule{ID: id, TopicARN: t.ARN, Events: DefaultEvents(), Filter: filter}
}

func (r *rig) reserve(typ EventType, key string, attrs store.Attrs) (*Pending, error) {
	return r.s.Publisher().Reserve(r.ctx, Change{Type: typ, Bucket: r.bucket, Key: key, Principal: "user", RequestID: "req", Attrs: attrs})
}

// put carries out a PUT.
func (r *rig) put(key, etag string) {
	r.t.Helper()
	p, err := r.reserve(ObjectCreatedPut, key, store.Attrs{})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := p.Do(r.ctx, r.store.put("b", key, etag, nil)); err != nil {
		r.t.Fatal(err)
	}
}

// remove carries out a DELETE.
func (r *rig) remove(key string) {
	r.t.Helper()
	p, err := r.reserve(ObjectRemovedDelete, key, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := p.Do(r.ctx, r.store.remove("b", key)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) stats(name string) TopicStats {
	r.t.Helper()
	st, err := r.s.TopicStats(r.ctx, "", name)
	if err != nil {
		r.t.Fatal(err)
	}
	return st
}

// counter sums a counter or gauge over its labels.
func (r *rig) counter(name string) float64 {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += value(m)
			}
		}
	}
	return sum
}

func value(m *dto.Metric) float64 {
	return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// sink is an HTTP endpoint that remembers what it took.
type sink struct {
	*httptest.Server
	mu      sync.Mutex // guards all below
	records []Record   // acked ones
	headers []http.Header
	bodies  []string
	seen    atomic.Int64 // requests
	answer  func(Record) int
}

// newSink starts a sink; answer may be nil: 200 always.
func newSink(t testing.TB, answer func(Record) int) *sink {
	s := &sink{answer: answer}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.seen.Add(1)
	body, err := io.ReadAll(r.Body)
	var doc struct{ Records []Record }
	if err != nil || json.Unmarshal(body, &doc) != nil || len(doc.Records) != 1 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	answer := s.answer
	s.mu.Unlock()
	status := http.StatusOK
	if answer != nil {
		status = answer(doc.Records[0])
	}
	if status/100 == 2 {
		s.mu.Lock()
		s.records = append(s.records, doc.Records[0])
		s.headers = append(s.headers, r.Header.Clone())
		s.bodies = append(s.bodies, string(body))
		s.mu.Unlock()
	}
	w.WriteHeader(status)
}

func (s *sink) set(answer func(Record) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *sink) got() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.records)
}

// ofKey returns "event etag" of a key's records, in order of arrival, without
// repeats of the one before.
func (s *sink) ofKey(key string) []string {
	var out []string
	last := ""
	for _, r := range s.got() {
		if r.S3.Object.Key == key && r.S3.Object.Sequencer != last {
			last = r.S3.Object.Sequencer
			out = append(out, r.EventName+" "+r.S3.Object.ETag)
		}
	}
	return out
}

// deadEndpoint is a URL that refuses connections.
func deadEndpoint() string { return "http://127.0.0.1:1" }
