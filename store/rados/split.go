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

// half is one of the two shards that a shard is split into.
type half struct {
	ref  shardRef
	oid  string
	sums sums
}

// split makes two shards of one. It is frozen meanwhile: changes of its keys
// wait. Linearization point: its state becomes gone and names the two.
func (s *shard) split(ctx context.Context) error {
	halves := make([]*half, 2)
	for i := range halves {
		ref := shardRef{Bits: s.ref.Bits + string('0'+rune(i)), Tag: store.NewOpID().String()}
		halves[i] = &half{ref: ref, oid: shardName(s.x.bid, ref.Tag)}
	}
	names := halves[0].ref.Tag + "," + halves[1].ref.Tag
	if ok, err := s.setState(ctx, shardLive, shardFrozen+names); err != nil || !ok {
		return err
	}
	begin := time.Now()
	err := s.copyTo(ctx, halves)
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
		// It is live again by this, or when those who wait lose patience; unless
		// it is gone after all.
		ok, err2 := s.setState(context.WithoutCancel(ctx), shardFrozen+names, shardLive)
		if err = errors.Join(err, err2); ok {
			err = errors.Join(err, s.removeHalves(context.WithoutCancel(ctx), shardFrozen+names))
		}
		return fmt.Errorf("split a shard: %w", err)
	}
	if err := s.x.env.at("index.split.gone"); err != nil {
		return err
	}
	s.x.env.log.Info("shard of a bucket's index was split", "shard", s.oid, "entries", halves[0].sums.Entries+halves[1].sums.Entries, "took", time.Since(begin))
	return s.x.follow(ctx, []*shard{s}, s.x.version())
}

// copyTo copies all that belongs to keys into the halves, and what it sums up
// to.
func (s *shard) copyTo(ctx context.Context, halves []*half) error {
	for _, h := range halves {
		if err := createShard(ctx, s.x.env, s.x.bid, h.ref, shardLive); err != nil {
			return err
		}
	}
	for _, space := range []string{spaceCurrent, spaceVersions, spaceMarks, spaceDead} {
		err := s.pages(ctx, space, 1<<40, func(pairs []librados.Pair) (bool, error) {
			return true, s.divide(ctx, halves, space, pairs)
		})
		if err != nil {
			return err
		}
	}
	return each(halves, func(h *half) error {
		return h.add(ctx, s.x.env.io, []librados.Pair{{Key: spaceSums, Value: h.sums.encode()}})
	})
}

// divide copies pairs of a space to the halves that they belong to.
func (s *shard) divide(ctx context.Context, halves []*half, space string, pairs []librados.Pair) error {
	parts := map[*half][]librados.Pair{}
	for _, p := range pairs {
		key, _, ok := splitOmapKey(p.Key)
		if space == spaceDead {
			key, _, ok = splitDeadKey(p.Key)
		}
		if !ok {
			return fmt.Errorf("name %q in shard %s: %w", p.Key, s.oid, errCorrupt)
		}
		h := halves[keyBits(key)[len(s.ref.Bits)]-'0']
		if parts[h] = append(parts[h], p); space == spaceCurrent || space == spaceVersions {
			e, err := decodeIndexEntry(key, p.Value)
			if err != nil {
				return fmt.Errorf("index entry of %q: %w", key, err)
			}
			h.sums.add(sumsOf(&e.info, 1))
		}
	}
	return each(halves, func(h *half) error { return h.add(ctx, s.x.env.io, parts[h]) })
}

// add adds pairs to a new shard, unless somebody gave it up meanwhile.
func (h *half) add(ctx context.Context, io *librados.IO, pairs []librados.Pair) error {
	if len(pairs) == 0 {
		return nil
	}
	op := librados.NewWrite()
	op.AssertExists()
	op.OmapSet(pairs...)
	if _, err := io.Operate(ctx, h.oid, op, librados.FullForce); err != nil {
		return fmt.Errorf("write a new shard: %w", err)
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
	for _, tag := range strings.Split(strings.TrimPrefix(state, shardFrozen), ",") {
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
