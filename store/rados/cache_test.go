//go:build rados

package rados

import (
	"errors"
	"testing"

	"herald/store"
)

// What one gateway made another one has at once, also one that just looked in
// vain, and a change that was refused shows what was there.
func TestCache_OtherGateway(t *testing.T) {
	ctx := t.Context()
	a, b, _, _ := twoGateways(t)
	for range 20 {
		name := "bucket" + newID()
		if _, err := b.OpenBucket(ctx, name); !errors.Is(err, store.ErrNoSuchBucket) {
			t.Fatalf("OpenBucket of none = %v", err)
		}
		if err := a.CreateBucket(ctx, name); err != nil {
			t.Fatal(err)
		}
		if _, err := b.OpenBucket(ctx, name); err != nil {
			t.Errorf("OpenBucket after another gateway made it = %v", err)
		}
		if err := a.DeleteBucket(ctx, name); err != nil {
			t.Fatal(err)
		}
		if _, err := b.OpenBucket(ctx, name); !errors.Is(err, store.ErrNoSuchBucket) {
			t.Errorf("OpenBucket after another gateway deleted it = %v", err)
		}

		record := "user/" + newID()
		if _, _, err := b.Records().Get(ctx, record); !errors.Is(err, store.ErrNoSuchRecord) {
			t.Fatalf("Get of none = %v", err)
		}
		made, err := a.Records().Put(ctx, record, []byte("1"), 0)
		if err != nil {
			t.Fatal(err)
		}
		if v, version, err := b.Records().Get(ctx, record); err != nil || version != made || string(v) != "1" {
			t.Errorf("Get after another gateway's Put = %q, %d, %v", v, version, err)
		}
		changed, err := a.Records().Put(ctx, record, []byte("2"), made)
		if err != nil {
			t.Fatal(err)
		}
		// b had kept the old one, and was told.
		if v, version, err := b.Records().Get(ctx, record); err != nil || version != changed || string(v) != "2" {
			t.Errorf("Get after another gateway's change = %q, %d, %v", v, version, err)
		}
		if _, err := b.Records().Put(ctx, record, []byte("3"), made); !errors.Is(err, store.ErrRecordConflict) {
			t.Fatalf("Put over another gateway's = %v", err)
		}
		if v, version, err := b.Records().Get(ctx, record); err != nil || version != changed || string(v) != "2" {
			t.Errorf("Get after a conflict = %q, %d, %v", v, version, err)
		}
	}
}
