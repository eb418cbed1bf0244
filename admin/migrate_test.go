package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"herald/journal"
	"herald/notify"
	"herald/queue"
	"herald/queue/embedded"
	"herald/store"
)

// newQueues opens embedded queues in a fresh directory.
func newQueues(t *testing.T) queue.Driver {
	t.Helper()
	return onJournal(t, 512<<10, func(dir string, j *journal.Journal) (queue.Driver, error) {
		return embedded.Open(filepath.Join(dir, "queue"), j, embedded.Options{Sync: true})
	})
}

// content is what a queue holds, as far as a migration keeps it.
type content struct {
	capacity int64
	entries  []string // with attempts
	intents  []string // with size and number, sorted
}

func contents(t *testing.T, d queue.Driver) map[string]content {
	t.Helper()
	out := map[string]content{}
	names, err := d.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		q, err := d.Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		st, err := q.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c := content{capacity: st.Capacity}
		for after := queue.Marker(""); ; {
			list, more, err := q.List(t.Context(), after, 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				c.entries = append(c.entries, fmt.Sprintf("%s tried %d", e.Data, e.Attempts))
				after = e.Marker
			}
			if !more {
				break
			}
		}
		list, err := q.Reservations(t.Context(), everything(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			c.intents = append(c.intents, fmt.Sprintf("%s %d %d", r.Intent, r.Size, r.Entries))
		}
		slices.Sort(c.intents)
		out[name] = c
	}
	return out
}

// fill makes a queue with entries, some of them tried before, and reservations.
func fill(t *testing.T, d queue.Driver, name string, capacity int64, entries, reservations int) {
	t.Helper()
	ctx := t.Context()
	if err := d.Create(ctx, name, capacity); err != nil {
		t.Fatal(err)
	}
	q, err := d.Open(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		id, err := q.Reserve(ctx, []byte("intent"), 100, 1)
		if err == nil {
			err = q.Commit(ctx, id, [][]byte{fmt.Appendf(nil, "%s entry %d", name, i)})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	list, _, err := q.List(ctx, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	var failed []queue.Attempt
	for i, e := range list {
		if i%10 == 3 {
			failed = append(failed, queue.Attempt{Marker: e.Marker, Attempts: i%7 + 1, LastTry: time.Now()})
		}
	}
	if err := q.Ack(ctx, queue.Ack{Failed: failed}); err != nil {
		t.Fatal(err)
	}
	for i := range reservations {
		if _, err := q.Reserve(ctx, fmt.Appendf(nil, "%s op %d", name, i), 100+int64(i), 1+i%3); err != nil {
			t.Fatal(err)
		}
	}
}

func equalContents(a, b map[string]content) string {
	for name, want := range a {
		got, ok := b[name]
		switch {
		case !ok:
			return fmt.Sprintf("queue %s is missing", name)
		case got.capacity != want.capacity:
			return fmt.Sprintf("queue %s has capacity %d, want %d", name, got.capacity, want.capacity)
		case !slices.Equal(got.entries, want.entries):
			return fmt.Sprintf("queue %s has %d entries, want %d: %q, want %q", name, len(got.entries), len(want.entries), got.entries, want.entries)
		case !slices.Equal(got.intents, want.intents):
			return fmt.Sprintf("queue %s has reservations %q, want %q", name, got.intents, want.intents)
		}
	}
	if len(a) != len(b) {
		return fmt.Sprintf("%d queues, want %d", len(b), len(a))
	}
	return ""
}

func TestMigrate(t *testing.T) {
	from, to := newQueues(t), newQueues(t)
	fill(t, from, "a.0", 1<<20, 700, 5)
	fill(t, from, "a.1", 2<<20, 0, 0)
	fill(t, from, "a.dead", 3<<20, 30, 0)
	full := int64(700 * (len("full entry 000") + queue.EntryOverhead))
	fill(t, from, "full", full, 700, 0) // as full as it gets, but for some bytes
	want := contents(t, from)
	m := &migration{from: from, to: to, progress: io.Discard}
	sum, err := m.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if sum.Queues != 4 || sum.Entries != 1430 || sum.Reservations != 5 || sum.AlreadyThere != 0 {
		t.Errorf("summary = %+v", sum)
	}
	if s := equalContents(want, contents(t, to)); s != "" {
		t.Error(s)
	}
	if left := contents(t, from); len(left) != 0 {
		t.Errorf("left in the source: %v", left)
	}
}

var errKilled = errors.New("killed")

// dying is a driver that dies after a number of calls, the last of which takes
// effect or not.
type dying struct {
	queue.Driver
	left    *int
	applied bool
}

// step is false when the call must not be made.
func (d *dying) call(f func() error) error {
	switch *d.left--; {
	case *d.left > 0:
		return f()
	case *d.left == 0 && d.applied:
		_ = f() // nobody hears of it
	}
	return errKilled
}

func (d *dying) Create(ctx context.Context, name string, capacity int64) error {
	return d.call(func() error { return d.Driver.Create(ctx, name, capacity) })
}

func (d *dying) Delete(ctx context.Context, name string) error {
	return d.call(func() error { return d.Driver.Delete(ctx, name) })
}

func (d *dying) Open(ctx context.Context, name string) (queue.Queue, error) {
	q, err := d.Driver.Open(ctx, name)
	return &dyingQueue{q, d}, err
}

type dyingQueue struct {
	queue.Queue
	d *dying
}

func (q *dyingQueue) Reserve(ctx context.Context, intent []byte, size int64, entries int) (id queue.ID, err error) {
	err = q.d.call(func() error { id, err = q.Queue.Reserve(ctx, intent, size, entries); return err })
	return id, err
}

func (q *dyingQueue) Commit(ctx context.Context, id queue.ID, entries [][]byte) error {
	return q.d.call(func() error { return q.Queue.Commit(ctx, id, entries) })
}

func (q *dyingQueue) Abort(ctx context.Context, id queue.ID) error {
	return q.d.call(func() error { return q.Queue.Abort(ctx, id) })
}

func (q *dyingQueue) Ack(ctx context.Context, ack queue.Ack) error {
	return q.d.call(func() error { return q.Queue.Ack(ctx, ack) })
}

// TestMigrate_Killed dies at each call that changes something, before and
// after it took effect, again and again until all is moved.
func TestMigrate_Killed(t *testing.T) {
	for _, applied := range []bool{false, true} {
		for k := 1; ; k++ {
			from, to := newQueues(t), newQueues(t)
			fill(t, from, "a.0", 1<<20, 600, 3)
			fill(t, from, "a.dead", 1<<20, 5, 0)
			want := contents(t, from)
			runs := 0
			for first := true; ; first = false {
				left := 4 + k%5 // of later runs
				if first {
					left = k
				}
				m := &migration{progress: io.Discard,
					from: &dying{Driver: from, left: &left, applied: applied},
					to:   &dying{Driver: to, left: &left, applied: applied}}
				runs++
				_, err := m.run(t.Context())
				if err == nil {
					break
				}
				if !errors.Is(err, errKilled) || runs > 1000 {
					t.Fatal(err)
				}
			}
			if s := equalContents(want, contents(t, to)); s != "" {
				t.Fatalf("killed at call %d (applied: %v), %d runs: %s", k, applied, runs, s)
			}
			if left := contents(t, from); len(left) != 0 {
				t.Fatalf("left in the source: %v", left)
			}
			if runs == 1 {
				break // it was not killed
			}
			if testing.Short() {
				k += 6
			}
		}
	}
}

// halfDeleted has a name more than queues, until that is deleted, too: whoever
// deleted the queue died in between (queue/rados).
type halfDeleted struct {
	queue.Driver
	name string
}

func (h *halfDeleted) List(ctx context.Context, prefix string) ([]string, error) {
	names, err := h.Driver.List(ctx, prefix)
	if h.name != "" {
		names = append([]string{h.name}, names...)
	}
	return names, err
}

func (h *halfDeleted) Delete(ctx context.Context, name string) error {
	if name == h.name {
		h.name = ""
		return queue.ErrNoSuchQueue
	}
	return h.Driver.Delete(ctx, name)
}

func TestMigrate_HalfDeleted(t *testing.T) {
	from, to := &halfDeleted{newQueues(t), "a"}, newQueues(t)
	fill(t, from, "b", 1<<20, 10, 0)
	want := contents(t, from.Driver)
	sum, err := (&migration{from: from, to: to, progress: io.Discard}).run(t.Context())
	if err != nil || sum.Queues != 1 {
		t.Errorf("migrate = %+v, %v", sum, err)
	}
	if s := equalContents(want, contents(t, to)); s != "" {
		t.Error(s)
	}
	if names, _ := from.List(t.Context(), ""); len(names) != 0 {
		t.Errorf("left in the source: %v", names)
	}
}

func TestMigrate_Refused(t *testing.T) {
	from, to := newQueues(t), newQueues(t)
	fill(t, from, "a.0", 1<<20, 10, 0)
	if err := to.Create(t.Context(), "a.0", 50); err != nil {
		t.Fatal(err)
	}
	wantCode := func(code int) {
		t.Helper()
		m := &migration{from: from, to: to, progress: io.Discard}
		if _, err := m.run(t.Context()); exitCode(err) != code {
			t.Errorf("run = %v, want exit code %d", err, code)
		}
	}
	wantCode(exitNoSpace)
	if _, err := to.Locker().Join(t.Context(), notify.GatewaysGroup, "somebody", time.Minute); err != nil {
		t.Fatal(err)
	}
	wantCode(exitBusy)
	if err := to.Locker().Leave(t.Context(), notify.GatewaysGroup, "somebody"); err != nil {
		t.Fatal(err)
	}
	for _, d := range []queue.Driver{from, to} { // as a radosgw does
		lease, err := d.Locker().Acquire(t.Context(), queue.OwnerLock+"a.0", "other", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		wantCode(exitBusy)
		if err := lease.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(exitNoSpace)
	lease, err := from.Locker().Acquire(t.Context(), moveLock, "other", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	wantCode(exitBusy)
	if err := lease.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCode(exitNoSpace)
}

// TestMigrate_Locked moves a queue whose lock somebody holds, when that is
// wanted; else nobody can take the lock, or ack under an older one, meanwhile.
func TestMigrate_Locked(t *testing.T) {
	from, to := newQueues(t), newQueues(t)
	fill(t, from, "a.0", 1<<20, 300, 2)
	want := contents(t, from)
	lease, err := from.Locker().Acquire(t.Context(), queue.OwnerLock+"a.0", "other", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	m := &migration{from: from, to: to, force: true, progress: io.Discard}
	if _, err := m.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := equalContents(want, contents(t, to)); s != "" {
		t.Error(s)
	}
	if err := lease.Renew(t.Context()); err != nil {
		t.Errorf("Renew by the holder = %v", err)
	}
	back := &migration{from: to, to: newQueues(t), progress: io.Discard, keep: true}
	if _, err := back.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	q, err := to.Open(t.Context(), "a.0")
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Ack(t.Context(), queue.Ack{Fence: 1}); !errors.Is(err, queue.ErrFenced) {
		t.Errorf("Ack under a lease of before = %v, want %v", err, queue.ErrFenced)
	}
	if _, err := to.Locker().Acquire(t.Context(), queue.OwnerLock+"a.0", "next", time.Minute); err != nil {
		t.Errorf("Acquire after the move = %v", err)
	}
}

// TestMigrate_Adopt moves an intent of the first version, which names no store:
// where several share the queues it must name its own.
func TestMigrate_Adopt(t *testing.T) {
	v1 := append([]byte{0x41}, bytes.Repeat([]byte{7}, len(store.OpID{}))...)
	v1 = append(v1, make([]byte, 14)...) // all fields empty
	for _, adopt := range []bool{true, false} {
		from, to := newQueues(t), newQueues(t)
		if err := from.Create(t.Context(), "a.0", 1<<20); err != nil {
			t.Fatal(err)
		}
		q, err := from.Open(t.Context(), "a.0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Reserve(t.Context(), v1, 100, 1); err != nil {
			t.Fatal(err)
		}
		m := &migration{from: from, to: to, store: "this store", adopt: adopt, progress: io.Discard}
		if _, err := m.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := contents(t, to)["a.0"].intents
		if len(got) != 1 || strings.Contains(got[0], "this store") != adopt {
			t.Errorf("adopt %v: intents %q", adopt, got)
		}
	}
}
