package posix

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"herald/store"
	"herald/store/storetest"
)

// A listing tells what a read told before the listing began, though whoever
// made that change has not come to the index yet.
func TestList_AfterRead(t *testing.T) {
	type stop struct{ reached, resume chan struct{} }
	var next atomic.Pointer[stop]
	_, _, b := openTestBucket(t, Options{Fault: func(point string) {
		if point == "posix.apply.placed" || point == "posix.remove.promoted" {
			if s := next.Swap(nil); s != nil {
				close(s.reached)
				<-s.resume
			}
		}
	}})
	ctx := context.Background()
	put := func(key, data string) {
		if _, err := storetest.PutObject(ctx, b, key, data, store.CommitOptions{Versioning: store.Enabled}); err != nil {
			t.Error(err)
		}
	}
	size := func(key string) int64 {
		page, err := b.List(ctx, store.ListOptions{Prefix: key, Max: 10})
		if err != nil || len(page.Entries) == 0 {
			return -1
		}
		return page.Entries[0].Size
	}
	remove := func() {
		_, info, err := storetest.ReadObject(ctx, b, "key", "")
		if err == nil {
			_, err = b.Remove(ctx, "key", info.VersionID, store.RemoveOptions{Versioning: store.Enabled})
		}
		if err != nil {
			t.Error(err)
		}
	}
	for _, change := range []struct {
		key  string
		do   func()
		want int64
	}{
		{"key", func() { put("key", "old") }, 3},
		{"key", func() { put("key", "longer") }, 6},
		{"key", remove, 3},
		{"new", func() { put("new", "1") }, 1},
	} {
		before := size(change.key)
		s := &stop{make(chan struct{}), make(chan struct{})}
		next.Store(s)
		done, listed := make(chan struct{}), make(chan int64, 1)
		go func() { defer close(done); change.do() }()
		<-s.reached
		if data, _, err := storetest.ReadObject(ctx, b, change.key, ""); err != nil || int64(len(data)) != change.want {
			t.Errorf("read %d bytes, %v, want %d", len(data), err, change.want)
		}
		go func() { listed <- size(change.key) }()
		time.Sleep(20 * time.Millisecond) // a listing that does not wait is over
		close(s.resume)
		if n := <-listed; n != change.want {
			t.Errorf("%s: listed with %d bytes as before (%d), want %d as was read", change.key, n, before, change.want)
		}
		<-done
	}
}
