package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadConfig_Precedence(t *testing.T) {
	file := writeFile(t, "herald.yaml", "listen: 127.0.0.1:1\nregion: file\nlog_level: warn\nshutdown_timeout: 7s\ndomains: [a.test, b.test]\n")
	env := []string{"HERALD_CONFIG=" + file, "HERALD_REGION=env", "HERALD_LOG_LEVEL=error", "PATH=/bin"}
	c, rest, err := loadConfig("serve", []string{"--log-level", "debug", "--pprof", "rest"}, env, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:1" || c.Region != "env" || c.LogLevel != "debug" || !c.Pprof ||
		c.ShutdownTimeout != 7*time.Second || len(c.Domains) != 2 || c.Durability != "full" {
		t.Errorf("loadConfig = %+v", c)
	}
	if len(rest) != 1 || rest[0] != "rest" {
		t.Errorf("rest = %q, want [rest]", rest)
	}
}

func TestLoadConfig_SecretFile(t *testing.T) {
	secret := writeFile(t, "secret", "s3cr3t\n")
	c, _, err := loadConfig("serve", nil, []string{"HERALD_ROOT_ACCESS_KEY=AK", "HERALD_ROOT_SECRET_KEY_FILE=" + secret}, io.Discard)
	if err != nil || c.RootSecretKey != "s3cr3t" {
		t.Fatalf("secret = %q, %v", c.RootSecretKey, err)
	}
	var out bytes.Buffer
	if err := c.print(&out); err != nil || strings.Contains(out.String(), "s3cr3t") || !strings.Contains(out.String(), "********") {
		t.Errorf("print = %v\n%s\nwant the secret masked", err, out.String())
	}
}

func TestLoadConfig_Errors(t *testing.T) {
	tests := []struct {
		name, file string
		env, args  []string
		want       string
	}{
		{name: "unknown key", file: "lissten: x\n", want: `did you mean "listen"?`},
		{name: "wrong type", file: "topic_shards: many\n", want: "topic_shards"},
		{name: "not YAML", file: "a: [\n", want: "config"},
		{name: "unknown variable", env: []string{"HERALD_REGOIN=x"}, want: `did you mean "HERALD_REGION"?`},
		{name: "bad number", env: []string{"HERALD_TOPIC_SHARDS=many"}, want: "HERALD_TOPIC_SHARDS"},
		{name: "unknown flag", args: []string{"--nope"}, want: "nope"},
		{name: "bad durability", args: []string{"--durability", "some"}, want: "full, relaxed"},
		{name: "bad address", args: []string{"--listen", "7480"}, want: "HOST:PORT"},
		{name: "half a key", args: []string{"--root-access-key", "AK"}, want: "come together"},
		{name: "missing file", args: []string{"--config", "/does/not/exist"}, want: "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.args
			if tt.file != "" {
				args = append(args, "--config="+writeFile(t, "c.yaml", tt.file))
			}
			_, _, err := loadConfig("serve", args, tt.env, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("loadConfig error = %v, want one with %q", err, tt.want)
			}
		})
	}
}
