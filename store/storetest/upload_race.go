package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"herald/store"
)

// uploadConcurrent: parts of one upload come at the same time, some of them
// twice.
func uploadConcurrent(f *Fixture) {
	u := f.begin("k")
	var wg sync.WaitGroup
	const n = 40
	for i := range n {
		data := pattern(i, 128<<10)
		if i == n-1 {
			data = pattern(i, 1234)
		}
		u.parts[i+1] = data
		for range 1 + i%2 {
			wg.Go(func() {
				if err := u.tryPart(f.Context(), i+1, data); err != nil {
					f.Errorf("part %d = %v", i+1, err)
				}
			})
		}
	}
	wg.Wait()
	u.check()
	u.finish()
}

// uploadCompleteRace: of two that complete, one wins.
func uploadCompleteRace(f *Fixture) {
	for i := range 10 {
		u := f.begin(fmt.Sprint("race/", i))
		for n := 1; n <= 3; n++ {
			u.part(n, pattern(i*10+n, 70_000))
		}
		parts, data := u.completed()
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				_, err := u.complete(parts, data)
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, store.ErrNoSuchUpload):
					f.Errorf("Complete = %v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			f.Fatalf("%d of 4 completed the same upload", won.Load())
		}
		f.Want(u.key, "", data)
		u.gone()
	}
}

// uploadReplaceRace: a part is replaced all the time while the upload is
// completed with the ETags that were listed.
func uploadReplaceRace(f *Fixture) {
	for i := range 15 {
		u := f.begin("k")
		for n := 1; n <= 3; n++ {
			u.part(n, pattern(n, 90_000))
		}
		contents := []string{pattern(11, 90_000), pattern(12, 90_000), pattern(13, 40_000)}
		var wg sync.WaitGroup
		for w := range 2 {
			wg.Go(func() {
				for j := 0; ; j++ {
					err := u.tryPart(f.Context(), 2, contents[(w+j)%len(contents)])
					if errors.Is(err, store.ErrNoSuchUpload) {
						return
					}
					if err != nil {
						f.Errorf("part = %v", err)
						return
					}
				}
			})
		}
		f.completeAsListed(u, contents)
		wg.Wait()
		if i%5 == 0 {
			f.Crash()
		}
	}
}

func (f *Fixture) completeAsListed(u *upload, contents []string) {
	f.Helper()
	for {
		_, parts, _, err := f.ups().ListParts(f.Context(), u.key, u.id, 0, 10)
		if err != nil {
			f.Fatalf("ListParts = %v", err)
		}
		for _, c := range contents {
			if ETagOf(c) == parts[1].ETag {
				u.parts[2] = c
			}
		}
		named, data := u.completed()
		_, err = u.complete(named, data)
		if errors.Is(err, store.ErrInvalidPart) {
			continue
		}
		if err != nil {
			f.Fatalf("Complete = %v", err)
		}
		f.Want(u.key, "", data)
		return
	}
}

func uploadAbortRace(f *Fixture) {
	for i := range 10 {
		u := f.begin("k")
		var wg sync.WaitGroup
		started := make(chan struct{}, 8)
		for w := range 4 {
			wg.Go(func() {
				for n := 1; ; n++ {
					if n == 2 {
						started <- struct{}{}
					}
					err := u.tryPart(f.Context(), 4*n+w, pattern(n, 30_000))
					if errors.Is(err, store.ErrNoSuchUpload) {
						return
					}
					if err != nil {
						f.Errorf("part = %v", err)
						started <- struct{}{}
						return
					}
				}
			})
		}
		<-started
		if err := f.ups().AbortUpload(f.Context(), "k", u.id); err != nil {
			f.Fatalf("%d: AbortUpload = %v", i, err)
		}
		wg.Wait()
		u.gone()
	}
	f.Crash()
	if p := f.listUploads(store.UploadListOptions{Max: 10}); len(p.Uploads) != 0 {
		f.Errorf("uploads = %+v, want none", p.Uploads)
	}
	f.deleteBucket()
}
