package queues

import (
	"context"
	"crypto/md5"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"herald/tests/gatewaytest"
	"herald/tests/redistest"
)

// TestMigrate moves events that wait from the embedded queues to Redis and back.
func TestMigrate(t *testing.T) {
	place := redistest.Start(t).URL() + "?namespace=moved"
	testMigrate(t, nil, "embedded", place, "embedded", place)
}

// testMigrate fills queues at the first place, moves them from place to place,
// killing the move again and again, and has them delivered at the last. The
// events arrive, in order.
func testMigrate(t *testing.T, args []string, places ...string) {
	first, last := places[0], places[len(places)-1]
	e := newEnv(t, gatewaytest.Options{Args: append(args, "--queue", first)})
	e.args = args
	e.check(e.g.Run())
	e.createBucket("watched")
	e.notify("watched", "http://"+gatewaytest.FreeAddress(t))
	var want []string
	for i := range 400 {
		key := fmt.Sprintf("key %d", i%20)
		e.check(e.put("watched", key, fmt.Sprint(i)))
		want = append(want, fmt.Sprintf("watched/%s %x", key, md5.Sum(fmt.Append(nil, i))))
	}
	if out, code := e.g.Admin(append(args, "queue", "migrate", "--from", first, "--to", last)...); code != 16 || !strings.Contains(out, "stop it") {
		t.Errorf("migrate under a gateway = %d\n%s\nwant a refusal", code, out)
	}
	e.check(e.g.Stop())

	e.g.SetArgs(append(args, "--queue", last)...)
	before := e.figures(first)
	for i, to := range places[1:] {
		from := places[i]
		e.migrate(from, to)
		if after := e.figures(to); !slices.Equal(after, before) || len(e.figures(from)) > 0 {
			t.Errorf("from %s to %s: %v, left %v; want %v and nothing", from, to, after, e.figures(from), before)
		}
	}

	e.check(e.g.Run())
	sink := newEndpoint(t)
	_, err := e.createTopic(sink.URL)
	e.check(err)
	sink.want(t, len(want))
	perKey := func(events []string) []string { // sorted by key, else as they came
		key := func(s string) string { return s[:strings.LastIndexByte(s, ' ')] }
		slices.SortStableFunc(events, func(a, b string) int { return strings.Compare(key(a), key(b)) })
		return events
	}
	if got := sink.gotSums(); !slices.Equal(perKey(got), perKey(want)) {
		t.Errorf("%d events, want %d, or their order is wrong: %q", len(got), len(want), got)
	}
}

// TestForwardLeft starts a gateway with queues on a server while events wait in
// its embedded ones: they are forwarded, before those that come then.
func TestForwardLeft(t *testing.T) {
	gatewaytest.NeedTree(t, "others have no outbox")
	e := newEnv(t, gatewaytest.Options{Args: []string{"--queue", "embedded"}})
	e.check(e.g.Run())
	e.createBucket("watched")
	e.notify("watched", "http://"+gatewaytest.FreeAddress(t))
	var want []string
	put := func(from, to int) {
		for i := from; i < to; i++ {
			e.check(e.put("watched", "key", fmt.Sprint(i)))
			want = append(want, fmt.Sprintf("watched/key %x", md5.Sum(fmt.Append(nil, i))))
		}
	}
	put(0, 100)
	e.check(e.g.Stop())
	e.g.SetArgs("--queue", redistest.Start(t).URL())
	e.check(e.g.Run())
	put(100, 120)
	if out := e.g.MustAdmin("topic", "dump", "--topic", topicName); strings.Count(out, "\"entry\"") < len(want) {
		t.Errorf("dump has %d events, want %d", strings.Count(out, "\"entry\""), len(want))
	}
	e.g.Kill()
	e.check(e.g.Run())
	sink := newEndpoint(t)
	_, err := e.createTopic(sink.URL)
	e.check(err)
	sink.want(t, len(want))
	if got := sink.gotSums(); !slices.Equal(got, want) {
		t.Errorf("%d events, want %d, or their order is wrong: %q", len(got), len(want), got)
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
		limit := patience
		if n < kills {
			limit = time.Duration(50+rand.IntN(500)) * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(e.t.Context(), limit)
		out, err := e.run(ctx, append([]string{"admin", "queue", "migrate", "--from", from, "--to", to}, e.args...)...)
		killed := ctx.Err() != nil
		cancel()
		switch {
		case err == nil:
			e.t.Logf("%s to %s, killed %d times: %s", from, to, n, strings.Join(strings.Fields(out), " "))
			return
		case n >= kills || !killed:
			e.t.Fatalf("migrate: %v\n%s", err, out)
		}
	}
}

// figures are the figures of the queues at a place, without times.
func (e *env) figures(place string) []string {
	e.t.Helper()
	out, err := e.run(e.t.Context(), append([]string{"admin", "queue", "stats", "--queue", place}, e.args...)...)
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
