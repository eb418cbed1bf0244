package main

import (
	"os"

	"golang.org/x/sys/unix"
)

func datasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

func setAttribute(f *os.File, value []byte) error {
	return unix.Fsetxattr(int(f.Fd()), "user.bench", value, 0)
}

// flushAll flushes every filesystem.
func flushAll() { unix.Sync() }
