package redis

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"herald/tests/redistest"
)

// setBack gives what a server keeps of a group and a lock the times that it has
// when the server's clock is set back by an hour.
func setBack(t *testing.T, s *redistest.Server, d *Driver, group, lock string) {
	t.Helper()
	members := d.groupKeys(group)[0]
	for member, value := range d.client.HGetAll(t.Context(), members).Val() {
		var end, ttl int64
		if _, err := fmt.Sscan(value, &end, &ttl); err != nil {
			t.Fatalf("member %s is %q: %v", member, value, err)
		}
		s.Do("HSET", members, member, fmt.Sprint(end+time.Hour.Milliseconds(), " ", ttl))
	}
	for _, key := range []string{members, d.lockKeys(lock)[0]} {
		left := d.client.PTTL(t.Context(), key).Val()
		s.Do("PEXPIRE", key, (left + time.Hour).Milliseconds())
	}
}

// TestClockSetBack has the server's clock set back: who has gone is noticed
// within the time that it had asked for, as ever.
func TestClockSetBack(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	l, ctx := h.d.Locker(), t.Context()
	const ttl = 2 * time.Second
	if _, err := l.Join(ctx, "g", "dead", ttl); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Join(ctx, "g", "long", time.Hour); err != nil {
		t.Fatal(err)
	}
	dead, err := l.Acquire(ctx, "l", "dead", ttl)
	if err != nil {
		t.Fatal(err)
	}
	setBack(t, s, h.d, "g", "l")
	redistest.Eventually(t, "the dead one's lock is free", func() bool {
		next, err := l.Acquire(ctx, "l", "next", time.Hour)
		return err == nil && next.Fence() > dead.Fence()
	})
	redistest.Eventually(t, "the dead one is no member", func() bool {
		members, err := l.Join(ctx, "g", "me", time.Second) // a shorter stay does not end others'
		if err != nil || !slices.Contains(members, "long") {
			t.Fatalf("members %s, %v", strings.Join(members, " "), err)
		}
		return !slices.Contains(members, "dead")
	})
	if left := h.d.client.PTTL(ctx, h.d.groupKeys("g")[0]).Val(); left > time.Hour {
		t.Errorf("the group is kept for %v", left)
	}
}

// TestLock_NoEnd has a lock as a server keeps it that was killed while it wrote
// that to its file, and began the transaction only: it has a holder, and no end.
// Others have it free after the time of a lease.
func TestLock_NoEnd(t *testing.T) {
	s := redistest.Start(t)
	h := newHarness(t, s.URL(), Options{})
	l, ctx := h.d.Locker(), t.Context()
	for _, fields := range [][]any{nil, {"ttl"}, {"ttl", "token"}} {
		name := fmt.Sprint("l", len(fields))
		dead, err := l.Acquire(ctx, name, "dead", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		holder := h.d.lockKeys(name)[0]
		s.Do("PERSIST", holder)
		if len(fields) > 0 {
			s.Do(append([]any{"HDEL", holder}, fields...)...)
		}
		redistest.Eventually(t, "the dead one's lock is free", func() bool {
			next, err := l.Acquire(ctx, name, "next", time.Second)
			return err == nil && next.Fence() > dead.Fence()
		})
	}
}
