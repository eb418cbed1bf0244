package soak

import (
	"fmt"
	"sync"
	"time"
)

// keyID names a key.
type keyID struct{ bucket, key string }

func (k keyID) String() string { return k.bucket + "/" + k.key }

// change is a change of a key that happened. It was asked for not before call,
// and had happened at ret.
type change struct {
	events    []string // their names, in any order
	op        int64    // the request that wrote the object, which the event is about
	etag      string   // empty: nobody told
	call, ret time.Time
	unsure    bool // it may not have happened
}

func (c *change) String() string { return fmt.Sprintf("%q #%d %s", c.events, c.op, c.etag) }

// history is what clients did, and which topics were to hear of it.
type history struct {
	mu    sync.Mutex // guards what follows
	keys  map[keyID][]*change
	rules map[string]map[string]*rule // by bucket, by topic
}

func newHistory() *history {
	return &history{keys: map[keyID][]*change{}, rules: map[string]map[string]*rule{}}
}

// add notes a change of a key, its latest.
func (h *history) add(k keyID, c *change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys[k] = append(h.keys[k], c)
}

// changes is how many there were.
func (h *history) changes() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, list := range h.keys {
		n += len(list)
	}
	return n
}

// rule returns the rule that tells a topic of a bucket's changes.
func (h *history) rule(bucket, topic string) *rule {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rules[bucket] == nil {
		h.rules[bucket] = map[string]*rule{}
	}
	if h.rules[bucket][topic] == nil {
		h.rules[bucket][topic] = &rule{}
	}
	return h.rules[bucket][topic]
}

// must is whether a change has an event at a topic.
type must int

const (
	never must = iota
	maybe
	always
)

// rule is when a bucket's changes were told to a topic. At first they are not.
type rule struct {
	mu    sync.Mutex // guards what follows
	turns []turn
	gone  time.Time // what had happened before may have been lost, lawfully
}

// turn is a change of the rule, made at some time between two.
type turn struct {
	on       bool
	from, to time.Time // to: zero until it is known to be made
}

// begin notes that the rule is about to change. Nobody knows which way it is
// until done.
func (r *rule) begin(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.turns); n > 0 && r.turns[n-1].to.IsZero() && r.turns[n-1].on == on {
		return // tried again
	}
	r.turns = append(r.turns, turn{on: on, from: time.Now()})
}

// done notes that it has changed, whatever became of earlier tries.
func (r *rule) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for i := range r.turns {
		if r.turns[i].to.IsZero() {
			r.turns[i].to = now
		}
	}
}

// want is which way the rule was last to be.
func (r *rule) want() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.turns) > 0 && r.turns[len(r.turns)-1].on
}

// known is whether it is certain that it is so.
func (r *rule) known() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.turns) == 0 || !r.turns[len(r.turns)-1].to.IsZero()
}

// forget allows that events of what happened so far never arrive: their queue
// was deleted.
func (r *rule) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = time.Now()
}

// of tells whether a change has an event by the rule.
func (r *rule) of(c *change) must {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.during(c.call, c.ret)
	if m == always && (c.unsure || c.call.Before(r.gone)) {
		return maybe
	}
	return m
}

func (r *rule) during(call, ret time.Time) must {
	was := turn{to: call} // off
	for _, t := range r.turns {
		if t.from.After(ret) {
			break
		}
		if t.to.IsZero() || t.to.After(call) { // at the same time
			return maybe
		}
		was = t
	}
	if was.on {
		return always
	}
	return never
}

// expired are the events of an object that a lifecycle rule ends.
var expired = []string{"ObjectLifecycle:Expiration:Current", "LifecycleExpiration:Delete"} // never written
