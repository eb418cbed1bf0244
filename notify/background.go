package notify

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"herald/store"
)

// background is work that goes on after its request was answered. Nothing is
// lost if the process dies with it: reservations stand for it.
type background struct {
	mu     sync.Mutex // guards all below
	jobs   map[*job]struct{}
	closed bool
	wg     sync.WaitGroup // added to with mu held, while not closed
}

type job struct{ cancel context.CancelFunc }

// maxBackground bounds the jobs at once; beyond, requests do them themselves.
const maxBackground = 4096

// start runs f beside the caller, with a time limit. It is false when there is
// no room, or the service ends: then f was not called.
func (b *background) start(s *Service, limit time.Duration, f func(ctx context.Context)) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	j := &job{cancel}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.jobs) >= maxBackground {
		cancel()
		return false
	}
	if b.jobs == nil {
		b.jobs = make(map[*job]struct{})
	}
	b.jobs[j] = struct{}{}
	b.wg.Go(func() {
		defer b.end(j)
		defer func() {
			if r := recover(); r != nil {
				s.metrics.workerPanics.Inc()
				s.log.Error("panic behind a request", "panic", r, "stack", string(debug.Stack()))
			}
		}()
		f(ctx)
	})
	return true
}

func (b *background) end(j *job) {
	j.cancel()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.jobs, j)
}

// finish waits for the jobs, which after a while are told to give up, and lets
// none begin any more.
func (b *background) finish(patience time.Duration) {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	timer := time.AfterFunc(patience, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for j := range b.jobs {
			j.cancel()
		}
	})
	defer timer.Stop()
	b.wg.Wait()
}

func (b *background) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.jobs)
}

// forgetter forgets outcomes, all at once those that come while it is busy.
type forgetter struct {
	mu   sync.Mutex // guards all below
	refs []store.OpRef
	busy bool // somebody takes care of what is in refs
}

// forgetTimeout bounds the forgetting of a batch.
const forgetTimeout = 30 * time.Second

// add forgets an op's outcome, perhaps by another goroutine. What cannot be
// forgotten is left to the next start.
func (f *forgetter) add(s *Service, ref store.OpRef) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refs = append(f.refs, ref)
	if f.busy {
		return
	}
	f.busy = true
	defer func() { f.busy = false }()
	for len(f.refs) > 0 {
		refs := f.refs[:min(len(f.refs), forgetBatch)]
		f.refs = f.refs[len(refs):]
		f.forget(s, refs)
	}
	f.refs = nil
}

// forget is called with mu held, and does without it.
func (f *forgetter) forget(s *Service, refs []store.OpRef) {
	f.mu.Unlock()
	defer f.mu.Lock()
	ctx, cancel := context.WithTimeout(context.Background(), forgetTimeout)
	defer cancel()
	if err := s.cfg.Outcomes.Forget(ctx, refs...); err != nil {
		s.log.Warn("forget outcomes", "ops", len(refs), "err", err)
	}
}

// parallel calls f with 0 to n-1, at most limit at once, and waits for them. A
// panic of one is passed on to the caller when all have ended.
func parallel(n, limit int, f func(i int)) {
	if n == 1 || limit == 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var wg sync.WaitGroup
	slots, panics := make(chan struct{}, limit), make(chan any, n)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					panics <- r
				}
				<-slots
			}()
			f(i)
		})
	}
	wg.Wait()
	if len(panics) > 0 {
		panic(<-panics)
	}
}
