package main

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"
)

// logBuffer gathers the log's lines and writes many of them at once: a write
// per request costs as much as verifying its signature. Lines of warnings and
// errors are written at once, with what came before them. kill -9 loses the
// lines of at most logDelay.
type logBuffer struct {
	w io.Writer

	mu  sync.Mutex // guards buf and w
	buf []byte
}

const (
	logDelay = 100 * time.Millisecond
	logBytes = 32 << 10
)

// Write implements io.Writer; slog calls it once per line.
func (b *logBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, line...)
	if len(b.buf) < logBytes && !urgent(line) {
		return len(line), nil
	}
	return len(line), b.flushLocked()
}

// urgent tells lines of warnings and errors, in text and in JSON.
func urgent(line []byte) bool {
	head := line[:min(len(line), 100)] // time and level come first
	return !bytes.Contains(head, []byte("level=INFO")) && !bytes.Contains(head, []byte(`"level":"INFO"`))
}

// Flush writes what was gathered.
func (b *logBuffer) Flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flushLocked()
}

func (b *logBuffer) flushLocked() error {
	if len(b.buf) == 0 {
		return nil
	}
	_, err := b.w.Write(b.buf)
	b.buf = b.buf[:0]
	return err
}

// Run flushes now and then until ctx is done.
func (b *logBuffer) Run(ctx context.Context) error {
	tick := time.NewTicker(logDelay)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return b.Flush()
		case <-tick.C:
			_ = b.Flush() // a log that cannot be written has nowhere to say so
		}
	}
}
