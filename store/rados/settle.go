//go:build rados

package rados

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	librados "herald/rados"
)

// settle ends changes whose keys are not in the state that they expected:
// other changes of these keys ended in another order, or somebody died. The
// entries are made from what the heads say.
//
// Why that is right, and the entries need no memory of removed keys: an entry
// is only ever changed from the state before a change to the one after it, by
// that change; or to the state of the head by settle, which tells all other
// changes of the key that have a mark to settle, too. So when the last mark of
// a key is gone, either all changes were applied, each from its state to the
// next, in whatever order: then the last state is reached; or somebody settled
// and the later changes were applied.
func (s *shard) settle(ctx context.Context, batch []*indexCall) {
	if s.settleOnce(ctx, batch) == nil {
		return
	}
	for i := range batch {
		if !s.settleAlone(ctx, batch[i:]) {
			return
		}
	}
}

// settleTries is how often a call is tried before it is left to the sweep.
const settleTries = 100

// settleAlone settles the first of calls. It answers false when there is
// nothing more to do for the others.
func (s *shard) settleAlone(ctx context.Context, calls []*indexCall) bool {
	wait := firstPause
	for range settleTries {
		err := s.settleOnce(ctx, calls[:1])
		if err == nil {
			return true
		}
		switch next, reason := s.judge(ctx, err); next {
		case judgeEnd:
			answerAll(calls, reason)
			return false
		case judgeMoved:
			s.moved(ctx, calls)
			return false
		}
		wait = wait.sleep(ctx)
	}
	s.x.env.log.Error("change of a key cannot be taken to its bucket's index", "shard", s.oid, "key", calls[0].m.key)
	calls[0].answer(librados.ErrMismatch)
	return true
}

// settling is what the index and the head say about a key.
type settling struct {
	key      string
	calls    []*indexCall
	marks    *librados.Step
	versions *librados.Step
	uploads  *librados.Step
	entry    []byte // nil: none
	head     *keyState
}

// mark returns a mark's value; nil: it is gone.
func (k *settling) mark(name string) []byte {
	for _, p := range k.marks.Pairs {
		if p.Key == name {
			return p.Value
		}
	}
	return nil
}

// settleOnce tries to settle calls in one operation. Errors:
// librados.ErrMismatch: something changed meanwhile.
func (s *shard) settleOnce(ctx context.Context, calls []*indexCall) error {
	keys, err := s.readCalls(ctx, calls)
	if err != nil {
		return err
	}
	if err := s.askHeads(ctx, keys); err != nil {
		return err
	}
	if err := s.x.env.at("index.settle"); err != nil {
		return err
	}
	w := newShardWrite()
	gone := map[*indexCall]bool{}
	for _, k := range keys {
		if err := s.settleKey(w, k, gone); err != nil {
			return err
		}
	}
	if len(w.set) > 0 {
		if err := s.write(ctx, w, &s.slowTally); err != nil {
			return err
		}
	}
	for _, c := range calls {
		if gone[c] {
			c.value = nil
			c.answer(errMarkGone)
		} else {
			c.answer(nil)
		}
	}
	return nil
}

// readCalls reads what the shard holds of the keys of calls. Errors:
// librados.ErrMismatch: it takes no writes, or others than it was thought.
func (s *shard) readCalls(ctx context.Context, calls []*indexCall) ([]*settling, error) {
	byKey := map[string][]*indexCall{}
	var names []string
	for _, c := range calls {
		if byKey[c.m.key] == nil {
			names = append(names, c.m.key)
		}
		byKey[c.m.key] = append(byKey[c.m.key], c)
	}
	state, keys, err := s.readKeys(ctx, names)
	if err == nil && state != s.expects() {
		err = librados.ErrMismatch
	}
	for _, k := range keys {
		k.calls = byKey[k.key]
	}
	return keys, err
}

// readKeys reads what the shard holds of keys, and its state.
func (s *shard) readKeys(ctx context.Context, names []string) (state string, keys []*settling, err error) {
	op := librados.NewRead()
	xattr := op.GetXattr(xattrShard)
	byName := map[string]*settling{}
	var entryNames []string
	for _, name := range names {
		k := &settling{key: name}
		k.marks = op.OmapGetVals("", omapKey(spaceMarks, name), pageKeys)
		k.versions = op.OmapGetVals("", omapKey(spaceVersions, name), pageKeys)
		k.uploads = op.OmapGetVals("", omapKey(spaceUploads, name), pageKeys)
		keys, entryNames = append(keys, k), append(entryNames, omapKey(spaceCurrent, name))
		byName[omapKey(spaceCurrent, name)] = k
	}
	entries := op.OmapGetByKeys(entryNames...)
	if _, err := s.x.env.io.Operate(ctx, s.oid, op, 0); err != nil {
		return "", nil, fmt.Errorf("read a shard of an index: %w", err)
	}
	for _, p := range entries.Pairs {
		byName[p.Key].entry = p.Value
	}
	for _, k := range keys {
		for space, step := range map[string]*librados.Step{spaceVersions: k.versions, spaceMarks: k.marks, spaceUploads: k.uploads} {
			if err := s.readRest(ctx, step, omapKey(space, k.key)); err != nil {
				return "", nil, err
			}
		}
	}
	return string(xattr.Data), keys, nil
}

// readRest goes on with a step that did not read all that has a prefix. What
// it reads is of a later moment; if the key was changed meanwhile, its entry
// was, and the write that follows fails.
func (s *shard) readRest(ctx context.Context, step *librados.Step, prefix string) error {
	for more := step.More; more; {
		op := librados.NewRead()
		next := op.OmapGetVals(step.Pairs[len(step.Pairs)-1].Key, prefix, pageKeys)
		if _, err := s.x.env.io.Operate(ctx, s.oid, op, 0); err != nil {
			return fmt.Errorf("read a shard of an index: %w", err)
		}
		step.Pairs = append(step.Pairs, next.Pairs...)
		more = next.More && len(next.Pairs) > 0
	}
	return nil
}

// askHeads reads the heads of the keys that still have a mark of the calls'.
// A renewal needs no head.
func (s *shard) askHeads(ctx context.Context, keys []*settling) error {
	var wg sync.WaitGroup
	errs := make([]error, len(keys))
	for i, k := range keys {
		if !k.ends() {
			continue
		}
		wg.Go(func() { k.head, errs[i] = s.x.env.heads.keyState(ctx, s.x.bid, k.key, true) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("ask a head: %w", err)
		}
	}
	return nil
}

// ends tells whether one of the calls ends a mark that is there.
func (k *settling) ends() bool {
	for _, c := range k.calls {
		if c.kind != callRenew && k.mark(markKey(c.m.key, c.m.tag)) != nil {
			return true
		}
	}
	return false
}

// settleKey adds to a write what makes the entries of a key what its head
// says, and ends the marks of the calls; gone are those whose mark is gone.
func (s *shard) settleKey(w *shardWrite, k *settling, gone map[*indexCall]bool) error {
	if k.head != nil {
		for _, p := range k.marks.Pairs {
			if w.expect(p.Key, p.Value); !asks(p.Value) {
				w.set[p.Key] = asking(p.Value)
			}
		}
		if err := s.makeEntries(w, k); err != nil {
			return err
		}
	}
	for _, c := range k.calls {
		name := markKey(c.m.key, c.m.tag)
		old := k.mark(name)
		switch {
		case old == nil:
			gone[c] = c.kind == callRenew
		case c.kind == callRenew:
			if k.head == nil {
				w.expect(name, old)
			}
			c.value = markValue(asks(old) || k.head != nil, s.x.env.now(), s.x.env.gateway)
			w.set[name] = c.value
		default:
			w.set[name] = nil
		}
	}
	return nil
}

// makeEntries adds to a write what makes a key's entries what its head says.
func (s *shard) makeEntries(w *shardWrite, k *settling) error {
	w.expect(omapKey(spaceCurrent, k.key), k.entry)
	c := &indexChange{now: k.head.entry()}
	c.garbage = slices.ContainsFunc(k.calls, func(c *indexCall) bool { return c.repair || c.change != nil && c.change.garbage })
	if k.entry != nil {
		var err error
		if c.was, err = decodeIndexEntry(k.key, k.entry); err != nil {
			return fmt.Errorf("entry of %q: %w", k.key, err)
		}
	}
	want := map[string][]byte{}
	for _, v := range k.head.noncurrent {
		want[versionKey(&v)] = (&indexEntry{info: v}).encode()
	}
	have := map[string][]byte{}
	for _, p := range k.versions.Pairs {
		e, err := decodeIndexEntry(k.key, p.Value)
		if err != nil {
			return fmt.Errorf("entry of a version of %q: %w", k.key, err)
		}
		if have[p.Key] = p.Value; !bytes.Equal(want[p.Key], p.Value) {
			c.remove = append(c.remove, e.info)
		}
	}
	for _, v := range k.head.noncurrent {
		if name := versionKey(&v); !bytes.Equal(want[name], have[name]) {
			c.add = append(c.add, v)
		}
	}
	w.change(k.key, c, s.x.env.now())
	return nil
}

// pageKeys is how many keys of an omap one step of an operation reads. An OSD
// gives maxOmapKeys at most (osd_max_omap_entries_per_request): some more than
// a page of a listing, whose end is known by that.
const (
	pageKeys    = 1000
	maxOmapKeys = 1024
)
