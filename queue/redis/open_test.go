package redis

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/queue"
	"herald/tests/redistest"
)

// tryAll makes each kind of call once.
func tryAll(t *testing.T, d *Driver, name string) {
	t.Helper()
	ctx := t.Context()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s = %v", what, err)
		}
	}
	must("Create", d.Create(ctx, name, 1<<20))
	q, err := d.Open(ctx, name)
	must("Open", err)
	put(t, q, 2)
	id, err := q.Reserve(ctx, nil, 1, 1)
	must("Reserve", err)
	must("Renew", q.Renew(ctx, id))
	rs, err := q.Reservations(ctx, time.Now().Add(time.Hour), 10)
	if err != nil || len(rs) != 1 {
		t.Errorf("Reservations = %v, %v", rs, err)
	}
	must("Abort", q.Abort(ctx, id))
	must("Wait", q.(queue.Waiter).Wait(ctx, ""))
	entries, _, err := q.List(ctx, "", 10)
	if err != nil || len(entries) != 2 {
		t.Fatalf("List = %v, %v", entries, err)
	}
	must("Ack", q.Ack(ctx, queue.Ack{UpTo: entries[0].Marker, Failed: []queue.Attempt{{Marker: entries[1].Marker, Attempts: 1}}}))
	woken := make(chan error, 1)
	go func() { woken <- q.(queue.Waiter).Wait(ctx, entries[1].Marker) }()
	put(t, q, 1)
	must("Wait", <-woken)
	if found, err := d.Check(ctx, name, true); err != nil || len(found) > 0 {
		t.Errorf("Check = %v, %v", found, err)
	}
	names, err := d.List(ctx, name)
	if diff := cmp.Diff([]string{name}, names); err != nil || diff != "" {
		t.Errorf("List = %v (-want +got):\n%s", err, diff)
	}
	l, err := d.Locker().Acquire(ctx, name, "me", time.Minute)
	must("Acquire", err)
	must("Renew", l.Renew(ctx))
	must("Release", l.Release(ctx))
	members, err := d.Locker().Join(ctx, name, "me", time.Minute)
	if err != nil || len(members) != 1 {
		t.Errorf("Join = %v, %v", members, err)
	}
	must("Leave", d.Locker().Leave(ctx, name, "me"))
	must("Delete", d.Delete(ctx, name))
}

// categories are what docs/queues.md says that an ACL must allow.
const categories = "+@read +@write +@scripting +@pubsub +@transaction +@connection +time +wait -@dangerous +info +config|get +bgrewriteaof"

// commands are all that are used.
const commands = "+evalsha +eval +time +multi +exec +info +config|get +bgrewriteaof +wait +subscribe +unsubscribe +ping +publish " +
	"+hget +hgetall +hmget +hset +hdel +hincrby +hexists +hlen +hscan +hvals +zadd +zrem +zrange +zrangebyscore +zrangebylex " +
	"+zscore +zscan +exists +unlink +del +rename +pexpire +pttl +get +set"

// clusterCommands are what it must allow besides in a Cluster.
const clusterCommands = "+cluster|slots"

func TestOpen_ACL(t *testing.T) {
	s := redistest.Start(t)
	set := func(user, rules string) {
		args := []any{"ACL", "SETUSER", user, "on", ">p:ss@/?#%", "~ns:*", "&ns:*", "-@all"}
		for _, r := range strings.Fields(rules) {
			args = append(args, r)
		}
		s.Do(args...)
	}
	set("herald", commands)
	set("docs", categories)
	set("blind", strings.NewReplacer("+info", "", "+config|get", "", "+subscribe", "").Replace(commands))
	url := func(user string) string {
		return "redis://" + user + ":p%3Ass%40%2F%3F%23%25@" + s.Addr + "?namespace=ns"
	}
	for _, user := range []string{"herald", "docs"} {
		d, err := Open(t.Context(), url(user), Options{RequireAOF: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.Close() }()
		tryAll(t, d, "q")
	}

	var log bytes.Buffer
	blind, err := Open(t.Context(), url("blind"), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blind.Close() }()
	tryAll(t, blind, "q")
	for _, want := range []string{"+info", "+config|get"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no warning has %s:\n%s", want, &log)
		}
	}
	if _, err := Open(t.Context(), url("blind"), Options{RequireAOF: true}); !errors.Is(err, ErrNotDurable) {
		t.Errorf("Open = %v, want ErrNotDurable", err)
	}
	_, err = Open(t.Context(), "redis://herald:wrong@"+s.Addr, Options{})
	if err == nil || strings.Contains(err.Error(), "wrong@") {
		t.Errorf("Open with a wrong password = %v", err)
	}
}

func TestOpen_ACLCluster(t *testing.T) {
	c := redistest.StartCluster(t, 3, 0)
	args := []any{"ACL", "SETUSER", "herald", "on", ">p", "~ns:*", "&ns:*", "-@all"}
	for _, r := range strings.Fields(commands + " " + clusterCommands) {
		args = append(args, r)
	}
	for _, n := range c.Nodes {
		n.Do(args...)
	}
	d, err := Open(t.Context(), strings.Replace(c.URL(), "://", "://herald:p@", 1)+"?namespace=ns", Options{RequireAOF: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	for i := range 10 {
		tryAll(t, d, fmt.Sprint("q", i))
	}
}

func TestOpen_TLS(t *testing.T) {
	s, files := redistest.StartTLS(t)
	opts := Options{TLSCA: files.CA, TLSCert: files.Cert, TLSKey: files.Key}
	d, err := Open(t.Context(), "rediss://"+s.Addr, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	tryAll(t, d, "q")
	if _, err := Open(t.Context(), "redis://"+s.Addr, opts); !errors.Is(err, errURL) {
		t.Errorf("Open with certificates and redis:// = %v", err)
	}
	var certificate *tls.CertificateVerificationError
	if _, err := Open(t.Context(), "rediss://"+s.Addr, Options{}); !errors.As(err, &certificate) {
		t.Errorf("Open with an authority that it was not told of = %v", err)
	}
}

func TestOpen_RequireAOF(t *testing.T) {
	s := redistest.Start(t)
	for _, c := range []struct{ option, bad, good string }{
		{"appendonly", "no", "yes"}, {"appendfsync", "everysec", "always"}, {"appendfsync", "no", "always"},
		{"no-appendfsync-on-rewrite", "yes", "no"}, {"maxmemory-policy", "allkeys-lru", "noeviction"},
	} {
		s.Do("CONFIG", "SET", c.option, c.bad)
		_, err := Open(t.Context(), s.URL(), Options{RequireAOF: true})
		if !errors.Is(err, ErrNotDurable) || !strings.Contains(err.Error(), c.option+" "+c.bad) {
			t.Errorf("Open with %s %s = %v, want ErrNotDurable", c.option, c.bad, err)
		}
		var log bytes.Buffer
		d, err := Open(t.Context(), s.URL(), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil || !strings.Contains(log.String(), c.option+" "+c.bad) {
			t.Errorf("Open with %s %s = %v, logged %s", c.option, c.bad, err, &log)
		} else if err := d.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		s.Do("CONFIG", "SET", c.option, c.good)
	}
}

// TestOpen_RequireAOFCluster has one master that is not durable.
func TestOpen_RequireAOFCluster(t *testing.T) {
	c := redistest.StartCluster(t, 3, 0)
	c.Nodes[2].Do("CONFIG", "SET", "appendfsync", "everysec")
	_, err := Open(t.Context(), c.URL(), Options{RequireAOF: true})
	if !errors.Is(err, ErrNotDurable) || !strings.Contains(err.Error(), c.Nodes[2].Addr) {
		t.Errorf("Open = %v, want ErrNotDurable of %s", err, c.Nodes[2].Addr)
	}
}

func TestOpen_NoServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, "redis://127.0.0.1:1", Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open = %v, want that the time is over", err)
	}
}

// TestNames has names that could break a hash tag, in a Cluster.
func TestNames(t *testing.T) {
	c := redistest.StartCluster(t, 3, 0)
	h := newHarness(t, c.URL(), Options{})
	for _, name := range []string{"", "{", "}", "{}", "}{", "a{b}c", "%7B", "tenant:topic", "\x00\xff", strings.Repeat("{", 300)} {
		t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) { tryAll(t, h.d, name) })
	}
}

// expiring is a context whose time is over when a test says so.
type expiring struct {
	context.Context
	over chan struct{}
}

func (e expiring) Done() <-chan struct{} { return e.over }

func (e expiring) Err() error {
	select {
	case <-e.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func TestWaitReplicas(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{WaitReplicas: 1, WaitTimeout: 10 * time.Millisecond})
	ctx := expiring{t.Context(), make(chan struct{})}
	go func() {
		// The first try has two, of which one gives the server the script.
		tries := regexp.MustCompile(`cmdstat_wait:calls=([4-9]|\d\d)`)
		redistest.Eventually(t, "Create is tried again", func() bool {
			return tries.MatchString(s.Do("INFO", "commandstats").(string))
		})
		close(ctx.over)
	}()
	err := h.d.Create(ctx, "q", 1000)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errReplicas) {
		t.Errorf("Create without a replica = %v, want %v", err, errReplicas)
	}
	host, port, _ := strings.Cut(s.Addr, ":")
	redistest.Start(t, "--replicaof", host+" "+port)
	put(t, mustCreate(t, h.d, "r"), 10)
}

func mustCreate(t *testing.T, d *Driver, name string) queue.Queue {
	t.Helper()
	if err := d.Create(t.Context(), name, 1<<30); err != nil {
		t.Fatal(err)
	}
	q, err := d.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestParseURL(t *testing.T) {
	for _, c := range []struct {
		url  string
		want target
	}{
		{"redis://h", target{form: formStandalone, addrs: []string{"h:6379"}}},
		{"redis://:p@h:1/3?namespace=n", target{form: formStandalone, addrs: []string{"h:1"}, password: "p", db: 3, namespace: "n"}},
		{"rediss://u:a%40b@[::1]:1/", target{form: formStandalone, tls: true, addrs: []string{"[::1]:1"}, username: "u", password: "a@b"}},
		{"redis://[::1]", target{form: formStandalone, addrs: []string{"[::1]:6379"}}},
		{"redis+sentinel://u:p@a,b:2/m/1?sentinel_password=s", target{form: formSentinel, addrs: []string{"a:26379", "b:2"},
			master: "m", db: 1, username: "u", password: "p", sentinelPassword: "s"}},
		{"rediss+cluster://a:1,b:2,c:3", target{form: formCluster, tls: true, addrs: []string{"a:1", "b:2", "c:3"}}},
	} {
		got, err := parseURL(c.url)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(target{})); err != nil || diff != "" {
			t.Errorf("parseURL(%s) = %v (-want +got):\n%s", c.url, err, diff)
		}
	}
	for _, bad := range []string{
		"", "redis", "http://h", "redis://", "redis://a,b", "redis://h:0", "redis://h:70000", "redis://h:x", "redis://h/x", "redis://h/-1",
		"redis://h?x=1", "redis://h?namespace=", "redis://h?namespace=a&namespace=b", "redis://h/0#f", "redis://%zz@h",
		"redis+sentinel://h", "redis+sentinel://h/", "redis+sentinel://h/m/x", "redis+cluster://h/1", "redis+cluster://h,",
		"redis://h?sentinel_password=x", "redis://::1", "redis://secret:secret@h:x",
	} {
		got, err := parseURL(bad)
		if !errors.Is(err, errURL) || strings.Contains(err.Error(), "secret") {
			t.Errorf("parseURL(%s) = %+v, %v, want errURL", bad, got, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{
		"redis://u:p@h:1/2?namespace=n", "redis+sentinel://a,b:2/m/1?sentinel_username=u", "rediss+cluster://[::1]:1,b", "redis://%41@h",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseURL(s)
		if err != nil {
			if !errors.Is(err, errURL) {
				t.Errorf("parseURL(%q) = %v", s, err)
			}
			return
		}
		if len(got.addrs) == 0 || got.db < 0 || got.form == formSentinel && got.master == "" {
			t.Errorf("parseURL(%q) = %+v", s, got)
		}
	})
}

func FuzzMarker(f *testing.F) {
	for _, s := range []string{"", "1790000000012-ab12-1790000000000000-1034", "1-2-3-4", "-790000000012-ab12-1790000000000000-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		size, number, micros, ok := parseMarker(s)
		if !ok {
			return
		}
		again := fmt.Sprintf("%013d-%s-%016d-%d", number, s[14:18], micros, size)
		if s2, n2, m2, ok := parseMarker(again); !ok || s2 != size || n2 != number || m2 != micros {
			t.Errorf("parseMarker(%q) is not %q", s, again)
		}
	})
}

func TestKeys(t *testing.T) {
	d := &Driver{namespace: tag("n{s}")}
	seen := make(map[string]string)
	for _, name := range []string{"", "a", "a{b}c", "a%7Bb%7Dc", "}", "%7D", "%", "%25"} {
		key := d.queueKeys(name)[0]
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %q have the same key %s", name, other, key)
		}
		seen[key] = name
		if strings.Count(key, "{") != 1 || strings.Count(key, "}") != 1 || strings.Contains(key, "{}") {
			t.Errorf("key of %q = %s, want one hash tag", name, key)
		}
	}
}

func FuzzHistory(f *testing.F) {
	f.Add("a", int64(7), " 5 90\na 100 1000\n")
	f.Add("", int64(7), "a\n\n 1 2")
	f.Fuzz(func(t *testing.T, term string, number int64, history string) {
		if lost, _ := lostSince(mark{term: term, number: number}, mark{term: "now", number: number}, history); lost < 0 && number >= 0 {
			t.Errorf("lostSince(%q, %d, %q) = %d", term, number, history, lost)
		}
	})
}

// TestClose_NoAnswer closes while a server does not answer what was sent to it.
func TestClose_NoAnswer(t *testing.T) {
	s := redistest.Start(t)
	d, err := Open(t.Context(), s.URL(), Options{WaitTimeout: time.Minute}) // calls may take longer than that
	if err != nil {
		t.Fatal(err)
	}
	q := mustCreate(t, d, "q")
	s.Pause()
	defer s.Resume()
	reserved := make(chan error, 1)
	go func() {
		_, err := q.Reserve(t.Context(), nil, 10, 1)
		reserved <- err
	}()
	time.Sleep(500 * time.Millisecond) // it is on its way
	began := time.Now()
	if err := d.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("Close took %v", took)
	}
	if err := <-reserved; err == nil {
		t.Error("Reserve was answered")
	}
}
