package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoStore: a directory that holds no store of files is refused and left as
// it is, also that of a gateway whose objects are in RADOS.
func TestNoStore(t *testing.T) {
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
			if code != fsckFailed || err == nil || !strings.Contains(err.Error(), "holds no store of files") {
				t.Errorf("fsck = %d, %v, want %d and that there is no store", code, err, fsckFailed)
			}
			code, err = adminVerb(context.Background(), []string{"--data", tt.data, "user", "list"}, nil, io.Discard, io.Discard)
			if code != 1 || err == nil {
				t.Errorf("admin = %d, %v, want 1 and an error", code, err)
			}
			for _, made := range []string{"journal", "keys"} {
				if _, err := os.Stat(filepath.Join(tt.data, ".herald", made)); err == nil {
					t.Errorf("%s was made", made)
				}
			}
		})
	}
}
