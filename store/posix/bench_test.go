package posix

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"herald/journal"
	"herald/store"
)

// The benchmarks of small writes make a fresh directory each and remove
// nothing until the end: ext4 searches past inodes that were freed in the last
// minutes, so figures taken just after a clean-up are worthless.
//
//	go test -run xxx -bench . -benchtime 20000x ./store/posix

const benchSize = 4096

func benchAttrs() store.Attrs {
	return store.Attrs{
		"content-type": "application/octet-stream", "herald-owner": "somebody",
		"x-amz-meta-a": "some metadata of a client", "x-amz-meta-b": "more of it",
	}
}

func benchBucket(b *testing.B, relaxed bool) store.Bucket {
	b.Helper()
	s := newTestStore(b, Options{Relaxed: relaxed})
	s.journal = journal.Options{NoSync: relaxed}
	o := s.open(b)
	b.Cleanup(func() {
		if err := o.Close(); err != nil {
			b.Error(err)
		}
	})
	if err := o.CreateBucket(context.Background(), "bucket"); err != nil {
		b.Fatal(err)
	}
	bucket, err := o.OpenBucket(context.Background(), "bucket")
	if err != nil {
		b.Fatal(err)
	}
	return bucket
}

// BenchmarkPut: 32 writers, 4 KiB each.
func BenchmarkPut(b *testing.B) {
	for _, mode := range []string{"full", "relaxed"} {
		b.Run(mode, func(b *testing.B) { benchPut(b, benchBucket(b, mode == "relaxed"), 32) })
	}
	b.Run("full,1 writer", func(b *testing.B) { benchPut(b, benchBucket(b, false), 1) })
	b.Run("floor", func(b *testing.B) { benchFloor(b, 32) })
	b.Run("floor,1 writer", func(b *testing.B) { benchFloor(b, 1) })
}

// parallel runs f b.N times, in so many goroutines.
func parallel(b *testing.B, writers int, f func(n int64) error) {
	b.Helper()
	b.ReportAllocs()
	b.SetParallelism(max(1, writers/2)) // per core, of which there are two here
	if writers == 1 {
		for n := 0; b.Loop(); n++ {
			if err := f(int64(n)); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	var count atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := f(count.Add(1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
}

func benchPut(b *testing.B, bucket store.Bucket, writers int) {
	data := bytes.Repeat([]byte("x"), benchSize)
	parallel(b, writers, func(n int64) error {
		w, err := bucket.Create(context.Background(), fmt.Sprintf("object-%d", n), store.CreateHint{Size: benchSize})
		if err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
		_, err = w.Commit(context.Background(), store.CommitOptions{ETag: "d41d8cd98f00b204e9800998ecf8427e", Attrs: benchAttrs()})
		return err
	})
}

// benchFloor is the bare program that the bars refer to: create, write, an
// attribute, flush, rename, flush of the directory.
func benchFloor(b *testing.B, writers int) {
	dir := b.TempDir()
	d, err := os.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	data, value := bytes.Repeat([]byte("x"), benchSize), bytes.Repeat([]byte("y"), 300)
	parallel(b, writers, func(n int64) error {
		temp := filepath.Join(dir, fmt.Sprintf("temp-%d", n))
		f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Write(data); err != nil {
			return err
		}
		_ = setXattr(int(f.Fd()), value) // not everywhere
		if err := flushFile(int(f.Fd())); err != nil {
			return err
		}
		if err := os.Rename(temp, filepath.Join(dir, fmt.Sprintf("object-%d", n))); err != nil {
			return err
		}
		return unix.Fsync(int(d.Fd()))
	})
}

// BenchmarkOverwrite: 32 writers replace 1,000 objects of 4 KiB.
func BenchmarkOverwrite(b *testing.B) {
	bucket := benchBucket(b, false)
	data := bytes.Repeat([]byte("x"), benchSize)
	parallel(b, 32, func(n int64) error {
		w, err := bucket.Create(context.Background(), fmt.Sprintf("object-%d", n%1000), store.CreateHint{Size: benchSize})
		if err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
		_, err = w.Commit(context.Background(), store.CommitOptions{ETag: "d41d8cd98f00b204e9800998ecf8427e", Attrs: benchAttrs()})
		return err
	})
}

// BenchmarkGet: one of 1,000 objects of 4 KiB, from the cache.
func BenchmarkGet(b *testing.B) {
	bucket := benchBucket(b, true)
	data := string(bytes.Repeat([]byte("x"), benchSize))
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("dir-%d/object-%d", i%10, i)
		if err := putObject(bucket, keys[i], data, store.CommitOptions{Attrs: benchAttrs()}); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("1", func(b *testing.B) { benchGet(b, bucket, keys, 1) })
	b.Run("32", func(b *testing.B) { benchGet(b, bucket, keys, 32) })
}

func benchGet(b *testing.B, bucket store.Bucket, keys []string, readers int) {
	parallel(b, readers, func(n int64) error {
		r, err := bucket.Open(context.Background(), keys[n%int64(len(keys))], "")
		if err != nil {
			return err
		}
		if n, err := r.WriteRangeTo(io.Discard, 0, r.Info().Size); err != nil || n != benchSize {
			return fmt.Errorf("read %d bytes: %w", n, err)
		}
		return r.Close()
	})
}
