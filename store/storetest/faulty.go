package storetest

import (
	"context"
	"io"

	"herald/store"
)

// Call names one call of a driver, for Faulty's hook.
type Call struct {
	// Op is the method: "CreateBucket", "Commit", "Records.Put", ...
	Op     string
	Bucket string
	Key    string // or the record's name
}

// Faulty is a driver that fails where its hook says so, in front of a real
// one.
type Faulty struct {
	store.Driver
	// Hook is asked before each call. With an error the call fails with it:
	// apply tells whether it is carried out all the same (as when an answer
	// is lost), or not at all. It may be called concurrently.
	Hook func(Call) (apply bool, err error)
}

var _ store.Driver = (*Faulty)(nil)

// faultyDo carries out a call as the hook says.
func faultyDo[T any](d *Faulty, c Call, do func() (T, error)) (T, error) {
	var zero T
	var failure error
	apply := true
	if d.Hook != nil {
		apply, failure = d.Hook(c)
	}
	if failure == nil {
		return do()
	}
	if apply {
		if v, err := do(); err == nil {
			if c, ok := any(v).(io.Closer); ok {
				_ = c.Close() // the caller never gets it
			}
		}
	}
	return zero, failure
}

// faultyErr is faultyDo for calls that return only an error.
func faultyErr(d *Faulty, c Call, do func() error) error {
	_, err := faultyDo(d, c, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// CreateBucket implements store.Driver.
func (d *Faulty) CreateBucket(ctx context.Context, name string) error {
	return faultyErr(d, Call{"CreateBucket", name, ""}, func() error { return d.Driver.CreateBucket(ctx, name) })
}

// DeleteBucket implements store.Driver.
func (d *Faulty) DeleteBucket(ctx context.Context, name string) error {
	return faultyErr(d, Call{"DeleteBucket", name, ""}, func() error { return d.Driver.DeleteBucket(ctx, name) })
}

// ListBuckets implements store.Driver.
func (d *Faulty) ListBuckets(ctx context.Context) ([]store.BucketEntry, error) {
	return faultyDo(d, Call{"ListBuckets", "", ""}, func() ([]store.BucketEntry, error) { return d.Driver.ListBuckets(ctx) })
}

// OpenBucket implements store.Driver.
func (d *Faulty) OpenBucket(ctx context.Context, name string) (store.Bucket, error) {
	return faultyDo(d, Call{"OpenBucket", name, ""}, func() (store.Bucket, error) {
		b, err := d.Driver.OpenBucket(ctx, name)
		if err != nil {
			return nil, err
		}
		fb := &faultyBucket{b, d, name}
		if u, ok := b.(store.Uploads); ok {
			return &faultyUploads{fb, u}, nil
		}
		return fb, nil
	})
}

// Records implements store.Driver.
func (d *Faulty) Records() store.Records { return &faultyRecords{d.Driver.Records(), d} }

// Outcomes implements store.Driver.
func (d *Faulty) Outcomes() store.Outcomes { return &faultyOutcomes{d.Driver.Outcomes(), d} }

type faultyBucket struct {
	store.Bucket
	d    *Faulty
	name string
}

func (b *faultyBucket) Create(ctx context.Context, key string, hint store.CreateHint) (store.Writer, error) {
	return faultyDo(b.d, Call{"Create", b.name, key}, func() (store.Writer, error) {
		w, err := b.Bucket.Create(ctx, key, hint)
		return b.writer(w, key), err
	})
}

func (b *faultyBucket) Open(ctx context.Context, key, versionID string) (store.Reader, error) {
	return faultyDo(b.d, Call{"Open", b.name, key}, func() (store.Reader, error) { return b.Bucket.Open(ctx, key, versionID) })
}

func (b *faultyBucket) Stat(ctx context.Context, key, versionID string) (*store.Info, error) {
	return faultyDo(b.d, Call{"Stat", b.name, key}, func() (*store.Info, error) { return b.Bucket.Stat(ctx, key, versionID) })
}

func (b *faultyBucket) Update(ctx context.Context, key, versionID string, f func(*store.Info) (store.Attrs, error)) (*store.Info, error) {
	return faultyDo(b.d, Call{"Update", b.name, key}, func() (*store.Info, error) { return b.Bucket.Update(ctx, key, versionID, f) })
}

func (b *faultyBucket) Remove(ctx context.Context, key, versionID string, opts store.RemoveOptions) (store.Outcome, error) {
	return faultyDo(b.d, Call{"Remove", b.name, key}, func() (store.Outcome, error) { return b.Bucket.Remove(ctx, key, versionID, opts) })
}

func (b *faultyBucket) List(ctx context.Context, opts store.ListOptions) (*store.Page, error) {
	return faultyDo(b.d, Call{"List", b.name, ""}, func() (*store.Page, error) { return b.Bucket.List(ctx, opts) })
}

func (b *faultyBucket) writer(w store.Writer, key string) store.Writer {
	if w == nil {
		return nil
	}
	return &faultyWriter{w, b, key}
}

type faultyWriter struct {
	store.Writer
	b   *faultyBucket
	key string
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	return faultyDo(w.b.d, Call{"Write", w.b.name, w.key}, func() (int, error) { return w.Writer.Write(p) })
}

// ReadFrom hands on the driver's way of copying, where it has one.
func (w *faultyWriter) ReadFrom(r io.Reader) (int64, error) {
	return faultyDo(w.b.d, Call{"Write", w.b.name, w.key}, func() (int64, error) { return io.Copy(w.Writer, r) })
}

func (w *faultyWriter) Commit(ctx context.Context, opts store.CommitOptions) (store.Outcome, error) {
	return faultyDo(w.b.d, Call{"Commit", w.b.name, w.key}, func() (store.Outcome, error) { return w.Writer.Commit(ctx, opts) })
}

// faultyUploads is a faultyBucket of a driver that takes uploads.
type faultyUploads struct {
	*faultyBucket
	u store.Uploads
}

var _ store.Uploads = (*faultyUploads)(nil)

func (b *faultyUploads) CreateUpload(ctx context.Context, u store.Upload) error {
	return faultyErr(b.d, Call{"CreateUpload", b.name, u.Key}, func() error { return b.u.CreateUpload(ctx, u) })
}

func (b *faultyUploads) CreatePart(ctx context.Context, key, uploadID string, number int, hint store.CreateHint) (store.Writer, error) {
	return faultyDo(b.d, Call{"CreatePart", b.name, key}, func() (store.Writer, error) {
		w, err := b.u.CreatePart(ctx, key, uploadID, number, hint)
		return b.writer(w, key), err
	})
}

func (b *faultyUploads) ListParts(ctx context.Context, key, uploadID string, after, n int) (u *store.Upload, parts []store.Part, more bool, err error) {
	err = faultyErr(b.d, Call{"ListParts", b.name, key}, func() error {
		u, parts, more, err = b.u.ListParts(ctx, key, uploadID, after, n)
		return err
	})
	return u, parts, more, err
}

func (b *faultyUploads) ListUploads(ctx context.Context, opts store.UploadListOptions) (*store.UploadPage, error) {
	return faultyDo(b.d, Call{"ListUploads", b.name, ""}, func() (*store.UploadPage, error) { return b.u.ListUploads(ctx, opts) })
}

func (b *faultyUploads) Complete(ctx context.Context, key, uploadID string, parts []store.CompletedPart, opts store.CommitOptions) (store.Outcome, error) {
	return faultyDo(b.d, Call{"Complete", b.name, key}, func() (store.Outcome, error) { return b.u.Complete(ctx, key, uploadID, parts, opts) })
}

func (b *faultyUploads) AbortUpload(ctx context.Context, key, uploadID string) error {
	return faultyErr(b.d, Call{"AbortUpload", b.name, key}, func() error { return b.u.AbortUpload(ctx, key, uploadID) })
}

type faultyRecords struct {
	store.Records
	d *Faulty
}

func (r *faultyRecords) Get(ctx context.Context, name string) (value []byte, version uint64, err error) {
	err = faultyErr(r.d, Call{"Records.Get", "", name}, func() error {
		value, version, err = r.Records.Get(ctx, name)
		return err
	})
	return value, version, err
}

func (r *faultyRecords) Put(ctx context.Context, name string, value []byte, version uint64) (uint64, error) {
	return faultyDo(r.d, Call{"Records.Put", "", name}, func() (uint64, error) { return r.Records.Put(ctx, name, value, version) })
}

func (r *faultyRecords) Delete(ctx context.Context, name string, version uint64) error {
	return faultyErr(r.d, Call{"Records.Delete", "", name}, func() error { return r.Records.Delete(ctx, name, version) })
}

func (r *faultyRecords) List(ctx context.Context, prefix, after string, n int) ([]string, error) {
	return faultyDo(r.d, Call{"Records.List", "", prefix}, func() ([]string, error) { return r.Records.List(ctx, prefix, after, n) })
}

type faultyOutcomes struct {
	store.Outcomes
	d *Faulty
}

func (o *faultyOutcomes) Settle(ctx context.Context, ref store.OpRef) (store.Outcome, error) {
	return faultyDo(o.d, Call{"Settle", ref.Bucket, ref.Key}, func() (store.Outcome, error) { return o.Outcomes.Settle(ctx, ref) })
}

func (o *faultyOutcomes) List(ctx context.Context, after store.OpID, max int) ([]store.OpRef, error) {
	return faultyDo(o.d, Call{"ListOutcomes", "", ""}, func() ([]store.OpRef, error) { return o.Outcomes.List(ctx, after, max) })
}

func (o *faultyOutcomes) Forget(ctx context.Context, refs ...store.OpRef) error {
	return faultyErr(o.d, Call{"Forget", "", ""}, func() error { return o.Outcomes.Forget(ctx, refs...) })
}
