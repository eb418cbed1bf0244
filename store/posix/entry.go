package posix

import (
	"errors"

	"herald/store"
)

// entryKind is the first byte of each of the store's journal records. Numbers
// are fixed for ever.
type entryKind uint8

const (
	kindPut    entryKind = 1 // putEntry: an object or a delete marker becomes current
	kindRemove entryKind = 2 // removeEntry: a version goes for good
	kindUpdate entryKind = 3 // updateEntry: a version's attributes
	kindDoc    entryKind = 6 // docEntry: one of the gateway's documents
	kindForget entryKind = 7 // forgetEntry: outcomes are dropped

	// Buckets come and go without a record: see CreateBucket.
	// Kinds from kindUploads on belong to uploads.go: Driver.replayUpload.
	kindUploads entryKind = 64
)

var errUnknownKind = errors.New("unknown kind of journal record")

// putEntry is the record of a put, copy or complete, or of a new delete
// marker.
type putEntry struct {
	bucket, key string
	attr        []byte // the new version (attr.encode)
	prior       []byte // the version that is current before; empty: none
	archive     bool   // prior becomes noncurrent; else it is replaced
	dropNull    bool   // the archived null version is removed
	// staged is the file with the body, relative to .herald; "": data is the body.
	staged string
	upload string // the multipart upload that ends with this, or ""
	data   []byte // not part of what encode gives: appended after it
}

// encode gives the record without data; data follow it in the journal.
func (p *putEntry) encode(b []byte) []byte {
	e := encoder{b}
	e.byte(byte(kindPut))
	e.string(p.bucket)
	e.string(p.key)
	e.bytes(p.attr)
	e.bytes(p.prior)
	e.bool(p.archive)
	e.bool(p.dropNull)
	e.string(p.staged)
	e.string(p.upload)
	return e.b
}

func decodePut(d *decoder) (*putEntry, error) {
	p := &putEntry{bucket: d.string(), key: d.string()}
	p.attr, p.prior = d.bytes(), d.bytes()
	p.archive, p.dropNull = d.bool(), d.bool()
	p.staged, p.upload = d.string(), d.string()
	p.data = d.b
	return p, d.err
}

// removeEntry is the record of a removal for good.
type removeEntry struct {
	bucket, key string
	versionID   string
	current     bool   // it was the current version
	promoted    string // id of the version that becomes current, or ""
	changed     bool   // false: there was nothing; the record only keeps the outcome
	seq         uint64
	op          store.OpID
	gone        []byte // the version that goes (attr.encode)
}

func (r *removeEntry) encode(b []byte) []byte {
	e := encoder{b}
	e.byte(byte(kindRemove))
	e.string(r.bucket)
	e.string(r.key)
	e.string(r.versionID)
	e.bool(r.current)
	e.string(r.promoted)
	e.bool(r.changed)
	e.uint(r.seq)
	e.raw(r.op[:])
	e.bytes(r.gone)
	return e.b
}

func decodeRemove(d *decoder) (*removeEntry, error) {
	r := &removeEntry{bucket: d.string(), key: d.string(), versionID: d.string()}
	r.current, r.promoted, r.changed = d.bool(), d.string(), d.bool()
	r.seq = d.uint()
	copy(r.op[:], d.raw(len(r.op)))
	r.gone = d.bytes()
	return r, d.end()
}

// updateEntry is the record of an Update.
type updateEntry struct {
	bucket, key string
	attr        []byte // as it is afterwards
}

func (u *updateEntry) encode(b []byte) []byte {
	e := encoder{b}
	e.byte(byte(kindUpdate))
	e.string(u.bucket)
	e.string(u.key)
	e.bytes(u.attr)
	return e.b
}

func decodeUpdate(d *decoder) (*updateEntry, error) {
	u := &updateEntry{bucket: d.string(), key: d.string()}
	u.attr = d.bytes()
	return u, d.end()
}

// docEntry is the record of a document's new state.
type docEntry struct {
	name    string
	version uint64
	gone    bool
	value   []byte
}

func (r *docEntry) encode(b []byte) []byte {
	e := encoder{b}
	e.byte(byte(kindDoc))
	e.string(r.name)
	e.uint(r.version)
	e.bool(r.gone)
	e.bytes(r.value)
	return e.b
}

func decodeDoc(d *decoder) (*docEntry, error) {
	r := &docEntry{name: d.string(), version: d.uint(), gone: d.bool()}
	r.value = d.bytes()
	return r, d.end()
}

// forgetEntry is the record of outcomes that nobody will ask for again.
type forgetEntry struct{ ops []store.OpID }

func (r *forgetEntry) encode(b []byte) []byte {
	e := encoder{b}
	e.byte(byte(kindForget))
	e.uint(uint64(len(r.ops)))
	for _, op := range r.ops {
		e.raw(op[:])
	}
	return e.b
}

func decodeForget(d *decoder) (*forgetEntry, error) {
	n := d.uint()
	if n > uint64(len(d.b)/16) {
		return nil, errCorrupt
	}
	r := &forgetEntry{ops: make([]store.OpID, n)}
	for i := range r.ops {
		copy(r.ops[i][:], d.raw(16))
	}
	return r, d.end()
}
