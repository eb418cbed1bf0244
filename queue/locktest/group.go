package locktest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"herald/queue"
)

func (s *suite) join(group, owner string, ttl time.Duration) []string {
	s.Helper()
	return s.joinBy(s.locker(), group, owner, ttl)
}

func (s *suite) joinBy(l queue.Locker, group, owner string, ttl time.Duration) []string {
	s.Helper()
	members, err := l.Join(s.ctx, group, owner, ttl)
	if err != nil {
		s.Fatalf("Join(%s, %s) = %v", group, owner, err)
	}
	return members
}

func (s *suite) wantMembers(what string, got []string, want ...string) {
	s.Helper()
	if !slices.Equal(got, want) {
		s.Errorf("members %s = %q, want %q", what, got, want)
	}
}

func testJoin(t *testing.T, s *suite) {
	s.wantMembers("of a new group", s.join("g", "b", hour), "b")
	s.wantMembers("after the second", s.join("g", "a", hour), "a", "b")
	s.wantMembers("after the first again", s.join("g", "b", hour), "a", "b")
	s.wantMembers("in byte order", s.join("g", "B", hour), "B", "a", "b")
	s.wantErr("Leave", s.locker().Leave(s.ctx, "g", "a"), nil)
	s.wantErr("Leave again", s.locker().Leave(s.ctx, "g", "a"), nil)
	s.wantErr("Leave by a stranger", s.locker().Leave(s.ctx, "g", "x"), nil)
	s.wantErr("Leave of no group", s.locker().Leave(s.ctx, "none", "x"), nil)
	s.wantMembers("after one left", s.join("g", "b", hour), "B", "b")
	s.wantMembers("after one came back", s.join("g", "a", hour), "B", "a", "b")
	for _, owner := range []string{"a", "b", "B"} {
		s.wantErr("Leave", s.locker().Leave(s.ctx, "g", owner), nil)
	}
	s.wantMembers("after all had left", s.join("g", "c", hour), "c")
	// A group is no lock.
	l := s.acquire("g", "d", hour)
	s.wantMembers("beside a lock of the name", s.join("g", "c", hour), "c")
	s.wantErr("Leave", s.locker().Leave(s.ctx, "g", "d"), nil)
	s.wantErr("Renew", l.Renew(s.ctx), nil)
}

func testJoinExpire(t *testing.T, s *suite) {
	s.rounds(func() {
		g := s.name("g")
		end := s.h.Now().Add(TTL)
		s.join(g, "a", TTL)
		members := s.join(g, "b", hour)
		s.alive(end)
		s.wantMembers("before an end", members, "a", "b")
		s.expire()
		s.wantMembers("after the end of one", s.join(g, "c", hour), "b", "c")
		end = s.h.Now().Add(TTL)
		s.join(g, "a", TTL)
		members = s.join(g, "b", hour)
		s.alive(end)
		s.wantMembers("after one came back", members, "a", "b", "c")
	})
	s.join("lonely", "a", TTL)
	s.expire()
	s.wantMembers("after the end of all", s.join("lonely", "b", hour), "b")
}

// testJoinAgain has a member stay by joining again.
func testJoinAgain(t *testing.T, s *suite) {
	s.rounds(func() {
		g := s.name("g")
		s.join(g, "watch", hour)
		end := s.h.Now().Add(TTL)
		s.join(g, "a", TTL)
		for range 4 {
			s.h.Advance(TTL / 2)
			next := s.h.Now().Add(TTL)
			s.join(g, "a", TTL)
			s.alive(end)
			end = next
			members := s.join(g, "watch", hour)
			s.alive(end)
			s.wantMembers("while one joins again and again", members, "a", "watch")
		}
		s.expire()
		s.wantMembers("when it no longer does", s.join(g, "watch", hour), "watch")
	})
}

func testJoinMany(t *testing.T, s *suite) {
	for i, g := range names() {
		s.join(g, fmt.Sprintf("owner %d\x00\n{}", i), hour)
		s.join(g, "another", hour)
	}
	for i, g := range names() {
		s.wantMembers(fmt.Sprintf("of %q", g), s.join(g, "another", hour), "another", fmt.Sprintf("owner %d\x00\n{}", i))
	}
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprintf("gateway-%03d", i))
	}
	for i := range want { // not in order
		s.join("large", want[i*37%len(want)], hour)
	}
	s.wantMembers("of a large group", s.join("large", want[50], hour), want...)
}

// testJoinRace has many join one group at once: each sees itself, and those
// that had joined before.
func testJoinRace(t *testing.T, s *suite) {
	s.joinRace("g", s.locker())
}

func (s *suite) joinRace(group string, lockers ...queue.Locker) {
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex // guards joined
		joined []string
		all    []string
	)
	for w := range 16 {
		owner := fmt.Sprintf("owner %02d", w)
		all = append(all, owner)
		wg.Go(func() {
			mu.Lock()
			before := slices.Clone(joined)
			mu.Unlock()
			members, err := lockers[w%len(lockers)].Join(s.ctx, group, owner, hour)
			if err != nil {
				s.Errorf("Join = %v", err)
				return
			}
			for _, o := range append(before, owner) {
				if !slices.Contains(members, o) {
					s.Errorf("%s joins and sees %q, without %s", owner, members, o)
				}
			}
			if !slices.IsSorted(members) {
				s.Errorf("members %q are not sorted", members)
			}
			mu.Lock()
			joined = append(joined, owner)
			mu.Unlock()
		})
	}
	wg.Wait()
	for _, l := range lockers {
		s.wantMembers("after all joined", s.joinBy(l, group, all[0], hour), all...)
	}
}

// testJoinReopen restarts the process of a member. In a driver that several
// share it stays a member until its time is over.
func testJoinReopen(t *testing.T, s *suite) {
	s.join("g", "a", hour)
	s.h.Reopen(t)
	members := s.join("g", "b", hour)
	if x, ok := s.h.Driver().(queue.Exclusive); ok && x.Exclusive() {
		s.wantMembers("after a restart of the only process", slices.DeleteFunc(members, func(m string) bool { return m == "a" }), "b")
		return
	}
	s.wantMembers("after a restart", members, "a", "b")
}
