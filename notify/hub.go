package notify

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"herald/store"
)

// listenBuffer is how many events a listener may lag behind.
const listenBuffer = 1024

// ListenRequest selects live events.
type ListenRequest struct {
	Tenant, Bucket string // Bucket empty: all buckets of all tenants
	Prefix, Suffix string
	Events         EventType // 0: all
}

// LiveEvent is a change as a listener sees it.
type LiveEvent struct {
	// Record is the record's JSON, with an empty configurationId.
	Record []byte
	// Dropped: the listener was too slow and missed events from here on; the
	// channel is closed after this.
	Dropped bool
}

// hub passes changes on to live listeners.
type hub struct {
	count     atomic.Int32
	mu        sync.Mutex // guards listeners, and sends to them
	listeners map[*listener]struct{}
}

type listener struct {
	req ListenRequest
	c   chan LiveEvent // has room for one more than listenBuffer: the marker
}

// Listen returns the changes from now on that match, until ctx is done, when
// the channel is closed. It promises nothing: a listener that does not keep up
// is dropped.
func (s *Service) Listen(ctx context.Context, req ListenRequest) <-chan LiveEvent {
	l := &listener{req: req, c: make(chan LiveEvent, listenBuffer+1)}
	h := &s.hub
	h.mu.Lock()
	if h.listeners == nil {
		h.listeners = make(map[*listener]struct{})
	}
	h.listeners[l] = struct{}{}
	h.mu.Unlock()
	h.count.Add(1)
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.remove(l)
	})
	return l.c
}

// remove is called with mu held.
func (h *hub) remove(l *listener) {
	if _, ok := h.listeners[l]; ok {
		delete(h.listeners, l)
		close(l.c)
		h.count.Add(-1)
	}
}

func (r *ListenRequest) match(f *facts) bool {
	return (r.Bucket == "" || r.Bucket == f.bucket && r.Tenant == f.tenant) &&
		(r.Events == 0 || r.Events&f.typ != 0) &&
		strings.HasPrefix(f.key, r.Prefix) && strings.HasSuffix(f.key, r.Suffix)
}

// live tells whether anybody listens at all.
func (h *hub) live() bool { return h.count.Load() > 0 }

// publish never waits.
func (h *hub) publish(f *facts, region string, out *store.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var record []byte
	for l := range h.listeners {
		if !l.req.match(f) {
			continue
		}
		if len(l.c) >= listenBuffer {
			l.c <- LiveEvent{Dropped: true}
			h.remove(l)
			continue
		}
		if record == nil {
			record = appendRecord(nil, f, region, "", "", out)
		}
		l.c <- LiveEvent{Record: record}
	}
}
