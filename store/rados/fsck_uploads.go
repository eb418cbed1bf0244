//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	librados "herald/rados"
	"herald/store"
)

// uploadEntry looks at an upload that the index has: it accounts for what it
// uses.
func (f *fsck) uploadEntry(ctx context.Context, b *fsckBucket, p librados.Pair) error {
	key, initiated, id, ok := splitUploadKey(p.Key)
	if !ok {
		return nil // entries tells of it
	}
	there, err := f.useUpload(ctx, b, id)
	if err != nil || there || f.light || b.known != bucketNamed || time.Since(initiated) < f.limits.young {
		return err
	}
	return f.suspect(ctx, func(ctx context.Context) error {
		n := uploadName{b.bid, id}
		if _, err := f.d.readUpload(ctx, n); !errors.Is(err, store.ErrNoSuchUpload) {
			return err
		}
		x := f.d.index(b.bid)
		k, err := f.readKey(ctx, x, key)
		if err != nil || !hasPair(k.uploads.Pairs, p.Key) {
			return ignoreNoBucket(err)
		}
		f.report(FindingUploadExtra, b, key, "upload "+id, func() error {
			return f.d.fenceUpload(ctx, n, &uploadEntry{key: key, initiated: initiated, id: id})
		})
		return nil
	})
}

func hasPair(pairs []librados.Pair, key string) bool {
	for _, p := range pairs {
		if p.Key == key {
			return true
		}
	}
	return false
}

// useUpload accounts for what an upload uses. there is false if there is none.
func (f *fsck) useUpload(ctx context.Context, b *fsckBucket, id string) (there bool, err error) {
	u, err := f.d.readUpload(ctx, uploadName{b.bid, id})
	if errors.Is(err, store.ErrNoSuchUpload) {
		return false, nil
	}
	if errors.Is(err, errCorrupt) {
		f.blind.Store(true)
		return true, nil // checkUpload tells of it
	}
	if err != nil {
		return false, err
	}
	err = f.eachPart(ctx, b, u, func(*part) error { return nil })
	if errors.Is(err, errCorrupt) {
		err = nil
	}
	return true, err
}

// eachPart accounts for what an upload uses, and calls do with its parts.
func (f *fsck) eachPart(ctx context.Context, b *fsckBucket, u *upload, do func(*part) error) error {
	var bad error
	err := eachPair(ctx, f.d.heads, u.oid(), "", "", func(p librados.Pair) bool {
		tag, ok := store.ParseOpID(p.Key[min(len(p.Key), 2):])
		switch {
		case ok && (strings.HasPrefix(p.Key, keyWriter) || strings.HasPrefix(p.Key, keyGarbage)):
			f.useAll(b, tag)
		case strings.HasPrefix(p.Key, keyPart):
			part, err := decodePart(p)
			if err != nil {
				f.blind.Store(true)
				bad = err
				return true // the others count
			}
			f.useAll(b, part.tag)
			for _, s := range part.runs() {
				f.use(b, s)
			}
			if bad == nil {
				bad = do(part)
			}
		}
		return true
	})
	return errors.Join(err, bad)
}

// checkUpload looks at an upload that was listed.
func (f *fsck) checkUpload(ctx context.Context, b *fsckBucket, id string) error {
	n := uploadName{b.bid, id}
	problems, key, err := f.uploadProblems(ctx, b, n)
	busy := errors.Is(err, errBusy)
	if err != nil && !busy || f.light || b.number == allTails {
		return err
	}
	if key != "" {
		f.count(func(s *store.FsckStats) { s.Uploads++ })
	}
	if len(problems) == 0 && !busy {
		return nil
	}
	return f.suspect(ctx, func(ctx context.Context) error {
		was, err := f.uploadVersion(ctx, n)
		if err != nil || was == 0 {
			return err
		}
		problems, key, err := f.uploadProblems(ctx, b, n)
		if err != nil || len(problems) == 0 {
			return err
		}
		if now, err := f.uploadVersion(ctx, n); err != nil || now != was {
			if err == nil && now != 0 {
				err = errBusy
			}
			return err
		}
		for _, p := range problems {
			var repair func() error
			if p.repair != nil {
				repair = func() error { return p.repair(ctx) }
			}
			f.report(p.kind, b, key, p.detail, repair)
		}
		return nil
	})
}

// uploadVersion returns the version of an upload's object; 0: there is none.
func (f *fsck) uploadVersion(ctx context.Context, n uploadName) (uint64, error) {
	op := librados.NewRead()
	op.Stat()
	version, err := f.d.heads.Operate(ctx, n.oid(), op, 0)
	return version, ignoreAbsent(err)
}

// uploadProblems tells what is wrong with an upload; key is "" if it has ended,
// or is gone.
func (f *fsck) uploadProblems(ctx context.Context, b *fsckBucket, n uploadName) (problems []problem, key string, err error) {
	u, err := f.d.readUpload(ctx, n)
	if errors.Is(err, store.ErrNoSuchUpload) {
		return nil, "", nil
	}
	corrupt := func(err error) []problem {
		return append(problems, problem{FindingUploadCorrupt, fmt.Sprintf("upload %s: %v", n.id, err), nil})
	}
	if err == nil && u.info.Key == "" {
		err = errCorrupt
	}
	if errors.Is(err, errCorrupt) {
		f.blind.Store(true)
		return corrupt(err), "", nil
	}
	if err != nil {
		return nil, "", err
	}
	if !u.end.ended() {
		key = u.info.Key
	}
	err = f.eachPart(ctx, b, u, func(p *part) error {
		// Of one that is being completed the object may have come and gone.
		if u.end.state != uploadLive || f.light || b.number == allTails {
			return nil
		}
		for _, s := range p.runs() {
			lost, err := f.segmentProblems(ctx, b, s)
			if err != nil {
				return err
			}
			for _, l := range lost {
				l.detail = fmt.Sprintf("upload %s part %d: %s", n.id, p.Number, l.detail)
				problems = append(problems, l)
			}
		}
		return nil
	})
	if errors.Is(err, errCorrupt) {
		problems, err = corrupt(err), nil
	}
	if err != nil || f.light || b.number == allTails {
		return nil, key, err
	}
	unlisted, err := f.unlisted(ctx, b, u)
	return append(problems, unlisted...), key, err
}

// unlisted looks whether the index has an upload. Its entry is older than its
// object, and goes after it.
func (f *fsck) unlisted(ctx context.Context, b *fsckBucket, u *upload) ([]problem, error) {
	what := "upload " + u.id
	orphan := problem{FindingUploadOrphan, what, func(ctx context.Context) error { return f.d.dropUpload(ctx, b.bid, u.info.Key, u.id) }}
	if b.known == bucketNowhere {
		if b.heads > 0 {
			orphan.repair = nil // it may be root that is wrong
		}
		return []problem{orphan}, nil
	}
	e := uploadEntry{key: u.info.Key, initiated: u.info.Initiated, id: u.id}
	if b.known == bucketDeleted {
		if l, err := f.layout(ctx, b); l != nil || err != nil {
			return nil, err // the sweep removes it
		}
		return []problem{orphan}, nil
	}
	k, err := f.readKey(ctx, f.d.index(b.bid), e.key)
	if err != nil || hasPair(k.uploads.Pairs, e.name()) {
		return nil, ignoreNoBucket(err)
	}
	return []problem{{FindingUploadMissing, what, func(ctx context.Context) error { return f.d.index(b.bid).addUpload(ctx, e) }}}, nil
}
