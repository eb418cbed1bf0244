//go:build rados

package queues

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"herald/queue/rados"
	"herald/tests/cephtest"
	"herald/tests/gatewaytest"
)

// authorise makes client.herald as docs/queues.md says, in a cluster that
// wants to know who asks, and returns the ceph.conf of a client that has only
// this user's key.
func authorise(t *testing.T, c *cephtest.Cluster, pool, namespace string) (conf, keyring string) {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "queues.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, line, ok := strings.Cut(string(doc), "\nceph auth get-or-create client.herald ")
	if !ok {
		t.Fatal("docs/queues.md makes no user of Ceph")
	}
	line, _, _ = strings.Cut("ceph auth get-or-create client.herald "+line, "\n")
	keyring = filepath.Join(t.TempDir(), "keyring")
	line = strings.NewReplacer("POOL", pool, "NAMESPACE", namespace, "/etc/ceph/ceph.client.herald.keyring", keyring).Replace(line)
	cmd := exec.Command("sh", "-c", line)
	cmd.Env = append(os.Environ(), "CEPH_CONF="+c.Conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return c.ClientConf(t, keyring), keyring
}

// TestRADOS_Cephx has a user who may do no more than docs/queues.md says, with
// queues of the store's own, shared ones, and radosgw's.
func TestRADOS_Cephx(t *testing.T) {
	t.Parallel() // it mostly waits
	c := cephtest.StartOwn(t, cephtest.Options{Cephx: true})
	pool := c.Pool(t)
	c.Ceph(t, "osd", "pool", "create", rados.RGWPool)
	for _, tt := range []struct {
		name, pool, namespace, place string
		args                         []string
	}{
		{"namespace", pool, "shop", "rados://" + pool + "/shop", nil},
		{"own", pool, "herald-*", "rados://" + pool, nil},
		{"radosgw", rados.RGWPool, "notif*", "rados://" + rados.RGWPool, []string{"--queue.rados.rgw-compatible"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conf, _ := authorise(t, c, tt.pool, tt.namespace)
			t.Cleanup(func() { c.Ceph(t, "auth", "rm", "client.herald") })
			e := newEnv(t, gatewaytest.Options{Args: append(tt.args,
				"--queue", tt.place, "--queue.rados.conf", conf, "--queue.rados.user", "herald")})
			e.check(e.g.Run())
			sink := newEndpoint(t)
			e.createBucket("watched")
			e.notify("watched", sink.URL)
			e.check(e.put("watched", "a", "1"))
			sink.want(t, 1)
			e.g.MustAdmin("queue", "fsck", "--repair")
			e.g.MustAdmin("topic", "rm", "--topic", topicName)
			if log := e.g.Log(1 << 20); strings.Contains(log, "not permitted") || strings.Contains(log, "WARN") {
				t.Errorf("something is not allowed:\n%s", log)
			}
		})
	}
}

// TestRADOS_CephxRefused has users that the cluster does not know, or that may
// not do enough: the gateway does not start, and says why.
func TestRADOS_CephxRefused(t *testing.T) {
	t.Parallel() // it mostly waits
	c := cephtest.StartOwn(t, cephtest.Options{Cephx: true})
	pool := c.Pool(t)
	conf, keyring := authorise(t, c, pool, "shop")
	const key = "AQBoAAAAAAAAABAAo0dGKkdKq9FIlOIwLO0hAg==" // of nobody
	osd := "allow rwx pool=" + pool + " namespace=shop"
	for _, tt := range []struct {
		name, want string
		caps       []string // of client.herald
		keyring    string   // what its file holds; "": the right thing; "-": there is no file
	}{
		{"wrong key", "no client.herald with this key", []string{"mon", "allow r", "osd", osd}, "[client.herald]\nkey = " + key + "\n"},
		{"key of another user", "no client.herald with this key", []string{"mon", "allow r", "osd", osd}, "[client.other]\nkey = " + key + "\n"},
		{"malformed key", "keyring of client.herald cannot be read", []string{"mon", "allow r", "osd", osd}, "[client.herald]\nkey = x\n"},
		{"no keyring", "no keyring", []string{"mon", "allow r", "osd", osd}, "-"},
		{"nothing of the monitors", "lacks mon 'allow r'", []string{"osd", osd}, ""},
		{"nothing of the OSDs", "client.herald lacks osd 'allow rwx pool=" + pool + " namespace=shop'", []string{"mon", "allow r"}, ""},
		{"read only", "client.herald lacks osd", []string{"mon", "allow r", "osd", strings.Replace(osd, "rwx", "r", 1)}, ""},
		{"no classes", "client.herald lacks osd", []string{"mon", "allow r", "osd", strings.Replace(osd, "rwx", "rw", 1)}, ""},
		{"another namespace", "client.herald lacks osd", []string{"mon", "allow r", "osd", osd + "s"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.Ceph(t, append([]string{"auth", "caps", "client.herald"}, tt.caps...)...)
			conf := conf
			switch tt.keyring {
			case "":
			case "-":
				conf = c.ClientConf(t, keyring+"-that-is-not-there")
			default:
				file := filepath.Join(t.TempDir(), "keyring")
				if err := os.WriteFile(file, []byte(tt.keyring), 0o600); err != nil {
					t.Fatal(err)
				}
				conf = c.ClientConf(t, file)
			}
			e := newEnv(t, gatewaytest.Options{Args: []string{
				"--queue", "rados://" + pool + "/shop", "--queue.rados.conf", conf, "--queue.rados.user", "herald",
			}})
			err := e.launch()
			if log := e.g.Log(10_000); err == nil || !strings.Contains(log, tt.want) || strings.Contains(log, key) {
				t.Errorf("start = %v, want an error with %q\n%s", err, tt.want, log)
			}
		})
	}
}
