package posix

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sys/unix"
)

// dirStamp is what a directory's state is told by: another value after each
// change in the directory, or when it is another directory. It is made of the
// change time, not of mtime, which archivers and sync tools set back.
func dirStamp(st *unix.Stat_t) int64 {
	const odd = 0x9E3779B97F4A7C15 // spreads inode numbers
	stamp := int64(uint64(st.Ctim.Nano()) ^ st.Ino*odd)
	if stamp == 0 {
		return 1 // 0 means that there is none
	}
	return stamp
}

// maxDirs is how many directories' stamps are kept in memory.
const maxDirs = 1 << 16

// dirStamps knows of each natural directory the stamp with which the index
// agrees. A stamp that is behind costs one reading of the directory; one that
// runs ahead would hide a change.
//
// All known directories are in spaceDir; their latest stamps may be in memory
// only, until save.
type dirStamps struct {
	x        *index
	interval time.Duration // checkInterval, but for tests

	mu sync.Mutex // guards m
	m  map[dirKey]dirState
}

type dirKey struct {
	bucket uint32
	path   string // "" for the bucket's root, else ending in "/"
}

type dirState struct {
	stamp   int64 // 0: to be read again
	dirty   bool  // spaceDir has another one
	again   bool  // to be read once more: the stamp was too young to be told from the next
	checked time.Time
}

func (s *dirStamps) init(x *index) {
	s.x, s.interval = x, checkInterval
	s.m = make(map[dirKey]dirState)
}

// dirPath is a directory's path as the index has it: so that a directory
// stands right before the keys in it.
func dirPath(dir string) string {
	if dir == "." || dir == "" {
		return ""
	}
	return dir + "/"
}

// parentDir is the path of the directory that a key, or a directory's path,
// is in.
func parentDir(path string) string {
	return path[:strings.LastIndexByte(strings.TrimSuffix(path, "/"), '/')+1]
}

// dirChanged tells that we changed a natural directory ("." for the bucket's
// root) whose stamp was before, and is after. The caller holds the lock under
// which it changes the directory. before is 0 when we just made it, after is
// 0 when we just removed it.
func (x *index) dirChanged(bucket, dir string, before, after int64) error {
	if before == after {
		return nil
	}
	b, err := x.bucket(bucket)
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	k := dirKey{b.id, dirPath(dir)}
	switch {
	case after == 0:
		err = x.dirs.remove(k)
	case before == 0:
		err = x.dirs.set(k, after)
	default:
		err = x.dirs.advance(k, before, after)
	}
	if err != nil {
		return fmt.Errorf("index: directory %s/%s: %w", bucket, dir, err)
	}
	return nil
}

// get returns what is known of a directory.
func (s *dirStamps) get(k dirKey) (dirState, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load(k)
}

// load is get for who holds mu.
func (s *dirStamps) load(k dirKey) (dirState, bool, error) {
	if st, ok := s.m[k]; ok {
		return st, true, nil
	}
	v, err := s.x.get(bucketKey(spaceDir, k.bucket, k.path))
	if err != nil || len(v) != 8 {
		return dirState{}, false, err
	}
	st := dirState{stamp: int64(binary.BigEndian.Uint64(v))}
	return st, true, s.store(k, st)
}

// store puts a state into memory; the caller holds mu.
func (s *dirStamps) store(k dirKey, st dirState) error {
	if len(s.m) >= maxDirs {
		if err := s.saveLocked(); err != nil {
			return err
		}
		clear(s.m)
	}
	s.m[k] = st
	return nil
}

// advance moves a directory from one stamp to the next, if it was known to
// have the first.
func (s *dirStamps) advance(k dirKey, before, after int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, known, err := s.load(k)
	if err != nil || !known || st.stamp != before {
		return err
	}
	st.stamp, st.dirty = after, true
	return s.store(k, st)
}

// set makes a directory known with a stamp; 0: it is to be read again.
func (s *dirStamps) set(k dirKey, stamp int64) error {
	return s.begin(k, stamp, false)
}

// begin is set for a directory that is about to be read. fresh tells that the
// stamp may not tell changes to come: the directory is then to be read again,
// but only once, lest one that we change all the time be read all the time.
func (s *dirStamps) begin(k dirKey, stamp int64, fresh bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, known, err := s.load(k)
	if err != nil {
		return err
	}
	st.again = fresh && !st.again
	if !known {
		if err := s.put(s.x.db, k, stamp); err != nil {
			return err
		}
	}
	st.stamp, st.dirty = stamp, known
	return s.store(k, st)
}

// remove forgets a directory.
func (s *dirStamps) remove(k dirKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, k)
	return s.x.db.Delete(bucketKey(spaceDir, k.bucket, k.path), pebble.NoSync)
}

// due tells whether a directory was not compared with its stamp for a while,
// and that it is about to be.
func (s *dirStamps) due(k dirKey, now time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, known, err := s.load(k)
	if err != nil {
		return false, err
	}
	if since := now.Sub(st.checked); known && since >= 0 && since < s.interval {
		return false, nil
	}
	if known {
		st.checked = now
		s.m[k] = st
	}
	return true, nil
}

// made notes a bucket's root that we made, if nothing is in it.
func (s *dirStamps) made(b *indexBucket) {
	var st unix.Stat_t
	if err := unix.Fstatat(s.x.d.rootFD, b.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return // it will be read
	}
	if in, err := names(s.x.d.rootFD, b.name); err == nil && len(in) == 0 {
		_ = s.set(dirKey{b.id, ""}, dirStamp(&st)) // else it will be read
	}
}

// drop forgets a bucket's directories, in memory.
func (s *dirStamps) drop(b *indexBucket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.m {
		if k.bucket == b.id {
			delete(s.m, k)
		}
	}
}

// save writes the stamps that are in memory only.
func (s *dirStamps) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saveLocked()
}

func (s *dirStamps) saveLocked() error {
	batch := s.x.db.NewBatch()
	defer batch.Close()
	for k, st := range s.m {
		if !st.dirty {
			continue
		}
		if err := s.put(batch, k, st.stamp); err != nil {
			return err
		}
		st.dirty = false
		s.m[k] = st
	}
	return batch.Commit(pebble.NoSync)
}

func (s *dirStamps) put(w pebble.Writer, k dirKey, stamp int64) error {
	v := binary.BigEndian.AppendUint64(nil, uint64(stamp))
	return w.Set(bucketKey(spaceDir, k.bucket, k.path), v, pebble.NoSync)
}
