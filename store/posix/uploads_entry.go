package posix

import (
	"maps"
	"slices"
	"strings"

	"herald/store"
)

// uploadEntry is the record of an upload that begins or is aborted.
type uploadEntry struct {
	kind   entryKind
	bucket string
	dir    uint64 // bucketIdentity
	upload store.Upload
}

func (u *uploadEntry) encode(b []byte) []byte {
	e := encoder{b}
	e.byte(byte(u.kind))
	e.string(u.bucket)
	e.uint(u.dir)
	return appendUpload(e.b, &u.upload)
}

func decodeUploadEntry(kind entryKind, d *decoder) (*uploadEntry, error) {
	u := &uploadEntry{kind: kind, bucket: d.string(), dir: d.uint()}
	if err := readUpload(d, &u.upload); err != nil {
		return nil, err
	}
	if !validUploadID(u.upload.ID) {
		return nil, errCorrupt
	}
	return u, d.end()
}

const uploadVersion = 1

// encodeUpload is the content of an upload's file "upload".
func encodeUpload(u *store.Upload) []byte {
	return appendUpload([]byte{uploadVersion}, u)
}

func decodeUpload(b []byte) (u store.Upload, err error) {
	d := decoder{b: b}
	if d.byte() != uploadVersion {
		return u, errCorrupt
	}
	if err := readUpload(&d, &u); err != nil {
		return u, err
	}
	return u, d.end()
}

func appendUpload(b []byte, u *store.Upload) []byte {
	e := encoder{b}
	e.string(u.Key)
	e.string(u.ID)
	e.int(u.Initiated.UnixNano())
	e.attrs(u.Attrs)
	return e.b
}

func readUpload(d *decoder, u *store.Upload) (err error) {
	u.Key, u.ID = d.string(), d.string()
	u.Initiated = timeOf(d.int())
	if d.err != nil {
		return d.err
	}
	u.Attrs, err = decodeAttrs(d)
	return err
}

// attrs appends attributes as decodeAttrs reads them.
func (e *encoder) attrs(attrs store.Attrs) {
	e.uint(uint64(len(attrs)))
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		e.string(k)
		e.string(attrs[k])
	}
}

// part is one part of an upload, and the place of its data.
type part struct {
	store.Part
	file string // in the upload's directory; "": the data are in the log
	off  int64  // in file, or in the log
	crc  uint32 // of data in the log
}

// encode is a part as the journal and the log have it; off is not in it when
// the data are.
func (p *part) encode(b []byte) []byte {
	e := encoder{b}
	e.uint(uint64(p.Number))
	e.uint(uint64(p.Size))
	e.string(p.ETag)
	e.int(p.ModTime.UnixNano())
	e.attrs(p.Attrs)
	e.string(p.file)
	if p.file != "" {
		e.uint(uint64(p.off))
	} else {
		e.uint(uint64(p.crc))
	}
	return e.b
}

func decodePart(b []byte) (*part, error) {
	d := decoder{b: b}
	p := &part{}
	p.Number, p.Size = int(d.uint()), int64(d.uint())
	p.ETag = d.string()
	p.ModTime = timeOf(d.int())
	if d.err != nil {
		return nil, d.err
	}
	var err error
	if p.Attrs, err = decodeAttrs(&d); err != nil {
		return nil, err
	}
	if p.file = d.string(); p.file != "" {
		p.off = int64(d.uint())
	} else {
		p.crc = uint32(d.uint())
	}
	if p.Number < 1 || p.Number > maxPartNumber || p.Size < 0 || p.off < 0 || strings.Contains(p.file, "/") {
		return nil, errCorrupt
	}
	return p, d.end()
}

// partEntry is the record of a part.
type partEntry struct {
	bucket, id string
	dir        uint64 // bucketIdentity
	part       part
	data       []byte // appended to what encode gives; empty if in a file
}

func (p *partEntry) encode(b []byte) []byte {
	e := encoder{b}
	e.byte(byte(kindPart))
	e.string(p.bucket)
	e.uint(p.dir)
	e.string(p.id)
	e.bytes(p.part.encode(nil))
	return e.b
}

func decodePartEntry(d *decoder) (*partEntry, error) {
	e := &partEntry{bucket: d.string(), dir: d.uint(), id: d.string()}
	blob := d.bytes()
	e.data = d.b
	if d.err != nil {
		return nil, d.err
	}
	p, err := decodePart(blob)
	if err != nil {
		return nil, err
	}
	if e.part = *p; !validUploadID(e.id) || p.file == "" && int64(len(e.data)) != p.Size {
		return nil, errCorrupt
	}
	return e, nil
}
