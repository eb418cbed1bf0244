//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"herald/store"
)

// list makes a page of a listing. Keys of which a change is under way are
// asked of their heads. opts is as for store.Bucket.List. Errors:
// store.ErrNoSuchBucket.
func (x *index) list(ctx context.Context, opts store.ListOptions) (*store.Page, error) {
	for wait := firstPause; ; wait = wait.sleep(ctx) {
		shards, version, err := x.all(ctx)
		if err != nil {
			return nil, err
		}
		if opts.Max <= 0 {
			return &store.Page{}, nil
		}
		l := &lister{x: x, opts: opts}
		for _, s := range shards {
			l.cursors = append(l.cursors, &cursor{l: l, s: s})
		}
		err = l.run(ctx, cursorSize(opts.Max, len(shards)))
		if err == nil {
			return &l.page, nil
		}
		if !errors.Is(err, errShardGone) || ctx.Err() != nil {
			return nil, fmt.Errorf("list a bucket: %w", err)
		}
		if err := x.follow(ctx, shards, version); err != nil {
			return nil, err
		}
	}
}

// errShardGone: a shard was split after the layout was read.
var errShardGone = errors.New("shard is gone")

// cursorSize is how many entries to read of each shard for a page: its share
// and some more, since shards differ.
func cursorSize(page, shards int) int {
	share := page/shards + 1
	return min(maxOmapKeys, share+share/4+8)
}

// lister makes one page.
type lister struct {
	x       *index
	opts    store.ListOptions
	size    int // entries to read of a shard at once
	cursors []*cursor
	page    store.Page
}

func (l *lister) run(ctx context.Context, size int) error {
	l.size = size
	begin, err := l.begin(ctx)
	if err != nil || begin == nil {
		return err
	}
	if err := l.seek(ctx, *begin); err != nil {
		return err
	}
	for {
		c, err := l.nearest(ctx)
		if err != nil || c == nil {
			return err
		}
		if len(l.page.Entries)+len(l.page.CommonPrefixes) == l.opts.Max {
			l.page.Truncated = true
			l.setMarkers()
			return nil
		}
		if cp, ok := l.commonPrefix(c.items[0].Key); ok {
			l.page.CommonPrefixes = append(l.page.CommonPrefixes, cp)
			if next, ok := successor(cp); !ok {
				return nil
			} else if err := l.seek(ctx, place{key: next}); err != nil {
				return err
			}
			continue
		}
		l.page.Entries = append(l.page.Entries, c.items[0])
		c.items = c.items[1:]
	}
}

// setMarkers says where the next page begins.
func (l *lister) setMarkers() {
	p := &l.page
	if n := len(p.CommonPrefixes); n > 0 {
		p.NextMarker = p.CommonPrefixes[n-1]
	}
	if n := len(p.Entries); n > 0 && p.Entries[n-1].Key > p.NextMarker {
		p.NextMarker = p.Entries[n-1].Key
		if l.opts.Versions {
			p.NextVersionMarker = p.Entries[n-1].VersionID
		}
	}
}

// commonPrefix is the one that key is rolled up in, if any.
func (l *lister) commonPrefix(key string) (string, bool) {
	return commonPrefix(key, l.opts.Prefix, l.opts.Delimiter)
}

func commonPrefix(key, prefix, delimiter string) (string, bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok || delimiter == "" {
		return "", false
	}
	i := strings.Index(rest, delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(prefix)+i+len(delimiter)], true
}

// begin is the place where the page begins; nil: there is nothing after the
// marker.
func (l *lister) begin(ctx context.Context) (*place, error) {
	m := l.opts.Marker
	cp, inPrefix := l.commonPrefix(m)
	switch {
	case m < l.opts.Prefix:
		return &place{key: l.opts.Prefix}, nil
	case inPrefix: // all of it is behind the marker
		next, ok := successor(cp)
		if !ok {
			return nil, nil
		}
		return &place{key: next}, nil
	case m == "" && l.opts.VersionMarker == "":
		return &place{}, nil
	case l.opts.Versions && l.opts.VersionMarker != "":
		return l.within(ctx, m, l.opts.VersionMarker)
	}
	return &place{key: m, state: placeAfter}, nil
}

// within is the place after a version of key. If the number of that version
// is not known any more, it is before the key: to give versions twice is
// better than to leave some out.
func (l *lister) within(ctx context.Context, key, id string) (*place, error) {
	if id != store.NullVersion {
		if !validVersionID(id) {
			return &place{key: key}, nil
		}
		seq, err := strconv.ParseUint(id[:16], 16, 64)
		return &place{key: key, seq: ^seq, state: placeWithin}, err
	}
	k, err := l.x.env.heads.keyState(ctx, l.x.bid, key, true)
	if err != nil {
		return nil, fmt.Errorf("ask a head: %w", err)
	}
	for _, v := range k.versions() {
		if v.VersionID == id {
			return &place{key: key, seq: v.Seq, state: placeWithin}, nil
		}
	}
	return &place{key: key}, nil
}

// versions returns all versions of a key, newest first.
func (k *keyState) versions() []store.Info {
	if k.current == nil {
		return nil
	}
	first := *k.current
	first.IsLatest = true
	return append([]store.Info{first}, k.noncurrent...)
}

// seek sets all cursors to a place.
func (l *lister) seek(ctx context.Context, p place) error {
	return each(l.cursors, func(c *cursor) error { return c.seek(ctx, p) })
}

// nearest returns the cursor with the first item; nil: there is none.
func (l *lister) nearest(ctx context.Context) (*cursor, error) {
	var first *cursor
	for _, c := range l.cursors {
		for len(c.items) == 0 && !c.end {
			if err := c.read(ctx); err != nil {
				return nil, err
			}
		}
		if len(c.items) > 0 && (first == nil || c.items[0].Key < first.items[0].Key) {
			first = c
		}
	}
	return first, nil
}

// maxShardReads is how many shards, or heads, one listing reads at once.
const maxShardReads = 32

// each does f for all things beside each other.
func each[T any](things []T, f func(T) error) error {
	errs := make([]error, len(things))
	var wg sync.WaitGroup
	room := make(chan struct{}, maxShardReads)
	for i, thing := range things {
		room <- struct{}{}
		wg.Go(func() {
			errs[i] = f(thing)
			<-room
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
