//go:build rados

package rados

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	librados "herald/rados"
	"herald/store"
)

// place is a place in the order of a listing: all of key, or within its
// versions.
type place struct {
	key   string
	seq   uint64 // with within: only versions with smaller numbers
	state placeKind
}

type placeKind uint8

const (
	placeBefore placeKind = iota // before key
	placeWithin                  // within the versions of key
	placeAfter                   // after all versions of key
)

// compare gives the order of two places.
func (p place) compare(q place) int {
	return cmp.Or(strings.Compare(p.key, q.key), cmp.Compare(p.state, q.state), cmp.Compare(q.seq, p.seq))
}

// before tells whether a version comes before the place.
func (p place) passed(info *store.Info) bool {
	if c := strings.Compare(info.Key, p.key); c != 0 {
		return c < 0
	}
	return p.state == placeAfter || p.state == placeWithin && info.Seq >= p.seq
}

// Names of an omap are below pastIDs where they go on with an id.
const pastIDs = "\xff"

// after returns the name in a space after which the place begins.
func (p place) after(space string) string {
	switch {
	case p.state == placeWithin && space == spaceVersions:
		return versionBound(p.key, p.seq) + pastIDs
	case p.state != placeAfter:
		return space + orderedKey(p.key)
	case space == spaceCurrent:
		return omapKey(space, p.key)
	}
	return omapKey(space, p.key) + pastIDs
}

// cursor goes over the part of a listing that is in one shard.
type cursor struct {
	l     *lister
	s     *shard
	items []store.Info // read and not used yet
	from  place        // of what was not read
	end   bool         // all was read
	size  int          // entries to read next
}

// How many entries to read where a delimiter may let most of them be skipped.
const (
	sizeSkipped = 16 // behind a common prefix
	sizeGrowth  = 8  // times as many when these were used up
)

// seek goes on to a place.
func (c *cursor) seek(ctx context.Context, p place) error {
	if c.size = c.l.size; c.l.opts.Delimiter != "" {
		c.size = min(c.size, sizeSkipped)
	}
	for len(c.items) > 0 && p.passed(&c.items[0]) {
		c.items = c.items[1:]
	}
	if len(c.items) > 0 || c.end {
		return nil
	}
	if c.from.compare(p) < 0 {
		c.from = p
	}
	return c.read(ctx)
}

// shardPage is what one operation reads of a shard: all of one moment.
type shardPage struct {
	state                    *librados.Step
	current, versions, marks *librados.Step
	marked                   map[string]bool
}

// read reads on. Entries and marks are of one moment, so that a key without a
// mark is as its entries say.
func (c *cursor) read(ctx context.Context) error {
	op := librados.NewRead()
	get := func(space string, n int) *librados.Step {
		return op.OmapGetVals(c.from.after(space), space+orderedKey(c.l.opts.Prefix), n)
	}
	p := shardPage{state: op.GetXattr(xattrShard), current: get(spaceCurrent, c.size), marks: get(spaceMarks, pageKeys)}
	p.versions = &librados.Step{}
	if c.l.opts.Versions {
		p.versions = get(spaceVersions, c.size)
	}
	c.size = min(c.l.size, sizeGrowth*c.size)
	_, err := c.l.x.env.io.Operate(ctx, c.s.oid, op, 0)
	if errors.Is(err, syscall.ENOENT) || err == nil && strings.HasPrefix(string(p.state.Data), shardGone) {
		return errShardGone
	}
	if err != nil {
		return fmt.Errorf("read a shard of an index: %w", err)
	}
	if strings.HasPrefix(string(p.state.Data), shardFrozen) { // the bucket may be gone
		if err := c.l.x.load(ctx, c.l.x.version()); err != nil {
			return err
		}
	}
	to, err := c.horizon(&p)
	if err != nil {
		return err
	}
	if err := c.collect(ctx, &p, to); err != nil {
		return err
	}
	if to == nil {
		c.end = true
	} else {
		c.from = *to
	}
	return nil
}

// horizon is the place up to which a page knows all; nil: to the end.
func (c *cursor) horizon(p *shardPage) (*place, error) {
	var to *place
	limit := func(q place) {
		if to == nil || q.compare(*to) < 0 {
			to = &q
		}
	}
	for _, step := range []*librados.Step{p.current, p.marks, p.versions} {
		if !step.More {
			continue
		}
		if len(step.Pairs) == 0 {
			return nil, errCorrupt
		}
		key, rest, ok := splitOmapKey(step.Pairs[len(step.Pairs)-1].Key)
		if !ok {
			return nil, errCorrupt
		}
		if step != p.versions {
			limit(place{key: key, state: placeAfter})
			continue
		}
		seq, err := versionSeq(rest)
		if err != nil {
			return nil, err
		}
		limit(place{key: key, seq: seq, state: placeWithin})
	}
	p.marked = map[string]bool{}
	for _, pair := range p.marks.Pairs {
		if key, _, ok := splitOmapKey(pair.Key); ok && (to == nil || key <= to.key) {
			p.marked[key] = true
		}
	}
	if to != nil && to.state == placeWithin && p.marked[to.key] {
		to.state, to.seq = placeAfter, 0 // its head tells all of it
	}
	return to, nil
}

// collect makes items of what a page tells up to a place, in their order.
func (c *cursor) collect(ctx context.Context, p *shardPage, to *place) error {
	items := make([]store.Info, 0, len(p.current.Pairs)+len(p.versions.Pairs)+len(p.marked))
	var e indexEntry
	for _, step := range []*librados.Step{p.current, p.versions} {
		for _, pair := range step.Pairs {
			key, _, ok := splitOmapKey(pair.Key)
			if !ok {
				return errCorrupt
			}
			if p.marked[key] {
				continue
			}
			if err := e.decode(key, pair.Value); err != nil {
				return fmt.Errorf("index entry of %q: %w", key, err)
			}
			e.info.IsLatest = step == p.current
			items = append(items, e.info)
		}
	}
	asked, err := c.ask(ctx, p.marked)
	if err != nil {
		return err
	}
	items = slices.DeleteFunc(append(items, asked...), func(i store.Info) bool {
		return c.from.passed(&i) || to != nil && !to.passed(&i) || !c.l.opts.Versions && i.DeleteMarker
	})
	slices.SortFunc(items, func(a, b store.Info) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), cmp.Compare(b.Seq, a.Seq))
	})
	c.items = items
	return nil
}

// ask asks the heads of keys, and returns what a listing shows of them.
func (c *cursor) ask(ctx context.Context, keys map[string]bool) ([]store.Info, error) {
	type answer struct {
		key   string
		state *keyState
	}
	var answers []*answer
	for key := range keys {
		answers = append(answers, &answer{key: key})
	}
	x := c.l.x
	err := each(answers, func(a *answer) (err error) {
		a.state, err = x.env.heads.keyState(ctx, x.bid, a.key, c.l.opts.Versions)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask a head: %w", err)
	}
	var items []store.Info
	for _, a := range answers {
		versions := a.state.versions()
		if !c.l.opts.Versions {
			versions = versions[:min(1, len(versions))]
		}
		items = append(items, versions...)
	}
	return items, nil
}
