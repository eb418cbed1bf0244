//go:build rados

package rados

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// everything is no limit to pages.
const everything = 1 << 40

// eachShard calls do with the shards of all buckets that have any, also of
// those that were deleted.
func (f *fsck) eachShard(ctx context.Context, do func(b *fsckBucket, s *shard) error) error {
	for _, b := range f.sorted() {
		err := f.shardsOf(ctx, b, func(s *shard) error { return do(b, s) })
		if err != nil {
			return err
		}
	}
	return nil
}

// index returns a bucket's index: one of its own where the driver need not keep
// it.
func (f *fsck) index(b *fsckBucket) *index {
	if b.known == bucketNamed {
		return f.d.index(b.bid)
	}
	return openIndex(f.d.indexEnv(), b.bid)
}

// shardsOf calls do with a bucket's shards, and once more with those that took
// the place of one that was split meanwhile.
func (f *fsck) shardsOf(ctx context.Context, b *fsckBucket, do func(s *shard) error) error {
	done := map[string]bool{}
	for {
		l, err := f.layout(ctx, b)
		if err != nil || l == nil {
			return err
		}
		again := false
		for _, ref := range l.Shards {
			if done[ref.Tag] {
				continue
			}
			s := newShard(f.index(b), ref)
			if err := do(s); err != nil {
				return err
			}
			state, err := s.readState(ctx)
			if err != nil {
				return err
			}
			if strings.HasPrefix(state, shardGone) {
				if err := s.x.follow(ctx, []*shard{s}, s.x.version()); err != nil && !errors.Is(err, store.ErrNoSuchBucket) {
					return err
				}
				again = true
			}
			done[ref.Tag] = true
		}
		if !again {
			return nil
		}
	}
}

// announced accounts for what marks and uploads use.
func (f *fsck) announced(ctx context.Context) error {
	return f.eachShard(ctx, func(b *fsckBucket, s *shard) error {
		err := s.pages(ctx, spaceMarks, everything, func(pairs []librados.Pair) (bool, error) {
			for _, p := range pairs {
				key, tag, ok := splitMarkKey(p.Key)
				if !ok {
					f.blind.Store(true)
					continue // entries tells of it
				}
				f.useAll(b, tag)
				if old := time.Since(markTime(p.Value)) > f.limits.old; !old || f.light {
					continue
				}
				if err := f.suspect(ctx, func(ctx context.Context) error { return f.markAgain(ctx, b, s, key, tag, p) }); err != nil {
					return false, err
				}
			}
			return true, nil
		})
		if err != nil {
			return err
		}
		return s.pages(ctx, spaceUploads, everything, func(pairs []librados.Pair) (bool, error) {
			return true, each(pairs, func(p librados.Pair) error { return f.uploadEntry(ctx, b, p) })
		})
	})
}

// markTime is when a mark was made, by its gateway's clock.
func markTime(value []byte) time.Time {
	if len(value) < 9 {
		return time.Time{}
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(value[1:])))
}

// markAgain looks again at a mark that nobody renewed for a day.
func (f *fsck) markAgain(ctx context.Context, b *fsckBucket, s *shard, key string, tag store.OpID, p librados.Pair) error {
	op := librados.NewRead()
	step := op.OmapGetByKeys(p.Key)
	if _, err := f.d.heads.Operate(ctx, s.oid, op, 0); err != nil {
		return ignoreAbsent(err)
	}
	if len(step.Pairs) == 0 || !bytes.Equal(step.Pairs[0].Value, p.Value) {
		return nil
	}
	f.report(FindingMark, b, key, p.Key, func() error {
		if err := s.repair(ctx, &mark{x: s.x, key: key, tag: tag}); err != nil {
			return err
		}
		return f.forgetNote(ctx, headKey{b.bid, key}.oid(), keyBar+tag.String()) // its writer is a day old, too
	})
	return nil
}

// compareKeys compares what the index has of some keys with their heads. It
// only looks once: a difference makes a suspect.
func (f *fsck) compareKeys(ctx context.Context, b *fsckBucket, heads map[string]*wholeHead) error {
	x := f.d.index(b.bid)
	if err := x.load(ctx, 0); err != nil {
		return ignoreNoBucket(err)
	}
	keys := map[*shard][]string{}
	for key := range heads {
		if s := x.lookup(key); s != nil {
			keys[s] = append(keys[s], key)
		}
	}
	for s, names := range keys {
		_, found, err := s.readKeys(ctx, names)
		if err != nil && !errors.Is(err, syscall.ENOENT) {
			return err
		}
		if err != nil { // it was split, or is lost
			found = nil
			for _, key := range names {
				found = append(found, &settling{key: key, marks: &librados.Step{}, versions: &librados.Step{}})
			}
		}
		for _, k := range found {
			if len(f.indexProblems(b, k, heads[k.key])) == 0 {
				continue
			}
			if err := f.suspect(ctx, func(ctx context.Context) error { return f.indexAgain(ctx, b, k.key) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// indexAgain compares a key's entries with its head for sure. As long as a
// change of the key is announced they may differ; and they were of one moment
// with the head if they are the same before and after it was read.
func (f *fsck) indexAgain(ctx context.Context, b *fsckBucket, key string) error {
	x := f.d.index(b.bid)
	before, err := f.readKey(ctx, x, key)
	if err != nil || before == nil {
		return ignoreNoBucket(err)
	}
	k := headKey{b.bid, key}
	w, err := f.readWhole(ctx, k, k.oid())
	if err != nil {
		return err
	}
	after, err := f.readKey(ctx, x, key)
	if err != nil || after == nil {
		return ignoreNoBucket(err)
	}
	if w != nil && w.bad != nil {
		return nil // of that it was told
	}
	if len(before.marks.Pairs)+len(after.marks.Pairs) > 0 || !bytes.Equal(before.entry, after.entry) || !samePairs(before.versions.Pairs, after.versions.Pairs) {
		return errBusy
	}
	problems := f.indexProblems(b, before, w)
	if w == nil && len(problems) > 0 {
		f.blind.Store(true) // it may have had tails
		f.report(FindingHeadLost, b, key, k.oid(), nil)
		return nil
	}
	for _, p := range problems {
		f.report(p.kind, b, key, p.detail, func() error { return p.repair(ctx) })
	}
	return nil
}

func samePairs(a, b []librados.Pair) bool {
	return slices.EqualFunc(a, b, func(a, b librados.Pair) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) })
}

// readKey reads what the index has of a key. Errors: errBusy: the shard was
// split; store.ErrNoSuchBucket.
func (f *fsck) readKey(ctx context.Context, x *index, key string) (*settling, error) {
	if err := x.load(ctx, 0); err != nil {
		return nil, err
	}
	s := x.lookup(key)
	if s == nil {
		return nil, store.ErrNoSuchBucket
	}
	state, keys, err := s.readKeys(ctx, []string{key})
	if errors.Is(err, syscall.ENOENT) || err == nil && gone(state) {
		if err := x.follow(ctx, []*shard{s}, x.version()); err != nil {
			return nil, err
		}
		return nil, errBusy
	}
	if err != nil {
		return nil, err
	}
	return keys[0], nil
}

// indexProblems tells where a key's entries are not what its head says; w may
// be nil.
func (f *fsck) indexProblems(b *fsckBucket, k *settling, w *wholeHead) (problems []problem) {
	want := map[string]*indexEntry{}
	if w != nil {
		if e := listedEntry(&w.state, w.attrs); e != nil {
			want[omapKey(spaceCurrent, k.key)] = e
		}
		for _, v := range w.noncurrent {
			info := v.info(k.key, false, listAttrs(v.attrs))
			want[versionKey(info)] = &indexEntry{info: *info}
		}
	}
	have := slices.Clone(k.versions.Pairs)
	if k.entry != nil {
		have = append(have, librados.Pair{Key: omapKey(spaceCurrent, k.key), Value: k.entry})
	}
	settle := func(ctx context.Context) error { return f.settleKey(ctx, b, k.key) }
	for _, p := range have {
		e := want[p.Key]
		delete(want, p.Key)
		got, err := decodeIndexEntry(k.key, p.Value)
		anew := func(ctx context.Context) error {
			if err := f.forgetLine(ctx, b, k.key, p); err != nil {
				return err
			}
			return settle(ctx)
		}
		switch {
		case err != nil:
			problems = append(problems, problem{FindingIndexCorrupt, fmt.Sprintf("%q", p.Key), anew})
		case strings.HasPrefix(p.Key, spaceVersions) && versionKey(&got.info) != p.Key:
			problems = append(problems, problem{FindingIndexCorrupt, fmt.Sprintf("%q is version %s", p.Key, got.info.VersionID), anew})
		case e == nil:
			problems = append(problems, problem{FindingIndexExtra, "version " + got.info.VersionID, settle})
		case !bytes.Equal(e.encode(), got.encode()):
			problems = append(problems, problem{FindingIndexStale, "version " + e.info.VersionID, settle})
		}
	}
	for _, e := range want {
		problems = append(problems, problem{FindingIndexMissing, "version " + e.info.VersionID, settle})
	}
	return problems
}

// settleKey makes a key's entries what its head says.
func (f *fsck) settleKey(ctx context.Context, b *fsckBucket, key string) error {
	x := f.d.index(b.bid)
	m, err := x.begin(ctx, key, newTag())
	if err != nil {
		return err
	}
	return x.do(ctx, newIndexCall(callEnd, m))
}

// forgetLine removes a line from the shard of a key, if it is still the same.
func (f *fsck) forgetLine(ctx context.Context, b *fsckBucket, key string, p librados.Pair) error {
	s := f.d.index(b.bid).lookup(key)
	if s == nil {
		return store.ErrNoSuchBucket
	}
	return f.forgetIn(ctx, s, p)
}

func (f *fsck) forgetIn(ctx context.Context, s *shard, p librados.Pair) error {
	op := librados.NewWrite()
	op.AssertExists()
	op.OmapCmp(p.Key, librados.Equal, p.Value)
	op.OmapRm(p.Key)
	_, err := f.d.heads.Operate(ctx, s.oid, op, librados.FullForce)
	if refused(err) {
		return nil // it changed meanwhile
	}
	return err
}

// entries goes over all lines of all shards: keys without a head, lines that
// cannot be understood, or that belong to another shard.
func (f *fsck) entries(ctx context.Context) error {
	return f.eachShard(ctx, func(b *fsckBucket, s *shard) error {
		if b.known != bucketNamed {
			return nil
		}
		last := ""
		return s.pages(ctx, "", everything, func(pairs []librados.Pair) (bool, error) {
			var keys []string
			for _, p := range pairs {
				key, ok := lineKey(p)
				space := p.Key[:min(2, len(p.Key))]
				if !ok || space != spaceSums && !strings.HasPrefix(keyBits(key), s.ref.Bits) {
					if err := f.suspect(ctx, func(ctx context.Context) error { return f.lineAgain(ctx, b, s, p) }); err != nil {
						return false, err
					}
				} else if (space == spaceCurrent || space == spaceVersions) && space+key != last {
					last = space + key
					keys = append(keys, key)
				}
			}
			return true, each(keys, func(key string) error { return f.hasHead(ctx, b, key) })
		})
	})
}

// lineKey returns the key that a line of an index is of. ok is false if it
// cannot be understood.
func lineKey(p librados.Pair) (key string, ok bool) {
	switch p.Key[:min(2, len(p.Key))] {
	case spaceSums:
		_, err := decodeSums(p.Value)
		return "", err == nil
	case spaceMarks:
		key, _, ok = splitMarkKey(p.Key)
		return key, ok && len(p.Value) > 0
	case spaceUploads:
		key, _, _, ok = splitUploadKey(p.Key)
	case spaceDead:
		key, _, ok = splitDeadKey(p.Key)
	case spaceChanged, spaceCurrent:
		var rest string
		key, rest, ok = splitOmapKey(p.Key)
		ok = ok && rest == ""
	case spaceVersions:
		var rest string
		key, rest, ok = splitOmapKey(p.Key)
		if ok {
			_, err := versionSeq(rest)
			ok = err == nil
		}
	}
	return key, ok
}

// lineAgain looks again at a line that is in the wrong place, or cannot be
// understood.
func (f *fsck) lineAgain(ctx context.Context, b *fsckBucket, s *shard, p librados.Pair) error {
	op := librados.NewRead()
	state, step := op.GetXattr(xattrShard), op.OmapGetByKeys(p.Key)
	if _, err := f.d.heads.Operate(ctx, s.oid, op, 0); err != nil {
		return ignoreAbsent(err)
	}
	if gone(string(state.Data)) || len(step.Pairs) == 0 || !bytes.Equal(step.Pairs[0].Value, p.Value) {
		return nil
	}
	f.report(FindingIndexCorrupt, b, "", fmt.Sprintf("%s: %q", s.oid, p.Key), func() error { return f.forgetIn(ctx, s, p) })
	return nil
}

// hasHead looks whether a key that is in the index has a head. What it has is
// compared by compareKeys.
func (f *fsck) hasHead(ctx context.Context, b *fsckBucket, key string) error {
	op := librados.NewRead()
	op.Stat()
	_, err := f.d.heads.Operate(ctx, headKey{b.bid, key}.oid(), op, 0)
	if !errors.Is(err, syscall.ENOENT) {
		return err
	}
	return f.suspect(ctx, func(ctx context.Context) error { return f.indexAgain(ctx, b, key) })
}

// sums compares what the shards count with what they have.
func (f *fsck) sums(ctx context.Context) error {
	return f.eachShard(ctx, func(b *fsckBucket, s *shard) error {
		if b.known != bucketNamed {
			return nil
		}
		differ, err := f.compareSums(ctx, b, s, false)
		if err != nil || !differ {
			return err
		}
		return f.suspect(ctx, func(ctx context.Context) error {
			_, err := f.compareSums(ctx, b, s, true)
			return err
		})
	})
}

// compareSums compares the sums of a shard with its entries, if it does not
// change meanwhile. Errors: errBusy, with sure.
func (f *fsck) compareSums(ctx context.Context, b *fsckBucket, s *shard, sure bool) (differ bool, err error) {
	var has, says sums
	var version uint64
	for after, more := "", true; more; {
		op := librados.NewRead()
		state, step := op.GetXattr(xattrShard), op.OmapGetVals(after, "", pageKeys)
		now, err := f.d.heads.Operate(ctx, s.oid, op, 0)
		if err != nil || gone(string(state.Data)) {
			return false, ignoreAbsent(err)
		}
		if version != 0 && version != now {
			if sure {
				return false, errBusy
			}
			return true, nil
		}
		version = now
		for _, p := range step.Pairs {
			after = p.Key
			if err := countLine(p, &has, &says); err != nil {
				return false, nil // entries told of it
			}
		}
		more = step.More && len(step.Pairs) > 0
	}
	if has == says || !sure {
		return has != says, nil
	}
	f.report(FindingIndexSums, b, "", fmt.Sprintf("%s has %+v and says %+v", s.oid, has, says), func() error {
		diff := sums{has.Entries - says.Entries, has.Objects - says.Objects, has.Bytes - says.Bytes}
		op := librados.NewWrite()
		op.AssertVersion(version)
		op.OmapSet(librados.Pair{Key: spaceSums + store.NewOpID().String() + "*", Value: diff.encode()})
		_, err := f.d.heads.Operate(ctx, s.oid, op, librados.FullForce)
		return err
	})
	return true, nil
}

func countLine(p librados.Pair, has, says *sums) error {
	switch p.Key[:min(2, len(p.Key))] {
	case spaceCurrent, spaceVersions:
		e, err := decodeIndexEntry("", p.Value)
		if err != nil {
			return err
		}
		has.add(sumsOf(&e.info, 1))
	case spaceSums:
		one, err := decodeSums(p.Value)
		if err != nil {
			return err
		}
		says.add(one)
	}
	return nil
}
