package posix

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"herald/store"
)

// maxIdleUploads is how many uploads stay in memory while nobody uses them.
const maxIdleUploads = 256

// uploads are the uploads in memory. The zero value is ready.
type uploads struct {
	mu     sync.Mutex // guards what follows, and each multipart's refs
	loaded map[uploadKey]*multipart
	idle   int                          // of loaded, those without refs
	tables map[string]map[string]upNote // of each bucket that was listed: id -> note
	sorted map[string][]upNote          // the same, in the order of listings; absent: to be made
}

type uploadKey struct{ bucket, id string }

// upNote is what ListUploads needs of an upload to find its place.
type upNote struct {
	key, id   string
	initiated time.Time
}

func (a upNote) compare(b upNote) int {
	return cmp.Or(cmp.Compare(a.key, b.key), a.initiated.Compare(b.initiated), cmp.Compare(a.id, b.id))
}

// multipart is one upload in memory.
type multipart struct {
	d    *Driver
	name uploadKey
	refs int          // uploads.mu
	once sync.Once    // load
	err  error        // of load
	up   store.Upload // never changed after load

	// mu is held for reading by who commits a part, for writing by who ends
	// the upload.
	mu    sync.RWMutex
	ended atomic.Bool

	numberLocks *guards // of part numbers, while they are committed

	partsMu sync.Mutex // guards what follows
	parts   map[int]*part
	claims  map[claim]bool // places in d files: committed to, or being written
	writers map[int64]int  // size of d file -> writers that have it open
	logSize int64
}

// claim is a place in a d file.
type claim struct {
	size   int64 // of the file's parts
	number int
}

func dataFile(size int64) string { return "d" + strconv.FormatInt(size, 10) }

// dataFileSize is the inverse of dataFile.
func dataFileSize(name string) (int64, bool) {
	s, ok := strings.CutPrefix(name, "d")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n > 0
}

// path is a file's of the upload, relative to .herald.
func (m *multipart) path(file string) string {
	return uploadDir(m.name.bucket, m.name.id) + "/" + file
}

// get returns an upload with a reference, reading it if need be; it may have
// ended. In replay files without a part are kept: their records may come yet.
// Errors: store.ErrNoSuchUpload.
func (u *uploads) get(d *Driver, bucket, id string, replay bool) (*multipart, error) {
	k := uploadKey{bucket, id}
	u.mu.Lock()
	m := u.loaded[k]
	if m == nil {
		m = &multipart{
			d: d, name: k, numberLocks: newGuards(),
			parts: make(map[int]*part), claims: make(map[claim]bool), writers: make(map[int64]int),
		}
		if u.loaded == nil {
			u.loaded = make(map[uploadKey]*multipart)
		}
		u.loaded[k] = m
		u.idle++
	}
	if m.refs++; m.refs == 1 {
		u.idle--
	}
	u.mu.Unlock()
	m.once.Do(func() { m.err = m.load(replay) })
	if m.err != nil {
		u.forget(m)
		return nil, m.err
	}
	return m, nil
}

// release gives a reference back.
func (u *uploads) release(m *multipart) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if m.refs--; m.refs > 0 || u.loaded[m.name] != m {
		return
	}
	u.idle++
	for k, other := range u.loaded { // in no order: any will do
		if u.idle <= maxIdleUploads {
			return
		}
		if other.refs == 0 {
			delete(u.loaded, k)
			u.idle--
		}
	}
}

// forget drops an upload that could not be read.
func (u *uploads) forget(m *multipart) {
	u.mu.Lock()
	defer u.mu.Unlock()
	m.refs--
	if u.loaded[m.name] == m {
		delete(u.loaded, m.name)
	}
}

// begun notes an upload that came.
func (u *uploads) begun(bucket string, up *store.Upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if t := u.tables[bucket]; t != nil {
		t[up.ID] = upNote{up.Key, up.ID, up.Initiated}
		delete(u.sorted, bucket)
	}
}

// end makes all that have an upload find it ended. It stays in memory until
// its files are removed, so that nobody reads it again.
func (u *uploads) end(bucket, id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if m := u.loaded[uploadKey{bucket, id}]; m != nil {
		m.ended.Store(true)
	}
}

// ended notes an upload whose files were removed.
func (u *uploads) ended(bucket, id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.drop(uploadKey{bucket, id})
	if t := u.tables[bucket]; t != nil {
		delete(t, id)
		delete(u.sorted, bucket)
	}
}

// endedBucket notes that all uploads of a bucket went.
func (u *uploads) endedBucket(bucket string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for k := range u.loaded {
		if k.bucket == bucket {
			u.drop(k)
		}
	}
	delete(u.tables, bucket)
	delete(u.sorted, bucket)
}

// drop takes an upload out of memory; who still has it finds it ended. u.mu
// is held.
func (u *uploads) drop(k uploadKey) {
	m := u.loaded[k]
	if m == nil {
		return
	}
	m.ended.Store(true)
	delete(u.loaded, k)
	if m.refs == 0 {
		u.idle--
	}
}

// load reads an upload and its parts, and removes what a crash left: nobody
// writes to it at this time.
func (m *multipart) load(replay bool) error {
	blob, err := m.d.readHome(m.path("upload"))
	if absent(err) {
		return store.ErrNoSuchUpload
	}
	if err == nil {
		m.up, err = decodeUpload(blob)
	}
	if err != nil {
		return fmt.Errorf("read upload %s of bucket %s: %w", m.name.id, m.name.bucket, err)
	}
	if err := m.loadLog(); err != nil {
		return fmt.Errorf("read parts of upload %s of bucket %s: %w", m.name.id, m.name.bucket, err)
	}
	used := map[string]bool{"upload": true, "parts": true}
	for _, p := range m.parts {
		used[p.file] = true
		if size, ok := dataFileSize(p.file); ok {
			m.claims[claim{size, p.Number}] = true
		}
	}
	if replay {
		return nil
	}
	return m.sweep(used)
}

// sweep removes the files that no part is in.
func (m *multipart) sweep(used map[string]bool) error {
	list, err := names(m.d.homeFD, uploadDir(m.name.bucket, m.name.id))
	if err != nil {
		return err
	}
	for _, name := range list {
		if used[name] {
			continue
		}
		if err := unix.Unlinkat(m.d.homeFD, m.path(name), 0); err != nil && err != unix.ENOENT {
			return err
		}
	}
	return nil
}

// readHome reads a small file of our own.
func (d *Driver) readHome(path string) ([]byte, error) {
	fd, err := openBeneath(d.homeFD, path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer closeFD(fd)
	st, err := statFD(fd)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, st.size)
	n, err := readAt(fd, buf, 0)
	return buf[:n], err
}

// table returns the bucket's uploads in the order of listings.
func (u *uploads) table(d *Driver, bucket string) ([]upNote, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s, ok := u.sorted[bucket]; ok {
		return s, nil
	}
	t := u.tables[bucket]
	if t == nil {
		var err error
		if t, err = d.readTable(bucket); err != nil {
			return nil, err
		}
	}
	s := make([]upNote, 0, len(t))
	for _, n := range t {
		s = append(s, n)
	}
	slices.SortFunc(s, upNote.compare)
	if u.tables == nil {
		u.tables, u.sorted = make(map[string]map[string]upNote), make(map[string][]upNote)
	}
	u.tables[bucket], u.sorted[bucket] = t, s
	return s, nil
}

// readTable reads which uploads a bucket has.
func (d *Driver) readTable(bucket string) (map[string]upNote, error) {
	t := make(map[string]upNote)
	list, err := names(d.homeFD, "uploads/"+bucket)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, id := range list {
		blob, err := d.readHome(uploadDir(bucket, id) + "/upload")
		if absent(err) {
			continue // it is ending
		}
		if err != nil {
			return nil, err
		}
		up, err := decodeUpload(blob)
		if err != nil {
			d.log.Error("an upload cannot be read", "bucket", bucket, "upload", id, "error", err)
			continue
		}
		t[id] = upNote{up.Key, id, up.Initiated}
	}
	return t, nil
}
