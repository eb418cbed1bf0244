//go:build rados

package rados

import (
	"errors"
	"testing"

	"herald/store"
)

// TestRecords_MadeAndRefused: the cluster writes a record, and refuses that when
// it comes again.
func TestRecords_MadeAndRefused(t *testing.T) {
	a, b, _, _ := twoGateways(t)
	op := putRecord("r", []byte("value"), 0, 7)
	for range 2 {
		if err := a.records.change(t.Context(), "r", op, 0, 7); err != nil {
			t.Errorf("change = %v", err)
		}
	}
	if _, err := b.records.Put(t.Context(), "r", []byte("other"), 0); !errors.Is(err, store.ErrRecordConflict) {
		t.Errorf("Put of what is there = %v", err)
	}
	if value, version, err := b.records.Get(t.Context(), "r"); err != nil || string(value) != "value" || version != 7 {
		t.Errorf("Get = %q, %d, %v", value, version, err)
	}
}
