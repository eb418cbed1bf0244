package posix

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"herald/store"
)

// checkDir compares a directory with its stamp, unless that was done a moment
// ago (and now is false), and reads it if they differ.
func (s *scanner) checkDir(ctx context.Context, b *bucket, ib *indexBucket, path string, now bool) (changed bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	k := dirKey{ib.id, path}
	due, err := s.x.dirs.due(k, time.Now())
	if err != nil || !due && !now {
		return false, err
	}
	known, same, err := s.compare(b, k)
	if err != nil || same || !known && path != "" {
		return false, err // unknown: its parent's stamp will tell of it
	}
	ib.scanMu.Lock()
	defer ib.scanMu.Unlock()
	// Now without our own changes in between, and after those who were first.
	err = b.change(areaNatural, dirName(path), false, func(int) error {
		known, same, err = s.compare(b, k)
		return err
	})
	if err == nil && same {
		return false, nil
	}
	return true, s.readDir(ctx, b, ib, path, false)
}

// compare compares a directory with its stamp.
func (s *scanner) compare(b *bucket, k dirKey) (known, same bool, err error) {
	state, known, err := s.x.dirs.get(k)
	if err != nil || !known {
		return known, false, err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(b.fd, dirName(k.path), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return true, false, nil
	}
	return true, state.stamp == dirStamp(&st) && !state.again, nil
}

// dirName is a directory's path as the core has it.
func dirName(path string) string {
	if path == "" {
		return "."
	}
	return path[:len(path)-1]
}

// readDir reads a directory and makes the index agree with it; deep: also
// those below it, else only those that were not known. The caller holds
// scanMu.
func (s *scanner) readDir(ctx context.Context, b *bucket, ib *indexBucket, path string, deep bool) error {
	err := ctx.Err()
	if err != nil {
		return err
	}
	k := dirKey{ib.id, path}
	err = b.change(areaNatural, dirName(path), false, func(fd int) error {
		return s.begin(k, fd)
	})
	var files, dirs []string
	if err == nil {
		s.reads.Add(1)
		files, dirs, err = b.readDirectory(dirName(path))
	}
	switch {
	case path != "" && inTheWay(err), absent(err) && path != "": // no directory, or not in the bucket
		return s.dropTree(ctx, b, ib, path)
	case err != nil:
		s.x.log.Warn("a directory cannot be listed", "bucket", b.name, "dir", path, "error", err)
		return s.x.dirs.set(k, 0) // once more when it is due
	}
	err = s.compareFiles(ctx, b, ib, path, files)
	if err == nil {
		err = s.compareDirs(ctx, b, ib, path, dirs, deep)
	}
	if err != nil {
		return errors.Join(err, s.x.dirs.set(k, 0))
	}
	return nil
}

// begin notes a directory's stamp before it is read; from then on our own
// changes carry it on. The caller holds the directory's lock.
func (s *scanner) begin(k dirKey, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	fresh := !s.fineStamps && time.Since(time.Unix(0, st.Ctim.Nano())) < stampGrain
	return s.x.dirs.begin(k, dirStamp(&st), fresh)
}

// compareFiles compares the names of a directory's files with the keys that
// the index has right in it.
func (s *scanner) compareFiles(ctx context.Context, b *bucket, ib *indexBucket, path string, files []string) error {
	differs := func(name string) error {
		if len(path)+len(name) > store.MaxKeyLength {
			return nil // no key
		}
		_, err := s.recheck(b, ib, path+name)
		return errors.Join(err, ctx.Err())
	}
	var it spaceIter
	if err := it.open(s.x.db, spaceCurrent, ib.id, path); err != nil {
		return err
	}
	defer it.close()
	for it.seek(path); it.valid; {
		name := string(it.key[len(path):])
		if i := strings.IndexByte(name, '/'); i >= 0 || name == "" {
			if name == "" {
				it.next()
			} else {
				it.seek(path + name[:i] + "0") // '0' follows '/'
			}
			continue
		}
		for len(files) > 0 && files[0] < name {
			if err := differs(files[0]); err != nil {
				return err
			}
			files = files[1:]
		}
		there := len(files) > 0 && files[0] == name
		if there {
			files = files[1:]
		}
		if v := it.it.Value(); len(v) == 0 || there != (area(v[0]>>entryAreaShift) == areaNatural) {
			if err := differs(name); err != nil {
				return err
			}
		}
		it.next()
	}
	for _, name := range files {
		if err := differs(name); err != nil {
			return err
		}
	}
	return it.err()
}

// compareDirs compares the directories right in a directory with those that
// are known there.
func (s *scanner) compareDirs(ctx context.Context, b *bucket, ib *indexBucket, path string, dirs []string, deep bool) error {
	known, err := s.knownDirs(ib, path)
	if err != nil {
		return err
	}
	for _, name := range dirs {
		if len(path)+len(name) >= store.MaxKeyLength {
			continue // no key goes there
		}
		if !deep && known[name] {
			delete(known, name)
			continue
		}
		delete(known, name)
		if err := s.readDir(ctx, b, ib, path+name+"/", true); err != nil {
			return err
		}
	}
	for name := range known {
		if err := s.dropTree(ctx, b, ib, path+name+"/"); err != nil {
			return err
		}
	}
	return nil
}

// knownDirs gives the names of the directories right in one that are known
// themselves (true), or of which only one below is.
func (s *scanner) knownDirs(ib *indexBucket, path string) (map[string]bool, error) {
	known := make(map[string]bool)
	var it spaceIter
	if err := it.open(s.x.db, spaceDir, ib.id, path); err != nil {
		return nil, err
	}
	for it.seek(path + "\x00"); it.valid; {
		name, _, _ := strings.Cut(string(it.key[len(path):]), "/")
		known[name] = len(it.key) == len(path)+len(name)+1
		it.seek(path + name + "0")
	}
	return known, errors.Join(it.err(), it.close())
}

// dropTree forgets a directory that is gone, and all below it.
func (s *scanner) dropTree(ctx context.Context, b *bucket, ib *indexBucket, path string) error {
	for _, space := range [...]byte{spaceDir, spaceCurrent} {
		var it spaceIter
		if err := it.open(s.x.db, space, ib.id, path); err != nil {
			return err
		}
		for it.seek(path); it.valid && ctx.Err() == nil; it.next() {
			var err error
			if space == spaceDir {
				err = s.x.dirs.remove(dirKey{ib.id, string(it.key)})
			} else {
				_, err = s.recheck(b, ib, string(it.key))
			}
			if err != nil {
				return errors.Join(err, it.close())
			}
		}
		if err := errors.Join(it.err(), it.close(), ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// readDirectory gives the names of the files and directories in a natural
// directory, in order. Links are among the files.
func (b *bucket) readDirectory(name string) (files, dirs []string, err error) {
	fd, err := openBeneath(b.fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }() // read only
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			switch e.Type() {
			case 0, fs.ModeSymlink:
				files = append(files, e.Name())
			case fs.ModeDir:
				dirs = append(dirs, e.Name())
			}
		}
		if err == io.EOF || err == nil && len(entries) == 0 {
			slices.Sort(files)
			slices.Sort(dirs)
			return files, dirs, nil
		}
		if err != nil {
			return nil, nil, err
		}
	}
}
