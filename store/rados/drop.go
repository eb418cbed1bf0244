//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	librados "herald/rados"
	"herald/store"
)

// drop ends an index without entries, for good: what begins later finds
// store.ErrNoSuchBucket. Linearization point: the write of the layout.
// Errors: store.ErrBucketNotEmpty, store.ErrNoSuchBucket.
func (x *index) drop(ctx context.Context) error {
	page, err := x.list(ctx, store.ListOptions{Versions: true, Max: 1})
	if err != nil {
		return err
	}
	if len(page.Entries) > 0 {
		return store.ErrBucketNotEmpty
	}
	for wait := firstPause; ; wait = wait.sleep(ctx) {
		if err := x.load(ctx, x.version()); err != nil {
			return err
		}
		shards, version, err := x.all(ctx)
		if err != nil {
			return err
		}
		err = x.dropOnce(ctx, shards, version)
		if err == nil || !errors.Is(err, librados.ErrMismatch) || ctx.Err() != nil {
			return err
		}
		if err := x.follow(ctx, shards, version); err != nil {
			return err
		}
	}
}

// dropOnce tries to end the index. Errors: librados.ErrMismatch: a shard was
// split meanwhile.
func (x *index) dropOnce(ctx context.Context, shards []*shard, version uint64) error {
	var err error
	state := shardFrozen + store.NewOpID().String()
	l := &layout{Deleted: true, version: version}
	for _, s := range shards {
		l.Shards = append(l.Shards, s.ref)
		if err = s.freezeEmpty(ctx, state); err != nil {
			break
		}
	}
	if err == nil {
		err = x.env.at("index.drop")
	}
	if err == nil {
		err = x.finish(context.WithoutCancel(ctx), l)
	}
	if err == nil || errors.Is(err, errStopped) || errors.Is(err, store.ErrUnknownOutcome) {
		return err
	}
	for _, s := range shards {
		_, err2 := s.setState(context.WithoutCancel(ctx), state, shardLive)
		err = errors.Join(err, err2)
	}
	return fmt.Errorf("end an index: %w", err)
}

// finish writes the layout of a deleted bucket. Errors: librados.ErrMismatch,
// store.ErrUnknownOutcome: whoever meets a frozen shard finds out later.
func (x *index) finish(ctx context.Context, l *layout) error {
	err := l.write(ctx, x.env.io, x.bid)
	if err != nil && refused(err) {
		return err
	}
	if err != nil {
		now, err2 := readLayout(ctx, x.env.io, x.bid)
		if err2 != nil {
			return fmt.Errorf("%w: %w", store.ErrUnknownOutcome, errors.Join(err, err2))
		}
		if !now.Deleted {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.gone = true
	return nil
}

// freezeEmpty freezes a shard that has no entries. Changes under way have a
// moment to end; then they are taken for dead.
func (s *shard) freezeEmpty(ctx context.Context, state string) error {
	begin := time.Now() // of waiting for changes
	for wait := firstPause; ctx.Err() == nil; wait = wait.sleep(ctx) {
		op := librados.NewRead()
		xattr, entries, marks := op.GetXattr(xattrShard), op.OmapGetVals("", spaceCurrent, 1), op.OmapGetVals("", spaceMarks, pageKeys)
		version, err := s.x.env.io.Operate(ctx, s.oid, op, 0)
		if err != nil {
			return fmt.Errorf("read a shard of an index: %w", err)
		}
		age := time.Since(begin)
		switch {
		case string(xattr.Data) == state:
			return nil
		case strings.HasPrefix(string(xattr.Data), shardFrozen):
			if err := s.frozen(ctx, string(xattr.Data)); err != nil {
				return err
			}
			begin = time.Now()
			continue
		case strings.HasPrefix(string(xattr.Data), shardCopying):
			if err := s.stopCopying(ctx, string(xattr.Data)); err != nil {
				return err
			}
			begin = time.Now()
			continue
		case string(xattr.Data) != shardLive:
			return librados.ErrMismatch // split meanwhile
		case len(marks.Pairs) == 0 && len(entries.Pairs) > 0, len(marks.Pairs) > 0 && age > 10*s.x.env.limits.drop:
			return store.ErrBucketNotEmpty
		case len(marks.Pairs) > 0 && age > s.x.env.limits.drop:
			if err := s.repairAll(ctx, marks.Pairs); err != nil {
				return err
			}
			continue
		case len(marks.Pairs) > 0:
			continue
		}
		write := librados.NewWrite()
		write.AssertVersion(version)
		write.SetXattr(xattrShard, []byte(state))
		if _, err := s.x.env.io.Operate(ctx, s.oid, write, librados.FullForce); err == nil {
			return nil
		} else if !refused(err) {
			return fmt.Errorf("freeze a shard of an index: %w", err)
		}
	}
	return context.Cause(ctx)
}

// repairAll repairs all the changes that have a mark.
func (s *shard) repairAll(ctx context.Context, marks []librados.Pair) error {
	var all []*mark
	for _, p := range marks {
		if key, tag, ok := splitMarkKey(p.Key); ok {
			all = append(all, &mark{x: s.x, key: key, tag: tag})
		}
	}
	return each(all, func(m *mark) error { return s.repair(ctx, m) })
}

// setState takes a shard from one state to another; false: it was in neither.
func (s *shard) setState(ctx context.Context, from, to string) (bool, error) {
	op := librados.NewWrite()
	op.CmpXattr(xattrShard, librados.Equal, []byte(from))
	op.SetXattr(xattrShard, []byte(to))
	_, err := s.x.env.io.Operate(ctx, s.oid, op, librados.FullForce)
	switch {
	case err == nil:
		return true, nil
	case refused(err):
		return false, nil
	}
	return false, fmt.Errorf("change the state of a shard: %w", err)
}

// frozen is called when somebody meets a frozen shard. Who froze it may have
// deleted the bucket (store.ErrNoSuchBucket), or is dead, if that lasts: then
// the shard becomes live again. Whoever lives all the same finds that the
// layout was written, or the shard's state is another.
func (s *shard) frozen(ctx context.Context, state string) error {
	if err := s.x.load(ctx, s.x.version()); err != nil {
		return err
	}
	s.mu.Lock()
	if s.meets != state {
		s.meets, s.meetsFor = state, time.Now()
	}
	old := time.Since(s.meetsFor) > s.x.env.limits.frozen
	s.mu.Unlock()
	if !old {
		return nil
	}
	l, err := readLayout(ctx, s.x.env.io, s.x.bid)
	if err != nil {
		return err
	}
	if l.Deleted {
		return store.ErrNoSuchBucket
	}
	if err := l.write(ctx, s.x.env.io, s.x.bid); err != nil {
		return err
	}
	ok, err := s.setState(ctx, state, shardLive)
	if err != nil || !ok {
		return err
	}
	return s.removeHalves(ctx, state)
}
