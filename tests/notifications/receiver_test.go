package notifications

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func errorsAs(err error, target any) bool { return errors.As(err, target) }

// record is an event record as it arrives.
type record struct {
	EventVersion, EventSource, AwsRegion, EventTime, EventName string

	UserIdentity      struct{ PrincipalID string }
	RequestParameters struct{ SourceIPAddress string }
	ResponseElements  struct {
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
}

// received is a record with the request that brought it.
type received struct {
	record
	header http.Header
	body   string
}

// receiver is an HTTP endpoint.
type receiver struct {
	*httptest.Server
	status atomic.Int32 // what it answers; 0: 200
	delay  atomic.Int64 // nanoseconds before it answers

	mu   sync.Mutex
	got  []received
	bare []string // messages that are no records
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// newReceiverAt listens on an address that was dead before.
func newReceiverAt(t *testing.T, addr string) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{}
	r.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: r}}
	r.Start()
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	time.Sleep(time.Duration(r.delay.Load())) // a slow endpoint
	if s := r.status.Load(); s != 0 {
		w.WriteHeader(int(s))
		if s >= 300 {
			return
		}
	}
	var doc struct{ Records []record }
	if err := json.Unmarshal(body, &doc); err != nil {
		doc.Records = []record{{EventName: "not JSON: " + err.Error()}}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(doc.Records) == 0 {
		r.bare = append(r.bare, string(body))
	}
	for _, rec := range doc.Records {
		r.got = append(r.got, received{rec, req.Header.Clone(), string(body)})
	}
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// raw returns the messages that were no records.
func (r *receiver) raw() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.bare)
}

func (r *receiver) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = nil
}

// names returns "EVENT KEY" of what arrived, sorted.
func (r *receiver) names() []string {
	var out []string
	for _, e := range r.all() {
		out = append(out, e.EventName+" "+e.S3.Object.Key)
	}
	return sorted(out)
}

// want waits until n events arrived, and returns them.
func (r *receiver) want(e *env, n int) []received {
	e.t.Helper()
	e.eventually("events arrive", func() bool { return len(r.all()) >= n })
	got := r.all()
	if len(got) > n {
		e.t.Errorf("%d events arrived, want %d: %q", len(got), n, r.names())
	}
	return got
}

// wantExactly waits for exactly these "EVENT KEY".
func (r *receiver) wantExactly(e *env, want ...string) []received {
	e.t.Helper()
	got := r.want(e, len(want))
	if names := r.names(); !slices.Equal(names, sorted(want)) {
		e.t.Errorf("events = %q, want %q", names, sorted(want))
	}
	return got
}

// perEvent prefixes each key with an event's name.
func perEvent(event string, keys []string) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = event + " " + k
	}
	return out
}
