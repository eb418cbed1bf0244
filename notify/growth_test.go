package notify

import (
	"fmt"
	"testing"
	"time"
)

// TestTopics_ComeAndGo: who makes topics and deletes them, again and again,
// leaves nothing behind in memory.
func TestTopics_ComeAndGo(t *testing.T) {
	opt := quick()
	opt.ConnectTimeout, opt.PushTimeout = time.Second, 2*time.Second // for so long a topic's figures stay
	r := newRig(t, opt)
	sink := newSink(t, nil)
	r.run()
	for i := range 5 {
		name := fmt.Sprint("t", i)
		r.notify(rule("n", r.topic(name, sink.URL, "persistent", "true"), Filter{}))
		r.put(name, "e")
		eventually(t, "the event", func() bool { return len(sink.ofKey(name)) == 1 })
		if err := r.s.Topics().Delete(r.ctx, "", name); err != nil {
			t.Fatal(err)
		}
	}
	left := func() int {
		r.s.topics.cache.mu.RLock()
		defer r.s.topics.cache.mu.RUnlock()
		return len(r.s.topics.cache.m)
	}
	eventually(t, "an empty cache", func() bool { return left() == 0 })
	series := func() (n int) {
		families, err := r.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if l.GetName() == "topic" {
						n++
					}
				}
			}
		}
		return n
	}
	eventually(t, "no series of topics", func() bool { return series() == 0 })
}
