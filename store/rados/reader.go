//go:build rados

package rados

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"herald/store"
)

const (
	firstPiece = 1 << 20   // bytes that the first operation of a range reads; others read whole tails
	readAhead  = 3         // operations for one reader
	aheadAtAll = 64        // operations of all readers for what they do not wait for
	readBlock  = 128 << 10 // bytes read for a ReadAt that asks for fewer
)

// reader is a store.Reader. It keeps the context that it was opened with: that
// of the request, whose end ends what it reads.
type reader struct {
	ctx  context.Context
	d    *Driver
	bid  string
	info *store.Info
	data []byte // all bytes, unless there are segments
	buf  []byte // of d.buffers: what was read with the head
	segs []segment
	hold *hold // nil: there are no tails

	current bool                  // no version was asked for
	guess   atomic.Pointer[guess] // what is read since before the head was; nil: nothing

	packed packedTails

	mu    sync.Mutex // guards what follows: ReadAt may be called concurrently
	block []byte     // read for a small ReadAt
	start int64      // of block
}

var _ store.Reader = (*reader)(nil)

// Open implements store.Bucket. Small objects come with their head, in one
// operation.
func (b *bucket) Open(ctx context.Context, key, versionID string) (store.Reader, error) {
	k := b.head(key)
	hold := b.d.readers.hold(k)
	var guess *guess
	if versionID == "" {
		guess = b.d.guess(ctx, k)
	}
	h, v, info, err := b.read(ctx, key, versionID, true)
	if err != nil || len(v.segments) == 0 {
		guess.drop()
		guess = nil
		b.d.readers.release(hold)
		hold = nil
	}
	if err != nil {
		return nil, err
	}
	r := &reader{ctx: ctx, d: b.d, bid: b.bid, info: info, segs: v.segments, hold: hold, current: versionID == "", buf: h.data}
	r.guess.Store(guess)
	if v.inline() {
		if r.data, err = b.d.inlineData(v, h.data); err != nil {
			return nil, fmt.Errorf("open %s/%s: %w", b.name, key, err)
		}
	}
	return r, nil
}

// Stat implements store.Bucket.
func (b *bucket) Stat(ctx context.Context, key, versionID string) (*store.Info, error) {
	_, _, info, err := b.read(ctx, key, versionID, false)
	return info, err
}

// read reads the head of a key and finds a version.
func (b *bucket) read(ctx context.Context, key, versionID string, data bool) (*head, *version, *store.Info, error) {
	want := headRead{data: data}
	if versionID != "" {
		if !validVersionID(versionID) {
			return nil, nil, nil, b.absent(ctx, store.ErrNoSuchVersion)
		}
		want.omap = []string{keyVersion + versionID}
	}
	h, err := b.d.readHead(ctx, b.head(key), want)
	if err != nil {
		return nil, nil, nil, storeError("read "+b.name+"/"+key, err)
	}
	v, encoded, latest, err := h.find(versionID)
	if err == store.ErrNoSuchKey || err == store.ErrNoSuchVersion {
		err = b.absent(ctx, err)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	attrs, err := decodeAttrs(encoded)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("attributes of %s/%s: %w", b.name, key, err)
	}
	return h, v, v.info(key, latest, attrs), nil
}

// Info implements store.Reader.
func (r *reader) Info() *store.Info { return r.info }

// ReadAt implements io.ReaderAt.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s at %d", r.info.Key, off)
	}
	if off >= r.info.Size {
		return 0, io.EOF
	}
	n := min(int64(len(p)), r.info.Size-off)
	var err error
	if len(r.segs) > 0 && n < readBlock {
		err = r.readSmall(p[:n], off)
	} else {
		_, err = r.WriteRangeTo(bytes.NewBuffer(p[:0]), off, n)
	}
	if err != nil {
		return 0, err
	}
	if n < int64(len(p)) {
		err = io.EOF
	}
	return int(n), err
}

// readSmall reads more than it is asked for, as what follows is likely to be
// asked for next.
func (r *reader) readSmall(p []byte, off int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(p) > 0 {
		if off < r.start || off >= r.start+int64(len(r.block)) {
			var b bytes.Buffer
			n := int64(readBlock)
			if slices.ContainsFunc(r.segs, func(s segment) bool { return s.stored > 0 }) {
				n = pieceSize // of which there is no less to be had
			}
			if _, err := r.WriteRangeTo(&b, off, min(n, r.info.Size-off)); err != nil {
				return err
			}
			r.block, r.start = b.Bytes(), off
		}
		n := copy(p, r.block[off-r.start:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// Close implements store.Reader.
func (r *reader) Close() error {
	r.guess.Swap(nil).drop() // nobody wanted it
	if r.hold != nil {
		r.d.readers.release(r.hold)
		r.hold = nil
	}
	r.d.buffers.put(r.buf)
	r.buf, r.data = nil, nil
	return nil
}
