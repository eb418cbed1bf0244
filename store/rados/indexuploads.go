//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// uploadEntry is a multipart upload in the index.
type uploadEntry struct {
	key       string
	initiated time.Time // nanoseconds count
	id        string
	value     []byte // what a listing shows of it; of whoever added it
}

func (u *uploadEntry) name() string { return uploadKey(u.key, u.initiated, u.id) }

// addUpload adds an upload, durably. Errors: store.ErrNoSuchBucket,
// store.ErrNoSpace.
func (x *index) addUpload(ctx context.Context, u uploadEntry) error {
	if u.value == nil {
		u.value = []byte{}
	}
	return x.set(ctx, u.key, u.name(), u.value)
}

// removeUpload removes an upload, durably; one that is not there is no error.
// Errors: store.ErrNoSuchBucket.
func (x *index) removeUpload(ctx context.Context, u uploadEntry) error {
	return x.set(ctx, u.key, u.name(), nil)
}

func (x *index) set(ctx context.Context, key, name string, value []byte) error {
	c := newIndexCall(callSet, &mark{x: x, key: key})
	c.set = map[string][]byte{name: value}
	if err := x.do(ctx, c); err != nil {
		return fmt.Errorf("change an upload in the index: %w", err)
	}
	return nil
}

// uploadPage is a page of uploads, as store.UploadPage.
type uploadPage struct {
	uploads        []uploadEntry
	commonPrefixes []string
	truncated      bool
	nextKeyMarker  string
	nextIDMarker   string
}

// listUploads makes a page of a listing of uploads. Errors:
// store.ErrNoSuchBucket.
func (x *index) listUploads(ctx context.Context, opts store.UploadListOptions) (*uploadPage, error) {
	for wait := firstPause; ; wait = wait.sleep(ctx) {
		shards, version, err := x.all(ctx)
		if err != nil {
			return nil, err
		}
		if opts.Max <= 0 {
			return &uploadPage{}, nil
		}
		l := &uploadLister{opts: opts, size: cursorSize(opts.Max, len(shards))}
		for _, s := range shards {
			l.cursors = append(l.cursors, &uploadCursor{s: s})
		}
		err = l.run(ctx)
		if err == nil {
			return &l.page, nil
		}
		if !errors.Is(err, errShardGone) || ctx.Err() != nil {
			return nil, fmt.Errorf("list uploads: %w", err)
		}
		if err := x.follow(ctx, shards, version); err != nil {
			return nil, err
		}
	}
}

// uploadLister makes one page of uploads.
type uploadLister struct {
	opts    store.UploadListOptions
	size    int // to read of a shard at once
	cursors []*uploadCursor
	page    uploadPage
}

// uploadCursor goes over the uploads in one shard.
type uploadCursor struct {
	s     *shard
	items []uploadEntry // read and not used yet
	after string        // name; what follows it was not read
	end   bool
}

// commonPrefix is the one that key is rolled up in, if any.
func (l *uploadLister) commonPrefix(key string) (string, bool) {
	return commonPrefix(key, l.opts.Prefix, l.opts.Delimiter)
}

func (l *uploadLister) run(ctx context.Context) error {
	after, ok, err := l.begin(ctx)
	if err != nil || !ok {
		return err
	}
	if err := l.seek(ctx, after); err != nil {
		return err
	}
	p := &l.page
	for {
		c, err := l.nearest(ctx)
		if err != nil || c == nil {
			p.nextKeyMarker, p.nextIDMarker = "", ""
			return err
		}
		if len(p.uploads)+len(p.commonPrefixes) == l.opts.Max {
			p.truncated = true
			return nil
		}
		u := c.items[0]
		cp, ok := l.commonPrefix(u.key)
		if !ok {
			p.uploads = append(p.uploads, u)
			p.nextKeyMarker, p.nextIDMarker = u.key, u.id
			c.items = c.items[1:]
			continue
		}
		p.commonPrefixes = append(p.commonPrefixes, cp)
		p.nextKeyMarker, p.nextIDMarker = cp, ""
		next, ok := successor(cp)
		if !ok {
			p.nextKeyMarker = ""
			return nil
		}
		if err := l.seek(ctx, spaceUploads+orderedKey(next)); err != nil {
			return err
		}
	}
}

// begin returns the name after which the page begins; false: there is nothing
// after the marker.
func (l *uploadLister) begin(ctx context.Context) (after string, ok bool, err error) {
	m := l.opts.KeyMarker
	cp, inPrefix := l.commonPrefix(m)
	switch {
	case m == "" || m < l.opts.Prefix:
		return spaceUploads + orderedKey(l.opts.Prefix), true, nil
	case inPrefix:
		next, ok := successor(cp)
		return spaceUploads + orderedKey(next), ok, nil
	}
	after = omapKey(spaceUploads, m)
	if l.opts.UploadIDMarker == "" {
		return after + pastIDs, true, nil
	}
	for _, c := range l.cursors { // the key is in one of them
		err := c.s.pagesOf(ctx, after, func(p librados.Pair) {
			if _, _, id, ok := splitUploadKey(p.Key); ok && id == l.opts.UploadIDMarker {
				after = p.Key
			}
		})
		if err != nil {
			return "", false, err
		}
	}
	if after == omapKey(spaceUploads, m) { // it is gone
		after += pastIDs
	}
	return after, true, nil
}

// pagesOf calls f with all names that have a prefix.
func (s *shard) pagesOf(ctx context.Context, prefix string, f func(librados.Pair)) error {
	return s.pages(ctx, prefix, 1<<40, func(pairs []librados.Pair) (bool, error) {
		for _, p := range pairs {
			f(p)
		}
		return true, nil
	})
}

// seek sets all cursors to what follows a name.
func (l *uploadLister) seek(ctx context.Context, after string) error {
	return each(l.cursors, func(c *uploadCursor) error {
		for len(c.items) > 0 && c.items[0].name() <= after {
			c.items = c.items[1:]
		}
		if len(c.items) > 0 || c.end {
			return nil
		}
		c.after = max(c.after, after)
		return c.read(ctx, l)
	})
}

// nearest returns the cursor with the first upload; nil: there is none.
func (l *uploadLister) nearest(ctx context.Context) (*uploadCursor, error) {
	var first *uploadCursor
	for _, c := range l.cursors {
		for len(c.items) == 0 && !c.end {
			if err := c.read(ctx, l); err != nil {
				return nil, err
			}
		}
		if len(c.items) > 0 && (first == nil || c.items[0].name() < first.items[0].name()) {
			first = c
		}
	}
	return first, nil
}

// read reads on.
func (c *uploadCursor) read(ctx context.Context, l *uploadLister) error {
	op := librados.NewRead()
	state := op.GetXattr(xattrShard)
	step := op.OmapGetVals(c.after, spaceUploads+orderedKey(l.opts.Prefix), l.size)
	_, err := c.s.x.env.io.Operate(ctx, c.s.oid, op, 0)
	if errors.Is(err, syscall.ENOENT) || err == nil && strings.HasPrefix(string(state.Data), shardGone) {
		return errShardGone
	}
	if err != nil {
		return fmt.Errorf("read a shard of an index: %w", err)
	}
	for _, p := range step.Pairs {
		key, initiated, id, ok := splitUploadKey(p.Key)
		if !ok {
			return errCorrupt
		}
		c.items = append(c.items, uploadEntry{key, initiated, id, p.Value})
		c.after = p.Key
	}
	c.end = !step.More
	return nil
}
