package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"herald/journal"
	"herald/store"
	"herald/store/posix"
)

// compressing is a driver that knows how new objects are to be kept, and keeps
// what it was told last.
type compressing struct {
	store.Driver
	last string
}

func (d *compressing) Compressions() []string { return []string{"zstd"} }

func (d *compressing) OpenBucket(ctx context.Context, name string) (store.Bucket, error) {
	b, err := d.Driver.OpenBucket(ctx, name)
	return hinted{b, d}, err
}

type hinted struct {
	store.Bucket
	d *compressing
}

func (b hinted) Create(ctx context.Context, key string, hint store.CreateHint) (store.Writer, error) {
	b.d.last = hint.Compression
	return b.Bucket.Create(ctx, key, hint)
}

// newDriver opens a directory.
func newDriver(t *testing.T) store.Driver {
	t.Helper()
	return onJournal(t, 2<<20, func(dir string, j *journal.Journal) (store.Driver, error) {
		return posix.Open(filepath.Join(dir, "tree"), j, posix.Options{Relaxed: true})
	})
}

// onJournal opens what shares a journal, in a fresh directory, and runs it until
// the test ends.
func onJournal[D io.Closer](t *testing.T, segment int64, open func(dir string, j *journal.Journal) (D, error)) D {
	t.Helper()
	dir := t.TempDir()
	j, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{SegmentBytes: segment, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	d, err := open(dir, j)
	if err == nil {
		err = j.Recover()
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- j.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ran, j.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestBucketCompression(t *testing.T) {
	plain := newDriver(t)
	d := &compressing{Driver: plain}
	s := store.NewService(d)
	if err := s.CreateBucket(t.Context(), store.BucketInfo{Name: "photos", Tenant: "acme"}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, args string
		driver     store.Driver
		code       int
		want       string // in the output
		hint       string // that the driver gets afterwards
	}{
		{"at first", "--bucket photos --tenant acme", d, 0, `"none"`, ""},
		{"set", "--bucket photos --tenant acme --set zstd", d, 0, `"zstd"`, "zstd"},
		{"shown", "--bucket photos --uid acme$u", d, 0, `"zstd"`, "zstd"},
		{"unknown", "--bucket photos --tenant acme --set lzma", d, exitInvalid, "none or zstd", "zstd"},
		{"plain files", "--bucket photos --tenant acme --set zstd", plain, exitUnsupported, "plain files", "zstd"},
		{"no bucket", "--set zstd", d, exitInvalid, "--bucket", "zstd"},
		{"another", "--bucket others --set zstd", d, exitNoEntry, "ERROR", "zstd"},
		{"none", "--bucket photos --tenant acme --set none", plain, 0, `"none"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			a := New(Config{Store: store.NewService(tt.driver)})
			args := append([]string{"bucket", "compression"}, strings.Fields(tt.args)...)
			if code := a.Run(t.Context(), args, &out, &out); code != tt.code || !strings.Contains(out.String(), tt.want) {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, &out)
			}
			b, err := s.OpenBucket(t.Context(), "acme", "photos")
			if err != nil {
				t.Fatal(err)
			}
			w, err := b.Create(t.Context(), "k", store.CreateHint{})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Abort(); err != nil || d.last != tt.hint {
				t.Errorf("the driver was told %q, want %q (%v)", d.last, tt.hint, err)
			}
		})
	}
}
