package posix

import (
	"fmt"
	"sync"
	"testing"
)

// The first writers of a bucket make its areas at the same time: each finds
// what it wrote, though another one made the directory.
func TestAreas_MadeTogether(t *testing.T) {
	d := newTestStore(t, Options{NoXattr: true, Relaxed: true}).open(t)
	for i := range 100 {
		name := fmt.Sprintf("bucket-%d", i)
		if err := d.CreateBucket(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		b, err := d.bucket(name)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for w := range 16 {
			wg.Go(func() {
				key := fmt.Sprintf("k%d", w)
				if err := b.writeSide(key, 1, []byte{attrVersion}, false); err != nil {
					t.Error(err)
				}
				if !b.has[areaMeta].Load() {
					t.Error("a side file was written, and is not looked for")
				}
			})
		}
		wg.Wait()
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
