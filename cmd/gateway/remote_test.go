package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"herald/queue"
)

func TestRefused(t *testing.T) {
	_, errFile := os.Open("/no-such-file")
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{context.DeadlineExceeded, false},
		{fmt.Errorf("dial: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), false},
		{&net.DNSError{IsNotFound: true}, false},
		{fmt.Errorf("%w; the latest try: %w", context.DeadlineExceeded, x509.UnknownAuthorityError{}), false},
		{io.EOF, false},
		{errCopy, false},
		{errFile, true},
		{fmt.Errorf("pool: %w", fs.ErrNotExist), true},
		{errors.New("WRONGPASS"), true},
	} {
		if got := refused(tt.err); got != tt.want {
			t.Errorf("refused(%v) = %v, want %v", tt.err, got, tt.want)
		}
	}
}

// namesOnly is a driver of which only List and Close are called.
type namesOnly struct {
	queue.Driver
	closed atomic.Bool
}

func (d *namesOnly) List(context.Context, string) ([]string, error) { return []string{"q"}, nil }

func (d *namesOnly) Close() error {
	d.closed.Store(true)
	return nil
}

// A server that is away is tried again when it is used, not more than once a
// second, and by one at a time.
func TestRemoteQueues_Late(t *testing.T) {
	var tries atomic.Int64
	var there atomic.Bool
	d := &namesOnly{}
	r := newRemoteQueues("place", slog.New(slog.DiscardHandler), nil, func(context.Context) (queue.Driver, error) {
		tries.Add(1)
		if !there.Load() {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		return d, nil
	})
	if err := r.reach(t.Context()); err != nil {
		t.Fatalf("reach = %v, want nil: it is only away", err)
	}
	for range 100 {
		var away *awayError
		if _, err := r.List(t.Context(), ""); !errors.As(err, &away) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("List = %v, want an awayError, which passes with time", err)
		}
	}
	if n := tries.Load(); n > 5 {
		t.Errorf("%d attempts at once", n)
	}
	there.Store(true)
	for {
		names, err := r.List(t.Context(), "")
		if err == nil && len(names) == 1 {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil || !d.closed.Load() {
		t.Errorf("Close = %v, closed %v", err, d.closed.Load())
	}
	if _, err := r.List(t.Context(), ""); err == nil {
		t.Error("List after Close succeeded")
	}
}
