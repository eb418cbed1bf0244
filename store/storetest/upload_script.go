package storetest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herald/store"
)

// ups is the bucket's capability.
func (f *Fixture) ups() store.Uploads {
	f.Helper()
	u, ok := f.Bucket.(store.Uploads)
	if !ok {
		f.Fatal("the bucket takes no uploads, and the harness does not say so")
	}
	return u
}

// upload is one multipart upload under way.
type upload struct {
	f     *Fixture
	key   string
	id    string
	parts map[int]string
}

func (f *Fixture) begin(key string) *upload {
	f.Helper()
	u := &upload{f: f, key: key, id: store.NewOpID().String(), parts: map[int]string{}}
	up := store.Upload{Key: key, ID: u.id, Initiated: time.Now().UTC(), Attrs: store.Attrs{"content-type": "a/b"}}
	if err := f.ups().CreateUpload(f.Context(), up); err != nil {
		f.Fatalf("CreateUpload(%.60q) = %v", key, err)
	}
	return u
}

// tryPart uploads one part and hands the error out.
func (u *upload) tryPart(ctx context.Context, number int, data string) error {
	w, err := u.f.ups().CreatePart(ctx, u.key, u.id, number, store.CreateHint{Size: int64(len(data))})
	if err != nil {
		return err
	}
	defer func() { _ = w.Abort() }()
	for rest := data; rest != ""; {
		n := min(len(rest), 100_000)
		if _, err := io.WriteString(w, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	_, err = w.Commit(ctx, store.CommitOptions{ETag: ETagOf(data), Attrs: partAttrs(number, data)})
	return err
}

func partAttrs(number int, data string) store.Attrs {
	return store.Attrs{"herald-checksum": ETagOf(data)[:8], "herald-n": fmt.Sprint(number)}
}

func (u *upload) part(number int, data string) {
	u.f.Helper()
	if err := u.tryPart(u.f.Context(), number, data); err != nil {
		u.f.Fatalf("part %d of %.60q = %v", number, u.key, err)
	}
	u.parts[number] = data
}

// completed names all parts that u knows, and their data together.
func (u *upload) completed() (parts []store.CompletedPart, data string) {
	var sb strings.Builder
	for n := 1; len(parts) < len(u.parts); n++ {
		if d, ok := u.parts[n]; ok {
			parts = append(parts, store.CompletedPart{Number: n, ETag: ETagOf(d)})
			sb.WriteString(d)
		}
	}
	return parts, sb.String()
}

func (u *upload) complete(parts []store.CompletedPart, data string, opts ...Option) (store.Outcome, error) {
	o := store.CommitOptions{Versioning: u.f.Versioning, ETag: ETagOf(data)}
	for _, opt := range opts {
		opt(&o)
	}
	return u.f.ups().Complete(u.f.Context(), u.key, u.id, parts, o)
}

// finish completes with all parts and reads the object back.
func (u *upload) finish(opts ...Option) store.Outcome {
	u.f.Helper()
	parts, data := u.completed()
	out, err := u.complete(parts, data, opts...)
	if err != nil {
		u.f.Fatalf("Complete(%.60q) = %v", u.key, err)
	}
	if !out.Changed || out.Info == nil || out.Info.Size != int64(len(data)) {
		u.f.Fatalf("Complete(%.60q) = %+v, want a change of %d bytes", u.key, out, len(data))
	}
	u.f.Want(u.key, "", data)
	u.gone()
	return out
}

// gone checks that the upload does not exist.
func (u *upload) gone() {
	u.f.Helper()
	_, _, _, err := u.f.ups().ListParts(u.f.Context(), u.key, u.id, 0, 10)
	u.f.wantIs("ListParts after the end", err, store.ErrNoSuchUpload)
	_, err = u.complete(nil, "")
	u.f.wantIs("Complete after the end", err, store.ErrNoSuchUpload)
	u.f.wantIs("AbortUpload after the end", u.f.ups().AbortUpload(u.f.Context(), u.key, u.id), store.ErrNoSuchUpload)
	u.f.wantIs("a part after the end", u.tryPart(u.f.Context(), 1, "late"), store.ErrNoSuchUpload)
}

// check compares ListParts with what was uploaded.
func (u *upload) check() {
	u.f.Helper()
	up, parts, more, err := u.f.ups().ListParts(u.f.Context(), u.key, u.id, 0, 10_000)
	if err != nil || more {
		u.f.Fatalf("ListParts(%.60q) = more %t, %v", u.key, more, err)
	}
	if up.Key != u.key || up.ID != u.id || up.Attrs["content-type"] != "a/b" || time.Since(up.Initiated).Abs() > time.Hour {
		u.f.Fatalf("ListParts(%.60q): upload = %+v", u.key, up)
	}
	var want, got []store.Part
	completed, _ := u.completed()
	for _, c := range completed {
		d := u.parts[c.Number]
		want = append(want, store.Part{Number: c.Number, Size: int64(len(d)), ETag: c.ETag, Attrs: partAttrs(c.Number, d)})
	}
	for _, p := range parts {
		if time.Since(p.ModTime).Abs() > time.Hour {
			u.f.Errorf("part %d is of %v", p.Number, p.ModTime)
		}
		p.ModTime = time.Time{}
		got = append(got, p)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		u.f.Fatalf("parts of %.60q (-want +got):\n%s", u.key, diff)
	}
}
