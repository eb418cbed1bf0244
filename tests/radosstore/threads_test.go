//go:build rados

package radosstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"herald/tests/cephtest"
	"herald/tests/gatewaytest"
)

// request is a signed request to a gateway.
func request(t *testing.T, g *gatewaytest.Gateway, method, path string, body []byte) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, g.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	const unsigned = "UNSIGNED-PAYLOAD"
	req.Header.Set("X-Amz-Content-Sha256", unsigned)
	keys := aws.Credentials{AccessKeyID: gatewaytest.AccessKey, SecretAccessKey: gatewaytest.SecretKey}
	if err := v4.NewSigner().SignHTTP(t.Context(), keys, req, unsigned, "s3", "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	return req
}

// status does a request and returns the status of its answer.
func status(c *http.Client, req *http.Request) (int, error) {
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// metric returns a number from /metrics, and whether it is there.
func metric(t *testing.T, g *gatewaytest.Gateway, name string) (float64, bool) {
	t.Helper()
	resp, err := http.Get(g.Ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return number(t, string(text), "\n"+name+" ")
}

// number returns the number that follows a prefix in a text.
func number(t *testing.T, text, prefix string) (float64, bool) {
	t.Helper()
	_, rest, ok := strings.Cut(text, prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return n, true
}

func threads(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	n, ok := number(t, string(text), "\nThreads:")
	if !ok {
		t.Fatal("no number of threads in /proc")
	}
	return int(n)
}

// TestThreads has 5,000 requests wait for an OSD that is away: they take few
// threads, no call of librados that blocks one, and are answered when the OSD
// is back.
func TestThreads(t *testing.T) {
	const requests = 5000
	c := cephtest.StartOwn(t, cephtest.Options{})
	pool, namespace := c.Namespace(t)
	g := gatewaytest.Start(t, gatewaytest.Options{Args: []string{
		"--store", "rados://" + pool + "/" + namespace, "--store.rados.conf", c.Conf, "--log-level", "error",
	}})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: requests}}
	for _, path := range []string{"/bucket", "/bucket/there"} {
		if got, err := status(client, request(t, g, http.MethodPut, path, nil)); err != nil || got != http.StatusOK {
			t.Fatalf("PUT %s = %d, %v", path, got, err)
		}
	}
	blocking, ok := metric(t, g, "herald_rados_blocking_calls_total")
	if !ok {
		t.Fatal("/metrics does not count blocking calls")
	}

	c.KillOSD(t, 0)
	var answers [600]atomic.Int64
	var failed atomic.Int64
	var all sync.WaitGroup
	for i := range requests {
		req := request(t, g, http.MethodGet, "/bucket/there", nil)
		if i%2 == 0 {
			req = request(t, g, http.MethodPut, fmt.Sprint("/bucket/key-", i), []byte("x"))
		}
		all.Go(func() {
			got, err := status(client, req)
			if err != nil {
				failed.Add(1)
			}
			answers[got].Add(1)
		})
	}
	most, waiting := 0, 0.0
	for end := time.Now().Add(5 * time.Minute); waiting < requests/2 && time.Now().Before(end); {
		most = max(most, threads(t, g.PID()))
		waiting, _ = metric(t, g, "herald_rados_waiting")
	}
	if waiting < requests/2 {
		t.Errorf("%v requests wait for the cluster, want most of %d", waiting, requests)
	}
	for range 20 {
		most = max(most, threads(t, g.PID()))
		time.Sleep(100 * time.Millisecond) // what is looked for is a state that lasts
	}
	if most >= 100 {
		t.Errorf("%d threads for %d requests that wait", most, requests)
	}
	c.StartOSD(t, 0)
	all.Wait()
	if after, _ := metric(t, g, "herald_rados_blocking_calls_total"); after != blocking {
		t.Errorf("requests made %v calls that block a thread", after-blocking)
	}
	if failed.Load() > 0 || answers[200].Load()+answers[503].Load() != requests || answers[200].Load() == 0 {
		t.Errorf("answers: %d with 200, %d with 503, of %d; %d failed", answers[200].Load(), answers[503].Load(), requests, failed.Load())
	}
	if got, err := status(client, request(t, g, http.MethodPut, "/bucket/after", nil)); err != nil || got != http.StatusOK {
		t.Errorf("PUT afterwards = %d, %v", got, err)
	}
	t.Logf("%d threads; answers: %d with 200, %d with 503", most, answers[200].Load(), answers[503].Load())
}
