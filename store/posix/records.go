package posix

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"herald/store"
)

// records are the gateway's own documents, all in memory: a store.Records. A
// file under .herald/records has 8 bytes of version, then the document. A
// change is durable by the journal.
type records struct {
	d *Driver

	mu    sync.RWMutex // guards what follows
	m     map[string]document
	names []string // sorted
}

type document struct {
	value   []byte
	version uint64
}

var _ store.Records = (*records)(nil)

const recordsGuard = "\x00records" // no bucket has this name

func loadRecords(d *Driver) (*records, error) {
	r := &records{d: d, m: make(map[string]document)}
	dir := filepath.Join(d.root, home, "records")
	return r, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name, ok := unescape(filepath.ToSlash(rel))
		if !ok {
			return nil // none of ours
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if len(b) < 8 {
			// Cut short by a loss of power: the journal has it again.
			return nil
		}
		r.set(name, document{value: b[8:], version: binary.BigEndian.Uint64(b)})
		return nil
	})
}

// set changes what is in memory; a nil value removes.
func (r *records) set(name string, doc document) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, ok := slices.BinarySearch(r.names, name)
	r.d.clock.seen(doc.version)
	switch {
	case doc.value == nil:
		delete(r.m, name)
		if ok {
			r.names = slices.Delete(r.names, i, i+1)
		}
		return
	case !ok:
		r.names = slices.Insert(r.names, i, name)
	}
	r.m[name] = doc
}

// Get implements store.Records.
func (r *records) Get(_ context.Context, name string) ([]byte, uint64, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	doc, ok := r.m[name]
	if !ok {
		return nil, 0, store.ErrNoSuchRecord
	}
	return doc.value, doc.version, nil
}

// Put implements store.Records.
func (r *records) Put(_ context.Context, name string, value []byte, version uint64) (uint64, error) {
	g := r.d.guards.lock(recordsGuard, name)
	defer g.unlock()
	r.mu.RLock()
	cur := r.m[name]
	r.mu.RUnlock()
	if cur.version != version {
		return 0, store.ErrRecordConflict
	}
	if err := r.d.writable(int64(len(value))); err != nil {
		return 0, fmt.Errorf("put record %s: %w", name, err)
	}
	e := &docEntry{name: name, version: r.d.clock.next(cur.version), value: append([]byte{}, value...)}
	if err := r.run("put record "+name, e); err != nil {
		return 0, err
	}
	return e.version, nil
}

// Delete implements store.Records.
func (r *records) Delete(_ context.Context, name string, version uint64) error {
	g := r.d.guards.lock(recordsGuard, name)
	defer g.unlock()
	r.mu.RLock()
	cur, ok := r.m[name]
	r.mu.RUnlock()
	switch {
	case !ok:
		return store.ErrNoSuchRecord
	case cur.version != version:
		return store.ErrRecordConflict
	}
	return r.run("delete record "+name, &docEntry{name: name, version: r.d.clock.next(cur.version), gone: true})
}

// List implements store.Records.
func (r *records) List(_ context.Context, prefix, after string, limit int) ([]string, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	i, _ := slices.BinarySearch(r.names, max(prefix, after))
	var out []string
	for ; i < len(r.names) && strings.HasPrefix(r.names[i], prefix); i++ {
		if r.names[i] == after {
			continue
		}
		if out = append(out, r.names[i]); limit > 0 && len(out) == limit {
			break
		}
	}
	return out, nil
}

// run journals a change of a document and applies it.
func (r *records) run(what string, e *docEntry) error {
	d := r.d
	t, err := d.flight.append(e.encode(nil))
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := d.flight.wait(t); err != nil {
		return fmt.Errorf("%s: %w: %w", what, store.ErrUnknownOutcome, err)
	}
	d.fault("posix.doc.journaled")
	if err := r.apply(e); err != nil {
		return d.breakDown(what, err)
	}
	d.fault("posix.doc.applied")
	d.flight.done(t)
	return nil
}

// apply changes the file and what is in memory; also in replay.
func (r *records) apply(e *docEntry) error {
	d := r.d
	dir, name := splitPath("records/" + escape(e.name))
	if e.gone {
		if err := unix.Unlinkat(d.homeFD, dir+"/"+name, 0); err != nil && !absent(err) {
			return err
		}
		r.set(e.name, document{version: e.version})
		return nil
	}
	value := append([]byte{}, e.value...)
	if err := os.MkdirAll(filepath.Join(d.root, home, dir), 0o700); err != nil {
		return err
	}
	temp, err := d.writeTemp(append(binary.BigEndian.AppendUint64(nil, e.version), value...))
	if err != nil {
		return err
	}
	if err := unix.Renameat(d.stagingFD, temp, d.homeFD, dir+"/"+name); err != nil {
		_ = unix.Unlinkat(d.stagingFD, temp, 0)
		return err
	}
	r.set(e.name, document{value: value, version: e.version})
	return nil
}
