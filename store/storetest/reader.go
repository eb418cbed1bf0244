package storetest

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing/iotest"

	"herald/store"
)

func readerCases() []testCase {
	return []testCase{
		{"ReadAt", readerReadAt},
		{"WriteRangeTo", readerRanges},
		{"WriteRangeTo_Socket", readerSocket},
		{"StableWhileOverwritten", func(f *Fixture) {
			f.readerStable(func() {
				f.Put("k", "new")
				f.Put("k", strings.Repeat("newer", 1000))
			})
		}},
		{"StableWhileRemoved", func(f *Fixture) { f.readerStable(func() { f.Remove("k", "") }) }},
		{"StableWhileVersioned", func(f *Fixture) {
			f.readerStable(func() {
				f.Put("k", "new", With(store.Enabled))
				f.Remove("k", "null")
			})
		}},
		{"StableWhileUpdated", func(f *Fixture) {
			f.readerStable(func() { f.update("k", "", store.Attrs{"a": "after"}) })
		}},
		{"StableWhileBucketGoes", func(f *Fixture) {
			f.readerStable(func() {
				f.Remove("k", "")
				f.deleteBucket()
			})
		}},
		{"Copy", readerCopy},
		{"Copy_OntoItself", func(f *Fixture) {
			data := pattern(3, 1<<20+5)
			f.Put("k", data)
			r := f.open("k", "")
			defer func() { _ = r.Close() }()
			f.copyRange(r, "k", 0, r.Info().Size, data)
			f.Want("k", "", data)
		}},
	}
}

func (f *Fixture) open(key, versionID string) store.Reader {
	f.Helper()
	r, err := f.Bucket.Open(f.Context(), key, versionID)
	if err != nil {
		f.Fatalf("Open(%q, %q) = %v", key, versionID, err)
	}
	return r
}

func readerReadAt(f *Fixture) {
	for _, size := range []int{0, 1, 5000, 300 << 10} {
		data := pattern(size, size)
		f.Put("k", data)
		r := f.open("k", "")
		sr := io.NewSectionReader(r, 0, int64(size))
		if err := iotest.TestReader(sr, []byte(data)); err != nil {
			f.Errorf("%d bytes: %v", size, err)
		}
		if n, err := r.ReadAt(make([]byte, 1), int64(size)); n != 0 || err != io.EOF {
			f.Errorf("ReadAt(end of %d) = %d, %v, want EOF", size, n, err)
		}
		if err := r.Close(); err != nil {
			f.Errorf("Close() = %v", err)
		}
	}
}

func readerRanges(f *Fixture) {
	for _, size := range []int{10, 100_000, 3 << 20} {
		data := pattern(size, size)
		f.Put("k", data)
		r := f.open("k", "")
		for _, rng := range [][2]int{{0, size}, {0, 1}, {size - 1, 1}, {size / 2, size / 4}, {1, size - 1}, {3, 0}, {5, 1}, {0, size / 3}} {
			var buf bytes.Buffer
			n, err := r.WriteRangeTo(&buf, int64(rng[0]), int64(rng[1]))
			if err != nil || n != int64(rng[1]) || buf.String() != data[rng[0]:rng[0]+rng[1]] {
				f.Errorf("WriteRangeTo(%d, %d) of %d = %d, %v, %s", rng[0], rng[1], size, n, err, brief(buf.String()))
			}
		}
		_ = r.Close()
	}
}

func readerSocket(f *Fixture) {
	data := pattern(1, 2<<20+7)
	f.Put("k", data)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	got := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			got <- err.Error()
			return
		}
		all, _ := io.ReadAll(c)
		_ = c.Close()
		got <- string(all)
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		f.Fatal(err)
	}
	r := f.open("k", "")
	defer func() { _ = r.Close() }()
	for _, rng := range [][2]int64{{0, 10}, {10, 1 << 20}, {1<<20 + 10, int64(len(data)) - 1<<20 - 10}} {
		if n, err := r.WriteRangeTo(c, rng[0], rng[1]); err != nil || n != rng[1] {
			f.Errorf("WriteRangeTo(socket, %d, %d) = %d, %v", rng[0], rng[1], n, err)
		}
	}
	_ = c.Close()
	if s := <-got; s != data {
		f.Errorf("the socket got %s, want %s", brief(s), brief(data))
	}
}

// readerStable: what a Reader gives belongs to the version it was opened on.
func (f *Fixture) readerStable(disturb func()) {
	f.Helper()
	for _, size := range []int{100, 2 << 20} {
		f.NewBucket()
		data := pattern(size, size)
		f.Put("k", data, WithAttrs(store.Attrs{"a": "before"}))
		r := f.open("k", "")
		var buf bytes.Buffer
		if _, err := r.WriteRangeTo(&buf, 0, int64(size/2)); err != nil {
			f.Fatalf("WriteRangeTo = %v", err)
		}
		disturb()
		if _, err := r.WriteRangeTo(&buf, int64(size/2), int64(size-size/2)); err != nil {
			f.Fatalf("WriteRangeTo after the change = %v", err)
		}
		if buf.String() != data {
			f.Errorf("a reader saw %s, want %s", brief(buf.String()), brief(data))
		}
		if i := r.Info(); i.ETag != ETagOf(data) || i.Attrs["a"] != "before" {
			f.Errorf("Info changed to %+v", i)
		}
		_ = r.Close()
	}
}

// copyRange copies a range of a reader to a key as server-side copies do.
func (f *Fixture) copyRange(r store.Reader, to string, off, n int64, want string) {
	f.Helper()
	w, err := f.Bucket.Create(f.Context(), to, store.CreateHint{Size: n})
	if err != nil {
		f.Fatalf("Create(%q) = %v", to, err)
	}
	defer func() { _ = w.Abort() }()
	if got, err := io.Copy(w, io.NewSectionReader(r, off, n)); err != nil || got != n {
		f.Fatalf("Copy(%d bytes) = %d, %v", n, got, err)
	}
	if _, err := w.Commit(f.Context(), store.CommitOptions{ETag: ETagOf(want)}); err != nil {
		f.Fatalf("Commit = %v", err)
	}
}

func readerCopy(f *Fixture) {
	for _, size := range []int{0, 10, 70_000, 4<<20 + 3} {
		data := pattern(size, size)
		f.Put("src", data)
		r := f.open("src", "")
		f.copyRange(r, "copy", 0, int64(size), data)
		f.copyRange(r, "part", int64(size/3), int64(size/2), data[size/3:size/3+size/2])
		f.Put("src", "changed") // a copy shares nothing that shows
		f.Want("copy", "", data)
		f.Want("part", "", data[size/3:size/3+size/2])
		f.Crash()
		f.Want("copy", "", data)
		f.Want("part", "", data[size/3:size/3+size/2])
		_ = r.Close()
	}
	// Written bytes and copied ones may follow one another.
	data := pattern(9, 1<<20)
	f.Put("src", data)
	r := f.open("src", "")
	defer func() { _ = r.Close() }()
	w, err := f.Bucket.Create(f.Context(), "mix", store.CreateHint{Size: -1})
	if err != nil {
		f.Fatal(err)
	}
	_, err1 := io.WriteString(w, "head")
	_, err2 := io.Copy(w, io.NewSectionReader(r, 5, 1<<20-10))
	_, err3 := io.WriteString(w, "tail")
	if err1 != nil || err2 != nil || err3 != nil {
		f.Fatal(err1, err2, err3)
	}
	want := "head" + data[5:1<<20-5] + "tail"
	if _, err := w.Commit(f.Context(), store.CommitOptions{ETag: ETagOf(want)}); err != nil {
		f.Fatal(err)
	}
	f.Want("mix", "", want)
}
