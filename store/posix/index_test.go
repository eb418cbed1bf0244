package posix

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herald/store"
)

// awkward fills a bucket with all kinds of keys and versions.
func (tr *tree) awkward() {
	for i, key := range []string{"a", "a/b", "a/b/c", "a/", "x//y", "../up", "k\x00\xff", strings.Repeat("long", 100), "plain"} {
		tr.put(key, strings.Repeat("1", i), store.Unversioned)
		tr.put(key, strings.Repeat("2", i+1), store.Enabled)
		if i%2 == 0 {
			tr.remove(key, "", store.Enabled)
		}
		if i%3 == 0 {
			tr.put(key, strings.Repeat("3", i+2), store.Suspended)
		}
	}
	tr.write("foreign/file", "hello")
}

// TestIndex_RelaxedPowerLoss: a relaxed gateway's index is not trusted when
// the machine went down with it.
func TestIndex_RelaxedPowerLoss(t *testing.T) {
	root := t.TempDir()
	x := newTestIndex(t, root)
	x.d.opts.Relaxed = true
	for _, boot := range []string{bootID(), "another"} {
		if err := x.setMeta(metaOpen, boot); err != nil {
			t.Fatal(err)
		}
		if _, err := x.bucket("known"); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(x.db.Flush(), x.db.Close()); err != nil {
			t.Fatal(err)
		}
		var err error
		if x, err = openIndex(x.d); err != nil {
			t.Fatal(err)
		}
		if kept := len(x.names()) == 1; kept != (boot == bootID()) {
			t.Errorf("after boot %q: index kept = %t", boot, kept)
		}
	}
	if err := x.close(); err != nil {
		t.Error(err)
	}
}

func TestIndex_Deleted(t *testing.T) {
	for _, noXattr := range []bool{false, true} {
		tr := newTree(t, Options{NoXattr: noXattr})
		tr.awkward()
		for _, damage := range []struct {
			name string
			do   func()
		}{
			{"deleted", func() { tr.must(os.RemoveAll(tr.home("index"))) }},
			{"other format", func() { tr.must(os.WriteFile(tr.home("index", "DAMAGED"), nil, 0o600)) }},
			{"manifest overwritten", func() { tr.overwrite("MANIFEST-*") }},
			{"tables overwritten", func() { tr.overwrite("*.sst") }},
		} {
			versions, keys := tr.lines(store.ListOptions{Versions: true}), tr.lines(store.ListOptions{})
			tr.reopen(t, damage.do)
			if damage.name == "tables overwritten" {
				// Found out late, at worst: the next start begins anew.
				_, _ = tr.b.List(t.Context(), store.ListOptions{Max: 10, Versions: true})
				tr.reopen(t, func() {})
			}
			tr.want(damage.name, store.ListOptions{Versions: true}, versions...)
			tr.want(damage.name, store.ListOptions{}, keys...)
		}
	}
}

func (tr *tree) overwrite(pattern string) {
	files, err := filepath.Glob(tr.home("index", pattern))
	tr.must(err)
	for _, f := range files {
		st, err := os.Stat(f)
		tr.must(err)
		tr.must(os.WriteFile(f, []byte(strings.Repeat("x", int(st.Size()))), 0o600))
	}
}
