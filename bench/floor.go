package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// floor is the bare program that bars refer to: for each object it writes a
// file, flushes it, renames it, and flushes the directory.
func floor(dir string, writers int, duration time.Duration, body []byte) (result, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return result{}, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return result{}, err
	}
	defer d.Close()
	return load(writers, 0, duration, 0, func() *client { return nil }, func(_ *client, n int) (int64, error) {
		name := filepath.Join(dir, fmt.Sprintf("object-%08d", n))
		f, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return 0, err
		}
		if _, err := f.Write(body); err != nil {
			return 0, err
		}
		if err := setAttribute(f, make([]byte, 300)); err != nil {
			return 0, err
		}
		if err := datasync(f); err != nil {
			return 0, err
		}
		if err := f.Close(); err != nil {
			return 0, err
		}
		if err := os.Rename(name+".tmp", name); err != nil {
			return 0, err
		}
		return int64(len(body)), d.Sync()
	})
}
