package storetest

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"herald/store"
)

// ETagOf is the ETag that the suite gives to data.
func ETagOf(data string) string {
	sum := md5.Sum([]byte(data))
	return hex.EncodeToString(sum[:])
}

// Option changes what Put and TryPut commit with.
type Option func(*store.CommitOptions)

// With sets the versioning of one call.
func With(v store.Versioning) Option { return func(o *store.CommitOptions) { o.Versioning = v } }

// WithOp gives the call an op id.
func WithOp(id store.OpID) Option { return func(o *store.CommitOptions) { o.Op = id } }

// WithAttrs sets the object's attributes.
func WithAttrs(a store.Attrs) Option { return func(o *store.CommitOptions) { o.Attrs = a } }

// WithCond sets conditions.
func WithCond(c store.Conditions) Option { return func(o *store.CommitOptions) { o.Cond = c } }

// PutObject writes one object into any bucket, in pieces and with the size as
// the hint.
func PutObject(ctx context.Context, b store.Bucket, key, data string, opts store.CommitOptions) (store.Outcome, error) {
	w, err := b.Create(ctx, key, store.CreateHint{Size: int64(len(data))})
	if err != nil {
		return store.Outcome{}, err
	}
	defer func() { _ = w.Abort() }()
	const piece = 64 << 10
	for rest := data; rest != ""; {
		n := min(len(rest), piece)
		if _, err := io.WriteString(w, rest[:n]); err != nil {
			return store.Outcome{}, err
		}
		rest = rest[n:]
	}
	if opts.ETag == "" {
		opts.ETag = ETagOf(data)
	}
	return w.Commit(ctx, opts)
}

// TryPut is Put that hands the error out.
func (f *Fixture) TryPut(key, data string, opts ...Option) (store.Outcome, error) {
	o := store.CommitOptions{Versioning: f.Versioning}
	for _, opt := range opts {
		opt(&o)
	}
	return PutObject(f.Context(), f.Bucket, key, data, o)
}

// Put writes an object.
func (f *Fixture) Put(key, data string, opts ...Option) store.Outcome {
	f.Helper()
	out, err := f.TryPut(key, data, opts...)
	if err != nil {
		f.Fatalf("Put(%.60q) = %v", key, err)
	}
	if !out.Changed || out.Info == nil || out.Seq == 0 {
		f.Fatalf("Put(%.60q) = %+v, want a change with Info and Seq", key, out)
	}
	if out.Info.Size != int64(len(data)) || out.Info.Seq != out.Seq {
		f.Fatalf("Put(%.60q): Info = %+v, want size %d and seq %d", key, out.Info, len(data), out.Seq)
	}
	return out
}

// TryRemove is Remove that hands the error out.
func (f *Fixture) TryRemove(key, versionID string, opts ...Option) (store.Outcome, error) {
	o := store.CommitOptions{Versioning: f.Versioning}
	for _, opt := range opts {
		opt(&o)
	}
	return f.Bucket.Remove(f.Context(), key, versionID, store.RemoveOptions{Op: o.Op, Cond: o.Cond, Versioning: o.Versioning})
}

// Remove removes a version, or as the versioning says.
func (f *Fixture) Remove(key, versionID string, opts ...Option) store.Outcome {
	f.Helper()
	out, err := f.TryRemove(key, versionID, opts...)
	if err != nil {
		f.Fatalf("Remove(%.60q, %q) = %v", key, versionID, err)
	}
	return out
}

// ReadObject reads one version whole.
func ReadObject(ctx context.Context, b store.Bucket, key, versionID string) (string, *store.Info, error) {
	r, err := b.Open(ctx, key, versionID)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = r.Close() }()
	var buf bytes.Buffer
	info := r.Info()
	n, err := r.WriteRangeTo(&buf, 0, info.Size)
	if err != nil {
		return "", nil, err
	}
	if n != info.Size {
		return "", nil, fmt.Errorf("read %d bytes of %d", n, info.Size)
	}
	return buf.String(), info, nil
}

// Want reads a version and compares it.
func (f *Fixture) Want(key, versionID, want string) *store.Info {
	f.Helper()
	got, info, err := ReadObject(f.Context(), f.Bucket, key, versionID)
	if err != nil {
		f.Fatalf("Open(%.60q, %q) = %v, want %s", key, versionID, err, brief(want))
	}
	if got != want {
		f.Fatalf("Open(%.60q, %q) = %s, want %s", key, versionID, brief(got), brief(want))
	}
	if info.Key != key || info.ETag != ETagOf(want) || info.DeleteMarker {
		f.Fatalf("Open(%.60q, %q): Info = %+v, want its key and ETag %s", key, versionID, info, ETagOf(want))
	}
	return info
}

// Stat describes a version that must exist.
func (f *Fixture) Stat(key, versionID string) *store.Info {
	f.Helper()
	info, err := f.Bucket.Stat(f.Context(), key, versionID)
	if err != nil {
		f.Fatalf("Stat(%.60q, %q) = %v", key, versionID, err)
	}
	return info
}

// WantErr checks that Open and Stat answer with one of the errors.
func (f *Fixture) WantErr(key, versionID string, want ...error) {
	f.Helper()
	r, err := f.Bucket.Open(f.Context(), key, versionID)
	if err == nil {
		_ = r.Close()
	}
	if !isOneOf(err, want) {
		f.Fatalf("Open(%.60q, %q) = %v, want %v", key, versionID, err, want)
	}
	if _, err := f.Bucket.Stat(f.Context(), key, versionID); !isOneOf(err, want) {
		f.Fatalf("Stat(%.60q, %q) = %v, want %v", key, versionID, err, want)
	}
}

// Absent checks that a key has no current object and never had one.
func (f *Fixture) Absent(key string) {
	f.Helper()
	f.WantErr(key, "", store.ErrNoSuchKey)
}

func isOneOf(err error, want []error) bool {
	for _, w := range want {
		if errors.Is(err, w) {
			return true
		}
	}
	return false
}

// wantIs fails unless err is want.
func (f *Fixture) wantIs(what string, err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Fatalf("%s = %v, want %v", what, err, want)
	}
}

// List returns one page.
func (f *Fixture) List(opts store.ListOptions) *store.Page {
	f.Helper()
	p, err := f.Bucket.List(f.Context(), opts)
	if err != nil {
		f.Fatalf("List(%+v) = %v", opts, err)
	}
	if len(p.Entries)+len(p.CommonPrefixes) > opts.Max {
		f.Fatalf("List(%+v) has %d entries and %d prefixes", opts, len(p.Entries), len(p.CommonPrefixes))
	}
	return p
}

// Keys lists all current keys.
func (f *Fixture) Keys() []string {
	f.Helper()
	var keys []string
	opts := store.ListOptions{Max: 1000}
	for {
		p := f.List(opts)
		for _, e := range p.Entries {
			keys = append(keys, e.Key)
		}
		if !p.Truncated {
			return keys
		}
		opts.Marker = p.NextMarker
	}
}

// versionID is a version's id as clients see it.
func versionID(info *store.Info) string {
	if info.VersionID == "" {
		return store.NullVersion
	}
	return info.VersionID
}

// brief shows the start of what may be long.
func brief(s string) string {
	if len(s) <= 60 {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q... (%d bytes, md5 %s)", s[:40], len(s), ETagOf(s))
}

// pattern returns n bytes that differ from place to place and from seed to
// seed.
func pattern(seed, n int) string {
	var sb strings.Builder
	sb.Grow(n + 64)
	for i := 0; sb.Len() < n; i++ {
		sum := md5.Sum(fmt.Appendf(nil, "%d/%d", seed, i))
		for range 16 {
			sb.Write(sum[:])
		}
	}
	return sb.String()[:n]
}

// Parallel runs f in n goroutines, and ends the test if one of them failed.
func (f *Fixture) Parallel(n int, do func(worker int)) {
	f.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
	if f.Failed() {
		f.FailNow()
	}
}
