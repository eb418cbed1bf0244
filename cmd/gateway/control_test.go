package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// Whoever reaches the control socket may do everything, so nobody else may
// even in the moment before it has its mode.
func TestListenControl_Private(t *testing.T) {
	c := defaultConfig()
	c.Data = t.TempDir()
	g, err := open(c, slog.New(slog.DiscardHandler), false)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	l, err := listenControl(c.Data)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, want := range map[string]os.FileMode{".herald": 0o700, ".herald/" + controlSocket: 0o600} {
		info, err := os.Stat(filepath.Join(c.Data, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("mode of %s = %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
}
