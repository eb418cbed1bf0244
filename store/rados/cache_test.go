//go:build rados

package rados

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"herald/store"
)

// lately makes a change by one gateway, and wants another to know of it: at once,
// unless the telling may have taken too long; then the other asks again by itself.
func lately(t *testing.T, what string, change func() error, known func() error) {
	t.Helper()
	began := time.Now()
	if err := change(); err != nil {
		t.Fatal(err)
	}
	inTime := time.Since(began) < tellTimeout
	err := known()
	for end := time.Now().Add(busyTime); err != nil && !inTime && time.Now().Before(end); err = known() {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Errorf("after another gateway %s: %v (told in time: %t)", what, err, inTime)
	}
}

// What one gateway made another one has at once, also one that just looked in
// vain, and a change that was refused shows what was there.
func TestCache_OtherGateway(t *testing.T) {
	ctx := t.Context()
	a, b, _, _ := twoGateways(t)
	for _, c := range []*omapCache{b.roots, b.records.cache} { // forgets when it begins to be told
		eventually(t, func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.forgot > 0
		})
	}
	bucket := func(name string, want error) func() error {
		return func() error {
			if _, err := b.OpenBucket(ctx, name); !errors.Is(err, want) {
				return fmt.Errorf("OpenBucket = %w, want %w", err, want)
			}
			return nil
		}
	}
	for range 20 {
		name := "bucket" + newID()
		if err := bucket(name, store.ErrNoSuchBucket)(); err != nil {
			t.Fatal(err)
		}
		lately(t, "made it", func() error { return a.CreateBucket(ctx, name) }, bucket(name, nil))
		lately(t, "deleted it", func() error { return a.DeleteBucket(ctx, name) }, bucket(name, store.ErrNoSuchBucket))

		record, version := "user/"+newID(), uint64(0)
		want := func(value string) func() error {
			return func() error {
				if v, n, err := b.Records().Get(ctx, record); err != nil || n != version || string(v) != value {
					return fmt.Errorf("Get = %q, %d, %w, want %q, %d", v, n, err, value, version)
				}
				return nil
			}
		}
		put := func(value string) func() error {
			return func() (err error) {
				version, err = a.Records().Put(ctx, record, []byte(value), version)
				return err
			}
		}
		if _, _, err := b.Records().Get(ctx, record); !errors.Is(err, store.ErrNoSuchRecord) {
			t.Fatalf("Get of none = %v", err)
		}
		lately(t, "made it", put("1"), want("1"))
		made := version
		lately(t, "changed it", put("2"), want("2")) // b had kept the old one, and was told
		if _, err := b.Records().Put(ctx, record, []byte("3"), made); !errors.Is(err, store.ErrRecordConflict) {
			t.Fatalf("Put over another gateway's = %v", err)
		}
		if err := want("2")(); err != nil {
			t.Errorf("after a conflict: %v", err)
		}
	}
}
