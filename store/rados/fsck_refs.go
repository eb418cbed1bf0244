//go:build rados

package rados

import (
	"context"
	"errors"
	"slices"

	librados "herald/rados"
)

// segmentProblems looks at the tails of a segment that something in b names, and
// at the references to them.
func (f *fsck) segmentProblems(ctx context.Context, b *fsckBucket, s segment) ([]problem, error) {
	problems, err := f.referenceProblems(ctx, b, s)
	if errors.Is(err, errCorrupt) {
		f.blind.Store(true)
		return append(problems, problem{FindingReferenceCorrupt, tailOID(s.in(b.bid), s.tag, 0) + ": " + err.Error(), nil}), nil
	}
	return problems, err
}

func (f *fsck) referenceProblems(ctx context.Context, b *fsckBucket, s segment) (problems []problem, err error) {
	tails := tailsName{s.in(b.bid), s.tag}
	what, err := f.missing(ctx, tails.bid, s)
	if err != nil {
		return nil, err
	}
	if what != "" {
		return []problem{{FindingDataLost, what, nil}}, nil
	}
	refs, err := f.refs(ctx, tails)
	if err != nil || refs == nil { // nil: it was there a moment ago
		return nil, err
	}
	first := tailOID(tails.bid, tails.tag, 0)
	if s.ref.IsZero() {
		if refs.ownerGone {
			problems = append(problems, problem{FindingReferenceLost, "the owner of " + first + " has let go of it", func(ctx context.Context) error {
				return f.own(ctx, tails)
			}})
		}
		return problems, f.strangers(ctx, tails, s.size, refs)
	}
	h := tailsName{b.bid, s.ref}
	listed, err := f.lists(ctx, h, tails)
	if err == nil && (!listed || !slices.Contains(refs.holders, h)) {
		problems = append(problems, problem{FindingReferenceLost, h.refsOID() + " does not hold " + first, func(ctx context.Context) error {
			return f.hold(ctx, h, segment{bid: tails.bid, tag: tails.tag, size: s.size})
		}})
	}
	return problems, err
}

// own lets an owner have again what he uses.
func (f *fsck) own(ctx context.Context, tails tailsName) error {
	gone, err := f.d.changeRefs(ctx, tails, func(r *refSet) (bool, error) {
		r.ownerGone = false
		return true, nil
	}, librados.FullForce)
	if err == nil && gone {
		err = errTailsGone
	}
	return err
}

// hold gives a reference to a holder that uses the tails.
func (f *fsck) hold(ctx context.Context, h tailsName, s segment) error {
	f.holding.Lock() // who writes a list, writes all of it
	defer f.holding.Unlock()
	l, err := f.d.readRefList(ctx, h)
	if err != nil {
		return err
	}
	if l == nil {
		l = &refList{mixed: true} // nobody knows
	}
	if !slices.ContainsFunc(l.tails, func(o segment) bool { return o.bid == s.bid && o.tag == s.tag }) {
		l.tails = append(l.tails, s)
		if err := f.d.writeRefList(ctx, h, l); err != nil {
			return err
		}
	}
	return f.d.take(ctx, tailsName{s.bid, s.tag}, h)
}

// stranger is a holder of tails who does not list them.
type stranger struct {
	tails  tailsName
	size   int64
	holder tailsName
}

// strangers takes note of holders who do not list what they hold. A list is
// written before its references are taken, and goes after them.
func (f *fsck) strangers(ctx context.Context, tails tailsName, size int64, refs *refSet) error {
	for _, h := range refs.holders {
		if listed, err := f.lists(ctx, h, tails); err != nil || listed {
			if err != nil {
				return err
			}
			continue
		}
		f.mu.Lock()
		f.odd = append(f.odd, stranger{tails, size, h})
		f.mu.Unlock()
	}
	return nil
}

// references looks at the holders who did not list what they hold. Those that
// something uses have lost their lists: of that it was told. The others hold
// for nobody.
func (f *fsck) references(ctx context.Context) error {
	odd := f.odd
	f.odd = nil
	table := newTailTable()
	for _, s := range odd {
		table.put(tailRun{bucket: f.bucket(s.holder.bid).number, tag: s.holder.tag, list: true})
	}
	if len(odd) == 0 || f.blind.Load() {
		return nil
	}
	if err := f.accountAgain(ctx, table); err != nil {
		return err
	}
	unused := map[tailsName]bool{}
	names := f.numbers()
	for _, r := range table.loose() {
		unused[tailsName{names[r.bucket].bid, r.tag}] = true
	}
	done := map[stranger]bool{}
	for _, s := range odd {
		if !unused[s.holder] || done[s] {
			continue
		}
		done[s] = true
		refs, err := f.refs(ctx, s.tails)
		if err != nil {
			return err
		}
		listed, err := f.lists(ctx, s.holder, s.tails)
		if err != nil {
			return err
		}
		if listed || refs == nil || !slices.Contains(refs.holders, s.holder) {
			continue
		}
		f.report(FindingReferenceLeft, f.buckets[s.tails.bid], "", s.holder.refsOID()+" holds "+tailOID(s.tails.bid, s.tails.tag, 0), func() error {
			return f.d.release(ctx, &segment{bid: s.tails.bid, tag: s.tails.tag, size: s.size}, s.holder)
		})
	}
	return nil
}
