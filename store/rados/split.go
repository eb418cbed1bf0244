//go:build rados

package rados

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	librados "herald/rados"
	"herald/store"
)

// maxBits is how often a shard's ancestors were split at most. A shard of one
// key with very many versions grows on.
const maxBits = 16

// grown looks whether the shard is to be split, when the calls of this
// gateway alone made it grow by a good part of that.
func (s *shard) grown(calls []*indexCall) {
	for _, c := range calls {
		if c.kind == callEnd {
			s.added++
		}
	}
	if s.added < s.x.env.limits.split/8 || !s.splitting.CompareAndSwap(false, true) {
		return
	}
	s.added = 0
	s.x.env.bg.start(func(ctx context.Context) {
		defer s.splitting.Store(false)
		if err := s.splitIfLarge(ctx); err != nil && ctx.Err() == nil {
			s.x.env.log.Error("shard of a bucket's index cannot be split", "shard", s.oid, "error", err)
		}
	})
}

// splitIfLarge splits the shard if it has too many entries.
func (s *shard) splitIfLarge(ctx context.Context) error {
	_, sum, err := s.readSums(ctx)
	if errors.Is(err, errShardGone) {
		return nil
	}
	if err != nil || sum.Entries < s.x.env.limits.split || len(s.ref.Bits) >= maxBits {
		return err
	}
	return s.split(ctx)
}

// split makes two shards of one. Its changes go on while it is copied, and
// note their keys; then it is frozen for the moment in which these are copied
// once more. Linearization point: its state becomes gone and names the two.
func (s *shard) split(ctx context.Context) error {
	halves := make([]*half, 2)
	for i := range halves {
		ref := shardRef{Bits: s.ref.Bits + string('0'+rune(i)), Tag: store.NewOpID().String()}
		halves[i] = &half{shard: newShard(s.x, ref)}
	}
	names := halves[0].shard.ref.Tag + "," + halves[1].shard.ref.Tag
	if ok, err := s.setState(ctx, shardLive, shardCopying+names); err != nil || !ok {
		return err
	}
	begin := time.Now()
	err := s.copyTo(ctx, halves)
	if err == nil {
		err = s.x.env.at("index.split.copying")
	}
	frozen := time.Now()
	if err == nil {
		err = s.freezeTo(ctx, halves, names)
	}
	if err == nil {
		err = s.x.env.at("index.split.copied")
	}
	if err == nil {
		err = s.leaveTo(ctx, names)
	}
	if errors.Is(err, errStopped) {
		return err
	}
	if err != nil {
		return fmt.Errorf("split a shard: %w", errors.Join(err, s.giveUp(context.WithoutCancel(ctx), names)))
	}
	if err := s.x.env.at("index.split.gone"); err != nil {
		return err
	}
	s.x.env.log.Info("shard of a bucket's index was split", "shard", s.oid,
		"entries", halves[0].sums.Entries+halves[1].sums.Entries, "took", time.Since(begin), "frozen", time.Since(frozen))
	return s.x.follow(ctx, []*shard{s}, s.x.version())
}

// giveUp makes the shard live again whose split failed, unless it is gone after
// all. Where that fails, others do it when they lose patience.
func (s *shard) giveUp(ctx context.Context, names string) error {
	for _, state := range []string{shardCopying, shardFrozen} {
		if ok, err := s.setState(ctx, state+names, shardLive); err != nil {
			return err
		} else if ok {
			return s.removeHalves(ctx, state+names)
		}
	}
	return nil
}

// stopCopying makes a shard live that is being copied: by somebody who is dead,
// or in vain.
func (s *shard) stopCopying(ctx context.Context, state string) error {
	ok, err := s.setState(ctx, state, shardLive)
	if err != nil || !ok {
		return err
	}
	return s.removeHalves(ctx, state)
}

// sweepState makes a shard live that is copied or frozen for too long, and
// completes the replacement of one that is gone.
func (s *shard) sweepState(ctx context.Context, seen map[string]seenValue) error {
	state, err := s.readState(ctx)
	switch {
	case err != nil:
		return err
	case strings.HasPrefix(state, shardCopying):
		if s.x.see(seen, s.oid, []byte(state)) < s.x.env.limits.copy {
			return nil
		}
		return s.stopCopying(ctx, state)
	case strings.HasPrefix(state, shardFrozen):
		if err := s.frozen(ctx, state); !errors.Is(err, store.ErrNoSuchBucket) {
			return err
		}
	case gone(state):
		return s.x.follow(ctx, []*shard{s}, s.x.version())
	}
	return nil
}

// leaveTo ends the shard in favour of its halves.
func (s *shard) leaveTo(ctx context.Context, names string) error {
	op := librados.NewWrite()
	op.CmpXattr(xattrShard, librados.Equal, []byte(shardFrozen+names))
	op.SetXattr(xattrShard, []byte(shardGone+names))
	op.OmapClear()
	if _, err := s.x.env.io.Operate(ctx, s.oid, op, librados.FullForce); err != nil {
		return fmt.Errorf("end a shard: %w", err)
	}
	return nil
}

// removeHalves removes what a split left that was given up; state is that in
// which it left the shard.
func (s *shard) removeHalves(ctx context.Context, state string) error {
	for _, tag := range strings.Split(state[strings.IndexByte(state, ':')+1:], ",") {
		if err := s.x.remove(ctx, shardName(s.x.bid, tag)); err != nil {
			return err
		}
	}
	return nil
}

// gone tells whether a shard in that state is one no more.
func gone(state string) bool { return state == "" || strings.HasPrefix(state, shardGone) }

// follow reads the layout again after shards of the given version of it were
// found gone, and completes their replacement where who split them did not.
func (x *index) follow(ctx context.Context, shards []*shard, version uint64) error {
	for _, s := range shards {
		state, err := s.readState(ctx)
		if err != nil {
			return err
		}
		if names, ok := strings.CutPrefix(state, shardGone); ok {
			if err := s.replace(ctx, strings.Split(names, ",")); err != nil {
				return err
			}
		}
	}
	return x.load(ctx, version)
}

// replace writes the halves into the layout in place of the shard, and removes
// what is left of it.
func (s *shard) replace(ctx context.Context, tags []string) error {
	for wait := firstPause; ctx.Err() == nil; wait = wait.sleep(ctx) {
		l, err := readLayout(ctx, s.x.env.io, s.x.bid)
		if err != nil {
			return err
		}
		i := slices.Index(l.Shards, s.ref)
		if i < 0 {
			return s.x.remove(ctx, s.oid)
		}
		l.Shards = slices.Delete(l.Shards, i, i+1)
		for n, tag := range tags {
			l.Shards = append(l.Shards, shardRef{Bits: s.ref.Bits + string('0'+rune(n)), Tag: tag})
		}
		slices.SortFunc(l.Shards, func(a, b shardRef) int { return cmp.Compare(a.Bits, b.Bits) })
		err = l.write(ctx, s.x.env.io, s.x.bid)
		if err == nil {
			return s.x.remove(ctx, s.oid)
		}
		if !refused(err) {
			return err
		}
	}
	return context.Cause(ctx)
}
