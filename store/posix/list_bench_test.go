package posix

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"herald/store"
)

// BenchmarkList makes pages of 1,000 keys out of a bucket with 1,000,000, from
// the index alone; BenchmarkList_Files does it with the files.
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
