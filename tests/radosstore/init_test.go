//go:build rados

package radosstore

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herald/tests/cephtest"
	"herald/tests/gatewaytest"
)

func TestMain(m *testing.M) { cephtest.Main(m) }

// initStore runs `gateway rados init` and returns what it printed.
func initStore(t *testing.T, conf string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(gatewaytest.Binary(t), append([]string{"rados", "init", "--store.rados.conf", conf}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// want fails the test unless text holds all parts.
func want(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s lacks %q:\n%s", what, p, text)
		}
	}
}

// TestInit makes pools and a user on an empty cluster, twice, and has a gateway
// run as that user, who may do no more.
func TestInit(t *testing.T) {
	c := cephtest.StartOwn(t, cephtest.Options{Cephx: true})
	keyring := filepath.Join(t.TempDir(), "keyring")
	args := []string{
		"--store", "rados://objects/shop", "--store.rados.data-pool", "bulk", "--queue", "rados://objects/events",
		"--client", "herald", "--keyring", keyring, "--pg-num", "8",
	}
	out, err := initStore(t, c.Conf, args...)
	if err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	want(t, "init", out, "pool objects: made", "pool bulk: made", "gateway serve --store rados://objects/shop", "--store.rados.user herald")
	key, err := os.ReadFile(keyring)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, strings.Fields(string(key))[3]) {
		t.Error("init printed the key that it wrote to a file")
	}

	out, err = initStore(t, c.ClientConf(t, keyring), "--store", "rados://objects/shop", "--store.rados.user", "nobody")
	if err == nil {
		t.Error("init as a user that is not there did something")
	}
	want(t, "init as nobody", out, "client.nobody")

	// A user with other rights gets these, and keeps the key.
	c.Ceph(t, "auth", "caps", "client.herald", "mon", "allow r")
	out, err = initStore(t, c.Conf, args...)
	if err != nil {
		t.Fatalf("init again: %v\n%s", err, out)
	}
	want(t, "init again", out, "pool objects: there", "pool bulk: there")
	if again, err := os.ReadFile(keyring); err != nil || !bytes.Equal(again, key) {
		t.Errorf("init again changed the key: %v", err)
	}

	conf := c.ClientConf(t, keyring)
	out, err = initStore(t, conf, "--store", "rados://objects/shop", "--store.rados.user", "herald")
	if err == nil {
		t.Error("init as a user who may not write outside of the store did something")
	}
	want(t, "init as herald", out, "such as client.admin", "client.herald")

	serve := []string{"--store.rados.conf", conf, "--store.rados.user", "herald"}
	g := gatewaytest.Start(t, gatewaytest.Options{Args: append(serve, args[:6]...)})
	if out, code := g.Admin("user", "list"); code != 0 {
		t.Errorf("user list: %s", out)
	}
	if err := g.Stop(); err != nil {
		t.Error(err)
	}
	other := gatewaytest.New(t, gatewaytest.Options{Args: append(serve, "--store", "rados://objects/other", "--queue", "rados://objects/events")})
	if err := other.Launch(); err == nil {
		t.Error("client.herald may use another store of the pool")
	}
	want(t, "the log", other.Log(4000), "client.herald lacks osd 'allow rwx pool=objects namespace=other'", "docs/rados.md")
}

// TestInit_Refused: what cannot be made is told, and what to do instead.
func TestInit_Refused(t *testing.T) {
	c := cephtest.Start(t)
	c.Ceph(t, "osd", "pool", "create", "coded", "8", "8", "erasure")
	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"posix", "want rados://POOL/NAMESPACE", nil},
		{"no pool", "want rados://POOL/NAMESPACE", []string{"--store", "rados://"}},
		{"heads in an erasure-coded pool", "name this one by --store.rados.data-pool", []string{"--store", "rados://coded/x"}},
		{"ec without a data pool", "name one by --store.rados.data_pool", []string{"--store", "rados://p/x", "--ec", "2+1"}},
		{"malformed ec", "want K+M", []string{"--store", "rados://p/x", "--store.rados.data-pool", "d", "--ec", "2"}},
		{"argument", `unexpected argument "now"`, []string{"--store", "rados://p/x", "now"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := initStore(t, c.Conf, tt.args...)
			if err == nil || !strings.Contains(out, tt.want) {
				t.Errorf("init = %v, want an error with %q\n%s", err, tt.want, out)
			}
		})
	}
	missing := gatewaytest.New(t, gatewaytest.Options{Args: []string{"--store", "rados://nowhere/x", "--store.rados.conf", c.Conf}})
	if err := missing.Launch(); err == nil {
		t.Error("a gateway starts without the pool of its store")
	}
	want(t, "the log", missing.Log(4000), "no such pool; gateway rados init makes what is missing")
}

// TestEmbeddedQueues: one directory's embedded queues belong to a store. A
// second gateway with such is refused; when the directory is lost, another one
// is adopted.
func TestEmbeddedQueues(t *testing.T) {
	c := cephtest.Start(t)
	pool, namespace := c.Namespace(t)
	args := []string{"--store", "rados://" + pool + "/" + namespace, "--store.rados.conf", c.Conf}
	first := gatewaytest.Start(t, gatewaytest.Options{Args: args})
	second := gatewaytest.New(t, gatewaytest.Options{Args: args})
	if err := second.Launch(); err == nil {
		t.Fatal("a second gateway has embedded queues on the same store")
	}
	want(t, "the log", second.Log(4000), "embedded queues of another gateway", "gateway admin queue adopt")
	if err := first.Stop(); err != nil {
		t.Error(err)
	}
	cmd := exec.Command(gatewaytest.Binary(t), append([]string{"admin", "--data", second.Data, "queue", "adopt"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("queue adopt: %v\n%s", err, out)
	}
	if err := second.Run(); err != nil {
		t.Error(err)
	}
	if err := first.Launch(); err == nil {
		t.Error("the first gateway starts although its queues are the store's no more")
	}
}
