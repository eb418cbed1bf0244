//go:build rados

package rados

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	librados "herald/rados"
	"herald/store"
	"herald/store/storetest"
)

// TestChange_MadeAndRefused: the cluster makes a change of a head, and refuses
// it when it comes again. That is no reason to make it twice, nor to take it for
// failed and to remove its bytes.
func TestChange_MadeAndRefused(t *testing.T) {
	for _, answer := range []error{librados.ErrMismatch, syscall.EEXIST, syscall.ENOENT} {
		t.Run(fmt.Sprint(answer), func(t *testing.T) {
			var armed atomic.Bool
			d := newPlace(t).open(t, Options{KeepReplaced: 1, Fault: func(point string) error {
				if point == "head.written" && armed.CompareAndSwap(true, false) {
					return answer
				}
				return nil
			}})
			defer func() { _ = d.Close() }()
			if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
				t.Fatal(err)
			}
			b, err := d.OpenBucket(t.Context(), "bucket")
			if err != nil {
				t.Fatal(err)
			}
			data := strings.Repeat("x", tailSize+1)
			armed.Store(true)
			out, err := storetest.PutObject(t.Context(), b, "key", data,
				store.CommitOptions{Versioning: store.Enabled, Cond: store.Conditions{IfNoneMatch: "*"}, Op: store.NewOpID()})
			if err != nil {
				t.Fatalf("put = %v", err)
			}
			d.quiet(t)
			if got, _, err := storetest.ReadObject(t.Context(), b, "key", out.Info.VersionID); err != nil || got != data {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
			armed.Store(true)
			if _, err := storetest.PutObject(t.Context(), b, "key", data[1:], store.CommitOptions{Versioning: store.Enabled}); err != nil {
				t.Errorf("put over it = %v", err)
			}
			armed.Store(true)
			gone, err := b.Remove(t.Context(), "key", out.Info.VersionID, store.RemoveOptions{Versioning: store.Enabled})
			if err != nil || !gone.Changed {
				t.Errorf("remove the version = %+v, %v", gone, err)
			}
			d.quiet(t)
			page, err := b.List(t.Context(), store.ListOptions{Versions: true, Max: 10})
			if err != nil || len(page.Entries) != 1 {
				t.Errorf("versions: %+v, %v", page, err)
			}
			if got, _, err := storetest.ReadObject(t.Context(), b, "key", ""); err != nil || got != data[1:] {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		})
	}
}

// TestChange_MadeRefusedAndFollowed: the same, and before the change comes again
// others follow, more than a head names.
func TestChange_MadeRefusedAndFollowed(t *testing.T) {
	for _, versioning := range []store.Versioning{store.Enabled, store.Unversioned} {
		t.Run(fmt.Sprint(versioning), func(t *testing.T) {
			p := newPlace(t)
			var meanwhile atomic.Pointer[func() error]
			d := p.open(t, Options{Fault: func(point string) error {
				if f := meanwhile.Load(); f != nil && point == "head.written" && meanwhile.CompareAndSwap(f, nil) {
					return (*f)()
				}
				return nil
			}})
			defer func() { _ = d.Close() }()
			e := p.open(t, Options{})
			defer func() { _ = e.Close() }()
			if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
				t.Fatal(err)
			}
			b, err := d.OpenBucket(t.Context(), "bucket")
			if err != nil {
				t.Fatal(err)
			}
			other, err := e.OpenBucket(t.Context(), "bucket")
			if err != nil {
				t.Fatal(err)
			}
			data := body20(tailSize + 20)
			for _, cond := range []store.Conditions{{IfNoneMatch: "*"}, {}} {
				follow := func() error {
					for range maxRecent + 1 {
						if _, err := storetest.PutObject(t.Context(), other, "key", "others", store.CommitOptions{Versioning: versioning}); err != nil {
							t.Error(err)
						}
					}
					return librados.ErrMismatch
				}
				meanwhile.Store(&follow)
				if _, err := storetest.PutObject(t.Context(), b, "key", data, store.CommitOptions{Versioning: versioning, Cond: cond}); err != nil {
					t.Errorf("put = %v", err)
				}
				wantObject(t, b, "key", "others")
			}
			page, err := b.List(t.Context(), store.ListOptions{Versions: true, Max: 100})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range page.Entries {
				if _, _, err := storetest.ReadObject(t.Context(), b, "key", v.VersionID); err != nil {
					t.Errorf("version of %d bytes: %v", v.Size, err)
				}
			}
			if want := map[store.Versioning]int{store.Enabled: 2 * (maxRecent + 2), store.Unversioned: 1}[versioning]; len(page.Entries) != want {
				t.Errorf("%d versions, want %d", len(page.Entries), want)
			}
		})
	}
}
