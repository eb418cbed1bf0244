//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// How much of a shard a sweep looks at.
const (
	sweepMarks = 20000 // of them what is above waits for the next sweep
	sweepHeads = 20000
)

// seenValue is something in a shard as a sweep met it.
type seenValue struct {
	value string
	since time.Time // by this gateway's clock; others' may differ
}

// see tells for how long sweeps have met this value under a name. The caller
// holds x.sweeping; seen is what the present sweep meets.
func (x *index) see(seen map[string]seenValue, name string, value []byte) time.Duration {
	was, ok := x.seen[name]
	if !ok || was.value != string(value) {
		was = seenValue{string(value), time.Now()}
	}
	seen[name] = was
	return time.Since(was.since)
}

// sweep repairs what others left: marks of changes that nobody goes on with,
// notes of heads to look at (of keys that were removed, or that do not use all
// that is there), splits that stopped. It is to be called every few seconds.
// gone is true when the bucket is deleted and nothing of its index is left.
func (x *index) sweep(ctx context.Context) (gone bool, err error) {
	x.sweeping.Lock()
	defer x.sweeping.Unlock()
	l, err := readLayout(ctx, x.env.io, x.bid)
	if errors.Is(err, store.ErrNoSuchBucket) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if l.Deleted {
		x.rest(false)
		return x.sweepDeleted(ctx, l)
	}
	if v := x.version(); v != l.version {
		if err := x.load(ctx, v); err != nil {
			return false, err
		}
	}
	shards, _, err := x.all(ctx)
	if err != nil {
		return false, err
	}
	seen := map[string]seenValue{}
	var errs []error
	found := false
	for _, s := range shards {
		quiet, err := s.quiet(ctx)
		if errs = append(errs, err); err == nil && !quiet {
			found = true
			errs = append(errs, s.sweepMarks(ctx, seen), s.sweepHeads(ctx), s.foldSums(ctx, seen), s.sweepState(ctx, seen), s.splitIfLarge(ctx))
		}
	}
	x.seen = seen
	x.rest(found)
	return false, errors.Join(errs...)
}

// How long a bucket is left alone after a sweep: where nothing was found, twice
// as long each time.
const (
	sweepEvery  = 20 * time.Second
	sweepSeldom = 5 * time.Minute
)

// rest says when the bucket is to be swept again. The caller holds x.sweeping.
func (x *index) rest(found bool) {
	x.calm = min(max(2*x.calm, sweepEvery), sweepSeldom)
	if found {
		x.calm = sweepEvery
	}
	x.due.Store(time.Now().Add(x.calm - sweepEvery/2).UnixNano())
}

// resting tells whether the bucket was swept lately.
func (x *index) resting() bool { return time.Now().UnixNano() < x.due.Load() }

// quiet tells, by one operation, that there is nothing to be done for a shard.
func (s *shard) quiet(ctx context.Context) (bool, error) {
	op := librados.NewRead()
	state, marks, dead := op.GetXattr(xattrShard), op.OmapGetVals("", spaceMarks, 1), op.OmapGetVals("", spaceDead, 1)
	all := op.OmapGetVals("", spaceSums, maxSums+1)
	_, err := s.x.env.io.Operate(ctx, s.oid, op, 0)
	if errors.Is(err, syscall.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("sweep a shard of an index: %w", err)
	}
	var sum sums
	for _, p := range all.Pairs {
		one, err := decodeSums(p.Value)
		if err != nil {
			return false, fmt.Errorf("sums of shard %s: %w", s.oid, err)
		}
		sum.add(one)
	}
	for _, p := range dead.Pairs {
		if _, at, ok := splitDeadKey(p.Key); !ok || s.x.env.now().Sub(at) >= s.x.env.limits.head {
			return false, nil
		}
	}
	return string(state.Data) == shardLive && len(marks.Pairs) == 0 && len(all.Pairs) <= maxSums && sum.Entries < s.x.env.limits.split, nil
}

// pages calls f with the pairs of a space of the shard, page by page, until it
// answers false, or limit pairs were given.
func (s *shard) pages(ctx context.Context, space string, limit int, f func([]librados.Pair) (bool, error)) error {
	for after, more, n := "", true, 0; more && n < limit; {
		op := librados.NewRead()
		step := op.OmapGetVals(after, space, pageKeys)
		_, err := s.x.env.io.Operate(ctx, s.oid, op, 0)
		if errors.Is(err, syscall.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("sweep a shard of an index: %w", err)
		}
		if len(step.Pairs) == 0 {
			return nil
		}
		n += len(step.Pairs)
		after = step.Pairs[len(step.Pairs)-1].Key
		if more, err = f(step.Pairs); err != nil {
			return err
		}
		more = more && step.More
	}
	return nil
}

// sweepMarks repairs changes whose marks did not change for so long that who
// made them must be dead.
func (s *shard) sweepMarks(ctx context.Context, seen map[string]seenValue) error {
	var old []*mark
	err := s.pages(ctx, spaceMarks, sweepMarks, func(pairs []librados.Pair) (bool, error) {
		for _, p := range pairs {
			age := s.x.see(seen, p.Key, p.Value)
			if key, tag, ok := splitMarkKey(p.Key); ok && age >= s.x.env.limits.mark {
				old = append(old, &mark{x: s.x, key: key, tag: tag})
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return each(old, func(m *mark) error { return s.repair(ctx, m) })
}

// repair ends a change that nobody goes on with: it is made impossible, if it
// did not happen, and the entries are made from what the head says.
func (s *shard) repair(ctx context.Context, m *mark) error {
	if err := s.x.env.heads.repairHead(ctx, s.x.bid, m.key, m.tag); err != nil {
		return fmt.Errorf("repair a head: %w", err)
	}
	if err := s.x.env.at("index.repair"); err != nil {
		return err
	}
	c := newIndexCall(callEnd, m)
	c.repair = true
	if !s.slow.add(c) {
		return errClosed
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sweepHeads looks at the heads that were noted an hour ago.
func (s *shard) sweepHeads(ctx context.Context) error {
	return s.pages(ctx, spaceDead, sweepHeads, func(pairs []librados.Pair) (bool, error) {
		old := pairs
		for i, p := range pairs {
			if _, at, ok := splitDeadKey(p.Key); ok && s.x.env.now().Sub(at) < s.x.env.limits.head {
				old = pairs[:i]
				break
			}
		}
		again := make([]librados.Pair, len(old))
		index := make([]int, len(old))
		for i := range index {
			index[i] = i
		}
		err := each(index, func(i int) error {
			key, _, ok := splitDeadKey(old[i].Key)
			if !ok {
				return nil
			}
			done, err := s.x.env.heads.sweepHead(ctx, s.x.bid, key)
			if err == nil && !done {
				again[i] = librados.Pair{Key: deadKey(key, s.x.env.now()), Value: old[i].Value}
			}
			return err
		})
		if err != nil {
			return false, fmt.Errorf("sweep a head: %w", err)
		}
		return len(old) == len(pairs), s.forgetDead(ctx, old, again)
	})
}

// forgetDead removes notes on removed keys and writes others in their place.
func (s *shard) forgetDead(ctx context.Context, old, again []librados.Pair) error {
	if len(old) == 0 {
		return nil
	}
	op := librados.NewWrite()
	op.AssertExists()
	var names []string
	for _, p := range old {
		names = append(names, p.Key)
	}
	op.OmapRm(names...)
	for _, p := range again {
		if p.Key != "" {
			op.OmapSet(p)
		}
	}
	if _, err := s.x.env.io.Operate(ctx, s.oid, op, librados.FullForce); err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("sweep a shard of an index: %w", err)
	}
	return nil
}

// sweepDeleted removes what is left of a deleted bucket's index, when the heads
// of its keys are gone.
func (x *index) sweepDeleted(ctx context.Context, l *layout) (gone bool, err error) {
	for _, ref := range l.Shards {
		s := newShard(x, ref)
		if err := s.sweepHeads(ctx); err != nil {
			return false, err
		}
		if err := s.dropUploads(ctx); err != nil {
			return false, err
		}
		left := false
		err := s.pages(ctx, spaceDead, 1, func([]librados.Pair) (bool, error) {
			left = true
			return false, nil
		})
		if err != nil || left {
			return false, err
		}
	}
	for _, ref := range l.Shards {
		if err := x.remove(ctx, shardName(x.bid, ref.Tag)); err != nil {
			return false, err
		}
	}
	return true, x.remove(ctx, layoutName(x.bid))
}

// dropUploads removes the uploads of a deleted bucket.
func (s *shard) dropUploads(ctx context.Context) error {
	return s.pages(ctx, spaceUploads, sweepHeads, func(pairs []librados.Pair) (bool, error) {
		err := each(pairs, func(p librados.Pair) error {
			key, _, id, ok := splitUploadKey(p.Key)
			if !ok || s.x.env.dropUpload == nil {
				return nil
			}
			return s.x.env.dropUpload(ctx, s.x.bid, key, id)
		})
		if err != nil {
			return false, fmt.Errorf("remove an upload of a deleted bucket: %w", err)
		}
		return true, s.forgetDead(ctx, pairs, nil)
	})
}

// remove removes an object, which may be gone.
func (x *index) remove(ctx context.Context, oid string) error {
	op := librados.NewWrite()
	op.Remove()
	if _, err := x.env.io.Operate(ctx, oid, op, librados.FullForce); err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("remove what is left of an index: %w", err)
	}
	return nil
}
