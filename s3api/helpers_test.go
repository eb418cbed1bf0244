package s3api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/go-cmp/cmp"

	"herald/auth"
	"herald/journal"
	"herald/notify"
	"herald/queue/embedded"
	"herald/store"
	"herald/store/posix"
)

// fixture is a Server over a real store and real queues in a directory of the
// test's own.
type fixture struct {
	t      testing.TB
	server *Server
	http   *httptest.Server
	users  *auth.Users
	store  *store.Service
	notify *notify.Service
	log    *bytes.Buffer
	dir    string // of the store and the queues
}

// Users of the fixture; each one's keys are its name in upper case.
var testUsers = []auth.User{
	{ID: "alice", DisplayName: "Alice"},
	{ID: "bob"},
	{ID: "carol", Tenant: "acme"},
	{ID: "root", Admin: true},
}

// newFixture starts a server; change may alter its configuration.
func newFixture(t testing.TB, change func(*Config)) *fixture {
	t.Helper()
	return newFixtureWith(t, routes, notify.Options{}, change)
}

// newFixtureWith is newFixture with a table and options of its own.
func newFixtureWith(t testing.TB, table []route, opts notify.Options, change func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, log: &bytes.Buffer{}, dir: t.TempDir()}
	f.openStore(f.dir, opts)
	for _, u := range testUsers {
		key, err := auth.NewKey(testAccessKey(u.ID), testSecretKey(u.ID))
		if err != nil {
			t.Fatal(err)
		}
		u.Keys = []auth.Key{key}
		if err := f.users.Create(context.Background(), &u); err != nil {
			t.Fatal(err)
		}
	}
	c := Config{
		Store: f.store, Users: f.users, Notify: f.notify, HostID: "host-1",
		Verifier: auth.NewVerifier(f.users, auth.VerifierOptions{}),
		Logger:   slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&c)
	}
	var err error
	if f.server, err = New(c); err != nil {
		t.Fatal(err)
	}
	f.server.index = newRouteIndex(table)
	f.http = httptest.NewUnstartedServer(nil)
	f.http.Config = f.server.HTTPServer()
	f.http.Start()
	t.Cleanup(func() {
		f.server.StopListeners()
		f.http.Close()
	})
	return f
}

// openStore opens store, users and notifications in dir.
func (f *fixture) openStore(dir string, opts notify.Options) {
	t := f.t
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	j, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{NoSync: true, SegmentBytes: 1 << 20, Segments: 8})
	must(err)
	objects, err := posix.Open(filepath.Join(dir, "data"), j, posix.Options{Relaxed: true})
	must(err)
	queues, err := embedded.Open(filepath.Join(dir, "queue"), j, embedded.Options{})
	must(err)
	must(j.Recover())
	f.store = store.NewService(objects)
	f.users = auth.NewUsers(objects.Records())
	f.notify, err = notify.New(notify.Config{Records: objects.Records(), Outcomes: objects.Outcomes(), Queues: queues, Options: opts})
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { _ = j.Run(ctx); done <- struct{}{} }()
	go func() { _ = f.notify.Run(ctx); done <- struct{}{} }()
	t.Cleanup(func() {
		cancel()
		<-done
		<-done
		for _, closer := range []func() error{j.Close, queues.Close, f.store.Close} { // the journal's last checkpoint needs its clients
			if err := closer(); err != nil {
				t.Error(err)
			}
		}
	})
}

func testAccessKey(user string) string { return strings.ToUpper(user) + "ACCESSKEY0000" }
func testSecretKey(user string) string { return user + "-secret-key-of-forty-characters-0000" }

// call is one request of a test. Empty user: alice; "-": anonymous.
type call struct {
	user   string
	method string
	path   string // path and query, escaped
	header http.Header
	body   string
	host   string
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends one signed request.
func (f *fixture) do(c call) answer {
	f.t.Helper()
	return f.send(f.http.Client().Do, f.request(c))
}

// send sends a request by do, and reads its answer.
func (f *fixture) send(do func(*http.Request) (*http.Response, error), req *http.Request) answer {
	f.t.Helper()
	resp, err := do(req)
	if err != nil {
		f.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// request makes a signed request.
func (f *fixture) request(c call) *http.Request {
	f.t.Helper()
	req, err := http.NewRequest(c.method, f.http.URL+c.path, strings.NewReader(c.body))
	if err != nil {
		f.t.Fatal(err)
	}
	for k, v := range c.header {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	if c.host != "" {
		req.Host = c.host
	}
	if c.user == "-" {
		return req
	}
	if c.user == "" {
		c.user = "alice"
	}
	sum := sha256.Sum256([]byte(c.body))
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	creds := aws.Credentials{AccessKeyID: testAccessKey(c.user), SecretAccessKey: testSecretKey(c.user)}
	err = v4.NewSigner().SignHTTP(context.Background(), creds, req, hash, "s3", "us-east-1", time.Now(),
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err != nil {
		f.t.Fatal(err)
	}
	return req
}

// want sends a request and checks the status.
func (f *fixture) want(status int, c call) answer {
	f.t.Helper()
	a := f.do(c)
	if a.status != status {
		f.t.Fatalf("%s %s = %d %s, want %d", c.method, c.path, a.status, a.body, status)
	}
	return a
}

// wantError sends a request and checks status and code.
func (f *fixture) wantError(status int, c code, r call) answer {
	f.t.Helper()
	a := f.want(status, r)
	if r.method == http.MethodHead {
		if a.body != "" {
			f.t.Errorf("%s %s: an answer to HEAD has a body: %q", r.method, r.path, a.body)
		}
		return a
	}
	if !strings.Contains(a.body, "<Code>"+string(c)+"</Code>") {
		f.t.Errorf("%s %s = %s, want code %s", r.method, r.path, a.body, c)
	}
	return a
}

// bucket makes a bucket of alice's.
func (f *fixture) bucket(name string) {
	f.t.Helper()
	f.want(200, call{method: "PUT", path: "/" + name})
}

// put stores an object through the store, past the front end.
func (f *fixture) put(tenant, bucket, key, data string, attrs store.Attrs) store.Outcome {
	f.t.Helper()
	ctx := context.Background()
	b, err := f.store.OpenBucket(ctx, tenant, bucket)
	if err != nil {
		f.t.Fatal(err)
	}
	w, err := b.Create(ctx, key, store.CreateHint{Size: int64(len(data))})
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := io.WriteString(w, data); err != nil {
		f.t.Fatal(err)
	}
	out, err := w.Commit(ctx, store.CommitOptions{
		Versioning: b.Info.Versioning, ETag: fmt.Sprintf("etag-%d", len(data)), Attrs: attrs,
		ModTime: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// Parts of documents that differ from run to run.
var (
	volatileTime = regexp.MustCompile(`<(CreationDate|LastModified)>[0-9TZ:.-]{24}</`)
	volatileID   = regexp.MustCompile(`<RequestId>[0-9A-F]{16}</RequestId>`)
)

// wantXML compares a document with what is expected, without the XML header,
// line ends and indentation; times and request ids are masked.
func wantXML(t *testing.T, got, want string) {
	t.Helper()
	rest, ok := strings.CutPrefix(got, xmlHeader)
	if !ok {
		t.Errorf("document %q has no XML header", got)
	}
	rest = volatileTime.ReplaceAllString(rest, "<$1>TIME</")
	rest = volatileID.ReplaceAllString(rest, "<RequestId>ID</RequestId>")
	rest = strings.ReplaceAll(rest, "><", ">\n<")
	var lines []string
	for l := range strings.Lines(want) {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	want = strings.ReplaceAll(strings.Join(lines, "\n"), "><", ">\n<")
	if diff := cmp.Diff(want, rest); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
}
