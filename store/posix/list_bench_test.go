package posix

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"herald/store"
)

// BenchmarkList makes pages of 1,000 keys out of a bucket with 1,000,000, from
// the index alone; BenchmarkList_Files also looks at the files, as List does.
func BenchmarkList(b *testing.B) {
	x := newTestIndex(b, b.TempDir())
	defer x.close()
	const keys = 1_000_000
	fillIndex(b, x, keys)
	ib, err := x.bucket(testBucket)
	if err != nil {
		b.Fatal(err)
	}
	name := func(i int) string { return fmt.Sprintf("dir%03d/key-%07d", i/1000, i) }
	for _, c := range []struct {
		name string
		opts store.ListOptions
	}{
		{"first", store.ListOptions{}},
		{"middle", store.ListOptions{Marker: name(keys / 2)}},
		{"last", store.ListOptions{Marker: name(keys - 1001)}},
		{"prefixes", store.ListOptions{Delimiter: "/"}},
		{"versions", store.ListOptions{Versions: true, Marker: name(keys / 3)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.opts.Max = 1000
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				l, err := x.page(ib, c.opts)
				if err != nil || len(l.page.Entries)+len(l.page.CommonPrefixes) != 1000 {
					b.Fatalf("page = %d entries, %v", len(l.page.Entries), err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
		})
	}
}

func fillIndex(b *testing.B, x *index, keys int) {
	start := time.Now()
	for i := range keys {
		// Out of order, as from many clients.
		n := (i * 7919) % keys
		info := &store.Info{
			Key:       fmt.Sprintf("dir%03d/key-%07d", n/1000, n),
			VersionID: store.NullVersion, Seq: uint64(start.UnixNano() + int64(i)), Size: 4096,
			ETag: fmt.Sprintf("%032x", i), ModTime: start.Add(time.Duration(i)),
			Attrs: store.Attrs{store.AttrOwner: "somebody"},
		}
		var batch indexBatch
		batch.setCurrent(testBucket, info.Key, info, areaNatural)
		if err := x.apply(&batch); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("%d puts into the index: %v each", keys, time.Since(start)/time.Duration(keys))
	if err := x.flush(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkList_Files(b *testing.B) {
	tr := newTree(b, Options{Relaxed: true})
	const dirs, files = 200, 250
	for i := range dirs {
		dir := tr.path(fmt.Sprintf("dir%03d", i))
		tr.must(os.Mkdir(dir, 0o755))
		for j := range files {
			tr.must(os.WriteFile(fmt.Sprintf("%s/key-%04d", dir, j), []byte("data"), 0o644))
		}
	}
	start := time.Now()
	if _, err := tr.b.List(b.Context(), store.ListOptions{Max: 1}); err != nil {
		b.Fatal(err)
	}
	b.Logf("first listing of %d files made by others: %v", dirs*files, time.Since(start))
	for _, c := range []struct {
		name string
		opts store.ListOptions
		want int
	}{
		{"first", store.ListOptions{Max: 1000}, 1000},
		{"last", store.ListOptions{Max: 1000, Marker: fmt.Sprintf("dir%03d/", dirs-4)}, 1000},
		{"prefixes", store.ListOptions{Max: 1000, Delimiter: "/"}, dirs},
	} {
		b.Run(c.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				p, err := tr.b.List(b.Context(), c.opts)
				if err != nil || len(p.Entries)+len(p.CommonPrefixes) != c.want {
					b.Fatalf("List = %d entries, %v", len(p.Entries), err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
		})
	}
}
