//go:build rados

package interchange

import (
	"encoding/json"
	"strings"
	"testing"

	"herald/queue/rados"
)

// Queues that a radosgw delivers are not moved, until it is gone.
func TestMigrate(t *testing.T) {
	s := newTurns(t)
	s.receiver.down.Store(true)
	s.fill(map[string]*site{"rbucket": s.radosgw})
	if err := s.gateway.Stop(); err != nil {
		t.Fatal(err)
	}
	s.eventually("radosgw owns the queue", lookPatience, func() bool { return s.lockHolder("shared").isRadosgw() })
	migrate := func() (string, int) {
		return s.gateway.Admin("queue", "migrate", "--queue.rados.rgw-compatible", "--queue.rados.conf", s.cluster.Conf,
			"--from", "rados://"+rados.RGWPool+"/"+rados.RGWNamespace, "--to", "embedded")
	}
	if out, code := migrate(); code != 16 || !strings.Contains(out, "radosgw") {
		t.Errorf("migrate under a radosgw = %d\n%s\nwant a refusal", code, out)
	}
	s.rgw.Kill(t)
	s.breakLock("shared")
	out, code := migrate()
	var sum struct{ Entries, Unreadable int }
	if err := json.Unmarshal([]byte(out), &sum); code != 0 || err != nil || sum.Entries != s.n || sum.Unreadable != 0 {
		t.Errorf("migrate = %d\n%s\nwant %d entries moved", code, out, s.n)
	}
}
