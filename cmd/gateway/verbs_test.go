package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFsck_NoStore: a directory that holds no store of files is refused and
// left as it is, also that of a gateway whose objects are in RADOS.
func TestFsck_NoStore(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	rados := t.TempDir()
	if err := os.MkdirAll(filepath.Join(rados, ".herald", "queue"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, data string }{
		{"missing", gone},
		{"empty", t.TempDir()},
		{"of RADOS", rados},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, err := fsck(context.Background(), []string{"--data", tt.data}, nil, io.Discard, io.Discard)
			if code != 1 || err == nil || !strings.Contains(err.Error(), "holds no store of files") {
				t.Errorf("fsck = %d, %v, want 1 and that there is no store", code, err)
			}
			if _, err := os.Stat(filepath.Join(tt.data, ".herald", "journal")); err == nil {
				t.Error("fsck made a store")
			}
		})
	}
}
