//go:build rados

package rados

import (
	"context"
	"runtime"
	"sync"
	"time"

	"herald/store"
)

// begun is what of a change was begun before it is made. Nothing: there is
// neither a mark nor a line.
type begun struct {
	mark  *mark      // nil: it was not announced yet, or early does that
	line  store.OpID // the op whose line was begun with the mark; zero: none
	early *announcement
	tail  bool // the mark is that of tails: the caller cancels it when the change fails
	// ready ends what has to be durable before the head is changed, besides; nil:
	// nothing.
	ready func(ctx context.Context) error
}

// announcement is a mark, and with an op its line, that are made while a body
// comes. They are renewed until somebody waits for them. With an op the head is
// read as well, since more than the body is waited for before it is changed.
type announcement struct {
	b    *bucket
	op   store.OpID
	head *earlyHead    // nil: it is not read
	done chan struct{} // closed when what follows is set
	mark *mark
	stop func()
	err  error
}

// earlyHead is a head that is read while a change is announced.
type earlyHead struct {
	since time.Time
	seen  uint64        // of the changes of such keys, before it was read
	done  chan struct{} // closed when head is set
	head  *head         // nil: it could not be read
}

// earlyFor is how long a head that was read early serves: a tombstone of which
// it knows nothing lives longer.
const earlyFor = 10 * time.Second

// readEarly begins to read the head that a change named tag, of an op, is going
// to be made on.
func (b *bucket) readEarly(ctx context.Context, key string, tag, op store.OpID) *earlyHead {
	k := b.head(key)
	e := &earlyHead{since: time.Now(), seen: b.d.changed.of(k).Load(), done: make(chan struct{})}
	want := headRead{omap: []string{keyVersion + store.NullVersion, keyBar + tag.String(), keyBar + op.String()}}
	started := b.d.bg.start(func(context.Context) {
		defer close(e.done)
		e.head, _ = b.d.readHead(ctx, k, want) // who gets none reads it again
	})
	if !started {
		return nil
	}
	return e
}

// take returns the head unless it was not read, or this gateway changed it since.
// The key's lock is held.
func (e *earlyHead) take(d *Driver) *head {
	if e == nil {
		return nil
	}
	<-e.done // reading has its own time
	if e.head == nil || time.Since(e.since) > earlyFor || d.changed.of(e.head.headKey).Load() != e.seen {
		return nil
	}
	return e.head
}

// announce begins to announce a change; nil when the driver is closed.
func (b *bucket) announce(ctx context.Context, key string, tag, op store.OpID) *announcement {
	a := &announcement{b: b, op: op, done: make(chan struct{})}
	if !op.IsZero() && !b.x.novel.expected() {
		a.head = b.readEarly(ctx, key, tag, op)
	}
	started := b.d.bg.start(func(context.Context) {
		defer close(a.done)
		logged := b.d.ops.start(ctx, op, b.head(key))
		begins, cancel := b.d.begins(ctx)
		defer cancel()
		a.mark, a.err = b.x.begin(begins, key, tag)
		switch logErr := logged(); {
		case a.err != nil && logErr == nil:
			b.d.ops.drop(op)
		case a.err == nil && logErr != nil:
			a.mark.cancel()
			a.mark, a.err = nil, logErr
		}
		if a.err == nil {
			a.stop = b.d.keep(a.mark)
		}
	})
	if !started {
		return nil
	}
	runtime.Gosched() // so that it is sent before the caller goes on: nothing is waited for longer
	return a
}

// wait gives what was announced to a change, which is about to be made.
func (a *announcement) wait(to *begun) error {
	<-a.done // it has its own time
	to.early = nil
	if a.err != nil {
		return a.err
	}
	a.stop()
	to.mark, to.line = a.mark, a.op
	return nil
}

// drop takes an announcement back.
func (a *announcement) drop() {
	drop := func(context.Context) {
		if <-a.done; a.err == nil {
			a.stop()
			a.mark.cancel()
			a.b.d.ops.drop(a.op)
		}
	}
	if !a.b.d.bg.start(drop) {
		drop(context.Background())
	}
}

// keeper renews a mark while a body comes.
type keeper struct {
	d *Driver
	m *mark

	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	stopped bool
}

// keep renews a mark until stop is called.
func (d *Driver) keep(m *mark) (stop func()) {
	k := &keeper{d: d, m: m}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.timer = time.AfterFunc(markStale/2, func() { d.bg.start(k.renew) })
	return k.stop
}

func (k *keeper) renew(ctx context.Context) {
	if k.again() && k.m.stale() {
		if err := k.m.renew(ctx); err != nil {
			k.d.log.Warn("renew the mark of an upload", "key", k.m.key, "err", err)
		}
	}
}

// again sets the timer, unless stop was called.
func (k *keeper) again() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.stopped {
		k.timer.Reset(markStale / 2)
	}
	return !k.stopped
}

func (k *keeper) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	k.timer.Stop()
}
