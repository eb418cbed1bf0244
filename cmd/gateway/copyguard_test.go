package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"herald/queue"
)

// A server that does not answer says nothing about copies: what was known of
// them stays.
func TestCopyGuard_Note(t *testing.T) {
	g := &copyGuard{log: slog.New(slog.DiscardHandler)}
	for _, tt := range []struct {
		name string
		err  error
		want error
	}{
		{"away from the start", context.DeadlineExceeded, nil},
		{"a copy is served", errCopy, errCopy},
		{"away", context.DeadlineExceeded, errCopy},
		{"away when the lock was lost", errors.Join(queue.ErrLeaseLost, context.DeadlineExceeded), errCopy},
		{"ours again", nil, nil},
		{"away, and ours", context.DeadlineExceeded, nil},
	} {
		g.note(tt.err)
		if got := g.check(); !errors.Is(got, tt.want) {
			t.Errorf("%s: check() = %v, want %v", tt.name, got, tt.want)
		}
	}
}
