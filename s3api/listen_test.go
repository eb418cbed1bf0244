package s3api

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestListen(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.bucket("other")
	for _, b := range []string{"bkt", "other"} {
		for _, k := range []string{"a/1.txt", "a/2.jpg", "b/3.txt"} {
			f.put("", b, k, "data", nil)
		}
	}
	f.wantError(400, codeInvalidArgument, call{method: "GET", path: "/bkt?events=s3:Nonsense"})
	f.wantError(400, codeInvalidArgument, call{method: "GET", path: "/bkt?events=&ping=-1"})
	f.wantError(403, codeAccessDenied, call{user: "bob", method: "GET", path: "/bkt?events=s3:ObjectRemoved:*"})

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req := f.request(call{method: "GET", path: "/bkt?events=s3%3AObjectRemoved%3A%2A&prefix=a%2F&suffix=.txt"})
	resp, err := f.http.Client().Do(req.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status = %d", resp.StatusCode)
	}
	for _, b := range []string{"other", "bkt"} {
		f.want(200, call{method: "POST", path: "/" + b + "?delete", body: `<Delete>
			<Object><Key>b/3.txt</Key></Object><Object><Key>a/2.jpg</Key></Object><Object><Key>a/1.txt</Key></Object></Delete>`})
	}
	scan := bufio.NewScanner(resp.Body)
	if !scan.Scan() {
		t.Fatalf("the stream ended: %v", scan.Err())
	}
	var doc struct {
		Records []struct {
			EventName string
			S3        struct {
				Bucket struct{ Name string }
				Object struct{ Key string }
			}
		}
	}
	if err := json.Unmarshal(scan.Bytes(), &doc); err != nil {
		t.Fatalf("line %q: %v", scan.Bytes(), err)
	}
	if len(doc.Records) != 1 || doc.Records[0].S3.Bucket.Name != "bkt" || !strings.HasPrefix(doc.Records[0].S3.Object.Key, "a") ||
		doc.Records[0].EventName != "ObjectRemoved:Delete" {
		t.Errorf("event = %s", scan.Bytes())
	}
	f.server.StopListeners()
	if rest, err := io.ReadAll(resp.Body); err != nil || strings.TrimSpace(string(rest)) != "" {
		t.Errorf("after the end came %q, %v", rest, err)
	}
}

func TestListen_Ping(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	resp, err := f.http.Client().Do(f.request(call{method: "GET", path: "/bkt?events=&ping=1"}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if err != nil || line != "{\"Records\":[]}\n" {
		t.Errorf("line = %q, %v", line, err)
	}
}

// The stream ends before it shows what happens in another's bucket of the same
// name, or when the listener's key is gone.
func TestListen_RightsEnd(t *testing.T) {
	f := newFixture(t, nil)
	listen := func() io.ReadCloser {
		t.Helper()
		resp, err := f.http.Client().Do(f.request(call{method: "GET", path: "/bkt?events="}))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("listen = %v, %v", resp, err)
		}
		return resp.Body
	}
	wantEnd := func(stream io.ReadCloser) {
		t.Helper()
		defer func() { _ = stream.Close() }()
		if rest, err := io.ReadAll(stream); err != nil || strings.Contains(string(rest), "Records") {
			t.Errorf("stream = %q, %v", rest, err)
		}
	}
	f.bucket("bkt")
	stream := listen()
	f.want(204, call{method: "DELETE", path: "/bkt"})
	f.want(200, call{user: "bob", method: "PUT", path: "/bkt"})
	f.want(200, call{user: "bob", method: "PUT", path: "/bkt/secret", body: "x"})
	wantEnd(stream)

	f.want(204, call{user: "bob", method: "DELETE", path: "/bkt/secret"})
	f.want(204, call{user: "bob", method: "DELETE", path: "/bkt"})
	f.bucket("bkt")
	stream = listen()
	if _, err := f.users.RemoveKey(context.Background(), "alice", testAccessKey("alice")); err != nil {
		t.Fatal(err)
	}
	f.want(200, call{user: "root", method: "PUT", path: "/bkt/k", body: "x"})
	wantEnd(stream)
}
