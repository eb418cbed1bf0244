//go:build rados

package rados

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// wholeHead is all of a head, of one moment.
type wholeHead struct {
	head
	size  int64 // of its data
	mtime time.Time
	pairs []librados.Pair
	bad   error // it could not be understood

	noncurrent []wholeVersion // newest first
}

// wholeVersion is a version with its attributes.
type wholeVersion struct {
	*version
	attrs []byte
}

// readWhole reads a head; nil: there is none. Errors: errBusy.
func (f *fsck) readWhole(ctx context.Context, k headKey, oid string) (*wholeHead, error) {
	for range 10 {
		w, err := f.tryWhole(ctx, k, oid)
		if !errors.Is(err, errBusy) {
			return w, err
		}
	}
	return nil, errBusy
}

func (f *fsck) tryWhole(ctx context.Context, k headKey, oid string) (*wholeHead, error) {
	w := &wholeHead{head: head{headKey: k, state: state{key: k.key}}}
	for after, more := "", true; more; {
		op := librados.NewRead()
		xattrs, stat, omap := op.Xattrs(), op.Stat(), op.OmapGetVals(after, "", pageKeys)
		guard, err := f.d.heads.Operate(ctx, oid, op, 0)
		if errors.Is(err, syscall.ENOENT) && after == "" {
			return nil, nil
		}
		if errors.Is(err, syscall.ENOENT) || err == nil && after != "" && guard != w.guard {
			return nil, errBusy
		}
		if err != nil {
			return nil, err
		}
		if after == "" {
			w.guard, w.size, w.mtime = guard, int64(stat.Size), stat.MTime
			w.understand(xattrs.Pairs, oid)
		}
		w.pairs = append(w.pairs, omap.Pairs...)
		if more = omap.More && len(omap.Pairs) > 0; more {
			after = omap.Pairs[len(omap.Pairs)-1].Key
		}
	}
	w.versions()
	return w, nil
}

// understand reads the extended attributes. The name of a head whose key is
// long does not tell the key.
func (w *wholeHead) understand(xattrs []librados.Pair, oid string) {
	for _, p := range xattrs {
		if p.Key != xattrState {
			continue
		}
		s, err := decodeState(p.Value)
		if err != nil {
			w.bad = err
			return
		}
		w.headKey.key = s.key
	}
	if w.bad = w.parse(xattrs); w.bad == nil && w.oid() != oid && len(xattrs) > 0 && w.state.key != "" {
		w.bad = fmt.Errorf("it is that of key %q", w.state.key)
	}
}

// versions reads the noncurrent versions.
func (w *wholeHead) versions() {
	for _, p := range w.pairs {
		id, ok := strings.CutPrefix(p.Key, keyVersion)
		if !ok {
			continue
		}
		v, attrs, err := decodeNoncurrent(p.Value)
		if err == nil && v.id != id {
			err = fmt.Errorf("it is version %q", v.id)
		}
		if err != nil {
			w.bad = cmp.Or(w.bad, fmt.Errorf("version %s: %w", id, err))
			continue
		}
		w.noncurrent = append(w.noncurrent, wholeVersion{v, attrs})
	}
	slices.SortFunc(w.noncurrent, func(a, b wholeVersion) int { return cmp.Compare(b.seq, a.seq) })
}

// all are all versions that the head has.
func (w *wholeHead) all() []*version {
	var all []*version
	if w.current != nil {
		all = append(all, w.current)
	}
	for _, v := range w.noncurrent {
		all = append(all, v.version)
	}
	return all
}

// namedHead is an object that was listed.
type namedHead struct {
	oid  string
	name objectName
}

func (n *namedHead) key(bid string) headKey {
	if n.name.kind == objectHead {
		return headKey{bid, n.name.rest}
	}
	return headKey{bid, ""}
}

// heads goes over all heads and uploads: groups of one bucket are given to
// workers.
func (f *fsck) heads(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type work struct {
		b     *fsckBucket
		group []namedHead
	}
	queue := make(chan work)
	var wg sync.WaitGroup
	for range fsckWorkers {
		wg.Go(func() {
			for w := range queue {
				if err := f.checkHeads(ctx, w.b, w.group); err != nil {
					cancel(err)
				}
			}
		})
	}
	waiting, n := map[*fsckBucket][]namedHead{}, 0
	send := func(b *fsckBucket) {
		select {
		case queue <- work{b, waiting[b]}:
		case <-ctx.Done():
		}
		n -= len(waiting[b])
		delete(waiting, b)
	}
	err := f.objects(ctx, f.d.heads, func(oid string, name objectName) error {
		if name.kind != objectHead && name.kind != objectHashed && name.kind != objectUpload {
			return nil
		}
		b := f.buckets[name.bid]
		if b == nil { // it was made meanwhile
			b = &fsckBucket{bid: name.bid, number: allTails}
		}
		waiting[b] = append(waiting[b], namedHead{oid, name})
		if n++; len(waiting[b]) >= fsckGroup || b.number == allTails {
			send(b)
		}
		if n >= fsckSuspects {
			for b := range waiting {
				send(b)
			}
		}
		return context.Cause(ctx)
	})
	for b := range waiting {
		send(b)
	}
	close(queue)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// checkHeads looks at some heads and uploads of one bucket.
func (f *fsck) checkHeads(ctx context.Context, b *fsckBucket, group []namedHead) error {
	var mu sync.Mutex // guards found
	found := map[string]*wholeHead{}
	err := each(group, func(n namedHead) error {
		if n.name.kind == objectUpload {
			return f.checkUpload(ctx, b, n.name.rest)
		}
		w, err := f.readWhole(ctx, n.key(b.bid), n.oid)
		if w == nil && err == nil {
			return nil
		}
		if errors.Is(err, errBusy) {
			return f.suspect(ctx, func(ctx context.Context) error { return f.headAgain(ctx, b, n, true) })
		}
		if err != nil {
			return err
		}
		f.useHead(b, w)
		if b.number == allTails || f.light {
			return nil
		}
		f.countHead(w)
		problems, err := f.headProblems(ctx, b, n, w)
		if err == nil && len(problems) > 0 {
			err = f.suspect(ctx, func(ctx context.Context) error { return f.headAgain(ctx, b, n, false) })
		}
		mu.Lock()
		defer mu.Unlock()
		if w.bad == nil && w.headKey.key != "" {
			found[w.headKey.key] = w
		}
		return err
	})
	if err != nil || b.known != bucketNamed || b.number == allTails || f.light {
		return err
	}
	return f.compareKeys(ctx, b, found)
}

// useHead accounts for what a head uses, and notes.
func (f *fsck) useHead(b *fsckBucket, w *wholeHead) {
	if w.bad != nil {
		f.blind.Store(true)
	}
	for _, v := range w.all() {
		for _, s := range v.segments {
			f.use(b, s)
		}
	}
	for _, p := range w.pairs {
		tag, ok := strings.CutPrefix(p.Key, keyGarbage)
		if id, valid := store.ParseOpID(tag); ok && valid {
			f.useAll(b, id)
		}
	}
}

func (f *fsck) countHead(w *wholeHead) {
	f.count(func(s *store.FsckStats) {
		if w.current != nil && !w.current.marker {
			s.Objects++
			s.Bytes += w.current.size
		} else if w.current != nil {
			s.Versions++
		}
		s.Versions += int64(len(w.noncurrent))
	})
}

// headAgain looks at a head again. uses: it was not accounted for yet.
func (f *fsck) headAgain(ctx context.Context, b *fsckBucket, n namedHead, uses bool) error {
	w, err := f.readWhole(ctx, n.key(b.bid), n.oid)
	if err != nil || w == nil {
		return err
	}
	if uses {
		f.useHead(b, w)
	}
	if f.light {
		return nil
	}
	problems, err := f.headProblems(ctx, b, n, w)
	if err != nil || len(problems) == 0 {
		return err
	}
	again, err := f.readWhole(ctx, n.key(b.bid), n.oid)
	if err != nil || again == nil {
		return err
	}
	if again.guard != w.guard {
		return errBusy
	}
	for _, p := range problems {
		var repair func() error
		if p.repair != nil {
			repair = func() error { return p.repair(ctx) }
		}
		f.report(p.kind, b, w.headKey.key, p.detail, repair)
	}
	return nil
}

// problem is something that is wrong.
type problem struct {
	kind   store.FindingKind
	detail string
	repair func(ctx context.Context) error // nil: it cannot be repaired
}

// headProblems tells what is wrong with a head, and what it names.
func (f *fsck) headProblems(ctx context.Context, b *fsckBucket, n namedHead, w *wholeHead) ([]problem, error) {
	if w.bad != nil {
		return []problem{{FindingHeadCorrupt, n.oid + ": " + w.bad.Error(), nil}}, nil
	}
	if w.alive() && b.known != bucketNamed {
		if place, err := f.reread(ctx, b); err != nil || place != bucketNamed {
			return []problem{{FindingHeadOrphan, n.oid, nil}}, err
		}
	}
	problems := f.contradictions(n, w)
	old, err := f.oldTombstone(ctx, n, w)
	if err == nil && old == nil {
		old, err = f.oldNotes(ctx, n, w)
	}
	if err != nil {
		return nil, err
	}
	problems = append(problems, old...)
	for _, v := range w.all() {
		lost, err := f.versionProblems(ctx, b, w, v)
		if err != nil {
			return nil, err
		}
		problems = append(problems, lost...)
	}
	return problems, nil
}
