package posix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"herald/store"
)

// maxRounds is how often a page is made again because the files were found to
// differ from the index. The last one is given as it is.
const maxRounds = 5

// List implements store.Bucket. A page comes from the index; before it is
// given, the directories and files that it shows are compared with what the
// index has of them.
func (b *bucket) List(ctx context.Context, opts store.ListOptions) (*store.Page, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.leave()
	if opts.Max <= 0 {
		return &store.Page{}, nil
	}
	x := b.d.index
	if x.damaged.Load() {
		return nil, fmt.Errorf("list %s: %w", b.name, errIndexUnusable)
	}
	ib, err := x.bucket(b.name)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", b.name, err)
	}
	if err := x.scanner.complete(ctx, b, ib); err != nil {
		return nil, fmt.Errorf("list %s: %w", b.name, err)
	}
	b.unlisted.wait()
	for round := 1; ; round++ {
		l, err := x.page(ib, opts)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", b.name, err)
		}
		if round == maxRounds {
			return &l.page, nil
		}
		changed, err := x.scanner.verify(ctx, b, ib, l)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", b.name, err)
		}
		if !changed {
			return &l.page, nil
		}
	}
}

// page makes a page of a listing from the index alone. opts.Max is at least 1.
func (x *index) page(b *indexBucket, opts store.ListOptions) (*lister, error) {
	l := &lister{x: x, b: b, opts: opts}
	err := l.open()
	if err == nil {
		err = l.run()
	}
	return l, errors.Join(err, l.close())
}

// lister makes one page.
type lister struct {
	x    *index
	b    *indexBucket
	opts store.ListOptions

	current  spaceIter
	versions spaceIter // unused without opts.Versions

	page   store.Page
	from   string  // where the page began
	probes []probe // files to look at

	lastKey string // the key of the last entry seen, given or not
	lastSeq uint64 // its seq
}

// probe is what a page says about a file in its natural place.
type probe struct {
	key     string
	seq     uint64
	size    int64
	modTime int64
}

// open opens the iterators and sets them to where the page begins.
func (l *lister) open() error {
	var err error
	p := l.opts.Prefix
	if err = l.current.open(l.x.db, spaceCurrent, l.b.id, p); err != nil {
		return err
	}
	if l.opts.Versions {
		if err = l.versions.open(l.x.db, spaceVersions, l.b.id, p); err != nil {
			return err
		}
	}
	m := l.opts.Marker
	cp, inPrefix := l.commonPrefix(m)
	switch {
	case m < p:
		l.seek(p)
	case inPrefix: // all of it is behind the marker
		l.skip(cp)
	case l.opts.Versions && l.opts.VersionMarker != "":
		return l.openWithin(m)
	default:
		l.seek(m + "\x00")
	}
	return nil
}

// openWithin begins after version opts.VersionMarker of key, which may be gone
// (who lists in order to remove does that). If its place is not known any
// more, it begins before the key: to give versions twice is better than to
// leave some out.
func (l *lister) openWithin(key string) error {
	cur, err := l.x.current(l.b, key)
	if err != nil {
		return err
	}
	l.seek(key)
	if cur != nil && cur.versionID == l.opts.VersionMarker {
		l.lastKey, l.lastSeq = key, cur.seq
		l.current.seek(key + "\x00")
		return nil
	}
	seq, err := l.x.versionSeq(l.b, key, l.opts.VersionMarker)
	if err != nil || seq == 0 {
		return err
	}
	if cur != nil && cur.seq < seq {
		return nil // what the marker named was above all there is
	}
	newer := l.versions.valid && string(l.versions.key) == key && l.versions.seq >= seq
	if cur != nil || newer { // what follows is not the latest
		l.lastKey, l.lastSeq = key, seq
	}
	l.current.seek(key + "\x00")
	l.versions.seekVersion(key, seq-1)
	return nil
}

// seek sets both iterators to the first entry at or after key.
func (l *lister) seek(key string) {
	l.from = key
	l.current.seek(key)
	l.versions.seek(key)
}

// skip sets both iterators behind all keys that begin with prefix.
func (l *lister) skip(prefix string) {
	if next, ok := successor(prefix); ok {
		from := l.from
		l.seek(next)
		if from != "" {
			l.from = from
		}
		return
	}
	l.from = prefix
	l.current.valid, l.versions.valid = false, false
}

func (l *lister) close() error {
	return errors.Join(l.current.close(), l.versions.close())
}

// commonPrefix is the one that key is rolled up in, if any.
func (l *lister) commonPrefix(key string) (string, bool) {
	if l.opts.Delimiter == "" || !strings.HasPrefix(key, l.opts.Prefix) {
		return "", false
	}
	p := len(l.opts.Prefix)
	i := strings.Index(key[p:], l.opts.Delimiter)
	if i < 0 {
		return "", false
	}
	return key[:p+i+len(l.opts.Delimiter)], true
}

// run fills the page.
func (l *lister) run() error {
	delim := []byte(l.opts.Delimiter)
	p := len(l.opts.Prefix)
	for {
		it := l.nearer()
		if it == nil {
			break
		}
		if it == &l.versions && l.repeated() {
			it.next()
			continue
		}
		if len(l.page.Entries)+len(l.page.CommonPrefixes) == l.opts.Max {
			l.page.Truncated = true
			break
		}
		if len(delim) > 0 {
			if i := bytes.Index(it.key[p:], delim); i >= 0 {
				if err := l.addPrefix(string(it.key[:p+i+len(delim)])); err != nil {
					return err
				}
				continue
			}
		}
		if err := l.addEntry(it); err != nil {
			return err
		}
		it.next()
	}
	if !l.page.Truncated {
		l.page.NextMarker, l.page.NextVersionMarker = "", ""
	}
	return errors.Join(l.current.err(), l.versions.err())
}

// nearer is the iterator with the smaller key: for equal keys the one with
// the current object; nil at the end.
func (l *lister) nearer() *spaceIter {
	switch {
	case !l.current.valid && !l.versions.valid:
		return nil
	case !l.versions.valid:
		return &l.current
	case !l.current.valid || bytes.Compare(l.versions.key, l.current.key) < 0:
		return &l.versions
	}
	return &l.current
}

// repeated tells whether the next entry among the versions was given as the
// current object.
func (l *lister) repeated() bool {
	return l.versions.seq == l.lastSeq && string(l.versions.key) == l.lastKey
}

func (l *lister) addPrefix(cp string) error {
	if l.current.valid && bytes.HasPrefix(l.current.key, []byte(cp)) {
		e, err := decodeEntry(l.current.it.Value())
		if err != nil {
			return err
		}
		l.probe(string(l.current.key), e)
	}
	l.page.CommonPrefixes = append(l.page.CommonPrefixes, cp)
	l.page.NextMarker, l.page.NextVersionMarker = cp, ""
	l.skip(cp)
	return nil
}

func (l *lister) addEntry(it *spaceIter) error {
	e, err := decodeEntry(it.it.Value())
	if err != nil {
		return fmt.Errorf("index entry of %q: %w", it.key, err)
	}
	key := l.lastKey
	latest := it == &l.current || string(it.key) != key
	if string(it.key) != key {
		key = string(it.key)
	}
	if it == &l.current {
		l.probe(key, e)
	}
	l.lastKey, l.lastSeq = key, e.seq
	l.page.Entries = append(l.page.Entries, e.info(key, latest))
	l.page.NextMarker = key
	if l.opts.Versions {
		l.page.NextVersionMarker = e.versionID
	}
	return nil
}

func (l *lister) probe(key string, e *indexEntry) {
	if e.area == areaNatural {
		l.probes = append(l.probes, probe{key, e.seq, e.size, e.modTime})
	}
}

// to is the end of what the page tells of: no key above it matters.
func (l *lister) to() string {
	if l.page.Truncated {
		return l.page.NextMarker
	}
	if next, ok := successor(l.opts.Prefix); ok {
		return next
	}
	return strings.Repeat("\xff", store.MaxKeyLength+1)
}

// spaceIter goes over the keys of one space in one bucket.
type spaceIter struct {
	it     *pebble.Iterator // nil: nothing there
	space  byte
	bucket uint32
	buf    []byte

	valid bool
	key   []byte // the object's key, until the next move
	seq   uint64 // in the space of versions
}

// open opens the iterator over the keys with a prefix.
func (s *spaceIter) open(db *pebble.DB, space byte, bucket uint32, prefix string) (err error) {
	s.space, s.bucket = space, bucket
	upper := bucketKey(space, bucket+1, "")
	if next, ok := successor(prefix); ok {
		upper = s.bound(next)
	}
	s.it, err = db.NewIter(&pebble.IterOptions{LowerBound: s.bound(prefix), UpperBound: upper})
	return err
}

func (s *spaceIter) bound(key string) []byte {
	if s.space == spaceVersions {
		return versionBound(s.bucket, key)
	}
	return bucketKey(s.space, s.bucket, key)
}

// seek moves to the first entry whose key is at or after key.
func (s *spaceIter) seek(key string) {
	if s.it != nil {
		s.set(s.it.SeekGE(s.bound(key)))
	}
}

// seekVersion moves to the first version of key with a seq of at most seq, or
// to what comes after it.
func (s *spaceIter) seekVersion(key string, seq uint64) {
	s.set(s.it.SeekGE(versionKey(s.bucket, key, seq)))
}

func (s *spaceIter) next() { s.set(s.it.Next()) }

func (s *spaceIter) set(valid bool) {
	for s.valid = valid; s.valid; s.valid = s.it.Next() {
		k := s.it.Key()
		if s.space != spaceVersions {
			s.key = k[5:]
			return
		}
		var ok bool
		if s.buf, s.seq, ok = splitVersionKey(k, s.buf[:0]); ok {
			s.key = s.buf
			return
		}
	}
}

func (s *spaceIter) err() error {
	if s.it == nil {
		return nil
	}
	return s.it.Error()
}

func (s *spaceIter) close() error {
	if s.it == nil {
		return nil
	}
	return s.it.Close()
}

// successor is the first string after all that begin with prefix; false if
// there is none.
func successor(prefix string) (string, bool) {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xFF {
			return prefix[:i] + string([]byte{prefix[i] + 1}), true
		}
	}
	return "", false
}
