package s3compat

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"herald/tests/gatewaytest"
)

// mcTool is MinIO's client, with the gateway as its alias h.
func mcTool(t *testing.T, g *gatewaytest.Gateway) *tool {
	t.Helper()
	bin, err := filepath.Abs("../../.deps/mc/mc")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		gatewaytest.Missing(t, "mc in .deps (make deps)")
	}
	mc := &tool{t: t, bin: bin, env: []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, pre: []string{"--no-color"}}
	mc.run("alias", "set", "h", g.URL, gatewaytest.AccessKey, gatewaytest.SecretKey)
	return mc
}

func TestMC(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{Args: []string{"--replace-notifications"}})
	f := newFiles(t)
	mc := mcTool(t, g)
	back := filepath.Join(t.TempDir(), "back")

	mc.run("mb", "h/photos")
	mc.run("cp", f.small, "h/photos/small.txt")
	mc.run("cp", f.big, "h/photos/big.bin") // multipart
	mc.run("cp", "h/photos/big.bin", back)
	sameFile(t, back, f.big)
	wantContains(t, "ls", mc.run("ls", "h/photos"), "small.txt", "40MiB", "big.bin")
	wantContains(t, "stat", mc.run("stat", "h/photos/small.txt"), md5Hex(random(1, 5000)))
	mc.run("cp", "h/photos/big.bin", "h/photos/copy/of big")
	mc.run("mirror", filepath.Join(f.dir, "tree"), "h/photos/tree")
	mc.run("mirror", "h/photos/tree", back+"-tree")
	sameTree(t, back+"-tree", filepath.Join(f.dir, "tree"))
	mc.run("mv", "h/photos/small.txt", "h/photos/moved.txt")
	mc.run("tag", "set", "h/photos/moved.txt", "a=b&c=d")
	wantContains(t, "tag list", mc.run("tag", "list", "h/photos/moved.txt"), "a ", "b", "c ", "d")
	mc.run("version", "enable", "h/photos")
	mc.run("cp", f.small, "h/photos/moved.txt")
	mc.run("rm", "h/photos/moved.txt")
	wantContains(t, "ls --versions", mc.run("ls", "--versions", "h/photos/moved.txt"), "DEL", "PUT", "null")

	mc.run("ilm", "rule", "add", "--expire-days", "30", "--prefix", "tmp/", "h/photos")
	mc.run("ilm", "rule", "add", "--noncurrent-expire-days", "3", "--expire-delete-marker", "h/photos")
	wantContains(t, "ilm", mc.run("ilm", "rule", "ls", "h/photos"), "tmp/", "30", "NoncurrentVersionExpiration")
	mc.run("ilm", "rule", "rm", "--all", "--force", "h/photos")

	mc.run("rm", "--recursive", "--versions", "--force", "h/photos")
	mc.run("rb", "h/photos")
	if out, err := mc.try("ls", "h/photos"); err == nil || !strings.Contains(out, "does not exist") {
		t.Errorf("ls of a bucket that is gone = %v\n%s", err, out)
	}
}

// newTopic makes a topic without an endpoint, and returns its ARN.
func newTopic(t *testing.T, g *gatewaytest.Gateway, name string) string {
	t.Helper()
	c := sns.New(sns.Options{
		BaseEndpoint: &g.URL, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(gatewaytest.AccessKey, gatewaytest.SecretKey, ""),
	})
	out, err := c.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: &name})
	if err != nil {
		t.Fatal(err)
	}
	return *out.TopicArn
}

// TestMC_Event: mc sends notifications without an Id, and removes one by
// putting the others, which needs S3's rule for PUT.
func TestMC_Event(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{Args: []string{"--replace-notifications"}})
	mc := mcTool(t, g)
	mc.run("mb", "h/photos")
	for _, name := range []string{"one", "two"} {
		arn := newTopic(t, g, name)
		mc.run("event", "add", "h/photos", arn, "--event", "put,delete", "--prefix", name+"/", "--suffix", ".jpg")
	}
	list := func() string { return mc.run("event", "ls", "h/photos") }
	wantContains(t, "event ls", list(), "sns:default::one", "sns:default::two", "one/", "two/", ".jpg", "s3:ObjectCreated:*", "s3:ObjectRemoved:*")
	mc.run("event", "rm", "h/photos", "arn:aws:sns:default::one", "--event", "put,delete", "--prefix", "one/", "--suffix", ".jpg")
	if out := list(); strings.Contains(out, "::one") || !strings.Contains(out, "::two") {
		t.Errorf("after event rm of one:\n%s", out)
	}
	mc.run("event", "rm", "--force", "h/photos")
	if out := list(); strings.Contains(out, "arn:") {
		t.Errorf("after event rm --force:\n%s", out)
	}
}

// watcher is a running `mc watch --json`.
type watcher struct {
	t     *testing.T
	lines *bufio.Scanner
}

// watch starts mc watch, which does not tell when the stream is open: awake
// makes events of a key that is not waited for until one comes.
func (mc *tool) watch(awake func(), args ...string) *watcher {
	mc.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	cmd := exec.CommandContext(ctx, mc.bin, append([]string{"--json", "watch"}, args...)...)
	cmd.Env = mc.env
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		mc.t.Fatal(err)
	}
	w := &watcher{mc.t, bufio.NewScanner(out)}
	mc.t.Cleanup(func() {
		cancel()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // was killed
	})
	first := make(chan bool)
	go func() { first <- w.lines.Scan() }()
	for {
		awake()
		select {
		case ok := <-first:
			if !ok {
				mc.t.Fatal("mc watch ended")
			}
			return w
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// want reads on to an event of another key than "awake", and compares it.
func (w *watcher) want(kind, path string) {
	w.t.Helper()
	for w.lines.Scan() {
		var line struct {
			Status string
			Events struct{ Path, Type string }
		}
		if err := json.Unmarshal(w.lines.Bytes(), &line); err != nil || line.Status != "success" {
			w.t.Fatalf("mc watch: %s", w.lines.Bytes())
		}
		if strings.HasSuffix(line.Events.Path, "/awake.jpg") {
			continue
		}
		if line.Events.Type != kind || !strings.HasSuffix(line.Events.Path, path) {
			w.t.Errorf("mc watch: %s of %s, want %s of %s", line.Events.Type, line.Events.Path, kind, path)
		}
		return
	}
	w.t.Fatalf("mc watch ended, want %s of %s", kind, path)
}

func TestMC_Watch(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	f := newFiles(t)
	mc := mcTool(t, g)
	mc.run("mb", "h/photos", "h/other")
	c := newAWS(t, g)
	awake := func(bucket, key string) func() {
		return func() {
			if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key}); err != nil {
				t.Fatal(err)
			}
		}
	}
	one := mc.watch(awake("photos", "awake.jpg"), "h/photos")
	some := mc.watch(awake("photos", "x/awake.jpg"), "--events", "put", "--prefix", "x/", "--suffix", ".jpg", "h/photos")
	all := mc.watch(awake("other", "awake.jpg"), "h")

	const name = "x/ü b+%.jpg"
	mc.run("cp", f.small, "h/photos/"+name)
	mc.run("cp", f.small, "h/other/y")
	mc.run("cp", f.big, "h/photos/big")
	mc.run("rm", "h/photos/"+name)
	mc.run("cp", f.small, "h/photos/x/last.jpg")
	const put, removed = "s3:ObjectCreated:Put", "s3:ObjectRemoved:Delete" // mc shows multipart uploads as Put
	one.want(put, "/photos/"+name)
	one.want(put, "/photos/big")
	one.want(removed, "/photos/"+name)
	one.want(put, "/photos/x/last.jpg")
	some.want(put, "/photos/"+name)
	some.want(put, "/photos/x/last.jpg")
	all.want(put, "/photos/"+name)
	all.want(put, "/other/y")
	all.want(put, "/photos/big")
	all.want(removed, "/photos/"+name)
}
