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
	ctx    context.Context // of all work; ends when finish loses patience
	cancel context.CancelFunc
	wg     sync.WaitGroup // added to with mu held while not closed, or by who is counted
	soon   deadline       // of ctx

	mu     sync.Mutex // guards all below
	n      int
	closed bool
}

// maxBackground bounds what goes on at once; beyond, requests do it themselves.
const maxBackground = 4096

func newBackground() *background {
	b := &background{}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// enter counts one more, until it calls leave. It is false when there is no
// room, or the service ends.
func (b *background) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.n >= maxBackground {
		return false
	}
	b.n++
	b.wg.Add(1)
	return true
}

func (b *background) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n--
	b.wg.Done()
}

// start runs f beside the caller, with a time limit. It is false, and f was not
// called, when enter is.
func (b *background) start(s *Service, limit time.Duration, f func(ctx context.Context)) bool {
	if !b.enter() {
		return false
	}
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	b.goOn(ctx, s, func(ctx context.Context) {
		defer cancel()
		f(ctx)
	})
	return true
}

// goOn is start for who has entered, until ctx ends; it leaves in the end.
func (b *background) goOn(ctx context.Context, s *Service, f func(ctx context.Context)) {
	go func() { // finish waits
		defer b.leave()
		survive(ctx, s, f)
	}()
}

// startLate runs f until it is told to give up, for late ops: what is reserved
// for these bounds how many there are. It is false when the service ends.
func (b *background) startLate(s *Service, f func(ctx context.Context)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.wg.Go(func() { survive(b.ctx, s, f) })
	}
	return !b.closed
}

// survive calls f, which may panic.
func survive(ctx context.Context, s *Service, f func(ctx context.Context)) {
	defer func() {
		if r := recover(); r != nil {
			s.metrics.workerPanics.Inc()
			s.log.Error("panic behind a request", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	f(ctx)
}

// finish waits for what goes on, which after a while is told to give up, and
// lets nothing begin any more.
func (b *background) finish(patience time.Duration) {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	timer := time.AfterFunc(patience, b.cancel)
	defer timer.Stop()
	b.wg.Wait()
	b.cancel()
}

func (b *background) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

func (b *background) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

// deadline gives out contexts that end after a limit or up to a second later.
// All of a second share one: a timer for each request would cost as much as
// much of what it bounds.
type deadline struct {
	mu    sync.Mutex // guards all below
	ctx   context.Context
	end   context.CancelFunc // is not called: the timer ends it
	since time.Time
}

func (d *deadline) get(parent context.Context, limit time.Duration) context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx == nil || time.Since(d.since) >= time.Second {
		d.ctx, d.end = context.WithTimeout(parent, limit+time.Second)
		d.since = time.Now()
	}
	return d.ctx
}

// forgetter forgets outcomes, all at once those that come within a while.
type forgetter struct {
	mu   sync.Mutex // guards all below
	refs []store.OpRef
	busy bool                // somebody takes care of what is in refs
	ids  map[store.OpID]bool // of those whose end is not known
}

const (
	// forgetTimeout bounds the forgetting of a batch.
	forgetTimeout = 30 * time.Second
	// forgetDelay is how long outcomes are gathered.
	forgetDelay = 10 * time.Millisecond
	// forgetPause is the pause after a failure.
	forgetPause = time.Second
)

// has tells whether an op has ended in this process, as far as it matters:
// the store may not have forgotten it.
func (f *forgetter) has(id store.OpID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ids[id]
}

// add forgets an op's outcome, soon. What cannot be forgotten is left to the
// next start, or tried again where others may wait for it. It is called by who
// has entered the background.
func (f *forgetter) add(s *Service, ref store.OpRef) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refs = append(f.refs, ref)
	if s.shared != nil { // else nobody asks
		if f.ids == nil {
			f.ids = make(map[store.OpID]bool)
		}
		f.ids[ref.ID] = true
	}
	if f.busy {
		return
	}
	f.busy = true
	s.background.wg.Go(func() {
		for f.forgetSome(s) {
		}
	})
}

// forgetSome is false when nothing was left to be forgotten.
func (f *forgetter) forgetSome(s *Service) bool {
	time.Sleep(forgetDelay)
	f.mu.Lock()
	refs := f.refs[:min(len(f.refs), forgetBatch)]
	f.refs = f.refs[len(refs):]
	f.busy = len(refs) > 0
	f.mu.Unlock()
	if len(refs) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), forgetTimeout)
	defer cancel()
	err := s.cfg.Outcomes.Forget(ctx, refs...)
	again := err != nil && s.shared != nil && !s.background.ended()
	if err != nil {
		s.log.Warn("forget outcomes", "ops", len(refs), "again", again, "err", err)
	}
	if again {
		_ = sleep(s.background.ctx, forgetPause) // its end is seen next time
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if again {
		f.refs = append(f.refs, refs...)
		return true
	}
	for _, ref := range refs {
		delete(f.ids, ref.ID)
	}
	return true
}

// forget tells the store that nobody will ask for an op again. What cannot be
// told now is told later, if others may wait for it.
func (s *Service) forget(ctx context.Context, ref store.OpRef) {
	err := s.cfg.Outcomes.Forget(ctx, ref)
	if err == nil {
		return
	}
	s.log.Warn("forget outcome", "op", ref.ID, "err", err)
	if s.shared != nil && s.background.enter() {
		defer s.background.leave()
		s.forgetter.add(s, ref)
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
