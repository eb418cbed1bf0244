//go:build rados

package rados

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// xattrShard says what a shard may be used for.
const xattrShard = "state"

// States of a shard; what follows in some of them is a tag.
const (
	shardLive    = "live"
	shardCopying = "copying:" // is being split: who changes something of a key notes that
	shardFrozen  = "frozen:"  // is being split, or its bucket deleted: it may be read
	shardGone    = "gone:"    // two others took its place
)

// batchCalls is how many calls one operation on a shard carries out.
const (
	batchCalls  = 128
	settleCalls = 16
)

// shard is one shard of a bucket's index as this gateway uses it.
type shard struct {
	x   *index
	ref shardRef
	oid string

	fast *batcher[*indexCall] // which compares what a change expects
	slow *batcher[*indexCall] // which asks the heads

	fastTally, slowTally tally
	added                int64       // by fast, since the shard was looked at
	splitting            atomic.Bool // this gateway looks whether to split it, or does

	mu       sync.Mutex // guards what follows
	state    string     // that writes expect: live, or copying
	meets    string     // the state that was met last
	meetsFor time.Time  // since when
}

func newShard(x *index, ref shardRef) *shard {
	s := &shard{x: x, ref: ref, oid: shardName(x.bid, ref.Tag), state: shardLive}
	s.fast = newBatcher(x.env.bg, batchCalls, s.process)
	s.slow = newBatcher(x.env.bg, settleCalls, s.settle)
	s.fastTally.name = spaceSums + x.env.gateway
	s.slowTally.name = spaceSums + x.env.gateway + "+"
	return s
}

// tally is what the changes of one batcher added to a shard. Only that batcher
// uses it, and nobody else writes it in the shard while this gateway lives.
type tally struct {
	name  string
	sums  sums
	value []byte // in the shard; nil: nothing
	lost  bool   // the shard may hold another
}

// shardWrite is one write of a shard, being built.
type shardWrite struct {
	compare []comparison
	set     map[string][]byte // nil: remove
	sums    sums
}

type comparison struct {
	key   string
	with  librados.Comparison
	value []byte
}

func newShardWrite() *shardWrite { return &shardWrite{set: map[string][]byte{}} }

// expect makes the write fail unless a key has a value, or is absent.
func (w *shardWrite) expect(key string, value []byte) {
	w.compare = append(w.compare, comparison{key, librados.Equal, value})
}

// expectState makes the write fail unless the key's entry is of that state.
func (w *shardWrite) expectState(key string, e *indexEntry) {
	name := omapKey(spaceCurrent, key)
	if e == nil {
		w.expect(name, nil)
		return
	}
	at := (&indexEntry{gen: e.gen}).encode()[:8]
	after := (&indexEntry{gen: e.gen + 1}).encode()[:8]
	w.compare = append(w.compare, comparison{name, librados.Greater, at}, comparison{name, librados.Less, after})
}

// change takes a key's entries from one state to the next.
func (w *shardWrite) change(key string, c *indexChange, now time.Time) {
	name := omapKey(spaceCurrent, key)
	if c.was != nil {
		w.sums.add(sumsOf(&c.was.info, -1))
	}
	if c.now != nil {
		w.set[name] = c.now.encode()
		w.sums.add(sumsOf(&c.now.info, 1))
	} else {
		w.set[name] = nil
	}
	if c.now == nil || c.garbage {
		w.set[deadKey(key, now)] = []byte{1}
	}
	for i := range c.remove {
		w.set[versionKey(&c.remove[i])] = nil
		w.sums.add(sumsOf(&c.remove[i], -1))
	}
	for i := range c.add {
		e := indexEntry{info: c.add[i]}
		w.set[versionKey(&c.add[i])] = e.encode()
		w.sums.add(sumsOf(&c.add[i], 1))
	}
}

// write does a write; t counts what it adds. Errors: librados.ErrMismatch, ENOENT, ENODATA: something is not as
// expected, and nothing was written.
func (s *shard) write(ctx context.Context, w *shardWrite, t *tally) error {
	if err := s.find(ctx, t); err != nil {
		return err
	}
	sum, value := t.sums, t.value
	if w.sums != (sums{}) {
		w.expect(t.name, t.value)
		sum.add(w.sums)
		value = sum.encode()
		w.set[t.name] = value
	}
	op := librados.NewWrite()
	state := s.expects()
	op.CmpXattr(xattrShard, librados.Equal, []byte(state))
	for _, c := range w.compare {
		op.OmapCmp(c.key, c.with, c.value)
	}
	if state != shardLive {
		w.noteChanged()
	}
	setAll(op, w.set)
	// What ends changes must be done on a full pool too; and what begins one
	// finds out that there is no room when it writes the head.
	if _, err := s.x.env.io.Operate(ctx, s.oid, op, librados.FullForce); err != nil {
		t.lost = true
		return fmt.Errorf("write a shard of an index: %w", err)
	}
	t.sums, t.value = sum, value
	return nil
}

// noteChanged notes the keys of which the write changes something.
func (w *shardWrite) noteChanged() {
	for _, name := range slices.Collect(maps.Keys(w.set)) {
		switch name[:2] {
		case spaceCurrent, spaceVersions, spaceMarks, spaceUploads:
			if key, _, ok := splitOmapKey(name); ok {
				w.set[omapKey(spaceChanged, key)] = []byte{1}
			}
		}
	}
}

// setAll adds to an operation the removal and setting of names of an omap.
func setAll(op *librados.WriteOp, set map[string][]byte) {
	var pairs []librados.Pair
	var gone []string
	for k, v := range set {
		if v == nil {
			gone = append(gone, k)
		} else {
			pairs = append(pairs, librados.Pair{Key: k, Value: v})
		}
	}
	if len(gone) > 0 {
		op.OmapRm(gone...)
	}
	if len(pairs) > 0 {
		op.OmapSet(pairs...)
	}
}

// expects returns the state of the shard that writes expect.
func (s *shard) expects() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// learn takes note of a state in which the shard may be written; false: it was
// known.
func (s *shard) learn(state string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == state {
		return false
	}
	s.state = state
	return true
}

// find reads a tally again after an operation of which it is not known
// whether it was done.
func (s *shard) find(ctx context.Context, t *tally) error {
	if !t.lost {
		return nil
	}
	op := librados.NewRead()
	step := op.OmapGetByKeys(t.name)
	if _, err := s.x.env.io.Operate(ctx, s.oid, op, 0); err != nil {
		return fmt.Errorf("read the sums of a shard: %w", err)
	}
	t.value = nil
	for _, p := range step.Pairs {
		t.value = p.Value
	}
	sum, err := decodeSums(t.value)
	if err != nil {
		return fmt.Errorf("sums of shard %s: %w", s.oid, err)
	}
	t.sums, t.lost = sum, false
	return nil
}

// process carries out a batch: all of its calls in one operation, if they meet
// what they expect.
func (s *shard) process(ctx context.Context, batch []*indexCall) {
	for wait := firstPause; ; {
		batch = present(batch)
		now, rest, err := s.apply(ctx, batch)
		if err == nil {
			answerAll(now, nil)
			s.slowly(rest)
			s.grown(now)
			return
		}
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			batch = refuseBegins(batch)
		}
		switch next, reason := s.judge(ctx, err); next {
		case judgeEnd:
			answerAll(batch, reason)
			return
		case judgeMoved:
			s.moved(ctx, batch)
			return
		case judgeAgain:
			wait = wait.sleep(ctx)
		case judgeDiffers:
			begins := slices.DeleteFunc(slices.Clone(batch), (*indexCall).compares)
			s.slowly(slices.DeleteFunc(batch, func(c *indexCall) bool { return !c.compares() }))
			if batch = begins; len(batch) == 0 {
				return
			}
		}
	}
}

// compares tells whether what a call does depends on what the shard holds.
func (c *indexCall) compares() bool { return c.kind == callEnd || c.kind == callRenew }

// refuseBegins answers those that need room, and returns the others.
func refuseBegins(batch []*indexCall) []*indexCall {
	return slices.DeleteFunc(batch, func(c *indexCall) bool {
		refused := c.kind == callBegin || c.kind == callSet
		if refused {
			c.answer(store.ErrNoSpace)
		}
		return refused
	})
}

// present leaves out the calls that nobody waits for any more.
func present(batch []*indexCall) []*indexCall {
	return slices.DeleteFunc(batch, func(c *indexCall) bool { return c.kind == callBegin && c.left() })
}

// slowly gives calls to those who ask the heads.
func (s *shard) slowly(calls []*indexCall) {
	for _, c := range calls {
		if !s.slow.add(c) {
			c.answer(errClosed)
		}
	}
}

func answerAll(calls []*indexCall, err error) {
	for _, c := range calls {
		c.answer(err)
	}
}

// apply does those calls of a batch in one operation that need not ask the
// heads; rest are the others.
func (s *shard) apply(ctx context.Context, batch []*indexCall) (now, rest []*indexCall, err error) {
	w := newShardWrite()
	states := map[string]*indexEntry{} // of keys that the batch changed so far
	for _, c := range batch {
		name := markKey(c.m.key, c.m.tag)
		switch c.kind {
		case callBegin:
			w.set[name] = c.value
		case callRenew:
			w.expect(name, c.m.current())
			w.set[name] = c.value
		case callCancel:
			w.set[name] = nil
		case callSet:
			maps.Copy(w.set, c.set)
		case callEnd:
			state, changed := states[c.m.key]
			if c.change == nil || changed && state.state() != c.change.was.state() {
				rest = append(rest, c)
				continue
			}
			if !changed {
				w.expectState(c.m.key, c.change.was)
			}
			w.expect(name, c.m.current())
			w.set[name] = nil
			w.change(c.m.key, c.change, s.x.env.now())
			states[c.m.key] = c.change.now
		}
		now = append(now, c)
	}
	if len(now) == 0 {
		return nil, rest, nil
	}
	return now, rest, s.write(ctx, w, &s.fastTally)
}

// current returns the mark's value in the index.
func (m *mark) current() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.value
}

// judgement is what to do after an operation that failed.
type judgement uint8

const (
	judgeEnd     judgement = iota // give the error to who waits
	judgeAgain                    // it may work later
	judgeMoved                    // the shard is gone
	judgeDiffers                  // the shard is live: something in it is not as expected
)

// judge finds out why an operation failed.
func (s *shard) judge(ctx context.Context, err error) (judgement, error) {
	switch {
	case ctx.Err() != nil:
		return judgeEnd, errClosed
	case errors.Is(err, errStopped):
		return judgeEnd, err
	}
	if !refused(err) {
		s.x.env.log.Warn("operation on a bucket's index failed, is tried again", "shard", s.oid, "error", err)
		return judgeAgain, nil
	}
	state, err := s.readState(ctx)
	switch {
	case err != nil:
		return judgeAgain, nil
	case state == shardLive, strings.HasPrefix(state, shardCopying):
		if s.learn(state) {
			return judgeAgain, nil
		}
		return judgeDiffers, nil
	case strings.HasPrefix(state, shardFrozen):
		if err := s.frozen(ctx, state); errors.Is(err, store.ErrNoSuchBucket) {
			return judgeEnd, err
		}
		return judgeAgain, nil
	}
	return judgeMoved, nil
}

// refused tells whether an operation found something that it did not expect.
func refused(err error) bool {
	return errors.Is(err, librados.ErrMismatch) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENODATA)
}

// readState returns the shard's state; "": it does not exist.
func (s *shard) readState(ctx context.Context) (string, error) {
	op := librados.NewRead()
	state := op.GetXattr(xattrShard)
	_, err := s.x.env.io.Operate(ctx, s.oid, op, 0)
	if errors.Is(err, syscall.ENOENT) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the state of a shard: %w", err)
	}
	return string(bytes.Clone(state.Data)), nil
}

// moved gives calls to the shards that took this one's place.
func (s *shard) moved(ctx context.Context, calls []*indexCall) {
	for wait := firstPause; ; wait = wait.sleep(ctx) {
		err := s.x.follow(ctx, []*shard{s}, s.x.version())
		switch {
		case errors.Is(err, store.ErrNoSuchBucket):
			answerAll(calls, err)
			return
		case ctx.Err() != nil:
			answerAll(calls, errClosed)
			return
		case err != nil:
			s.x.env.log.Warn("layout of a bucket's index cannot be read, is tried again", "shard", s.oid, "error", err)
			continue
		}
		if next := s.x.lookup(calls[0].m.key); next != nil && next != s {
			break
		}
		s.x.env.log.Error("shard of a bucket's index is gone, but not from its layout", "shard", s.oid)
	}
	for _, c := range calls {
		if next := s.x.lookup(c.m.key); next == nil || !next.fast.add(c) {
			c.answer(errClosed)
		}
	}
}

// pause is how long to wait before something is tried again.
type pause time.Duration

const firstPause = pause(5 * time.Millisecond)

// sleep waits, and returns a longer pause.
func (p pause) sleep(ctx context.Context) pause {
	timer := time.NewTimer(time.Duration(p))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return min(2*p, pause(200*time.Millisecond))
}
