package notifications

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/notification"

	"herald/tests/gatewaytest"
)

// TestListen_MinioClient: MinIO's own client hears what happens in a bucket,
// and in all.
func TestListen_MinioClient(t *testing.T) {
	e := newEnv(t)
	at, err := url.Parse(e.g.URL)
	e.check(err)
	c, err := minio.New(at.Host, &minio.Options{Creds: credentials.NewStaticV4(gatewaytest.AccessKey, gatewaytest.SecretKey, ""), Region: "us-east-1"})
	e.check(err)
	bucket := e.bucket()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	names := []string{"s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectAccessed:*"}
	one := c.ListenBucketNotification(ctx, bucket, "a b/", ".txt", names)
	all := c.ListenNotification(ctx, "", "", names)
	heard := func(c <-chan notification.Info, name, key string) {
		t.Helper()
		select {
		case info := <-c:
			if info.Err != nil || len(info.Records) != 1 {
				t.Fatalf("heard %+v", info)
			}
			r := info.Records[0]
			got, err := url.QueryUnescape(r.S3.Object.Key) // as mc does
			if err != nil || got != key || r.EventName != name || r.S3.Bucket.Name != bucket {
				t.Errorf("heard %s of %q: %v, want %s of %q", r.EventName, got, err, name, key)
			}
		case <-time.After(patience):
			t.Fatalf("not heard: %s of %s", name, key)
		}
	}
	// The streams are open when the first event came through both.
	for opened := false; !opened; {
		e.put(bucket, "a b/first+100%.txt", "x")
		select {
		case info := <-one:
			e.check(info.Err)
			opened = true
		case <-time.After(200 * time.Millisecond):
		}
	}
	for opened := false; !opened; {
		e.put(bucket, "marker", "x")
		select {
		case info := <-all:
			e.check(info.Err)
			opened = info.Records[0].S3.Object.Key == "marker"
		case <-time.After(200 * time.Millisecond):
		}
	}
	e.put(bucket, "a b/second+100%.txt", "x")
	e.put(bucket, "elsewhere", "x")
	e.delete(bucket, "a b/second+100%.txt")
	for drained := false; !drained; { // of repeats of the first
		info := <-one
		e.check(info.Err)
		drained = strings.Contains(info.Records[0].S3.Object.Key, "second")
	}
	heard(one, "s3:ObjectRemoved:Delete", "a b/second+100%.txt")
	for drained := false; !drained; {
		info := <-all
		e.check(info.Err)
		drained = strings.Contains(info.Records[0].S3.Object.Key, "second")
	}
	heard(all, "s3:ObjectCreated:Put", "elsewhere")
	heard(all, "s3:ObjectRemoved:Delete", "a b/second+100%.txt")
}

// listener is a running `gateway listen --json`.
type listener struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	errs  *bufio.Scanner
}

// line is one of its lines.
type line struct {
	ID      string `json:"Id"`
	Records []struct {
		S3 struct{ Object struct{ Key string } }
	}
}

func (e *env) listen(args ...string) *listener {
	e.t.Helper()
	cmd := e.g.Command(e.t.Context(), "listen", append([]string{"--json"}, args...)...)
	out, err := cmd.StdoutPipe()
	e.check(err)
	errOut, err := cmd.StderrPipe()
	e.check(err)
	e.check(cmd.Start())
	e.t.Cleanup(func() { _ = cmd.Process.Kill() })
	l := &listener{cmd, bufio.NewScanner(out), bufio.NewScanner(errOut)}
	if !l.errs.Scan() || !strings.HasPrefix(l.errs.Text(), "listening to ") {
		rest, _ := io.ReadAll(errOut)
		e.t.Fatalf("listen: %s%s", l.errs.Text(), rest)
	}
	return l
}

// want reads one line; the test's deadline bounds it.
func (l *listener) want(t *testing.T, key string) (id string) {
	t.Helper()
	if !l.lines.Scan() {
		t.Fatalf("the stream ended, want %s", key)
	}
	var got line
	if err := json.Unmarshal(l.lines.Bytes(), &got); err != nil || len(got.Records) != 1 || got.Records[0].S3.Object.Key != key || got.ID == "" {
		t.Fatalf("line %s (%v), want %s", l.lines.Bytes(), err, key)
	}
	return got.ID
}

// TestListen_Resume: a listener goes on after the last event that it saw, also
// when the gateway was stopped and started meanwhile; what cannot be known has exit code 3.
func TestListen_Resume(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	l := e.listen(bucket)
	e.put(bucket, "one", "x")
	e.put(bucket, "two", "x")
	one := l.want(t, "one")
	two := l.want(t, "two")
	e.check(e.g.Stop())
	if l.lines.Scan() {
		t.Errorf("after the end came %s", l.lines.Text())
	}
	if err := l.cmd.Wait(); l.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("the stream's end: %v", err)
	}
	e.check(e.g.Run())
	e.put(bucket, "three", "x")

	l = e.listen("--resume", one, bucket)
	l.want(t, "two")
	l.want(t, "three")
	e.listen("--all", "--resume", two).want(t, "three")

	cmd := e.g.Command(t.Context(), "listen", bucket, "--resume", "NOSUCH-1")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("resume from nothing: %v\n%s", err, out)
	}
}
