package posix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sys/unix"

	"herald/store"
)

const (
	// checkInterval is how often a directory is compared with its stamp, at
	// most: how late a listing may show what another program did.
	checkInterval = time.Second / 2
	// maxDirChecks bounds the directories that are compared for one page.
	maxDirChecks = 20_000
	// probeBudget bounds the time for looking at a page's files.
	probeBudget = 5 * time.Millisecond
	// stampGrain is above the grain of any filesystem's change time: a change
	// so soon after another may leave the stamp as it is.
	stampGrain = 20 * time.Millisecond
)

// scanner compares the files with the index, and corrects the index. What it
// finds different about a key it looks up again under the key's guard, so that
// it never undoes a change of ours.
type scanner struct {
	x *index
	// fineStamps: each change gives another stamp, however soon.
	fineStamps bool
	reads      atomic.Int64 // directories read
}

func (s *scanner) init(x *index) {
	s.x = x
	s.fineStamps = probeStamps(x.d.homeFD)
}

// probeStamps finds out whether changes in quick succession give different
// stamps, as on Linux from 6.13 on.
func probeStamps(homeFD int) bool {
	var last int64
	for i := range 6 {
		var err error
		if i%2 == 0 {
			err = unix.Mkdirat(homeFD, "stamp-probe", 0o700)
		} else {
			err = unix.Unlinkat(homeFD, "stamp-probe", unix.AT_REMOVEDIR)
		}
		stamp := stampFD(homeFD)
		if err != nil && !errors.Is(err, fs.ErrExist) || stamp == 0 || stamp == last {
			_ = unix.Unlinkat(homeFD, "stamp-probe", unix.AT_REMOVEDIR)
			return false
		}
		last = stamp
	}
	return true
}

// noteFound tells that a read found a current version that another program
// made or changed (found.native false). The caller holds no guard.
func (x *index) noteFound(b *bucket, key string, info *store.Info) {
	x.note(b, key, func(e *indexEntry) bool {
		return e != nil && e.seq == info.Seq && e.size == info.Size && e.etag == info.ETag
	})
}

// noteGone tells that a read found no current version of key. The caller
// holds no guard.
func (x *index) noteGone(b *bucket, key string) {
	x.note(b, key, func(e *indexEntry) bool { return e == nil })
}

func (x *index) note(b *bucket, key string, same func(*indexEntry) bool) {
	ib, err := x.bucket(b.name)
	if err != nil || !ib.complete.Load() {
		return // the first listing will look at all
	}
	e, err := x.current(ib, key)
	if err == nil && same(e) {
		return
	}
	if _, err := x.scanner.recheck(b, ib, key); err != nil {
		x.log.Warn("index not corrected", "bucket", b.name, "key", key, "error", err)
	}
}

// difference is how the index was found to differ from the files.
type difference string

const (
	same    difference = ""
	missing difference = "index-missing" // a file that is not in the index
	stale   difference = "index-stale"   // its entry tells something else
	extra   difference = "index-extra"   // an entry without a file
	moved   difference = "index-moved"   // its file is elsewhere; listings show the same
)

// errUnreadable: a file or directory cannot be looked at.
var errUnreadable = errors.New("cannot be read")

// recheck makes the index agree with the key's current object, and tells
// whether it did not. What cannot be read does not keep anybody from listing
// the rest: the index stays as it is.
func (s *scanner) recheck(b *bucket, ib *indexBucket, key string) (changed bool, err error) {
	d, _, err := s.compareKey(b, ib, key, true)
	if errors.Is(err, errUnreadable) {
		s.x.log.Warn("a file cannot be listed", "bucket", b.name, "key", key, "error", err)
		return false, nil
	}
	return d != same, err
}

// compareKey compares the index with the key's current object, and with
// correct makes it agree. It says how they differ. Errors: errUnreadable.
func (s *scanner) compareKey(b *bucket, ib *indexBucket, key string, correct bool) (d difference, how string, err error) {
	g := s.x.d.guards.lock(b.name, key)
	defer g.unlock()
	f, err := b.file(key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return same, "", fmt.Errorf("object %q: %w: %w", key, errUnreadable, err)
	}
	f.close()
	k := bucketKey(spaceCurrent, ib.id, key)
	had, err := s.x.get(k)
	if err != nil {
		return same, "", err
	}
	var has []byte
	if f != nil {
		has = encodeEntry(f.info(key, true), f.at.area)
	}
	switch {
	case string(has) == string(had):
		return same, "", nil
	case !correct:
	case f == nil:
		err = s.x.db.Delete(k, pebble.NoSync)
	default:
		err = s.x.db.Set(k, has, pebble.NoSync)
	}
	how = "index: " + describeEntry(had) + "; file: " + describeEntry(has)
	switch {
	case had == nil:
		return missing, how, err
	case f == nil:
		return extra, how, err
	case sameButArea(had, has):
		return moved, how, err
	}
	return stale, how, err
}

// complete makes sure that all of a bucket's files have been seen once: at
// the first listing after the index was lost, or of a directory that another
// program made. It takes time in proportion to the bucket.
func (s *scanner) complete(ctx context.Context, b *bucket, ib *indexBucket) error {
	if ib.complete.Load() {
		return nil
	}
	ib.scanMu.Lock()
	defer ib.scanMu.Unlock()
	if ib.complete.Load() {
		return nil
	}
	start := time.Now()
	s.x.log.Info("index: scan of a bucket begins", "bucket", b.name)
	if err := s.readDir(ctx, b, ib, "", true); err != nil {
		return err
	}
	err := b.walkKeys(ctx, func(key string) error {
		_, err := s.recheck(b, ib, key)
		return err
	})
	if err != nil {
		return err
	}
	err = b.walkVersions(ctx, func(key string) error {
		_, err := s.compareVersions(b, ib, key, true)
		if errors.Is(err, errUnreadable) {
			s.x.log.Warn("versions cannot be listed", "bucket", b.name, "key", key, "error", err)
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	ib.complete.Store(true)
	s.x.log.Info("index: scan of a bucket ends", "bucket", b.name, "took", time.Since(start))
	return s.x.saveBucket(ib)
}

// verify compares what a page shows with the files, and tells whether the
// index was corrected.
func (s *scanner) verify(ctx context.Context, b *bucket, ib *indexBucket, l *lister) (changed bool, err error) {
	changed, err = s.checkPath(ctx, b, ib, l.from, false)
	if err != nil {
		return changed, err
	}
	more, err := s.checkRange(ctx, b, ib, l)
	if err != nil {
		return changed, err
	}
	probed, err := s.probeFiles(ctx, b, ib, l.probes)
	return changed || more || probed, err
}

// checkPath compares the directories on the way to path with their stamps,
// from the bucket's root on.
func (s *scanner) checkPath(ctx context.Context, b *bucket, ib *indexBucket, path string, now bool) (changed bool, err error) {
	for i := -1; i < len(path); i++ {
		if i >= 0 && path[i] != '/' {
			continue
		}
		c, err := s.checkDir(ctx, b, ib, path[:i+1], now)
		if err != nil {
			return changed, err
		}
		changed = changed || c
	}
	return changed, nil
}

// checkRange compares with their stamps the directories that are known in a
// page's range, but for those in its common prefixes: each of these is
// proven by a file that is looked at.
func (s *scanner) checkRange(ctx context.Context, b *bucket, ib *indexBucket, l *lister) (changed bool, err error) {
	paths, err := s.dirsInRange(ib, l)
	if err != nil {
		return false, err
	}
	for _, path := range paths {
		c, err := s.checkDir(ctx, b, ib, path, false)
		if err != nil {
			return changed, err
		}
		changed = changed || c
	}
	return changed, nil
}

func (s *scanner) dirsInRange(ib *indexBucket, l *lister) (paths []string, err error) {
	var it spaceIter
	if err := it.open(s.x.db, spaceDir, ib.id, l.opts.Prefix); err != nil {
		return nil, err
	}
	to := l.to()
	given := make(map[string]bool, len(l.page.CommonPrefixes))
	for _, cp := range l.page.CommonPrefixes {
		given[cp] = true
	}
	for it.seek(l.from); it.valid && len(paths) < maxDirChecks; {
		path := string(it.key)
		if path > to {
			break
		}
		if cp, ok := l.commonPrefix(path); ok && given[cp] {
			next, ok := successor(cp)
			if !ok {
				break
			}
			it.seek(next)
			continue
		}
		paths = append(paths, path)
		it.next()
	}
	return paths, errors.Join(it.err(), it.close())
}

// probeFiles looks at files, as long as the budget allows.
func (s *scanner) probeFiles(ctx context.Context, b *bucket, ib *indexBucket, probes []probe) (changed bool, err error) {
	start := time.Now()
	for i, p := range probes {
		if i%64 == 63 && time.Since(start) > probeBudget {
			break
		}
		st, serr := statAt(b.fd, p.key, unix.AT_SYMLINK_NOFOLLOW)
		if serr == nil && p.matches(&st, b.d.granularity) {
			continue
		}
		c, err := s.recheck(b, ib, p.key)
		if err == nil && !c {
			c, err = s.outdated(ib, &p) // somebody else corrected it meanwhile
		}
		if err != nil {
			return changed, err
		}
		if changed = changed || c; c && serr != nil {
			// It went, and maybe its neighbours with it.
			if _, err := s.checkPath(ctx, b, ib, parentDir(p.key), true); err != nil {
				return changed, err
			}
		}
	}
	return changed, nil
}

// outdated tells whether the index has something else by now.
func (s *scanner) outdated(ib *indexBucket, p *probe) (bool, error) {
	e, err := s.x.current(ib, p.key)
	return e == nil || e.seq != p.seq || e.size != p.size || e.modTime != p.modTime, err
}

// matches tells whether a file is still the one that was indexed: ours has
// its seq as its time, another program's has its time as ModTime.
func (p *probe) matches(st *fileStat, granularity int64) bool {
	tag := int64(p.seq)
	return st.regular() && st.size == p.size &&
		(st.mtime == tag-tag%max(granularity, 1) || st.mtime == p.modTime)
}
