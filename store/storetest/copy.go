package storetest

import (
	"fmt"
	"io"

	"herald/store"
)

func copyCases() []testCase {
	return []testCase{
		{"Chain", copyChain},
		{"OverItself", copyOverItself},
		{"AcrossBuckets", copyAcrossBuckets},
		{"OfVersions", copyOfVersions},
		{"ThenMore", copyThenMore},
		{"GivenUp", copyGivenUp},
	}
}

// copySizes are of objects that drivers keep in different ways.
var copySizes = [...]int{0, 10, 70_000, 5<<20 + 3}

// beginCopy opens a version and lets a Writer of another key take all of it.
func (f *Fixture) beginCopy(from store.Bucket, src, versionID, dst string) (store.Writer, error) {
	f.Helper()
	r, err := from.Open(f.Context(), src, versionID)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	w, err := f.Bucket.Create(f.Context(), dst, store.CreateHint{Size: r.Info().Size})
	if err != nil {
		return nil, err
	}
	if n, err := io.Copy(w, io.NewSectionReader(r, 0, r.Info().Size)); err != nil || n != r.Info().Size {
		return nil, fmt.Errorf("copied %d bytes of %d: %w", n, r.Info().Size, err)
	}
	return w, nil
}

// copy copies a version, whose data is given.
func (f *Fixture) copy(from store.Bucket, src, versionID, dst, data string, opts ...Option) store.Outcome {
	f.Helper()
	w, err := f.beginCopy(from, src, versionID, dst)
	if err != nil {
		f.Fatalf("copy of %s = %v", src, err)
	}
	o := store.CommitOptions{Versioning: f.Versioning, ETag: ETagOf(data)}
	for _, opt := range opts {
		opt(&o)
	}
	out, err := w.Commit(f.Context(), o)
	if err != nil || out.Info.Size != int64(len(data)) {
		f.Fatalf("copy of %s = %+v, %v, want %d bytes", src, out, err, len(data))
	}
	return out
}

// copyChain: a copy of a copy stands by itself, whatever becomes of those
// before it.
func copyChain(f *Fixture) {
	for _, size := range copySizes {
		data := pattern(size, size)
		f.Put("a", data)
		f.copy(f.Bucket, "a", "", "b", data)
		f.copy(f.Bucket, "b", "", "c", data)
		f.copy(f.Bucket, "a", "", "d", data)
		f.Remove("a", "")
		f.Put("b", "other")
		f.Want("c", "", data)
		f.Crash()
		f.Want("c", "", data)
		f.copy(f.Bucket, "c", "", "a", data)
		f.Remove("c", "")
		f.Reopen()
		f.Want("a", "", data)
		f.Want("d", "", data)
	}
}

// copyOverItself: attributes change, bytes do not.
func copyOverItself(f *Fixture) {
	for _, v := range []store.Versioning{store.Unversioned, store.Suspended, store.Enabled} {
		for _, size := range copySizes {
			data := pattern(size, size)
			f.Put("k", data, With(v))
			for i := range 3 {
				f.copy(f.Bucket, "k", "", "k", data, With(v), WithAttrs(store.Attrs{"n": fmt.Sprint(i)}))
				if got := f.Want("k", "", data).Attrs["n"]; got != fmt.Sprint(i) {
					f.Errorf("attribute %q, want %d", got, i)
				}
				f.Reopen()
			}
			f.Want("k", "", data)
		}
	}
}

// copyAcrossBuckets: the source's bucket is removed.
func copyAcrossBuckets(f *Fixture) {
	name, from := f.Name, f.Bucket
	for _, size := range copySizes {
		f.Put(fmt.Sprint("k", size), pattern(size, size))
	}
	f.NewBucket()
	for _, size := range copySizes {
		key := fmt.Sprint("k", size)
		f.copy(from, key, "", key, pattern(size, size))
		if _, err := from.Remove(f.Context(), key, "", store.RemoveOptions{}); err != nil {
			f.Fatal(err)
		}
	}
	if err := f.Driver().DeleteBucket(f.Context(), name); err != nil {
		f.Fatal(err)
	}
	f.Crash()
	for _, size := range copySizes {
		f.Want(fmt.Sprint("k", size), "", pattern(size, size))
	}
}

// copyOfVersions brings back a noncurrent version, as clients do.
func copyOfVersions(f *Fixture) {
	f.Versioning = store.Enabled
	for _, size := range copySizes {
		key, old := fmt.Sprint("k", size), pattern(size, size)
		v1 := f.Put(key, old).Info.VersionID
		v2 := f.Put(key, "newer").Info.VersionID
		v3 := f.copy(f.Bucket, key, v1, key, old).Info.VersionID
		f.Remove(key, v1)
		f.Want(key, "", old)
		f.Want(key, v2, "newer")
		f.Remove(key, v2)
		v4 := f.copy(f.Bucket, key, v3, key, old).Info.VersionID
		f.Remove(key, v3)
		f.Crash()
		f.Want(key, v4, old)
		f.Remove(key, v4)
		f.WantErr(key, "", store.ErrNoSuchKey)
	}
}

// copyThenMore: bytes may be written after those that were copied.
func copyThenMore(f *Fixture) {
	for _, v := range []store.Versioning{store.Unversioned, store.Enabled} {
		for _, size := range copySizes {
			for _, more := range []string{"x", pattern(1, 100_000)} {
				data := pattern(size, size)
				f.Put("src", data)
				w, err := f.beginCopy(f.Bucket, "src", "", "dst")
				if err != nil {
					f.Fatal(err)
				}
				f.Remove("src", "")
				if _, err := io.WriteString(w, more); err != nil {
					f.Fatal(err)
				}
				if _, err := w.Commit(f.Context(), store.CommitOptions{ETag: ETagOf(data + more), Versioning: v}); err != nil {
					f.Fatal(err)
				}
				f.Want("dst", "", data+more)
			}
		}
	}
	f.Crash()
	f.Want("dst", "", pattern(copySizes[3], copySizes[3])+pattern(1, 100_000))
}

// copyGivenUp: copies that are aborted, or refused, take nothing from their
// source.
func copyGivenUp(f *Fixture) {
	for _, size := range copySizes {
		data := pattern(size, size)
		f.Put("src", data)
		f.Put("dst", "there")
		for _, refused := range []bool{false, true} {
			w, err := f.beginCopy(f.Bucket, "src", "", "dst")
			if err != nil {
				f.Fatal(err)
			}
			if refused {
				opts := store.CommitOptions{ETag: ETagOf(data), Cond: store.Conditions{IfNoneMatch: "*"}}
				_, err = w.Commit(f.Context(), opts)
				f.wantIs("copy onto what is there", err, store.ErrPreconditionFailed)
			} else if err := w.Abort(); err != nil {
				f.Error(err)
			}
		}
		f.Reopen()
		f.Want("src", "", data)
		f.Want("dst", "", "there")
	}
}
