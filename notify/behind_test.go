package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"herald/store"
)

// soloRig is one gateway with queues on a server.
func soloRig(t *testing.T, opt Options) (*fleet, *fleetMember) {
	f := newFleet(t, opt)
	m := f.add("a", "a", nil, true)
	m.define("t")
	m.run()
	time.Sleep(2 * time.Second)
	return f, m
}

// The client has its answer while the event is on its way; the next change of
// the key waits for it, and so does the end of the service.
func TestBehind_AnsweredFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, m := soloRig(t, Options{})
		m.link.slow(time.Second)
		put := func(key, etag string) time.Duration {
			p, err := m.reserve(ObjectCreatedPut, key, store.Attrs{})
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			if _, err := p.Do(m.ctx, m.store.put("b", key, etag, nil)); err != nil {
				t.Fatal(err)
			}
			return time.Since(begin)
		}
		ready := func(key string) *Pending {
			p, err := m.reserve(ObjectCreatedPut, key, store.Attrs{})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		next, other := ready("k"), ready("l")
		if d := put("k", "1"); d != 0 {
			t.Errorf("the answer took %v", d)
		}
		begin := time.Now()
		if _, err := other.Do(m.ctx, m.store.put("b", "l", "1", nil)); err != nil || time.Since(begin) != 0 {
			t.Errorf("another key: %v after %v", err, time.Since(begin))
		}
		if _, err := next.Do(m.ctx, m.store.put("b", "k", "2", nil)); err != nil || time.Since(begin) != time.Second {
			t.Errorf("the next change: %v after %v", err, time.Since(begin))
		}
		synctest.Wait()
		if n := m.s.background.len(); n != 1 {
			t.Errorf("%d jobs", n)
		}
		m.stop()
		if n := len(m.store.outcomes); n != 0 || m.s.background.len() != 0 {
			t.Errorf("%d outcomes left at the end", n)
		}
		// What comes after the end is done before the answer.
		if d := put("k", "3"); d != time.Second {
			t.Errorf("after the end it took %v", d)
		}
		m.openAs("a", true)
		m.run()
		f.done("t")
		f.endpoint.check(t, map[string][]string{"k": {"1", "2", "3"}, "l": {"1"}})
	})
}

// The queues are away for a while, shorter or longer than is waited for.
func TestBehind_Away(t *testing.T) {
	for _, away := range []time.Duration{5 * time.Second, 10 * time.Minute} {
		t.Run(away.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f, m := soloRig(t, Options{})
				p, err := m.reserve(ObjectCreatedPut, "k", store.Attrs{})
				if err != nil {
					t.Fatal(err)
				}
				_, err = p.Do(m.ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
					m.link.sever()
					return m.store.put("b", "k", "1", nil)(ctx, op)
				})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(away)
				ctx, cancel := context.WithTimeout(m.ctx, 5*time.Second)
				defer cancel()
				if _, err := m.s.Publisher().Reserve(ctx, Change{Type: ObjectCreatedPut, Bucket: m.bucket, Key: "k"}); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Reserve = %v", err)
				}
				m.link.heal()
				if away < enqueueTimeout {
					time.Sleep(time.Second)
				} else if !m.s.late.has(p.facts.op) {
					t.Error("the op is not late")
				}
				m.put("k", "2")
				f.done("t")
				f.endpoint.check(t, map[string][]string{"k": {"1", "2"}})
				synctest.Wait() // what forgets them runs behind
				if n := len(m.store.outcomes); n != 0 {
					t.Errorf("%d outcomes left", n)
				}
			})
		})
	}
}

// The process dies between its answer and the event: the next one has it in
// its queue before anything new.
func TestBehind_Killed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, m := soloRig(t, Options{DrainTimeout: time.Millisecond})
		for i := range 3 {
			p, err := m.reserve(ObjectCreatedPut, fmt.Sprint("k", i), store.Attrs{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Do(m.ctx, func(ctx context.Context, op store.OpID) (store.Outcome, error) {
				m.link.sever()
				defer func() { // others may still reserve
					if i < 2 {
						time.AfterFunc(time.Millisecond, m.link.heal)
						m.link.slow(time.Hour)
					}
				}()
				return m.store.put("b", fmt.Sprint("k", i), "1", nil)(ctx, op)
			})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Millisecond)
			m.link.slow(0)
		}
		m.stop() // gives up soon
		if st := m.rigStats(f); st.Reservations != 3 || st.Entries != 0 {
			t.Fatalf("stats = %+v", st)
		}
		m.link.heal()
		m.openAs("a", true)
		for i := range 3 {
			m.put(fmt.Sprint("k", i), "2")
		}
		m.run()
		f.done("t")
		f.endpoint.check(t, map[string][]string{"k0": {"1", "2"}, "k1": {"1", "2"}, "k2": {"1", "2"}})
	})
}

// rigStats are the topic's, by a way that is not cut.
func (m *fleetMember) rigStats(f *fleet) (sum TopicStats) {
	m.t.Helper()
	for i := range 11 {
		q, err := f.queues.Open(m.ctx, ShardName(":t", i))
		if err != nil {
			m.t.Fatal(err)
		}
		st, err := q.Stats(m.ctx)
		if err != nil {
			m.t.Fatal(err)
		}
		sum.add(st)
	}
	return sum
}

// Several topics cost one round trip, not one each.
func TestBehind_TopicsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, Options{})
		m := f.add("a", "a", nil, true)
		var rules []Rule
		for i := range 4 {
			rules = append(rules, rule(fmt.Sprint(i), m.define(fmt.Sprint("t", i)), Filter{}))
		}
		m.notify(rules...)
		m.run()
		time.Sleep(2 * time.Second)
		m.put("k", "0") // opens the queues
		time.Sleep(time.Second)
		m.link.slow(time.Second)
		begin := time.Now()
		m.put("k", "1")
		if d := time.Since(begin); d != time.Second {
			t.Errorf("a change with four topics took %v of round trips of a second", d)
		}
		time.Sleep(time.Second)
		begin = time.Now()
		p, err := m.reserve(ObjectCreatedPut, "k", nil)
		if err != nil {
			t.Fatal(err)
		}
		p.Abort()
		if d := time.Since(begin); d != 2*time.Second {
			t.Errorf("reserve and abort took %v", d)
		}
		m.stop()
	})
}

// A commit that took effect, though its answer was lost even to the driver, is
// at worst repeated, and not after a later change.
func TestBehind_AnswerLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, m := soloRig(t, Options{})
		m.link.loseCommits(1)
		m.put("k", "1")
		m.put("k", "2")
		f.done("t")
		if n := f.endpoint.check(t, map[string][]string{"k": {"1", "2"}}); n > 1 {
			t.Errorf("%d events came twice", n)
		}
		if all := f.endpoint.all(); all[len(all)-1].etag != "2" {
			t.Errorf("deliveries: %v", all)
		}
	})
}

// A reservation that vanished although it is fresh was resolved by nobody who
// knows: its event is queued all the same.
func TestBehind_ReservationGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, m := soloRig(t, Options{})
		p, err := m.reserve(ObjectCreatedPut, "k", store.Attrs{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.held[0].queue.Abort(t.Context(), p.held[0].id); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Do(m.ctx, m.store.put("b", "k", "1", nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		f.done("t")
		f.endpoint.check(t, map[string][]string{"k": {"1"}})
	})
}

// A reservation whose queue was deleted and made again is not one that somebody
// else has ended.
func TestBehind_QueueMadeAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, m := soloRig(t, Options{Shards: 1})
		p, err := m.reserve(ObjectCreatedPut, "k", store.Attrs{})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.queues.Delete(t.Context(), ":t"); err != nil {
			t.Fatal(err)
		}
		m.put("l", "1") // makes it again
		if _, err := p.Do(m.ctx, m.store.put("b", "k", "1", nil)); err != nil {
			t.Fatal(err)
		}
		f.done("t")
		f.endpoint.check(t, map[string][]string{"k": {"1"}, "l": {"1"}})
	})
}

// An entry of a gateway whose clock is an hour off: the time inside is not of
// this one's clock, Enqueued is.
func TestBehind_AgeByOwnClock(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(off.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f, m := soloRig(t, Options{Shards: 1})
				topic := m.define("t", "time_to_live", "30", "max_retries", "0")
				f.endpoint.refuse = true
				in := goldenIntent()
				in.arn, in.rules = topic.ARN, in.rules[:1]
				out := &store.Outcome{Changed: true, Seq: 1, Info: &store.Info{Key: in.key, ETag: "e"}}
				e, err := decodeEntry(in.entries("default", topic, out)[0])
				if err != nil {
					t.Fatal(err)
				}
				q, err := f.queues.Open(t.Context(), ":t")
				if err != nil {
					t.Fatal(err)
				}
				data := e.renewed(time.Now().Add(off))
				id, err := q.Reserve(t.Context(), []byte(IntentNone), int64(len(data)), 1)
				if err == nil {
					err = q.Commit(t.Context(), id, [][]byte{data})
				}
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(28 * time.Second)
				if st := m.stats("t"); st.Entries != 1 {
					t.Errorf("given up early: %+v", st)
				}
				time.Sleep(15 * time.Second)
				if l, err := m.s.DeadLetters(t.Context(), "", "t", "", 0); err != nil || len(l) != 1 || l[0].Reason != reasonTTL {
					t.Errorf("dead letters = %v, %v", l, err)
				}
				m.stop()
			})
		})
	}
}

// What a newer version, or somebody who has no intents, reserved on a shared
// server is left alone.
func TestBehind_StrangeReservations(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, m := soloRig(t, Options{Shards: 1})
		q, err := f.queues.Open(t.Context(), ":t")
		if err != nil {
			t.Fatal(err)
		}
		reserve := func(intent string) {
			if _, err := q.Reserve(t.Context(), []byte(intent), 10, 1); err != nil {
				t.Fatal(err)
			}
		}
		reserve("")
		reserve("from the future")
		reserve(IntentNone) // a move of another gateway
		intents := func() (out []string) {
			list, err := q.Reservations(t.Context(), time.Now().Add(time.Hour), 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range list {
				out = append(out, string(r.Intent))
			}
			slices.Sort(out)
			return out
		}
		m.stop()
		m.openAs("a", true)
		m.run()
		time.Sleep(time.Minute)
		if got := intents(); len(got) != 3 {
			t.Errorf("a minute later: %q", got)
		}
		time.Sleep(2 * time.Minute)
		if got := strings.Join(intents(), "|"); got != "|from the future" {
			t.Errorf("when stale: %q", got)
		}
		time.Sleep(time.Hour)
		if got := strings.Join(intents(), "|"); got != "" {
			t.Errorf("after more than an hour: %q", got)
		}
		if l, err := m.s.DeadLetters(t.Context(), "", "t", "", 0); err != nil || len(l) != 1 || string(l[0].Raw) != "from the future" {
			t.Errorf("dead letters = %+v, %v", l, err)
		}
	})
}
