//go:build rados

package rados

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	librados "herald/rados"
	"herald/store"
)

// contradictions tells where a head does not agree with itself.
func (f *fsck) contradictions(n namedHead, w *wholeHead) (problems []problem) {
	corrupt := func(repair func(context.Context) error, format string, args ...any) {
		problems = append(problems, problem{FindingHeadCorrupt, fmt.Sprintf(format, args...), repair})
	}
	var null *version
	for _, v := range w.noncurrent {
		if v.id == store.NullVersion {
			null = v.version
		}
	}
	nullSeq := uint64(0)
	if null != nil {
		nullSeq = null.seq
	}
	if uint64(len(w.noncurrent)) != w.others || nullSeq != w.nullSeq {
		corrupt(func(ctx context.Context) error { return f.recount(ctx, n.oid, w, nullSeq) },
			"it counts %d noncurrent versions (null: %d) instead of %d (%d)", w.others, w.nullSeq, len(w.noncurrent), nullSeq)
	}
	switch {
	case len(w.noncurrent) == 0:
	case w.current == nil:
		corrupt(nil, "there is no current version, but %d others", len(w.noncurrent))
	case w.current.seq <= w.noncurrent[0].seq:
		corrupt(nil, "version %s is newer than the current one", w.noncurrent[0].id)
	}
	if w.current != nil && w.current.id == store.NullVersion {
		null = w.current
	}
	if null != nil && null.inline() {
		want := null.size
		if null.stored > 0 {
			want = null.stored
		}
		if w.size != want {
			problems = append(problems, problem{FindingDataLost, fmt.Sprintf("version null: the head has %d bytes instead of %d", w.size, want), nil})
		}
	}
	return problems
}

// recount mends how many versions a head says that it has.
func (f *fsck) recount(ctx context.Context, oid string, w *wholeHead, nullSeq uint64) error {
	next := w.state
	next.others, next.nullSeq = uint64(len(w.noncurrent)), nullSeq
	op := librados.NewWrite()
	op.AssertVersion(w.guard)
	op.SetXattr(xattrState, next.encode())
	_, err := f.d.heads.Operate(ctx, oid, op, librados.FullForce)
	return err
}

// oldNotes looks at what a head remembers for those who may ask, for writers
// that may live, and for readers: none of that takes a day.
func (f *fsck) oldNotes(ctx context.Context, n namedHead, w *wholeHead) (problems []problem, err error) {
	old := func(t time.Time) bool { return time.Since(t) > f.limits.old }
	forget := func(name string) func(context.Context) error {
		return func(ctx context.Context) error { return f.forgetNote(ctx, n.oid, name) }
	}
	for _, p := range w.pairs {
		id, ok := store.ParseOpID(p.Key[min(len(p.Key), 2):])
		switch {
		case strings.HasPrefix(p.Key, keyVersion):
		case ok && strings.HasPrefix(p.Key, keyBar):
			if old(opTime(id)) {
				problems = append(problems, problem{FindingBar, p.Key, forget(p.Key)})
			}
		case ok && strings.HasPrefix(p.Key, keyOutcome):
			if !old(opTime(id)) {
				continue
			}
			line, err := f.d.ops.line(ctx, id)
			if err != nil {
				return nil, err
			}
			if line == nil {
				problems = append(problems, problem{FindingOutcome, p.Key, forget(p.Key)})
			}
		case ok && strings.HasPrefix(p.Key, keyGarbage):
			if _, at, err := decodeNote(p.Value); err != nil {
				problems = append(problems, problem{FindingHeadCorrupt, "note " + p.Key, nil})
			} else if old(at) {
				problems = append(problems, problem{FindingGarbage, p.Key, func(ctx context.Context) error {
					_, err := f.d.collectNotes(ctx, w.headKey)
					return err
				}})
			}
		default:
			problems = append(problems, problem{FindingHeadCorrupt, fmt.Sprintf("line %q", p.Key), nil})
		}
	}
	return problems, nil
}

// oldTombstone looks whether the head of a removed key is there for nobody.
func (f *fsck) oldTombstone(ctx context.Context, n namedHead, w *wholeHead) ([]problem, error) {
	since := w.mtime // of one that was made only to fail an operation
	if w.seq > 0 {
		since = time.Unix(0, int64(w.seq))
	}
	if w.alive() || len(w.noncurrent) > 0 || time.Since(since) < f.limits.old {
		return nil, nil
	}
	needed, err := f.d.remembers(ctx, &w.head)
	if err != nil || needed {
		return nil, err
	}
	return []problem{{FindingTombstone, n.oid, func(ctx context.Context) error {
		op := librados.NewWrite()
		op.AssertVersion(w.guard)
		op.Remove()
		_, err := f.d.heads.Operate(ctx, n.oid, op, librados.FullForce)
		return err
	}}}, nil
}

func (f *fsck) forgetNote(ctx context.Context, oid, name string) error {
	op := librados.NewWrite()
	op.AssertExists()
	op.OmapRm(name)
	_, err := f.d.heads.Operate(ctx, oid, op, librados.FullForce)
	return ignoreAbsent(err)
}

// versionProblems looks at the bytes of a version.
func (f *fsck) versionProblems(ctx context.Context, b *fsckBucket, w *wholeHead, v *version) (problems []problem, err error) {
	size := int64(0)
	for i, s := range v.segments {
		size += s.size
		repeated := slices.ContainsFunc(v.segments[:i], func(o segment) bool { return o.tag == s.tag && o.in(b.bid) == s.in(b.bid) && o.ref == s.ref })
		if repeated {
			continue
		}
		lost, err := f.segmentProblems(ctx, b, s)
		if err != nil {
			return nil, err
		}
		for _, p := range lost {
			p.detail = "version " + v.id + ": " + p.detail
			problems = append(problems, p)
		}
	}
	switch {
	case len(v.segments) > 0 && size != v.size:
		problems = append(problems, problem{FindingHeadCorrupt, fmt.Sprintf("version %s has %d bytes, but names %d", v.id, v.size, size), nil})
	case len(v.segments) == 0 && v.size > 0 && v.id != store.NullVersion:
		problems = append(problems, problem{FindingDataLost, fmt.Sprintf("version %s names no tails", v.id), nil})
	}
	if f.opts.Deep && len(problems) == 0 && f.tails != nil && b.known == bucketNamed && !v.marker {
		return f.readData(ctx, b, w, v)
	}
	return problems, nil
}

// readData compares the bytes of a version with its ETag, where that tells
// their MD5: of all, or of the MD5s of the parts, which are its segments.
func (f *fsck) readData(ctx context.Context, b *fsckBucket, w *wholeHead, v *version) ([]problem, error) {
	sum, parts, multipart := strings.Cut(v.etag, "-")
	bounds := []int64{v.size}
	if multipart {
		if n, err := strconv.Atoi(parts); err != nil || n != len(v.segments) {
			return nil, nil // parts of several segments, or of none
		}
		bounds = nil
		for _, s := range v.segments {
			bounds = append(bounds, s.size)
		}
	}
	if !isHex(sum, 16) {
		return nil, nil
	}
	sb := &bucket{d: f.d, name: b.name, bid: b.bid, x: f.d.index(b.bid)}
	r, err := sb.Open(ctx, w.headKey.key, v.id)
	if errors.Is(err, store.ErrNoSuchKey) || errors.Is(err, store.ErrNoSuchVersion) || errors.Is(err, store.ErrNoSuchBucket) || err == nil && r.Info().Seq != v.seq {
		if err == nil {
			_ = r.Close() // of what another wrote meanwhile
		}
		return nil, nil
	}
	if err != nil {
		return []problem{{FindingDataLost, "version " + v.id + ": " + err.Error(), nil}}, context.Cause(ctx)
	}
	defer func() { _ = r.Close() }() // it was only read
	got, err := md5Of(r, bounds, multipart)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return []problem{{FindingDataLost, "version " + v.id + ": " + err.Error(), nil}}, nil
	}
	if got != sum {
		return []problem{{FindingETag, fmt.Sprintf("version %s: ETag %s, MD5 of the data %s", v.id, v.etag, got), nil}}, nil
	}
	return nil, nil
}

// md5Of returns the MD5 of all, or that of the MD5s of parts.
func md5Of(r store.Reader, bounds []int64, multipart bool) (string, error) {
	all := md5.New()
	off := int64(0)
	for _, n := range bounds {
		h := all
		if multipart {
			h = md5.New()
		}
		if n > 0 {
			if _, err := r.WriteRangeTo(struct{ io.Writer }{h}, off, n); err != nil {
				return "", err
			}
		}
		off += n
		if multipart {
			_, _ = all.Write(h.Sum(nil)) // never fails
		}
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}
