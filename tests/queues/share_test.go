package queues

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"herald/tests/gatewaytest"
	"herald/tests/redistest"
)

// TestShare has gateways that join, die and leave, and looks who delivers what.
func TestShare(t *testing.T) {
	r := redistest.Start(t)
	sink := newEndpoint(t)
	var all []*env
	start := func(i int) {
		t.Helper()
		e := newEnv(t, gatewaytest.Options{Args: []string{"--queue", r.URL() + "?namespace=shared", "--queue-lease", "3s", "--topic-shards", "12"}})
		e.check(e.g.Run())
		bucket := fmt.Sprintf("bucket-%d", i)
		e.createBucket(bucket)
		e.notify(bucket, sink.URL)
		all = append(all, e)
	}
	for i := range 3 {
		start(i)
		wantShares(t, all...)
	}
	all[0].g.Kill()
	wantShares(t, all[1:]...)
	all[1].check(all[1].g.Stop())
	wantShares(t, all[2])
	all[0].check(all[0].g.Run())
	wantShares(t, all[0], all[2])
	for i := range 24 {
		all[2].check(all[2].put("bucket-2", fmt.Sprint(i), "x"))
		all[0].check(all[0].put("bucket-0", fmt.Sprint(i), "x"))
	}
	sink.want(t, 48)
}

// wantShares waits until each of the gateways delivers its even part of the 12
// queues, and all see the same.
func wantShares(t *testing.T, all ...*env) {
	t.Helper()
	began := time.Now()
	what := fmt.Sprintf("each of %d gateways has %d queues", len(all), 12/len(all))
	eventually(t, what, func() bool {
		seen := map[string]bool{}
		for _, e := range all {
			ours, view := e.owners()
			seen[view] = true
			if ours != 12/len(all) {
				return false
			}
		}
		return len(seen) == 1
	})
	t.Logf("%s after %s", what, time.Since(began).Round(time.Millisecond))
}

// owners is how many queues a gateway delivers, and who delivers which, as it
// sees it.
func (e *env) owners() (ours int, view string) {
	e.t.Helper()
	var answer struct {
		Queues []struct {
			Queue, Owner string
			Ours         bool
		}
	}
	e.check(json.Unmarshal([]byte(e.g.MustAdmin("queue", "owners")), &answer))
	for _, q := range answer.Queues {
		if q.Ours {
			ours++
		}
		view += q.Queue + " " + q.Owner + "\n"
	}
	return ours, view
}
