package queues

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"herald/tests/gatewaytest"
	"herald/tests/redistest"
)

// TestMigrate moves events that wait from the embedded queues to Redis and back,
// and kills the migration again and again. The events then arrive, in order.
func TestMigrate(t *testing.T) {
	r := redistest.Start(t)
	place := r.URL() + "?namespace=moved"
	e := newEnv(t, gatewaytest.Options{})
	e.check(e.g.Run())
	e.createBucket("watched")
	dead := gatewaytest.FreeAddress(t)
	e.notify("watched", "http://"+dead)
	var want []string
	for i := range 400 {
		key := fmt.Sprintf("key %d", i%20)
		e.check(e.put("watched", key, fmt.Sprint(i)))
		want = append(want, "watched/"+key)
	}
	if out, code := e.g.Admin("queue", "migrate", "--from", "embedded", "--to", place); code != 16 || !strings.Contains(out, "stop it") {
		t.Errorf("migrate under a gateway = %d\n%s\nwant a refusal", code, out)
	}
	e.check(e.g.Stop())

	e.g.SetArgs("--queue", place)
	if err := e.g.Launch(); err == nil || !strings.Contains(e.g.Log(4000), "queue migrate") {
		t.Errorf("start with events left in the embedded queues = %v, want a refusal\n%s", err, e.g.Log(4000))
	}
	before := e.figures("embedded")
	e.migrate("embedded", place)
	if after := e.figures(place); !slices.Equal(after, before) || len(e.figures("embedded")) > 0 {
		t.Errorf("after the move: %v, left %v; want %v and nothing", after, e.figures("embedded"), before)
	}
	e.migrate(place, "embedded")
	if after := e.figures("embedded"); !slices.Equal(after, before) || len(e.figures(place)) > 0 {
		t.Errorf("after the move back: %v, left %v; want %v and nothing", after, e.figures(place), before)
	}
	e.migrate("embedded", place)

	e.check(e.g.Run())
	sink := newEndpoint(t)
	_, err := e.createTopic(sink.URL)
	e.check(err)
	sink.want(t, len(want))
	perKey := func(keys []string) []string {
		keys = slices.Clone(keys)
		slices.SortStableFunc(keys, strings.Compare)
		return keys
	}
	if got := sink.got(); !slices.Equal(perKey(got), perKey(want)) {
		t.Errorf("%d events, want %d: %q", len(got), len(want), got)
	}
}

// migrate moves queues, killed some times before it can end.
func (e *env) migrate(from, to string) {
	e.t.Helper()
	kills := 10
	if testing.Short() {
		kills = 4
	}
	for n := 0; ; n++ {
		ctx, cancel := context.WithTimeout(e.t.Context(), patience)
		if n < kills {
			ctx, cancel = context.WithTimeout(e.t.Context(), time.Duration(100+rand.IntN(200))*time.Millisecond)
		}
		out, err := e.run(ctx, "admin", "queue", "migrate", "--from", from, "--to", to)
		killed := ctx.Err() != nil
		cancel()
		var exit *exec.ExitError
		switch {
		case err == nil:
			e.t.Logf("%s to %s, killed %d times: %s", from, to, n, strings.Join(strings.Fields(out), " "))
			return
		case n < kills && killed:
		case errors.As(err, &exit) && exit.ExitCode() == 16 && n < kills+100:
			time.Sleep(500 * time.Millisecond) // the killed one's lock runs out
		default:
			e.t.Fatalf("migrate: %v\n%s", err, out)
		}
	}
}

// figures are the figures of the queues at a place, without times.
func (e *env) figures(place string) []string {
	e.t.Helper()
	out, err := e.run(e.t.Context(), "admin", "queue", "stats", "--queue", place)
	if err != nil {
		e.t.Fatalf("stats of %s: %v\n%s", place, err, out)
	}
	var list []map[string]any
	e.check(json.Unmarshal([]byte(out), &list))
	var figures []string
	for _, f := range list {
		delete(f, "oldest")
		figures = append(figures, fmt.Sprint(f))
	}
	return figures
}
