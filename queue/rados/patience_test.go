//go:build rados

package rados

import (
	"testing"
	"time"
)

// TestOften: a reservation is expected soon after two that came soon after each
// other, also when one came late among many.
func TestOften(t *testing.T) {
	now := time.Unix(1000, 0)
	var o often
	for i, step := range []struct {
		after time.Duration
		want  bool
	}{
		{0, false}, {time.Minute, false}, {time.Millisecond, true}, {time.Second, true}, {time.Second, false},
		{patience, false}, {patience - 1, true}, {time.Millisecond, true},
	} {
		now = now.Add(step.after)
		o.note(now)
		if got := o.expect(now.Add(time.Millisecond)); got != step.want {
			t.Errorf("reservation %d: expect = %t, want %t", i, got, step.want)
		}
		if o.expect(now.Add(patience)) {
			t.Errorf("reservation %d: one is expected for ever", i)
		}
	}
}
