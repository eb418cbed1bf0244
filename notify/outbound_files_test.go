package notify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOutbound_Files: who is no administrator may name files of one directory,
// to which no name and no link leads from outside.
func TestOutbound_Files(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write := func(name string) string {
		if err := os.WriteFile(name, []byte("content of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	good, secret := write(filepath.Join(dir, "ca.pem")), write(filepath.Join(outside, "secret"))
	link := func(target, name string) string {
		name = filepath.Join(dir, name)
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
		return name
	}
	inside, escape, escapeDir := link("ca.pem", "inside"), link(secret, "escape"), link(outside, "dir")

	opt := quick()
	opt.Outbound = outbound(t)
	opt.Outbound.Files = dir
	r := newRig(t, opt)
	r.s.cfg.Trusted = func(_ context.Context, uid string) bool { return uid == "root" }
	for _, tt := range []struct {
		name       string
		named, had bool // by a user: in a topic; and then read
	}{
		{good, true, true}, {inside, true, true}, {filepath.Join(dir, ".", "x", "..", "ca.pem"), true, true},
		{filepath.Join(dir, "none"), true, false}, {escape, true, false}, {filepath.Join(escapeDir, "secret"), true, false},
		{secret, false, false}, {filepath.Join(outside, "none"), false, false}, {dir, false, false}, {"ca.pem", false, false},
		{dir + "/../" + filepath.Base(outside) + "/secret", false, false}, {"/dev/zero", false, false}, {dir + "x", false, false},
	} {
		for _, arg := range fileArgs {
			topic := r.topic("t", "", arg, tt.name)
			topic.SetNamedBy("bob")
			if err := r.s.CheckEndpoint(r.ctx, topic); (err == nil) != tt.named || !tt.named && (!errors.Is(err, ErrFileDenied) || !strings.Contains(err.Error(), arg)) {
				t.Errorf("bob names %s as %s: %v", tt.name, arg, err)
			}
			e := r.s.endpoint(topic)
			if data, err := e.readSmallFile(tt.name); (err == nil) != tt.had || tt.had && !strings.HasPrefix(string(data), "content of ") {
				t.Errorf("bob reads %s: %q, %v", tt.name, data, err)
			}
		}
	}
	topic := r.topic("t", "", "ca-location", secret)
	topic.SetNamedBy("root")
	e := r.s.endpoint(topic)
	if err := r.s.CheckEndpoint(r.ctx, topic); err != nil {
		t.Errorf("root names any file: %v", err)
	}
	if _, err := e.readSmallFile(secret); err != nil {
		t.Errorf("root reads any file: %v", err)
	}
	if _, err := e.readSmallFile("/dev/zero"); err == nil {
		t.Error("a device was read")
	}
	none := &Outbound{}
	if err := none.checkFiles(r.topic("t", "", "ca-location", "/")); !errors.Is(err, ErrFileDenied) {
		t.Errorf("without a directory: %v", err)
	}
}
