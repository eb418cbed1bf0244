//go:build rados

package rados

import (
	"context"
	"fmt"
	"slices"

	librados "herald/rados"
)

// half is one of the two shards that a shard is split into.
type half struct {
	shard *shard
	sums  sums
}

// How the keys that changed meanwhile are copied once more.
const (
	recopyKeys   = 100 // at once
	recopyPasses = 20  // before the shard is frozen, at most
)

// copyTo copies all that belongs to keys into the halves, while it changes.
func (s *shard) copyTo(ctx context.Context, halves []*half) error {
	for _, h := range halves {
		if err := createShard(ctx, s.x.env, s.x.bid, h.shard.ref, shardLive); err != nil {
			return err
		}
	}
	for _, space := range []string{spaceCurrent, spaceVersions, spaceMarks, spaceUploads, spaceDead} {
		err := s.pages(ctx, space, 1<<40, func(pairs []librados.Pair) (bool, error) {
			return true, s.divide(ctx, halves, space, pairs)
		})
		if err != nil {
			return err
		}
	}
	for range recopyPasses {
		if n, err := s.recopy(ctx, halves); err != nil || n < recopyKeys {
			return err
		}
	}
	return nil
}

// freezeTo ends the changes of the shard and completes the halves.
func (s *shard) freezeTo(ctx context.Context, halves []*half, names string) error {
	ok, err := s.setState(ctx, shardCopying+names, shardFrozen+names)
	if err != nil {
		return err
	}
	if !ok {
		return librados.ErrMismatch
	}
	for n := 1; n > 0; {
		if n, err = s.recopy(ctx, halves); err != nil {
			return err
		}
	}
	return each(halves, func(h *half) error {
		return h.write(ctx, map[string][]byte{spaceSums: h.sums.encode()})
	})
}

// divide copies pairs of a space to the halves that they belong to.
func (s *shard) divide(ctx context.Context, halves []*half, space string, pairs []librados.Pair) error {
	parts := map[*half]map[string][]byte{}
	for _, h := range halves {
		parts[h] = map[string][]byte{}
	}
	for _, p := range pairs {
		key, _, ok := splitOmapKey(p.Key)
		if space == spaceDead {
			key, _, ok = splitDeadKey(p.Key)
		}
		if !ok {
			return fmt.Errorf("name %q in shard %s: %w", p.Key, s.oid, errCorrupt)
		}
		h := s.halfOf(halves, key)
		parts[h][p.Key] = p.Value
		if err := h.count(p, 1); err != nil {
			return err
		}
	}
	return each(halves, func(h *half) error { return h.write(ctx, parts[h]) })
}

func (s *shard) halfOf(halves []*half, key string) *half {
	return halves[keyBits(key)[len(s.ref.Bits)]-'0']
}

// count counts a pair that comes, or one that goes: sign -1.
func (h *half) count(p librados.Pair, sign int64) error {
	if space := p.Key[:2]; space != spaceCurrent && space != spaceVersions {
		return nil
	}
	e, err := decodeIndexEntry("", p.Value)
	if err != nil {
		return fmt.Errorf("entry %q of an index: %w", p.Key, err)
	}
	h.sums.add(sumsOf(&e.info, sign))
	return nil
}

// write changes a new shard, unless somebody gave it up meanwhile.
func (h *half) write(ctx context.Context, set map[string][]byte) error {
	if len(set) == 0 {
		return nil
	}
	op := librados.NewWrite()
	op.AssertExists()
	setAll(op, set)
	if _, err := h.shard.x.env.io.Operate(ctx, h.shard.oid, op, librados.FullForce); err != nil {
		return fmt.Errorf("write a new shard: %w", err)
	}
	return nil
}

// recopy copies keys once more that were noted as changed, and returns how
// many they were. The notes are removed first: who changes something of these
// keys from then on notes them again.
func (s *shard) recopy(ctx context.Context, halves []*half) (n int, err error) {
	err = s.pages(ctx, spaceChanged, 1<<40, func(pairs []librados.Pair) (bool, error) {
		n += len(pairs)
		for len(pairs) > 0 {
			some := pairs[:min(recopyKeys, len(pairs))]
			pairs = pairs[len(some):]
			op := librados.NewWrite()
			op.AssertExists()
			parts := map[*half][]string{}
			for _, p := range some {
				op.OmapRm(p.Key)
				key, _, ok := splitOmapKey(p.Key)
				if !ok {
					return false, fmt.Errorf("name %q in shard %s: %w", p.Key, s.oid, errCorrupt)
				}
				h := s.halfOf(halves, key)
				parts[h] = append(parts[h], key)
			}
			if _, err := s.x.env.io.Operate(ctx, s.oid, op, librados.FullForce); err != nil {
				return false, fmt.Errorf("copy changed keys of a shard: %w", err)
			}
			if err := each(halves, func(h *half) error { return s.recopyTo(ctx, h, parts[h]) }); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	return n, err
}

// recopyTo makes a half hold of keys what the shard holds.
func (s *shard) recopyTo(ctx context.Context, h *half, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	_, now, err := s.readKeys(ctx, keys)
	if err != nil {
		return err
	}
	_, was, err := h.shard.readKeys(ctx, keys)
	if err != nil {
		return err
	}
	set := map[string][]byte{}
	for _, k := range was {
		for _, p := range k.pairs() {
			set[p.Key] = nil
			if err := h.count(p, -1); err != nil {
				return err
			}
		}
	}
	for _, k := range now {
		for _, p := range k.pairs() {
			set[p.Key] = p.Value
			if err := h.count(p, 1); err != nil {
				return err
			}
		}
		// Notes that came while the shard was copied may have been missed.
		set[deadKey(k.key, s.x.env.now())] = []byte{1}
	}
	return h.write(ctx, set)
}

// pairs are all names of the key and what they hold.
func (k *settling) pairs() []librados.Pair {
	all := slices.Concat(k.marks.Pairs, k.versions.Pairs, k.uploads.Pairs)
	if k.entry != nil {
		all = append(all, librados.Pair{Key: omapKey(spaceCurrent, k.key), Value: k.entry})
	}
	return all
}
