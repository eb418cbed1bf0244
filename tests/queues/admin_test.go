package queues

import (
	"encoding/json"
	"strings"
	"testing"

	"herald/tests/gatewaytest"
	"herald/tests/redistest"
)

// TestFsck damages what Redis counts, and has it found and repaired.
func TestFsck(t *testing.T) {
	r := redistest.Start(t)
	e := newEnv(t, gatewaytest.Options{Args: []string{"--queue", r.URL() + "?namespace=checked"}})
	e.check(e.g.Run())
	e.createBucket("watched")
	e.notify("watched", "http://"+gatewaytest.FreeAddress(t))
	e.check(e.put("watched", "a", "1"))
	fsck := func(wantCode int, args ...string) (findings []map[string]any) {
		t.Helper()
		out, code := e.g.Admin(append([]string{"queue", "fsck"}, args...)...)
		if code != wantCode {
			t.Fatalf("queue fsck %q = %d, want %d\n%s", args, code, wantCode, out)
		}
		if wantCode == 0 {
			e.check(json.Unmarshal([]byte(out), &findings))
		}
		return findings
	}
	if found := fsck(0); len(found) > 0 {
		t.Errorf("a sound queue has findings: %v", found)
	}
	var names []string
	e.check(json.Unmarshal([]byte(e.g.MustAdmin("queue", "list")), &names))
	if len(names) == 0 {
		t.Fatal("no queues are listed")
	}
	r.Do("HINCRBY", "checked:{q:"+names[0]+"}:meta", "entries", 3)
	fsck(4)
	if found := fsck(0, "--repair", "--name", names[0]); len(found) != 1 || found[0]["repaired"] != true {
		t.Errorf("repaired: %v, want one finding", found)
	}
	if found := fsck(0); len(found) > 0 {
		t.Errorf("after the repair: %v", found)
	}
	if out, code := e.g.Admin("queue", "fsck", "--name", "none"); code != 2 {
		t.Errorf("queue fsck of a queue that is not there = %d\n%s", code, out)
	}
}

// TestFsck_Embedded checks the queues in the gateway's directory, with and
// without a gateway.
func TestFsck_Embedded(t *testing.T) {
	e := newEnv(t, gatewaytest.Options{})
	e.check(e.g.Run())
	e.createBucket("watched")
	e.notify("watched", "http://"+gatewaytest.FreeAddress(t))
	e.check(e.put("watched", "a", "1"))
	e.g.MustAdmin("queue", "fsck")
	e.check(e.g.Stop())
	if out := e.g.MustAdmin("queue", "fsck", "--repair"); strings.TrimSpace(out) != "[]" {
		t.Errorf("findings: %s", out)
	}
	if out := e.g.MustAdmin("queue", "stats"); !strings.Contains(out, `"entries": 1,`) {
		t.Errorf("no entry waits: %s", out)
	}
}

// TestMigrate_InUse refuses to move queues that another gateway uses.
func TestMigrate_InUse(t *testing.T) {
	r := redistest.Start(t)
	place := r.URL() + "?namespace=used"
	var all []*env
	for range 2 {
		e := newEnv(t, gatewaytest.Options{Args: []string{"--queue", place, "--queue-lease", "20s"}})
		e.check(e.g.Run())
		all = append(all, e)
	}
	stopped, running := all[0], all[1]
	stopped.createBucket("watched")
	stopped.notify("watched", "http://"+gatewaytest.FreeAddress(t))
	running.createBucket("watched")
	running.notify("watched", "http://"+gatewaytest.FreeAddress(t))
	stopped.check(stopped.g.Stop())
	migrate := []string{"queue", "migrate", "--from", place, "--to", "embedded"}
	if out, code := stopped.g.Admin(migrate...); code != 16 || !strings.Contains(out, "1 gateways use these queues") {
		t.Errorf("migrate while another gateway runs = %d\n%s", code, out)
	}
	running.check(running.g.Stop())
	if out, code := stopped.g.Admin(migrate...); code != 0 {
		t.Errorf("migrate = %d\n%s", code, out)
	}
}
