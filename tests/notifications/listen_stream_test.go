package notifications

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"herald/tests/gatewaytest"
)

// stream is a bucket's live events over HTTP.
type stream struct {
	t     *testing.T
	body  io.ReadCloser
	lines *bufio.Scanner
	last  string // ID of the last line
}

// liveLine is one of its lines.
type liveLine struct {
	ID      string `json:"Id"`
	Records []struct {
		EventName string
		S3        struct {
			Object struct {
				Key  string
				Size int
			}
		}
	}
	Notice string
	Error  *struct{ Code, Message string }
}

// streamRequest is the signed request for the events of a bucket.
func (e *env) streamRequest(ctx context.Context, bucket, resume string) *http.Request {
	e.t.Helper()
	q := url.Values{"events": {"s3:ObjectCreated:*", "s3:ObjectRemoved:*"}, "ping": {"1"}, "dialect": {"ceph"}}
	if resume != "" {
		q.Set("resume", resume)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.g.URL+"/"+bucket+"?"+q.Encode(), nil)
	e.check(err)
	const unsigned = "UNSIGNED-PAYLOAD"
	req.Header.Set("X-Amz-Content-Sha256", unsigned)
	e.check(v4.NewSigner().SignHTTP(ctx, e.credentials, req, unsigned, "s3", "us-east-1", time.Now()))
	return req
}

// stream opens one, which ends with the test, or, if it hangs, after a while.
func (e *env) stream(bucket, resume string) *stream {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), 10*time.Minute)
	e.t.Cleanup(cancel)
	resp, err := http.DefaultClient.Do(e.streamRequest(ctx, bucket, resume))
	e.check(err)
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		e.t.Fatalf("listen = %s\n%s", resp.Status, body)
	}
	return newStream(e.t, resp.Body)
}

func newStream(t *testing.T, body io.ReadCloser) *stream {
	s := &stream{t: t, body: body, lines: bufio.NewScanner(body)}
	s.lines.Buffer(nil, 1<<20)
	return s
}

// next is the next line that tells something; nil when the stream has ended.
// What is left of a line when the connection breaks is none.
func (s *stream) next() *liveLine {
	s.t.Helper()
	for s.lines.Scan() {
		line := new(liveLine)
		if json.Unmarshal(s.lines.Bytes(), line) != nil {
			break
		}
		if line.ID != "" {
			s.last = line.ID
		}
		if len(line.Records) > 0 || line.Notice != "" || line.Error != nil {
			return line
		}
	}
	return nil
}

// putSize puts an object of that size.
func (e *env) putSize(bucket, key string, size int) error {
	_, err := e.s3.PutObject(e.t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(strings.Repeat("x", size))})
	return err
}

// TestListen_SharedStore: who listens at one gateway hears of changes made
// through another, in order per key, and goes on at the other one when the
// first was killed: nothing is missing, and nothing comes twice.
func TestListen_SharedStore(t *testing.T) {
	if gatewaytest.Store() == "posix" || gatewaytest.Queue() == "embedded" {
		t.Skip("gateways share a store only in RADOS, with queues on a server")
	}
	a := newEnv(t)
	b := (&env{t: t, g: gatewaytest.Start(t, gatewaytest.Options{Env: a.g.Place()})}).as(gatewaytest.AccessKey, gatewaytest.SecretKey, "")
	bucket := b.bucket()
	a.seen("bucket", func() error {
		_, err := a.s3.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: &bucket})
		return err
	})
	const writers, each, changes = 4, 60, 3 // of 60 numbers put, every third is deleted, too
	s := a.stream(bucket, "")
	a.check(a.putSize(bucket, "at-a", 1)) // heard before a is killed
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := 1; n <= each; n++ {
				if err := b.putSize(bucket, fmt.Sprint("writer-", w), n); err != nil {
					t.Errorf("PutObject: %v", err)
					return
				}
				if n%changes == 0 {
					b.delete(bucket, fmt.Sprint("writer-", w))
				}
			}
		})
	}
	defer wg.Wait()

	had := map[string]int{} // by key: the size of the last PUT, or minus that of the last delete
	killed, atA := false, false
	for heard := 0; heard < writers*(each+each/changes) || !atA; {
		line := s.next()
		switch {
		case line == nil && killed && s.last != "":
			s = b.stream(bucket, s.last)
			continue
		case line == nil:
			t.Fatalf("the stream ended: %v", s.lines.Err())
		case line.Notice != "":
			continue // that a is gone
		case line.Error != nil:
			t.Fatalf("the stream ended: %+v", line.Error)
		}
		r := line.Records[0]
		key, size := r.S3.Object.Key, r.S3.Object.Size
		if key == "at-a" {
			atA = true
			continue
		}
		heard++
		last := had[key]
		next := last + 1
		switch {
		case last < 0:
			next = 1 - last
		case last > 0 && last%changes == 0:
			next = -last
		}
		if got := map[bool]int{true: size, false: -size}[strings.HasPrefix(r.EventName, "ObjectCreated:")]; got != next {
			t.Fatalf("%s: heard %d after %d, want %d", key, got, last, next)
		}
		had[key] = next
		if !killed && atA && heard > writers*each/3 {
			killed = true
			a.g.Kill()
		}
	}
}

// TestListen_Stalled: listeners that read nothing hold up neither writers nor
// other listeners, cost little memory, and are cut off; what they had got is a
// place to resume from.
func TestListen_Stalled(t *testing.T) {
	e := newEnv(t)
	if len(e.g.Place()) > 0 {
		t.Skip("a matter of TCP, not of stores and queues")
	}
	bucket := e.bucket()
	reader := e.stream(bucket, "")
	const stalled = 8
	conns := make([]net.Conn, stalled)
	for i := range conns {
		c, err := net.Dial("tcp", strings.TrimPrefix(e.g.URL, "http://"))
		e.check(err)
		defer c.Close()
		e.check(c.(*net.TCPConn).SetReadBuffer(4096))
		e.check(e.streamRequest(t.Context(), bucket, "").Write(c))
		conns[i] = c
	}
	e.eventually("all listen", func() bool { return e.gauge("herald_listeners") == stalled+1 })
	before := e.gauge("process_resident_memory_bytes")

	// More than what TCP takes of a stream that is not read (4 MiB at most, else
	// the log of 16 MiB would have to hold too much).
	if wmem, err := os.ReadFile("/proc/sys/net/ipv4/tcp_wmem"); err == nil {
		var least, usual, most int
		if _, err := fmt.Sscan(string(wmem), &least, &usual, &most); err == nil && most > 4<<20 {
			t.Skipf("TCP keeps %d bytes here of what nobody reads", most)
		}
	}
	const writers, each = 8, 320
	meta := map[string]string{"big": strings.Repeat("m", 2000)}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				key := fmt.Sprintf("%s/%d-%04d", strings.Repeat("k", 900), w, n)
				if _, err := e.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Metadata: meta}); err != nil {
					t.Errorf("PutObject: %v", err)
					return
				}
			}
		})
	}
	for heard := range writers * each {
		if line := reader.next(); line == nil || line.Error != nil {
			t.Fatalf("the reader's stream ended after %d events: %+v, %v", heard, line, reader.lines.Err())
		}
	}
	wg.Wait()
	if grown := e.gauge("process_resident_memory_bytes") - before; grown > 128<<20 {
		t.Errorf("memory grew by %.0f MiB", grown/(1<<20))
	} else {
		t.Logf("memory grew by %.0f MiB", grown/(1<<20))
	}
	e.eventually("those who do not read are cut off", func() bool { return e.gauge("herald_listeners") == 1 })
	resp, err := http.ReadResponse(bufio.NewReader(conns[0]), nil)
	e.check(err)
	cut := newStream(t, resp.Body)
	got := 0
	for got < 10 { // what TCP has kept would come in drops, for minutes
		if cut.next() == nil {
			t.Fatalf("one who did not read got %d events", got)
		}
		got++
	}
	again := e.stream(bucket, cut.last)
	for ; got < writers*each; got++ {
		if line := again.next(); line == nil || line.Error != nil {
			t.Fatalf("resumed after %s, the stream ended after %d events: %+v", cut.last, got, line)
		}
	}
}

// gauge is a figure without labels.
func (e *env) gauge(name string) float64 {
	e.t.Helper()
	resp, err := http.Get(e.g.Ops + "/metrics")
	e.check(err)
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		var v float64
		if rest, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			_, err := fmt.Sscan(rest, &v)
			e.check(err)
			return v
		}
	}
	e.t.Fatalf("there is no %s", name)
	return 0
}
