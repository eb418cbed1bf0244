package queues

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herald/tests/gatewaytest"
	"herald/tests/redistest"
)

// TestRedis_Away has a Redis server that is away when the gateway starts, comes,
// dies, and comes again.
func TestRedis_Away(t *testing.T) {
	t.Parallel() // it mostly waits
	r := redistest.Start(t)
	r.KillNine()
	e := newEnv(t, gatewaytest.Options{Args: []string{"--queue", r.URL()}})
	e.check(e.g.Launch())
	if status, queue := e.ready(); status != 503 || !strings.Contains(queue, r.Addr) {
		t.Errorf("readiness = %d, queue %q, want 503 and the server's address", status, queue)
	}
	e.createBucket("early")
	e.check(e.put("early", "a", "1"))
	_, err := e.createTopic("http://127.0.0.1:1")
	e.wantUnavailable("CreateTopic without the server", err)
	r.Restart()
	e.awayAndBack(r.KillNine, r.Restart)
}

// TestRedis_Full has a server without memory when the gateway starts, and later:
// that passes, so it starts, and who must wait for the server is told so.
func TestRedis_Full(t *testing.T) {
	t.Parallel() // it mostly waits
	r := redistest.Start(t, "--maxmemory", "1")
	e := newEnv(t, gatewaytest.Options{Args: []string{"--queue", r.URL()}})
	e.check(e.g.Launch())
	e.wantUnready("OOM")
	r.Do("CONFIG", "SET", "maxmemory", "0")
	e.check(e.g.WaitReady())
	sink := newEndpoint(t)
	e.createBucket("watched")
	e.notify("watched", sink.URL)
	e.check(e.put("watched", "a", "1"))
	sink.want(t, 1)
	r.Do("CONFIG", "SET", "maxmemory", "1")
	_, err := e.createTopic("http://127.0.0.1:1")
	e.wantUnavailable("CreateTopic without memory", err)
	e.check(e.put("watched", "b", "1")) // its event waits in the outbox
	r.Do("CONFIG", "SET", "maxmemory", "0")
	sink.want(t, 2)
}

// TestRedis_Refused has servers, and URLs, that are of no use: the gateway does
// not start, says why, and tells no password.
func TestRedis_Refused(t *testing.T) {
	forgetful := redistest.Start(t, "--appendonly", "no")
	guarded := redistest.Start(t, "--requirepass", "s3cr3t-of-the-server")
	for _, tt := range []struct{ name, url, want string }{
		{"no append-only file", forgetful.URL(), "appendonly"},
		{"wrong password", "redis://:s3cr3t-mistaken@" + guarded.Addr, "WRONGPASS"},
		{"no password", guarded.URL(), "NOAUTH"},
		{"bad host", "redis://:s3cr3t@host:port", "host:port"},
		{"no such file", "rediss://:s3cr3t@" + guarded.Addr, "/no-such-file"},
		{"bad parameter", "redis://:s3cr3t@" + guarded.Addr + "?pass=s3cr3t", "not known"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := []string{"HERALD_QUEUE=" + tt.url}
			if strings.HasPrefix(tt.url, "rediss") {
				env = append(env, "HERALD_QUEUE_REDIS_TLS_CA=/no-such-file")
			}
			e := newEnv(t, gatewaytest.Options{Env: env})
			err := e.launch()
			if err == nil || !strings.Contains(e.g.Log(4000), tt.want) || strings.Contains(e.g.Log(4000), "s3cr3t") {
				t.Errorf("start = %v, want an error with %q and without the password\n%s", err, tt.want, e.g.Log(4000))
			}
		})
	}
	e := newEnv(t, gatewaytest.Options{Args: []string{"--queue", forgetful.URL(), "--queue.redis.require-aof=false"}})
	e.check(e.g.Run())
	if log := e.g.Log(10_000); !strings.Contains(log, "can lose") {
		t.Errorf("no warning about a server without an append-only file:\n%s", log)
	}
}

// TestRedis_TLS has a server that wants TLS and a certificate, with the URL in
// a file.
func TestRedis_TLS(t *testing.T) {
	r, files := redistest.StartTLS(t, "--requirepass", "s3cr3t")
	file := filepath.Join(t.TempDir(), "queue")
	if err := os.WriteFile(file, []byte("rediss://:s3cr3t@"+r.Addr+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEnv(t, gatewaytest.Options{
		Args: []string{"--queue.redis.tls-ca", files.CA, "--queue.redis.tls-cert", files.Cert, "--queue.redis.tls-key", files.Key},
		Env:  []string{"HERALD_QUEUE_FILE=" + file},
	})
	e.check(e.g.Run())
	sink := newEndpoint(t)
	e.createBucket("watched")
	e.notify("watched", sink.URL)
	e.check(e.put("watched", "a", "1"))
	sink.want(t, 1)
	if log := e.g.Log(1 << 20); strings.Contains(log, "s3cr3t") {
		t.Errorf("the password is in the log:\n%s", log)
	}
}

// TestRedis_ACL has a user who may do no more than docs/queues.md says.
func TestRedis_ACL(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "queues.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, line, ok := strings.Cut(string(doc), "\nACL SETUSER herald")
	if !ok {
		t.Fatal("docs/queues.md has no ACL")
	}
	line, _, _ = strings.Cut("ACL SETUSER herald"+line, "\n")
	r := redistest.Start(t)
	var command []any
	for _, word := range strings.Fields(strings.NewReplacer("PASSWORD", "s3cr3t", "NAMESPACE", "shop").Replace(line)) {
		command = append(command, word)
	}
	r.Do(command...)
	e := newEnv(t, gatewaytest.Options{Env: []string{"HERALD_QUEUE=redis://herald:s3cr3t@" + r.Addr + "?namespace=shop"}})
	e.check(e.g.Run())
	sink := newEndpoint(t)
	e.createBucket("watched")
	e.notify("watched", sink.URL)
	e.check(e.put("watched", "a", "1"))
	sink.want(t, 1)
	e.g.MustAdmin("queue", "fsck", "--repair")
	e.g.MustAdmin("topic", "rm", "--topic", topicName)
	if log := e.g.Log(1 << 20); strings.Contains(log, "NOPERM") || strings.Contains(log, "WARN") {
		t.Errorf("something is not allowed:\n%s", log)
	}
}

// TestRedis_Copy serves a copy of a store beside the original: it must not take
// the reservations of the original for its own.
func TestRedis_Copy(t *testing.T) {
	r := redistest.Start(t)
	args := []string{"--queue", r.URL(), "--queue-lease", "20s"} // longer than a machine stalls: the copy is served when it ends
	original := newEnv(t, gatewaytest.Options{Args: args})
	original.check(original.g.Run())
	sink := newEndpoint(t)
	original.createBucket("watched")
	original.notify("watched", sink.URL)
	original.check(original.g.Stop())
	data := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-a", original.g.Data, data).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	original.check(original.g.Run())
	twin := newEnv(t, gatewaytest.Options{Data: data, Args: args})
	twin.check(twin.g.Launch())
	twin.wantUnready("copy")
	twin.wantUnavailable("PUT to the copy", twin.put("watched", "a", "1"))
	original.check(original.put("watched", "b", "1"))
	sink.want(t, 1)
	original.g.Kill()
	original.check(original.g.Run()) // it need not wait
	original.check(original.g.Stop())
	twin.check(twin.g.WaitReady())
	twin.check(twin.put("watched", "c", "1"))
	sink.want(t, 2)
}

// TestRedis_Strangers has two gateways that have nothing to do with each other
// on one server, with topics of the same name.
func TestRedis_Strangers(t *testing.T) {
	r := redistest.Start(t)
	var sinks []*endpoint
	for _, bucket := range []string{"one", "two"} {
		e := newEnv(t, gatewaytest.Options{Args: []string{"--queue", r.URL()}})
		e.check(e.g.Run())
		s := newEndpoint(t)
		sinks = append(sinks, s)
		e.createBucket(bucket)
		e.notify(bucket, s.URL)
		for _, key := range []string{"a", "b", "c"} {
			e.check(e.put(bucket, key, bucket))
		}
	}
	for i, want := range []string{"one/a one/b one/c", "two/a two/b two/c"} {
		sinks[i].want(t, 3)
		got := map[string]bool{}
		for _, k := range sinks[i].got() {
			got[k] = true
		}
		for _, k := range strings.Fields(want) {
			if !got[k] || len(got) != 3 {
				t.Errorf("endpoint %d got %v, want %s", i, got, want)
				break
			}
		}
	}
}
