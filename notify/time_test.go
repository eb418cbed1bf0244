package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"herald/queue"
)

// fakePusher notes when it was asked, and answers as told.
type fakePusher struct {
	mu     sync.Mutex // guards all below
	at     []time.Duration
	start  time.Time
	answer func(Event) Result
}

func (p *fakePusher) Push(_ context.Context, events []Event) []Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = append(p.at, time.Since(p.start))
	return []Result{p.answer(events[0])}
}

func (p *fakePusher) Close() error { return nil }

func (p *fakePusher) set(answer func(Event) Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func (p *fakePusher) calls() []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.at)
}

func refuse(Event) Result { return Result{Retry, errors.New("connection refused")} }

func accept(Event) Result { return Result{} }

// timedRig is a rig whose endpoints are one fakePusher, in simulated time.
func timedRig(t *testing.T, answer func(Event) Result) (*rig, *fakePusher) {
	r := newRig(t, Options{Shards: 2})
	p := &fakePusher{start: time.Now(), answer: answer}
	r.s.open = func(Endpoint) (Pusher, error) { return p, nil }
	return r, p
}

func TestTime_RetrySleep(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, p := timedRig(t, refuse)
		r.notify(rule("n", r.topic("t", "http://x", "persistent", "true", "retry_sleep_duration", "5", "max_retries", "3"), Filter{}))
		r.run()
		r.put("k", "e")
		time.Sleep(14 * time.Second)
		if st := r.stats("t"); st.Entries != 1 {
			t.Errorf("after 14 s: %+v", st)
		}
		time.Sleep(3 * time.Second)
		if st := r.stats("t"); st.Entries != 0 {
			t.Errorf("after 17 s: %+v", st)
		}
		at := p.calls()
		if len(at) != 4 {
			t.Fatalf("attempts at %v, want 4", at)
		}
		for i := 1; i < len(at); i++ {
			if d := at[i] - at[i-1]; d < 5*time.Second || d > 5500*time.Millisecond {
				t.Errorf("attempts at %v: want 5 s between them", at)
			}
		}
		r.stop()
	})
}

// A dead endpoint is asked seldom, however much waits; once it is back all
// goes out soon.
func TestTime_Breaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, p := timedRig(t, refuse)
		r.notify(rule("n", r.topic("t", "http://x", "persistent", "true"), Filter{}))
		r.run()
		for i := range 300 {
			r.put(fmt.Sprint("k", i%100), fmt.Sprint(i))
		}
		time.Sleep(10 * time.Minute)
		// Those in flight when it broke, and a probe every 5 to 10 s.
		if n := len(p.calls()); n > 350 || n < 60 {
			t.Errorf("%d attempts in 10 minutes", n)
		}
		if st := r.stats("t"); st.Entries != 300 || time.Since(st.Oldest) < 10*time.Minute {
			t.Errorf("stats = %+v", st)
		}
		var order []string
		p.set(func(e Event) Result {
			order = append(order, e.Key)
			return Result{}
		})
		time.Sleep(21 * time.Second)
		if st := r.stats("t"); st != (TopicStats{}) {
			t.Errorf("20 s after the endpoint is back: %+v", st)
		}
		r.stop()
	})
}

func TestTime_TimeToLive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, p := timedRig(t, refuse)
		r.notify(rule("n", r.topic("t", "http://x", "persistent", "true", "time_to_live", "30", "max_retries", "None"), Filter{}))
		r.run()
		for i := range 10 {
			r.put(fmt.Sprint("k", i%4), fmt.Sprint(i))
		}
		time.Sleep(29 * time.Second)
		if st := r.stats("t"); st.Entries != 10 {
			t.Errorf("after 29 s: %+v, want 10 entries", st)
		}
		time.Sleep(3 * time.Second)
		if st := r.stats("t"); st.Entries != 0 {
			t.Errorf("after 32 s: %+v", st)
		}
		// What comes now is not held up by what went before.
		p.set(accept)
		r.put("k", "late")
		time.Sleep(11 * time.Second)
		if st := r.stats("t"); st.Entries != 0 {
			t.Errorf("the late one waits: %+v", st)
		}
		r.stop()
	})
}

// What a person sends again is tried at once: its time to live is shorter than
// the pauses that its endpoint has earned.
func TestTime_RedriveIsTried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, p := timedRig(t, refuse)
		r.notify(rule("n", r.topic("t", "http://x", "persistent", "true", "time_to_live", "2"), Filter{}))
		r.run()
		sent := 0
		for pause := time.Duration(0); pause < 6*time.Second; sent++ {
			r.put(fmt.Sprint("k", sent), "e")
			time.Sleep(time.Second)
			target := r.s.targets.peek(TopicARN("default", "", "t"))
			target.mu.Lock()
			pause = time.Until(target.until)
			target.mu.Unlock()
		}
		time.Sleep(3 * time.Second)
		p.set(accept)
		n, err := r.s.Redrive(r.ctx, "", "t")
		if err != nil || n != sent {
			t.Errorf("Redrive = %d, %v, want %d", n, err, sent)
		}
		time.Sleep(5 * time.Second)
		letters, err := r.s.DeadLetters(r.ctx, "", "t", "", 0)
		if err != nil || len(letters) != 0 {
			t.Errorf("%d dead letters again, %v, want none", len(letters), err)
		}
		if st := r.stats("t"); st.Entries != 0 {
			t.Errorf("stats = %+v, want nothing waiting", st)
		}
		r.stop()
	})
}

// Attempts outlive the worker: after a restart the count goes on.
func TestTime_AttemptsSurvive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, p := timedRig(t, refuse)
		r.notify(rule("n", r.topic("t", "http://x", "persistent", "true", "retry_sleep_duration", "10", "max_retries", "4"), Filter{}))
		r.run()
		r.put("k", "e")
		time.Sleep(25 * time.Second) // attempts at 0, 10, 20
		r.stop()
		r.open(Options{Shards: 2})
		r.s.open = func(Endpoint) (Pusher, error) { return p, nil }
		r.run()
		time.Sleep(30 * time.Second) // at 30, 40: given up
		if n := len(p.calls()); n != 5 {
			t.Errorf("%d attempts, want 5: %v", n, p.calls())
		}
		if l, err := r.s.DeadLetters(t.Context(), "", "t", "", 0); err != nil || len(l) != 1 || l[0].Attempts != 5 {
			t.Errorf("dead letters = %+v, %v", l, err)
		}
		r.stop()
	})
}

// A queue of a gateway that died is served when its lease ends, and not
// before.
func TestTime_DeadOwner(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, p := timedRig(t, accept)
		topic := r.topic("t", "http://x", "persistent", "true")
		r.notify(rule("n", topic, Filter{}))
		for i := range topic.Dest.Shards {
			if _, err := r.queues.Locker().Acquire(r.ctx, "queue/"+ShardName(topic.Dest.Queue, i), "the dead one", 30*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		r.put("k", "e")
		r.run()
		time.Sleep(29 * time.Second)
		if n := len(p.calls()); n != 0 {
			t.Errorf("%d pushes under another's lease", n)
		}
		time.Sleep(3 * time.Second)
		if n := len(p.calls()); n != 1 {
			t.Errorf("%d pushes after the lease, want 1", n)
		}
		time.Sleep(5 * time.Minute) // the own lease is renewed
		r.put("k", "f")
		time.Sleep(time.Second)
		if n := len(p.calls()); n != 2 {
			t.Errorf("%d pushes, want 2", n)
		}
		r.stop()
	})
}

func TestTime_Rejected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, p := timedRig(t, func(Event) Result { return Result{Rejected, errors.New("too large")} })
		r.notify(rule("n", r.topic("t", "http://x", "persistent", "true"), Filter{}))
		r.run()
		r.put("k", "e")
		time.Sleep(2 * time.Second)
		l, err := r.s.DeadLetters(t.Context(), "", "t", "", 0)
		if err != nil || len(l) != 1 || l[0].Reason != reasonRejected || l[0].LastError != "too large" || len(p.calls()) != 1 {
			t.Errorf("dead letters = %+v, %v after %d pushes", l, err, len(p.calls()))
		}
		r.stop()
	})
}

// Against a simple model: per key in order, one at a time; what is cut off the
// front was done; nothing is forgotten.
func TestWindow_Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		w := newWindow(16)
		var flying []*item
		sent := make(map[string]int) // last number finished, by key
		added, cut := 0, 0
		count := make(map[string]int)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1:
				if w.room() <= 0 {
					break
				}
				key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
				count[key]++
				added++
				w.add(&item{marker: queue.Marker(fmt.Sprintf("%06d", added)), attempts: count[key], order: key, raw: make([]byte, 10)}, now)
			case 2:
				if it := w.next(now); it != nil {
					for _, f := range flying {
						if f.order == it.order {
							t.Fatalf("two of key %s at once", it.order)
						}
					}
					if it.attempts != sent[it.order]+1 {
						t.Fatalf("key %s: %d after %d", it.order, it.attempts, sent[it.order])
					}
					flying = append(flying, it)
				}
			case 3:
				if len(flying) > 0 {
					it := flying[0]
					flying = flying[1:]
					sent[it.order] = it.attempts
					w.finish(it, now)
				}
			case 4:
				if len(flying) > 0 {
					it := flying[0]
					flying = flying[1:]
					w.retry(it, now.Add(time.Duration(rapid.IntRange(0, 9).Draw(t, "pause"))*time.Second), now)
				}
			case 5:
				now = now.Add(3 * time.Second)
				if rapid.Bool().Draw(t, "hurry") {
					w.hurry()
				}
				if m := w.cut(); m != "" {
					_, _ = fmt.Sscanf(string(m), "%d", &cut)
				}
			}
		}
		now = now.Add(time.Hour)
		for _, it := range flying {
			w.finish(it, now)
		}
		for it := w.next(now); it != nil; it = w.next(now) {
			w.finish(it, now)
		}
		if m := w.cut(); m != "" {
			_, _ = fmt.Sscanf(string(m), "%d", &cut)
		}
		if cut != added || !w.empty() || w.bytes != 0 || len(w.chains) != 0 {
			t.Fatalf("%d of %d entries ended; window %+v", cut, added, w)
		}
	})
}
