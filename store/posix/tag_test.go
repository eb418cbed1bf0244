package posix

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"herald/store"
)

// Versions that follow each other within one tick of the filesystem's times
// have tags of their own.
func TestTags_CoarseTimes(t *testing.T) {
	d := newTestStore(t, Options{NoXattr: true, Relaxed: true}).open(t)
	d.granularity = 2e9
	if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	b, err := d.OpenBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for i := range 5 {
		w, err := b.Create(t.Context(), "k", store.CreateHint{Size: -1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, strings.NewReader(strings.Repeat("x", 7))); err != nil {
			t.Fatal(err)
		}
		etag := fmt.Sprint("etag", i)
		out, err := w.Commit(t.Context(), store.CommitOptions{ETag: etag, Versioning: store.Enabled})
		if err != nil {
			t.Fatal(err)
		}
		ids[out.Info.VersionID] = etag
	}
	for id, etag := range ids {
		if info, err := b.Stat(t.Context(), "k", id); err != nil || info.ETag != etag {
			t.Errorf("Stat(%s) = %+v, %v, want %s", id, info, err, etag)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
