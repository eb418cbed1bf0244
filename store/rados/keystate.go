//go:build rados

package rados

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	librados "herald/rados"
	"herald/store"
)

var _ headReader = (*Driver)(nil)

// keyState implements headReader.
func (d *Driver) keyState(ctx context.Context, bid, key string, versions bool) (*keyState, error) {
	k := headKey{bid, key}
	for try := 0; ; try++ {
		h, err := d.readHead(ctx, k, headRead{})
		if err != nil {
			return nil, fmt.Errorf("read head of %s/%q: %w", bid, key, err)
		}
		s := &keyState{gen: h.gen}
		if h.current != nil {
			s.current = h.current.info(key, true, listAttrs(h.attrs))
		}
		if h.others == 0 || !versions {
			return s, nil
		}
		if s.noncurrent, err = d.noncurrent(ctx, h); err != nil {
			return nil, err
		}
		// The versions are of the same moment as the head if it has not
		// changed since.
		again, err := d.readHead(ctx, k, headRead{})
		if err != nil {
			return nil, fmt.Errorf("read head of %s/%q: %w", bid, key, err)
		}
		if again.gen == h.gen {
			return s, nil
		}
		wait(ctx, time.Duration(min(try, 20))*time.Millisecond)
	}
}

// noncurrent returns a key's noncurrent versions, newest first.
func (d *Driver) noncurrent(ctx context.Context, h *head) ([]store.Info, error) {
	var list []store.Info
	err := d.eachNoncurrent(ctx, h.headKey, func(v *version, attrs []byte) bool {
		list = append(list, *v.info(h.headKey.key, false, listAttrs(attrs)))
		return true
	})
	slices.SortFunc(list, func(a, b store.Info) int { return cmp.Compare(b.Seq, a.Seq) })
	return list, err
}

// eachNoncurrent calls f with the noncurrent versions of a key until it
// answers false.
func (d *Driver) eachNoncurrent(ctx context.Context, k headKey, f func(v *version, attrs []byte) bool) error {
	var bad error
	err := eachPair(ctx, d.heads, k.oid(), "", keyVersion, func(p librados.Pair) bool {
		v, attrs, err := decodeNoncurrent(p.Value)
		if err != nil {
			bad = fmt.Errorf("version %q of %s/%q: %w", p.Key, k.bid, k.key, err)
			return false
		}
		return f(v, attrs)
	})
	if bad != nil {
		return bad
	}
	return err
}

// repairHead implements headReader. A change that did not happen is barred by
// an operation guarded as all changes are, so that a writer that still lives
// fails before its commit point; then its tails and references are removed. What
// one that did happen left unused is for sweepHead.
func (d *Driver) repairHead(ctx context.Context, bid, key string, tag store.OpID) error {
	k := headKey{bid, key}
	for ; ; wait(ctx, time.Millisecond) {
		h, err := d.readHead(ctx, k, headRead{omap: []string{keyBar + tag.String()}})
		if err != nil {
			return fmt.Errorf("read head of %s/%q: %w", bid, key, err)
		}
		used, err := d.uses(ctx, h, tag)
		if err != nil {
			return err
		}
		if used {
			return nil
		}
		if h.omap[keyBar+tag.String()] == nil {
			again, err := d.bar(ctx, h, tag)
			if err != nil {
				return fmt.Errorf("bar a change of %s/%q: %w", bid, key, err)
			}
			if again {
				continue
			}
		}
		return d.removeAll(ctx, bid, tag)
	}
}

// uses tells whether a change happened, as far as it left anything.
func (d *Driver) uses(ctx context.Context, h *head, tag store.OpID) (bool, error) {
	if slices.Contains(h.recent, changeOf(tag)) || h.current.has(tag) {
		return true, nil
	}
	if h.others == 0 {
		return false, nil
	}
	used := false
	err := d.eachNoncurrent(ctx, h.headKey, func(v *version, _ []byte) bool {
		used = v.has(tag)
		return !used
	})
	return used, err
}

// has tells whether some of the bytes are in tails that tag owns, or to which it
// holds a reference.
func (v *version) has(tag store.OpID) bool {
	return v != nil && slices.ContainsFunc(v.segments, func(s segment) bool { return s.holder() == tag })
}

// holder is the change, or the part, that keeps the tails from being removed.
func (s *segment) holder() store.OpID {
	if s.ref.IsZero() {
		return s.tag
	}
	return s.ref
}

// removeUnknownTails removes the tails of an upload of which nobody knows how
// long it was.
func (d *Driver) removeUnknownTails(ctx context.Context, bid string, tag store.OpID) error {
	tails := tailsName{bid, tag}
	gone, err := d.disown(ctx, tails)
	if err == nil && gone {
		var last int64
		if last, err = d.lastTail(ctx, tails); err == nil {
			err = d.removeDown(ctx, tails, last)
		}
	}
	if err != nil {
		return fmt.Errorf("remove the tails of %s: %w", tag, err)
	}
	return nil
}

// lastTail returns the number of the last tail; 0: none follows the first. Some
// may be missing before it: tails are written tailsAtOnce beside each other, and
// removed removeAtOnce, the last first.
func (d *Driver) lastTail(ctx context.Context, tails tailsName) (last int64, err error) {
	for from := int64(1); err == nil && from <= last+removeAtOnce; from += removeAtOnce {
		var mu sync.Mutex // guards last
		err = each(numbers(from, from+removeAtOnce), func(n int64) error {
			op := librados.NewRead()
			op.Stat()
			_, err := d.data.Operate(ctx, tailOID(tails.bid, tails.tag, n), op, 0)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				last = max(last, n)
			}
			return ignoreAbsent(err)
		})
	}
	return last, err
}

// numbers are those from first up to, not including, end.
func numbers(first, end int64) (list []int64) {
	for n := first; n < end; n++ {
		list = append(list, n)
	}
	return list
}

const (
	tombstoneAge = time.Hour      // for which a removed key's number is remembered
	barAge       = 24 * time.Hour // for which an op's bar is
)

// sweepHead implements headReader.
func (d *Driver) sweepHead(ctx context.Context, bid, key string) (done bool, err error) {
	k := headKey{bid, key}
	unlock, err := d.locks.lock(ctx, k)
	if err != nil {
		return false, err
	}
	defer unlock()
	h, err := d.readHead(ctx, k, headRead{})
	if err != nil {
		return false, fmt.Errorf("read head of %s/%q: %w", bid, key, err)
	}
	if h.guard == 0 {
		return true, nil
	}
	left, err := d.collectNotes(ctx, k)
	if err == nil && !left && h.alive() {
		left, err = d.forgetOld(ctx, k)
	}
	if err != nil || left || h.alive() {
		return err == nil && !left, err
	}
	if h, err = d.readHead(ctx, k, headRead{}); err != nil { // it is newer without its notes
		return false, fmt.Errorf("read head of %s/%q: %w", bid, key, err)
	}
	if h.alive() || time.Since(time.Unix(0, int64(h.seq))) < tombstoneAge {
		return false, nil
	}
	needed, err := d.remembers(ctx, h)
	if err != nil || needed {
		return false, err
	}
	op := librados.NewWrite()
	op.AssertVersion(h.guard)
	op.Remove()
	if _, err = d.heads.Operate(ctx, k.oid(), op, librados.FullForce); conflict(err) {
		return false, nil
	}
	return err == nil, err
}

// forgetOld removes the bars of what can happen no more from a head, and
// outcomes of ops that were forgotten. left tells that there are bars which are
// too young, or outcomes that somebody may still ask for.
func (d *Driver) forgetOld(ctx context.Context, k headKey) (left bool, err error) {
	var past []string
	for _, space := range []string{keyBar, keyOutcome} {
		var bad error
		err := eachPair(ctx, d.heads, k.oid(), "", space, func(p librados.Pair) bool {
			id, ok := store.ParseOpID(p.Key[len(space):])
			needed := false
			switch {
			case !ok:
				return true
			case space == keyBar:
				needed = time.Since(opTime(id)) <= barAge
			default:
				var line *headKey
				line, bad = d.ops.line(ctx, id)
				needed = line != nil
			}
			if needed {
				left = true
			} else if bad == nil {
				past = append(past, p.Key)
			}
			return bad == nil
		})
		if err = errors.Join(err, bad); err != nil {
			return true, fmt.Errorf("read bars of %s/%q: %w", k.bid, k.key, err)
		}
	}
	if len(past) == 0 {
		return left, nil
	}
	op := librados.NewWrite()
	op.AssertExists()
	op.OmapRm(past...)
	_, err = d.heads.Operate(ctx, k.oid(), op, librados.FullForce)
	return left, ignoreAbsent(err)
}

// remembers tells whether the head of a removed key has something that somebody
// may still ask for.
func (d *Driver) remembers(ctx context.Context, h *head) (bool, error) {
	if !h.op.IsZero() {
		if line, err := d.ops.line(ctx, h.op); err != nil || line != nil {
			return true, err
		}
	}
	needed := false
	var outcomes []store.OpID
	err := eachPair(ctx, d.heads, h.oid(), "", "", func(p librados.Pair) bool {
		id, ok := store.ParseOpID(p.Key[min(len(p.Key), 2):])
		switch {
		case strings.HasPrefix(p.Key, keyOutcome) && ok:
			outcomes = append(outcomes, id)
		case strings.HasPrefix(p.Key, keyBar) && ok && time.Since(opTime(id)) > barAge:
		default:
			needed = true
		}
		return true
	})
	for _, op := range outcomes {
		if err != nil || needed {
			break
		}
		var line *headKey
		line, err = d.ops.line(ctx, op)
		needed = line != nil
	}
	return needed, err
}

// opTime is when an id was made.
func opTime(id store.OpID) time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:])))
}
