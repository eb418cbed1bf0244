package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestParseQueueURL(t *testing.T) {
	tests := []struct {
		in    string
		want  queueURL
		shown string
	}{
		{"embedded", queueURL{kind: kindEmbedded}, "embedded"},
		{"redis://localhost", queueURL{kind: kindRedis}, "redis://localhost"},
		{"redis://[::1]/3?namespace=x", queueURL{kind: kindRedis, namespace: "x"}, "redis://[::1]/3?namespace=x"},
		{"rediss://alice:p%3A%2Fw@h:1/2?namespace=x.y", queueURL{kind: kindRedis, namespace: "x.y"}, "rediss://h:1/2?namespace=x.y"},
		{"redis://:p@ss@h", queueURL{kind: kindRedis}, "redis://h"},
		{"redis+sentinel://a,b:5/m/1?sentinel_password=p", queueURL{kind: kindRedis}, "redis+sentinel://a,b:5/m/1"},
		{"rados://default.rgw.log/notif", queueURL{kind: kindRADOS, pool: "default.rgw.log", namespace: "notif"}, "rados://default.rgw.log/notif"},
		{"rados://p", queueURL{kind: kindRADOS, pool: "p"}, "rados://p"},
	}
	for _, tt := range tests {
		got, err := parseQueueURL(tt.in)
		if tt.want.kind == kindRedis {
			tt.want.raw = tt.in
		}
		if err != nil || got != tt.want || got.String() != tt.shown {
			t.Errorf("parseQueueURL(%q) = %+v (%s), %v, want %+v (%s)", tt.in, got, got, err, tt.want, tt.shown)
			continue
		}
		named, err := parseQueueURL(got.withNamespace("n").raw)
		if got.kind == kindRedis && got.namespace == "" && (err != nil || named.namespace != "n") {
			t.Errorf("%s withNamespace = %+v, %v", tt.in, named, err)
		}
	}
}

func TestParseQueueURL_Errors(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "want embedded",
		"redis":                   "want embedded",
		"localhost:6379":          "want embedded",
		"http://h":                `"http" is none of`,
		"radis://h":               "did you mean",
		"redis://h?namespace=a/b": "letters, digits",
		"rados://":                "rados://POOL/NAMESPACE",
		"rados://u@p/n":           "queue.rados.user",
		"rados://p/n/m":           "letters, digits",
		"rados+x://p/n":           "none of",
		"redis://h?pass=s3cr;%zz": "cannot be read",
	} {
		_, err := parseQueueURL(in)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cr") {
			t.Errorf("parseQueueURL(%q) = %v, want an error with %q", in, err, want)
		}
	}
}

func TestRedactURL(t *testing.T) {
	for in, want := range map[string]string{
		"embedded":                 "embedded",
		"redis://h":                "redis://h",
		"redis://u:pw@h/1":         "redis://u:********@h/1",
		"redis://u:p@w@h/1":        "redis://u:********@h/1",
		"redis://u@h":              "redis://u@h",
		"redis://u:p/w@h":          "redis://u:********@h",
		"redis://h?namespace=x":    "redis://h?namespace=x",
		"redis://h?a=pw&namespace": "redis://h?a=********&namespace",
		"u:pw@h":                   masked,
	} {
		if got := redactURL(in); got != want {
			t.Errorf("redactURL(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParseQueueURL(f *testing.F) {
	for _, s := range []string{"embedded", "redis://u:p@h:1/2?namespace=x", "redis+sentinel://a,b:5/m%20/1", "rados://p/n", "redis://[::1]", "rediss+cluster://a,b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_ = redactURL(s)
		u, err := parseQueueURL(s)
		if err != nil {
			return
		}
		again, err := parseQueueURL(u.String())
		if err != nil || again.String() != u.String() || again.namespace != u.namespace {
			t.Errorf("%q is printed as %q, which is %q, %v", s, u.String(), again.String(), err)
		}
	})
}

func TestConfig_QueuePassword(t *testing.T) {
	file := writeFile(t, "queue", "rediss://alice:s3cr3t@h:1/2?namespace=x\n")
	c, _, err := loadConfig("serve", nil, []string{"HERALD_QUEUE_FILE=" + file, "HERALD_QUEUE_REDIS_REQUIRE_AOF=false"}, io.Discard)
	if err != nil || !strings.Contains(c.Queue, "s3cr3t") || c.QueueRedisRequireAOF {
		t.Fatalf("loadConfig = %q, require_aof %v, %v", c.Queue, c.QueueRedisRequireAOF, err)
	}
	var out bytes.Buffer
	if err := c.print(&out); err != nil || strings.Contains(out.String(), "s3cr3t") || !strings.Contains(out.String(), "alice:"+masked+"@h") {
		t.Errorf("print = %v\n%s\nwant the password masked", err, out.String())
	}
	out.Reset()
	_, _, err = loadConfig("serve", []string{"--help"}, []string{"HERALD_QUEUE=redis://:s3cr3t@h", "HERALD_ROOT_SECRET_KEY=s3cr3t"}, &out)
	if err == nil || strings.Contains(out.String(), "s3cr3t") || !strings.Contains(out.String(), "-queue.redis.require-aof") {
		t.Errorf("help = %v\n%s\nwant no secret in it", err, out.String())
	}
}

func TestConfig_QueueErrors(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{"queue: redis//h\n", "want embedded"},
		{"queue: http://:s3cr@t@h:x\n", masked},
		{"queue: redis://h\nqueue.redis.tls_ca: /ca\n", "rediss://"},
		{"queue.redis.tls_key: /key\n", "come together"},
		{"queue.redis.wait: -1\n", "0 or more"},
		{"queue_lease: 10ms\n", "at least 1s"},
		{"queue.redis.requireaof: true\n", `did you mean "queue.redis.require_aof"`},
	} {
		_, _, err := loadConfig("serve", []string{"--config", writeFile(t, "c.yaml", tt.file)}, nil, io.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cr") {
			t.Errorf("loadConfig(%q) = %v, want an error with %q", tt.file, err, tt.want)
		}
	}
	_, _, err := loadConfig("serve", []string{"--queue", "rados://pool"}, nil, io.Discard)
	if (err == nil) != hasRADOS || err != nil && !strings.Contains(err.Error(), "make build-rados") {
		t.Errorf("loadConfig(rados) = %v", err)
	}
}
