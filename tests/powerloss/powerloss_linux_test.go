package powerloss

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCut(t *testing.T) {
	fs := Mount(t, 32)
	for name, flush := range map[string]bool{"flushed": true, "unflushed": false} {
		f, err := os.Create(filepath.Join(fs.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(name); err != nil {
			t.Fatal(err)
		}
		if flush {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fs.Cut(t)
	if _, err := os.Create(filepath.Join(fs.Dir, "late")); err == nil {
		t.Error("a file was made without power")
	}
	fs.Restore(t)
	if b, err := os.ReadFile(filepath.Join(fs.Dir, "flushed")); err != nil || string(b) != "flushed" {
		t.Errorf("the flushed file holds %q, %v", b, err)
	}
	if b, _ := os.ReadFile(filepath.Join(fs.Dir, "unflushed")); len(b) != 0 {
		t.Errorf("the unflushed file holds %q", b)
	}
}
