//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// How long the note of a part that is being written counts: its writer renews
// it before it writes more, and takes far less than the rest for that.
const (
	writerRenews = 20 * time.Second
	writerStale  = 10 * time.Minute
)

// partWriter is the store.Writer of one part. It keeps the context of
// CreatePart, that of the request.
type partWriter struct {
	ctx     context.Context
	b       *bucket
	key     string
	name    uploadName
	number  int
	pack    bool // compress
	tag     store.OpID
	buf     []byte      // while there are no tails
	tails   *tailWriter // nil: all is in buf
	shared  []segment   // as a writer's
	note    []byte      // value of w/TAG
	renewed time.Time
	ended   bool
	err     error // of an earlier Write
}

var (
	_ store.Writer  = (*partWriter)(nil)
	_ io.ReaderFrom = (*partWriter)(nil)
)

// CreatePart implements store.Uploads.
func (b *bucket) CreatePart(ctx context.Context, key, uploadID string, number int, hint store.CreateHint) (store.Writer, error) {
	if number < 1 || number > maxPartNumber {
		return nil, fmt.Errorf("part %d: %w", number, store.ErrInvalidPart)
	}
	if _, err := b.upload(ctx, key, uploadID); err != nil {
		return nil, err
	}
	return &partWriter{
		ctx: ctx, b: b, key: key, name: uploadName{b.bid, uploadID}, number: number, pack: hint.Compression == compressionZstd, tag: newTag(),
	}, nil
}

func (w *partWriter) noteKey() string { return keyWriter + w.tag.String() }

// Write implements io.Writer.
func (w *partWriter) Write(p []byte) (int, error) {
	if w.ended {
		return 0, errors.New("write after commit or abort")
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.tails == nil && len(w.buf)+len(p) <= maxInline {
		w.buf = append(w.buf, p...)
		return len(p), nil
	}
	if w.err = w.failed(w.write(w.ctx, p)); w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

func (w *partWriter) failed(err error) error {
	if err == nil || errors.Is(err, store.ErrNoSuchUpload) {
		return err
	}
	return w.b.failed("write part "+strconv.Itoa(w.number)+" of", w.key, err)
}

// ReadFrom implements io.ReaderFrom. Of an io.SectionReader over a Reader of
// this driver, the tails are shared where that goes; else pieces are read ahead.
func (w *partWriter) ReadFrom(r io.Reader) (int64, error) { return readFrom(w, r) }

// write writes into tails, which are noted before.
func (w *partWriter) write(ctx context.Context, p []byte) error {
	if w.note == nil || time.Since(w.renewed) > writerRenews {
		if err := w.announce(ctx); err != nil {
			return err
		}
	}
	if w.tails == nil {
		if len(w.shared) > 0 {
			if err := w.b.d.mix(ctx, tailsName{w.b.bid, w.tag}); err != nil {
				return err
			}
		}
		w.tails = newTailWriter(w.b.d, w.b.bid, w.tag, w.pack)
		buf := w.buf
		w.buf = nil
		if err := w.tails.write(ctx, buf); err != nil {
			return err
		}
	}
	return w.tails.write(ctx, p)
}

// announce writes the note of this part, or renews it. Errors:
// store.ErrNoSuchUpload.
func (w *partWriter) announce(ctx context.Context) error {
	note := strconv.AppendInt(nil, time.Now().UnixNano(), 10)
	op := librados.NewWrite()
	op.AssertExists()
	op.CmpXattr(xattrEnd, librados.Equal, uploadEnd{state: uploadLive}.encode())
	op.OmapCmp(w.noteKey(), librados.Equal, w.note)
	op.OmapSet(librados.Pair{Key: w.noteKey(), Value: note})
	for {
		_, err := w.b.d.heads.Operate(ctx, w.name.oid(), op, 0)
		if err == nil {
			w.note, w.renewed = note, time.Now()
			return w.b.d.opts.Fault("part.announced")
		}
		if !conflict(err) && !unsure(err) {
			return err
		}
		u, err := w.reread(ctx, w.noteKey())
		if err != nil {
			return err
		}
		switch now := u.omap[w.noteKey()]; string(now) {
		case string(note):
			w.note, w.renewed = note, time.Now()
			return nil
		case string(w.note): // it was being completed, or the operation was lost
		default:
			return errMarkGone
		}
	}
}

// reread reads the upload when it takes parts: a completion is waited for.
func (w *partWriter) reread(ctx context.Context, keys ...string) (*upload, error) {
	unlock, err := w.b.d.locks.lock(ctx, w.name.lock())
	if err != nil {
		return nil, err
	}
	defer unlock()
	return w.b.take(ctx, w.key, w.name.id, keys...)
}

// Commit implements store.Writer. Its linearization point is the operation that
// adds the part.
func (w *partWriter) Commit(ctx context.Context, opts store.CommitOptions) (store.Outcome, error) {
	if w.ended || w.err != nil {
		return store.Outcome{}, errors.Join(errors.New("commit after an error or the end"), w.err, w.Abort())
	}
	err := w.finish(ctx)
	if err == nil {
		err = w.b.d.opts.Fault("part.written")
	}
	if err == nil {
		p := &part{tag: w.tag, Part: store.Part{Number: w.number, ETag: opts.ETag, Attrs: opts.Attrs, ModTime: opts.ModTime.UTC()}}
		if opts.ModTime.IsZero() {
			p.ModTime = time.Now().UTC()
		}
		w.describe(p)
		err = w.add(ctx, p)
	}
	if err != nil {
		return store.Outcome{}, errors.Join(w.failed(err), w.Abort())
	}
	w.ended = true
	return store.Outcome{Changed: true}, nil
}

// describe says where the bytes of p are.
func (w *partWriter) describe(p *part) {
	if w.tails != nil {
		p.segments = []segment{w.tails.segment()}
	}
	p.segments = slices.Concat(w.shared, p.segments)
	for _, s := range p.segments {
		p.Size += s.size
	}
	if len(p.segments) == 1 && p.segments[0] == (segment{tag: w.tag, size: p.Size}) {
		p.segments = nil
	}
}

// finish makes all bytes durable.
func (w *partWriter) finish(ctx context.Context) error {
	if len(w.buf) > 0 {
		if err := w.write(ctx, nil); err != nil {
			return err
		}
	}
	if w.tails == nil {
		return nil
	}
	return w.tails.finish(ctx)
}

// add makes p the part of its number.
func (w *partWriter) add(ctx context.Context, p *part) error {
	ctx, cancel := detached(ctx)
	defer cancel()
	d, key := w.b.d, partKey(w.number)
	var former []byte
	for sent := false; ; {
		op, replaced, err := w.operation(p, former)
		if err != nil {
			return err
		}
		_, err = d.heads.Operate(ctx, w.name.oid(), op, 0)
		if err == nil {
			w.replaced(replaced)
			return nil
		}
		if !conflict(err) && !unsure(err) {
			return err
		}
		sent = sent || unsure(err)
		u, err := w.reread(ctx, key, w.noteKey())
		if err != nil {
			return err
		}
		if w.note != nil && u.omap[w.noteKey()] == nil {
			if sent { // only the operation itself, and after long a sweep, take the note away
				w.replaced(replaced)
				return nil
			}
			return errMarkGone
		}
		former = u.omap[key]
	}
}

// operation adds a part in place of a former one, if any.
func (w *partWriter) operation(p *part, former []byte) (op *librados.WriteOp, replaced *segment, err error) {
	key := partKey(w.number)
	op = librados.NewWrite()
	op.AssertExists()
	op.CmpXattr(xattrEnd, librados.Equal, uploadEnd{state: uploadLive}.encode())
	op.OmapCmp(key, librados.Equal, former)
	set := []librados.Pair{{Key: key, Value: p.encode()}}
	if former != nil {
		old, err := decodePart(librados.Pair{Key: key, Value: former})
		if err != nil {
			return nil, nil, err
		}
		for _, s := range garbageOf(old.runs()) { // one at most
			replaced = &s
			set = append(set, librados.Pair{Key: keyGarbage + s.tag.String(), Value: encodeNote(s.size, time.Now())})
		}
	}
	if w.note != nil {
		op.OmapCmp(w.noteKey(), librados.Equal, w.note)
		op.OmapRm(w.noteKey())
	}
	op.OmapSet(set...)
	op.SetXattr(xattrParts, w.tag[:])
	return op, replaced, nil
}

// replaced removes the tails of a part that was replaced, behind the answer.
// Nobody reads a part.
func (w *partWriter) replaced(s *segment) {
	if s == nil {
		return
	}
	d, name := w.b.d, w.name
	d.bg.start(func(ctx context.Context) {
		err := d.opts.Fault("part.replaced")
		if err == nil {
			err = d.removePart(ctx, name, *s)
		}
		if err != nil {
			d.log.Warn("remove a part that was replaced", "upload", name.id, "err", err)
		}
	})
}

// removePart removes the tails that an upload notes as garbage, and the note.
func (d *Driver) removePart(ctx context.Context, n uploadName, s segment) error {
	if err := d.removeGarbage(ctx, n.bid, s); err != nil {
		return err
	}
	op := librados.NewWrite()
	op.AssertExists()
	op.OmapRm(keyGarbage + s.tag.String())
	if _, err := d.heads.Operate(ctx, n.oid(), op, librados.FullForce); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	return nil
}

// Abort implements store.Writer. What was written is removed behind it.
func (w *partWriter) Abort() error {
	if w.ended {
		return nil
	}
	w.ended, w.buf = true, nil
	if w.note == nil {
		return nil
	}
	if w.tails != nil {
		w.b.d.buffers.put(w.tails.buf)
		w.tails.buf = nil
	}
	d := w.b.d
	started := d.bg.start(func(ctx context.Context) {
		if w.tails != nil {
			w.tails.wg.Wait()
		}
		if err := w.giveUp(ctx); err != nil {
			d.log.Warn("remove a part that was given up", "upload", w.name.id, "err", err)
		}
	})
	if !started && w.tails != nil {
		w.tails.wg.Wait()
	}
	return nil
}

// giveUp removes what was written of a part, unless the part was added all the
// same. An upload that has ended waits for that with its purge.
func (w *partWriter) giveUp(ctx context.Context) error {
	d := w.b.d
	size := int64(0)
	if w.tails != nil && len(w.shared) == 0 {
		size = w.tails.next * tailSize
	}
	taken, err := d.dropNote(ctx, w.name, w.tag, w.note, size)
	if err != nil || !taken {
		return err
	}
	if err := d.removePart(ctx, w.name, segment{tag: w.tag, size: size}); err != nil {
		return err
	}
	u, err := d.readUpload(ctx, w.name)
	if err == nil && u.end.ended() {
		err = d.purge(ctx, u)
	}
	if errors.Is(err, store.ErrNoSuchUpload) {
		return nil
	}
	return err
}

// dropNote makes the note of a part that is being written one of garbage, so
// that the part will not be added. taken is false if the note is not there, or
// was renewed.
func (d *Driver) dropNote(ctx context.Context, n uploadName, tag store.OpID, note []byte, size int64) (taken bool, err error) {
	op := librados.NewWrite()
	op.AssertExists()
	op.OmapCmp(keyWriter+tag.String(), librados.Equal, note)
	op.OmapRm(keyWriter + tag.String())
	op.OmapSet(librados.Pair{Key: keyGarbage + tag.String(), Value: encodeNote(size, time.Now())})
	_, err = d.heads.Operate(ctx, n.oid(), op, librados.FullForce)
	if conflict(err) {
		return false, nil
	}
	return err == nil, err
}
