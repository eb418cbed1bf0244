package posix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"herald/store"
)

// outcomes keeps what became of ops: a store.Outcomes. They are in memory; a
// snapshot is written with each checkpoint, and the journal has those since.
type outcomes struct {
	d *Driver

	mu      sync.Mutex // guards what follows
	m       map[store.OpID]store.Outcome
	bars    map[store.OpID]struct{}
	changed bool   // since the snapshot
	clock   uint64 // in the snapshot

	anyBars atomic.Bool
}

var _ store.Outcomes = (*outcomes)(nil)

func (o *outcomes) put(op store.OpID, out *store.Outcome) {
	if op.IsZero() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.m[op] = *out
	o.changed = true
}

// barred tells whether an op must not come true. The caller holds the guard of
// its key.
func (o *outcomes) barred(op store.OpID) bool {
	if op.IsZero() || !o.anyBars.Load() {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.bars[op]
	return ok
}

// Settle implements store.Outcomes. It waits for what runs on the op's key. A
// change that is in the journal and could not be applied, or may be there
// though the journal failed, has no outcome before the next start.
func (o *outcomes) Settle(_ context.Context, ref store.OpRef) (store.Outcome, error) {
	g := o.d.guards.lock(ref.Bucket, ref.Key)
	defer g.unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if out, ok := o.m[ref.ID]; ok {
		return out, nil
	}
	if err := o.d.undecided(); err != nil {
		return store.Outcome{}, fmt.Errorf("settle %s: %w: %w", ref.ID, store.ErrUnknownOutcome, err)
	}
	o.bars[ref.ID] = struct{}{}
	o.anyBars.Store(true)
	return store.Outcome{}, store.ErrNoSuchOp
}

// undecided is nil, or why there may be changes that are made by the next
// start.
func (d *Driver) undecided() error {
	if err := d.broken.Load(); err != nil {
		return *err
	}
	return d.journal.Err()
}

// List implements store.Outcomes: the refs have no bucket and no key, as Forget
// needs none.
func (o *outcomes) List(_ context.Context, after store.OpID, limit int) ([]store.OpRef, error) {
	var refs []store.OpRef
	o.mu.Lock()
	for op := range o.m {
		if bytes.Compare(op[:], after[:]) > 0 {
			refs = append(refs, store.OpRef{ID: op})
		}
	}
	o.mu.Unlock()
	slices.SortFunc(refs, func(a, b store.OpRef) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	if limit > 0 {
		refs = refs[:min(limit, len(refs))]
	}
	return refs, nil
}

// Forget implements store.Outcomes. It is durable with what is journaled
// after it.
func (o *outcomes) Forget(_ context.Context, refs ...store.OpRef) error {
	var e forgetEntry
	o.mu.Lock()
	for _, ref := range refs {
		delete(o.bars, ref.ID)
		if _, ok := o.m[ref.ID]; ok {
			delete(o.m, ref.ID)
			o.changed = true
			e.ops = append(e.ops, ref.ID)
		}
	}
	o.anyBars.Store(len(o.bars) > 0)
	o.mu.Unlock()
	if len(e.ops) == 0 {
		return nil
	}
	t, err := o.d.flight.append(e.encode(nil))
	if err != nil {
		return fmt.Errorf("forget outcomes: %w", err)
	}
	o.d.flight.done(t)
	return nil
}

// drop is Forget in replay.
func (o *outcomes) drop(ops []store.OpID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, op := range ops {
		delete(o.m, op)
	}
	o.changed = true
}

const outcomesVersion = 1

func (d *Driver) outcomesPath() string { return filepath.Join(d.root, home, "outcomes") }

// save writes the snapshot. Whatever was applied before is in it, as every
// outcome is put before its record is done. What is not in it any more was
// forgotten because of records (the events that came of it): they are made
// durable first, as the change itself will not be replayed again.
func (o *outcomes) save() error {
	o.mu.Lock()
	clock := o.d.clock.last.Load()
	if !o.changed && clock == o.clock {
		o.mu.Unlock()
		return nil
	}
	o.changed = false
	e := encoder{make([]byte, 0, 4096)}
	e.byte(outcomesVersion)
	e.uint(clock)
	e.uint(uint64(len(o.m)))
	for op, out := range o.m {
		e.raw(op[:])
		encodeOutcome(&e, &out)
	}
	end := o.d.journal.End()
	o.mu.Unlock()
	err := o.d.journal.Wait(end)
	if err == nil {
		err = o.write(e.b)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.changed = true
		return err
	}
	o.clock = clock
	return nil
}

func (o *outcomes) write(b []byte) error {
	name, err := o.d.writeFlushed(b)
	if err != nil {
		return err
	}
	return unix.Renameat(o.d.stagingFD, name, o.d.homeFD, "outcomes")
}

func loadOutcomes(d *Driver) (*outcomes, error) {
	o := &outcomes{
		d: d, m: make(map[store.OpID]store.Outcome), bars: make(map[store.OpID]struct{}),
		changed: true, // the clock is saved at least once
	}
	b, err := os.ReadFile(d.outcomesPath())
	if errors.Is(err, os.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return nil, err
	}
	return o, o.decode(b)
}

func (o *outcomes) decode(b []byte) error {
	dec := decoder{b: b}
	if dec.byte() != outcomesVersion {
		return errCorrupt
	}
	o.d.clock.seen(dec.uint())
	n := dec.uint()
	for i := uint64(0); i < n && dec.err == nil; i++ {
		var op store.OpID
		copy(op[:], dec.raw(len(op)))
		out, err := decodeOutcome(&dec)
		if err != nil {
			return err
		}
		o.m[op] = out
	}
	return dec.end()
}

func encodeOutcome(e *encoder, out *store.Outcome) {
	e.bool(out.Changed)
	e.uint(out.Seq)
	for _, info := range []*store.Info{out.Info, out.Prior} {
		e.bool(info != nil)
		if info != nil {
			e.string(info.Key)
			e.bool(info.IsLatest)
			a := attrOf(info)
			e.bytes(a.encode(nil))
		}
	}
}

func decodeOutcome(d *decoder) (out store.Outcome, err error) {
	out.Changed, out.Seq = d.bool(), d.uint()
	for _, p := range []**store.Info{&out.Info, &out.Prior} {
		if !d.bool() {
			continue
		}
		key, latest := d.string(), d.bool()
		a, _, err := decodeAttr(d.bytes())
		if err != nil {
			return out, err
		}
		*p = a.info(key, latest)
	}
	return out, d.err
}

// attrOf is the part of an attr that an Info has.
func attrOf(info *store.Info) *attr {
	return &attr{
		versionID: info.VersionID, marker: info.DeleteMarker, size: info.Size, etag: info.ETag,
		modTime: info.ModTime.UnixNano(), seq: info.Seq, attrs: info.Attrs,
	}
}
