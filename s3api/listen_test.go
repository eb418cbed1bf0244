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

	"herald/notify"
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

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
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
		doc.Records[0].EventName != "s3:ObjectRemoved:Delete" {
		t.Errorf("event = %s", scan.Bytes())
	}
	f.server.StopListeners()
	if rest, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(rest), `"Error":{"Code":"ServiceUnavailable"`) {
		t.Errorf("the last line is %q, %v", rest, err)
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
	if err != nil || !strings.HasPrefix(line, "{\"Records\":[]") {
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
		if rest, err := io.ReadAll(stream); err != nil || strings.Contains(string(rest), "eventName") || !strings.Contains(string(rest), "AccessDenied") {
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

// TestListen_All: the root form shows an administrator all buckets, others their own.
func TestListen_All(t *testing.T) {
	f := newFixture(t, nil)
	open := func(user string) *bufio.Scanner {
		t.Helper()
		resp, err := f.http.Client().Do(f.request(call{user: user, method: "GET", path: "/?events=s3:ObjectCreated:*&ping=1&dialect=ceph"}))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("listen = %v, %v", resp, err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return bufio.NewScanner(resp.Body)
	}
	next := func(s *bufio.Scanner) (key, name, id string) {
		t.Helper()
		for s.Scan() {
			var line struct {
				Records []notify.Record
				ID      string `json:"Id"`
			}
			if err := json.Unmarshal(s.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			if len(line.Records) == 1 {
				return line.Records[0].S3.Object.Key, line.Records[0].EventName, line.ID
			}
		}
		t.Fatal("the stream ended")
		return "", "", ""
	}
	bob, root := open("bob"), open("root")
	f.bucket("alices")
	f.want(200, call{user: "bob", method: "PUT", path: "/bobs"})
	f.want(200, call{method: "PUT", path: "/alices/a", body: "x"})
	f.want(200, call{user: "bob", method: "PUT", path: "/bobs/b", body: "x"})
	if key, name, _ := next(bob); key != "b" || name != "ObjectCreated:Put" {
		t.Errorf("bob sees %s %s", name, key)
	}
	key, _, id := next(root)
	if key2, _, _ := next(root); key != "a" || key2 != "b" {
		t.Errorf("root sees %s %s", key, key2)
	}
	f.wantError(400, codeInvalidArgument, call{method: "GET", path: "/?events=&resume=nonsense"})
	f.wantError(410, codeEventGone, call{method: "GET", path: "/?events=&resume=RUN-1"})

	req := f.request(call{user: "root", method: "GET", path: "/?events=", header: http.Header{"Accept": {"text/event-stream"}, "Last-Event-Id": {id}}})
	resp, err := f.http.Client().Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("resume = %v, %v", resp, err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for _, want := range []string{"id: ", `data: {"Records":[{"eventVersion"`} {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
			t.Errorf("line %q, want %q", lines.Text(), want)
		}
	}
	// What MinIO's clients ask for and never happens here is no error.
	r, err := f.http.Client().Do(f.request(call{user: "root", method: "GET", path: "/?events=s3:ObjectAccessed:*"}))
	if err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("foreign events: %v, %v", r, err)
	}
	_ = r.Body.Close()
}
