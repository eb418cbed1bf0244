//go:build rados

package rados

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// tailRun is what was found of one TAG: its tails, and the list of its
// references. It has 32 bytes.
type tailRun struct {
	bucket  uint32 // fsckBucket.number
	tag     store.OpID
	listed  uint32 // one more than the last number that has an object
	used    uint32 // how many of them are accounted for
	list    bool   // there is a list of references
	listFor bool   // which is accounted for
}

// loose tells that not all of it is accounted for.
func (r *tailRun) loose() bool { return r.used < r.listed || r.list && !r.listFor }

func (r tailRun) compare(o tailRun) int {
	return cmp.Or(slices.Compare(r.tag[:], o.tag[:]), cmp.Compare(r.bucket, o.bucket))
}

// allTails: nobody knows how many there are.
const allTails = math.MaxUint32

// tailTable has all tails that were listed. The parts are by the last byte of
// the TAG, which is random: so the table does not have to be copied as a whole
// when it grows.
type tailTable struct {
	parts [256][]tailRun
	mu    [256]sync.Mutex // each guards a part, once it is sorted
}

func newTailTable() *tailTable { return &tailTable{} }

// add adds a tail. It is used by one goroutine, before any use.
func (t *tailTable) add(bucket uint32, tag store.OpID, n int64) {
	t.put(tailRun{bucket: bucket, tag: tag, listed: uint32(n + 1)})
}

// addRefs adds a list of references, as add.
func (t *tailTable) addRefs(bucket uint32, tag store.OpID) {
	t.put(tailRun{bucket: bucket, tag: tag, list: true})
}

func (t *tailTable) put(r tailRun) {
	p := &t.parts[r.tag[len(r.tag)-1]]
	if len(*p) == cap(*p) {
		*p = compact(*p)
		if len(*p) > cap(*p)*3/4 { // else it would be sorted again too soon
			*p = slices.Grow(*p, len(*p)/2+16)
		}
	}
	*p = append(*p, r)
}

// compact makes one run of all that have the same TAG.
func compact(runs []tailRun) []tailRun {
	slices.SortFunc(runs, tailRun.compare)
	n := 0
	for _, r := range runs {
		if n > 0 && runs[n-1].compare(r) == 0 {
			runs[n-1].listed = max(runs[n-1].listed, r.listed)
			runs[n-1].list = runs[n-1].list || r.list
			continue
		}
		runs[n] = r
		n++
	}
	return runs[:n]
}

// sort ends the adding.
func (t *tailTable) sort() {
	for i := range t.parts {
		t.parts[i] = compact(t.parts[i])
	}
}

// use accounts for the first n tails of a TAG, and for its references if that
// is said.
func (t *tailTable) use(bucket uint32, tag store.OpID, n uint32, refs bool) {
	i := tag[len(tag)-1]
	t.mu[i].Lock()
	defer t.mu[i].Unlock()
	at, ok := slices.BinarySearchFunc(t.parts[i], tailRun{bucket: bucket, tag: tag}, tailRun.compare)
	if ok {
		r := &t.parts[i][at]
		r.used = max(r.used, n)
		r.listFor = r.listFor || refs
	}
}

// loose are the runs of which not all is accounted for.
func (t *tailTable) loose() (runs []tailRun) {
	for i := range t.parts {
		for _, r := range t.parts[i] {
			if r.loose() {
				runs = append(runs, r)
			}
		}
	}
	return runs
}

// use accounts for the tails of a segment that something in b names, and for
// the references to them.
func (f *fsck) use(b *fsckBucket, s segment) {
	if f.tails == nil {
		return
	}
	if owner := f.buckets[s.in(b.bid)]; owner != nil {
		f.tails.use(owner.number, s.tag, uint32(min(tailCount(s.size), allTails)), false)
	}
	if !s.ref.IsZero() {
		f.tails.use(b.number, s.ref, 0, true)
	}
}

// useAll accounts for all that TAG has.
func (f *fsck) useAll(b *fsckBucket, tag store.OpID) {
	if f.tails != nil {
		f.tails.use(b.number, tag, allTails, true)
	}
}

// leaks finds tails and references that nothing accounts for. Those that seem so
// are accounted for once more, in a table of their own: what uses them may have
// moved while it was looked for.
func (f *fsck) leaks(ctx context.Context) error {
	found, err := f.existing(ctx, f.tails.loose())
	f.tails = nil
	if err != nil || len(found) == 0 {
		return err
	}
	again := newTailTable()
	for _, r := range found {
		r.used, r.listFor = 0, false
		again.put(r)
	}
	if err := f.accountAgain(ctx, again); err != nil {
		return err
	}
	if found, err = f.existing(ctx, again.loose()); err != nil {
		return err
	}
	names := f.numbers()
	for _, r := range found {
		b := names[r.bucket]
		detail := ""
		if r.used < r.listed {
			detail = fmt.Sprintf("%s to %d", tailOID(b.bid, r.tag, int64(r.used)), r.listed-1)
		} else {
			detail = tailsName{b.bid, r.tag}.refsOID()
		}
		repair := func() error { return f.removeLeak(ctx, b, r) }
		switch {
		case f.blind.Load():
			repair, detail = nil, detail+" (not removed: what may use it cannot be read)"
		case r.used == 0 && time.Since(opTime(r.tag)) < f.limits.young:
			repair, detail = nil, detail+" (not removed before it is an hour old)"
		}
		f.report(FindingTailLeak, b, "", detail, repair)
	}
	return nil
}

// accountAgain accounts for what a table has, and looks at nothing else.
func (f *fsck) accountAgain(ctx context.Context, table *tailTable) error {
	table.sort()
	f.tails, f.light = table, true
	defer func() { f.tails, f.light = nil, false }()
	if err := f.announced(ctx); err != nil {
		return err
	}
	if err := f.heads(ctx); err != nil {
		return err
	}
	return f.lookAgain(ctx)
}

// removeLeak removes what nothing accounts for. References that somebody lists
// keep it.
func (f *fsck) removeLeak(ctx context.Context, b *fsckBucket, r tailRun) error {
	if r.used == 0 {
		tails := tailsName{b.bid, r.tag}
		refs, err := f.refs(ctx, tails)
		if err != nil {
			return err
		}
		for _, h := range refs.all() {
			listed, err := f.lists(ctx, h, tails)
			if err == nil && !listed {
				err = f.d.release(ctx, &segment{bid: b.bid, tag: r.tag, size: int64(r.listed) * tailSize}, h)
			}
			if err != nil {
				return err
			}
		}
		if err := f.d.removeAll(ctx, b.bid, r.tag); err != nil {
			return err
		}
		if _, err := f.tailSize(ctx, b.bid, r.tag, 0); !errors.Is(err, syscall.ENOENT) {
			return err
		}
	}
	return f.eachTail(ctx, max(1, int64(r.used)), int64(r.listed), func(n int64) error {
		return f.d.removeTail(ctx, b.bid, r.tag, n)
	})
}

// existing returns the runs of which what is not accounted for is still there,
// and is not held by a reference.
func (f *fsck) existing(ctx context.Context, runs []tailRun) (left []tailRun, err error) {
	names := f.numbers()
	var mu sync.Mutex // guards left
	err = each(runs, func(r tailRun) error {
		there, err := f.remains(ctx, names[r.bucket].bid, r)
		if errors.Is(err, errCorrupt) { // nobody knows whether it is held
			f.blind.Store(true)
			there, err = true, nil
		}
		mu.Lock()
		defer mu.Unlock()
		if there {
			left = append(left, r)
		}
		return err
	})
	slices.SortFunc(left, tailRun.compare)
	return left, err
}

func (f *fsck) remains(ctx context.Context, bid string, r tailRun) (bool, error) {
	h := tailsName{bid, r.tag}
	if r.list && !r.listFor {
		if l, err := f.d.readRefList(ctx, h); l != nil || err != nil {
			return l != nil, err
		}
	}
	if r.used == 0 && r.listed > 0 {
		if held, err := f.held(ctx, h); held || err != nil {
			return false, err
		}
	}
	var there atomic.Bool
	err := f.eachTail(ctx, int64(r.used), int64(r.listed), func(n int64) error {
		_, err := f.tailSize(ctx, bid, r.tag, n)
		if err == nil {
			there.Store(true)
		}
		return ignoreAbsent(err)
	})
	return there.Load(), err
}

// held tells whether somebody has a reference to tails, as he himself says.
func (f *fsck) held(ctx context.Context, tails tailsName) (bool, error) {
	refs, err := f.refs(ctx, tails)
	if err != nil || refs == nil {
		return false, err
	}
	for _, h := range refs.holders {
		if ok, err := f.lists(ctx, h, tails); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// refs reads who holds tails; nil: the first is not there.
func (f *fsck) refs(ctx context.Context, tails tailsName) (*refSet, error) {
	op := librados.NewRead()
	attr := op.GetXattr(xattrRefs)
	if _, err := f.d.data.Operate(ctx, tailOID(tails.bid, tails.tag, 0), op, 0); err != nil {
		return nil, ignoreAbsent(err)
	}
	return decodeRefSet(attr.Data)
}

// all are the holders; none if there is no tail.
func (r *refSet) all() []tailsName {
	if r == nil {
		return nil
	}
	return r.holders
}

// lists tells whether a holder says that he may have a reference to tails.
func (f *fsck) lists(ctx context.Context, h, tails tailsName) (bool, error) {
	l, err := f.d.readRefList(ctx, h)
	if l == nil || err != nil {
		return false, err
	}
	return slices.ContainsFunc(l.tails, func(s segment) bool { return s.bid == tails.bid && s.tag == tails.tag }), nil
}

// eachTail calls f with numbers, some of them beside each other.
func (f *fsck) eachTail(ctx context.Context, from, to int64, do func(n int64) error) error {
	for ; from < to; from += removeAtOnce {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var some []int64
		for n := from; n < min(to, from+removeAtOnce); n++ {
			some = append(some, n)
		}
		if err := each(some, do); err != nil {
			return err
		}
	}
	return nil
}

// tailSize returns how long a tail is. Errors: ENOENT.
func (f *fsck) tailSize(ctx context.Context, bid string, tag store.OpID, n int64) (int64, error) {
	op := librados.NewRead()
	step := op.Stat()
	if _, err := f.d.data.Operate(ctx, tailOID(bid, tag, n), op, 0); err != nil {
		return 0, err
	}
	return int64(step.Size), nil
}

// missing tells what is wrong with the tails of a segment; "": nothing. Of
// compressed ones only the sum of their lengths is known.
func (f *fsck) missing(ctx context.Context, bid string, s segment) (what string, err error) {
	var mu sync.Mutex // guards what, sum
	sum := int64(0)
	err = f.eachTail(ctx, 0, tailCount(s.size), func(n int64) error {
		want := min(tailSize, s.size-n*tailSize)
		got, err := f.tailSize(ctx, bid, s.tag, n)
		oid := tailOID(bid, s.tag, n)
		mu.Lock()
		defer mu.Unlock()
		switch sum += got; {
		case errors.Is(err, syscall.ENOENT):
			what = oid + " is not there"
		case err != nil:
			return err
		case got != want && s.stored == 0:
			what = fmt.Sprintf("%s has %d bytes instead of %d", oid, got, want)
		}
		return nil
	})
	if what == "" && s.stored > 0 && sum != s.stored {
		what = fmt.Sprintf("%s to %d have %d bytes instead of %d", tailOID(bid, s.tag, 0), tailCount(s.size)-1, sum, s.stored)
	}
	return what, err
}
