//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	librados "herald/rados"
	"herald/store"
)

// maxSums is how many sums of gateways a shard has before those of others are
// added up.
const maxSums = 64

// stats returns what the bucket holds, as far as its index knows by now: who
// ends a change does not wait for it.
func (x *index) stats(ctx context.Context) (sums, error) {
	for wait := firstPause; ; wait = wait.sleep(ctx) {
		shards, version, err := x.all(ctx)
		if err != nil {
			return sums{}, err
		}
		var mu sync.Mutex
		var all sums
		err = each(shards, func(s *shard) error {
			_, sum, err := s.readSums(ctx)
			mu.Lock()
			defer mu.Unlock()
			all.add(sum)
			return err
		})
		if !errors.Is(err, errShardGone) {
			return all, err
		}
		if err := x.follow(ctx, shards, version); err != nil {
			return sums{}, err
		}
	}
}

// readSums returns what all gateways' changes added to a shard. Errors:
// errShardGone.
func (s *shard) readSums(ctx context.Context) (pairs []librados.Pair, sum sums, err error) {
	state, pairs, err := s.readSpace(ctx, spaceSums)
	if err != nil {
		return nil, sums{}, err
	}
	if gone(state) {
		return nil, sums{}, errShardGone
	}
	for _, p := range pairs {
		one, err := decodeSums(p.Value)
		if err != nil {
			return nil, sums{}, fmt.Errorf("sums of shard %s: %w", s.oid, err)
		}
		sum.add(one)
	}
	return pairs, sum, nil
}

// readSpace reads a small space, at one moment, with the shard's state.
func (s *shard) readSpace(ctx context.Context, space string) (state string, pairs []librados.Pair, err error) {
	op := librados.NewRead()
	xattr, step := op.GetXattr(xattrShard), op.OmapGetVals("", space, pageKeys)
	_, err = s.x.env.io.Operate(ctx, s.oid, op, 0)
	if errors.Is(err, syscall.ENOENT) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("read a shard of an index: %w", err)
	}
	return string(xattr.Data), step.Pairs, nil
}

// foldSums adds up the sums of gateways that did not change them for long: many
// of them may be no more. One that lives finds out by its next write that its
// sums are not what it thought.
func (s *shard) foldSums(ctx context.Context, seen map[string]seenValue) error {
	pairs, _, err := s.readSums(ctx)
	if errors.Is(err, errShardGone) {
		return nil
	}
	if err != nil || len(pairs) <= maxSums {
		return err
	}
	op := librados.NewWrite()
	op.CmpXattr(xattrShard, librados.Equal, []byte(shardLive))
	var names []string
	var sum sums
	for _, p := range pairs {
		if s.x.see(seen, s.oid+p.Key, p.Value) < s.x.env.limits.mark {
			continue
		}
		one, err := decodeSums(p.Value)
		if err != nil {
			return fmt.Errorf("sums of shard %s: %w", s.oid, err)
		}
		sum.add(one)
		op.OmapCmp(p.Key, librados.Equal, p.Value)
		names = append(names, p.Key)
	}
	if len(names) < maxSums/2 {
		return nil
	}
	op.OmapRm(names...)
	op.OmapSet(librados.Pair{Key: spaceSums + store.NewOpID().String() + "*", Value: sum.encode()})
	if _, err := s.x.env.io.Operate(ctx, s.oid, op, librados.FullForce); err != nil && !refused(err) {
		return fmt.Errorf("add up the sums of a shard: %w", err)
	}
	return nil
}
