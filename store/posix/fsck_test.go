package posix

import (
	"crypto/md5"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sys/unix"

	"herald/store"
)

func md5Hex(data string) string {
	sum := md5.Sum([]byte(data))
	return hex.EncodeToString(sum[:])
}

func (tr *tree) fsck(o store.FsckOptions) (store.FsckStats, []store.Finding) {
	tr.t.Helper()
	var all []store.Finding
	o.Report = func(f store.Finding) { all = append(all, f) }
	stats, err := tr.o.Fsck(tr.t.Context(), o)
	if err != nil {
		tr.t.Fatalf("Fsck(%+v) = %v", o, err)
	}
	return stats, all
}

func TestFsck_Clean(t *testing.T) {
	for _, noXattr := range []bool{false, true} {
		tr := newTree(t, Options{NoXattr: noXattr})
		tr.awkward()
		tr.lines(store.ListOptions{})
		stats, all := tr.fsck(store.FsckOptions{Deep: true})
		if len(all) != 0 {
			t.Errorf("findings in what is well: %+v", all)
		}
		if stats.Buckets != 1 || stats.Foreign != 1 || stats.Objects < 5 || stats.Versions < 9 {
			t.Errorf("stats = %+v", stats)
		}
	}
}

// TestFsck_InterruptedDeleteBucket: the directory of a bucket is gone, and the
// process ended before the index was told.
func TestFsck_InterruptedDeleteBucket(t *testing.T) {
	tr := newTree(t, Options{})
	tr.must(tr.o.CreateBucket(t.Context(), "leaving"))
	tr.reopen(t, func() { tr.must(os.Remove(filepath.Join(tr.s.root(), "leaving"))) })
	if _, all := tr.fsck(store.FsckOptions{}); len(all) != 0 {
		t.Errorf("findings: %+v", all)
	}
}

// TestFsck_MovedAside: a file was moved aside for another, and the process was
// killed before that was journaled or the index written.
func TestFsck_MovedAside(t *testing.T) {
	v := newVictim(t, Options{})
	if err := v.start(0); err != nil {
		t.Fatal(err)
	}
	if err := v.d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	b, err := v.d.OpenBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, b, "a", "moves")
	if err := v.j.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	v.at = "posix.commit.prepared"
	if ended, err := v.guarded(func() error { return putObject(b, "a/b", "below", store.CommitOptions{}) }); ended {
		t.Fatalf("not killed: %v", err)
	}
	v.bury(t)
	if ended, err := v.reopen(0); !ended || err != nil {
		t.Fatal(ended, err)
	}
	wantFile(t, v.testStore, ".herald/keys/bucket/a", "moves")
	if _, err := v.d.Fsck(t.Context(), store.FsckOptions{Report: func(f store.Finding) { t.Errorf("fsck: %+v", f) }}); err != nil {
		t.Error(err)
	}
	if got := readBucket(t, v.d, "bucket"); len(got) != 1 {
		t.Errorf("keys %v, want one", got)
	}
}

// TestFsck_Damage plants each kind of damage. Fsck has to find it, to leave it
// alone, to repair it, and then to find nothing.
func TestFsck_Damage(t *testing.T) {
	big := store.Attrs{"x-amz-meta-big": strings.Repeat("b", 6000)}
	for _, c := range []struct {
		kind   store.FindingKind
		key    string
		repair bool // it can be repaired
		damage func(tr *tree, ib *indexBucket, x *index)
	}{
		{FindingIndexMissing, "k", true, func(tr *tree, ib *indexBucket, x *index) {
			tr.must(x.db.Delete(bucketKey(spaceCurrent, ib.id, "k"), pebble.NoSync))
		}},
		{FindingIndexMissing, "v", true, func(tr *tree, ib *indexBucket, x *index) {
			lower, upper := versionsOfKey(ib.id, "v")
			tr.must(x.db.DeleteRange(lower, upper, pebble.NoSync))
		}},
		{FindingIndexStale, "k", true, func(tr *tree, ib *indexBucket, x *index) {
			e := encodeEntry(&store.Info{Seq: 1, Size: 77}, areaNatural)
			tr.must(x.db.Set(bucketKey(spaceCurrent, ib.id, "k"), e, pebble.NoSync))
		}},
		{FindingIndexExtra, "ghost", true, func(tr *tree, ib *indexBucket, x *index) {
			e := encodeEntry(&store.Info{Seq: 1, Size: 77}, areaNatural)
			tr.must(x.db.Set(bucketKey(spaceCurrent, ib.id, "ghost"), e, pebble.NoSync))
		}},
		{FindingIndexExtra, "ghost", true, func(tr *tree, ib *indexBucket, x *index) {
			var b indexBatch
			b.putVersion(testBucket, &store.Info{Key: "ghost", VersionID: store.NullVersion, Seq: 9, DeleteMarker: true})
			tr.must(x.apply(&b))
		}},
		{FindingIndexCorrupt, "ghost", true, func(tr *tree, ib *indexBucket, x *index) {
			tr.must(x.db.Set(bucketKey(spaceCurrent, ib.id, "ghost"), []byte{1, 2}, pebble.NoSync))
		}},
		{FindingIndexCorrupt, "ghost", true, func(tr *tree, ib *indexBucket, x *index) {
			tr.must(x.db.Set(versionKey(ib.id, "ghost", 5), []byte{1, 2}, pebble.NoSync))
		}},
		{FindingIndexExtra, "", true, func(tr *tree, ib *indexBucket, x *index) {
			_, err := x.bucket("no-such-bucket")
			tr.must(err)
		}},
		{FindingAttrCorrupt, "k", false, func(tr *tree, ib *indexBucket, x *index) {
			tr.must(unix.Setxattr(tr.path("k"), attrName, []byte{9, 9, 9}, 0))
			_, err := x.scanner.recheck(tr.b, ib, "k")
			tr.must(err)
		}},
		{FindingAttrLost, "big", false, func(tr *tree, ib *indexBucket, x *index) {
			tr.must(os.RemoveAll(tr.home("meta", testBucket, "big")))
			_, err := x.scanner.recheck(tr.b, ib, "big")
			tr.must(err)
		}},
		{FindingETag, "k", false, func(tr *tree, _ *indexBucket, _ *index) {
			st, err := os.Stat(tr.path("k"))
			tr.must(err)
			tr.must(os.WriteFile(tr.path("k"), []byte("rotten"), 0o644))
			tr.must(os.Chtimes(tr.path("k"), time.Time{}, st.ModTime()))
		}},
		{FindingShadowed, "plain", true, func(tr *tree, _ *indexBucket, _ *index) {
			tr.must(os.MkdirAll(tr.home("keys", testBucket), 0o700))
			tr.must(os.WriteFile(tr.home("keys", testBucket, "plain"), []byte("x"), 0o600))
			tr.b.has[areaKeys].Store(true)
			tr.write("plain", "x")
			tr.lines(store.ListOptions{})
			tr.o.index.noteFound(tr.b, "plain", &store.Info{})
		}},
		{FindingVersionTwice, "v", true, func(tr *tree, ib *indexBucket, x *index) {
			info, err := tr.b.Stat(tr.t.Context(), "v", "")
			tr.must(err)
			tr.must(os.Link(tr.path("v"), tr.home("versions", testBucket, "v", info.VersionID)))
			_, err = x.scanner.compareVersions(tr.b, ib, "v", true)
			tr.must(err)
		}},
		{FindingNoCurrent, "v", false, func(tr *tree, _ *indexBucket, _ *index) {
			tr.must(os.Remove(tr.path("v")))
			tr.lines(store.ListOptions{})
		}},
		{FindingSideOrphan, "k", true, func(tr *tree, _ *indexBucket, _ *index) {
			tr.must(os.MkdirAll(tr.home("meta", testBucket, "k"), 0o700))
			tr.must(os.WriteFile(tr.home("meta", testBucket, "k", "123abc"), []byte("x"), 0o600))
		}},
		{FindingStray, "", true, func(tr *tree, _ *indexBucket, _ *index) {
			tr.must(os.MkdirAll(tr.home("keys", testBucket), 0o700))
			tr.must(os.WriteFile(tr.home("keys", testBucket, "%zz"), []byte("x"), 0o600))
		}},
		{FindingStray, "", true, func(tr *tree, _ *indexBucket, _ *index) {
			tr.must(os.WriteFile(tr.home("versions", testBucket, "v", "readme.txt"), []byte("x"), 0o600))
		}},
		{FindingBucketOrphan, "", true, func(tr *tree, _ *indexBucket, _ *index) {
			tr.must(os.MkdirAll(tr.home("versions", "long-gone", "k"), 0o700))
			tr.must(os.WriteFile(tr.home("versions", "long-gone", "k", "null"), []byte("x"), 0o600))
		}},
		{FindingStaging, "", true, func(tr *tree, _ *indexBucket, _ *index) {
			old := time.Now().Add(-2 * stagingAge)
			tr.must(os.WriteFile(tr.home("staging", "old"), []byte("x"), 0o600))
			tr.must(os.Chtimes(tr.home("staging", "old"), old, old))
			tr.must(os.WriteFile(tr.home("staging", "new"), []byte("x"), 0o600))
		}},
	} {
		t.Run(string(c.kind)+" "+c.key, func(t *testing.T) {
			tr := newTree(t, Options{})
			tr.put("k", "object", store.Unversioned)
			tr.put("v", "first", store.Enabled)
			tr.put("v", "second", store.Enabled)
			if _, err := storeObject(tr.b, "big", "data", store.Unversioned, big); err != nil {
				t.Fatal(err)
			}
			tr.lines(store.ListOptions{})
			tr.o.index.dirs.interval = time.Hour
			ib, err := tr.o.index.bucket(testBucket)
			tr.must(err)
			c.damage(tr, ib, tr.o.index)
			for _, repair := range []bool{false, false, true} {
				stats, all := tr.fsck(store.FsckOptions{Repair: repair, Deep: true})
				if len(all) != 1 || stats.Findings != 1 {
					t.Fatalf("Fsck(repair %t) found %+v, want one of %s", repair, all, c.kind)
				}
				if f := all[0]; f.Kind != c.kind || f.Key != c.key || f.Repaired != (repair && c.repair) {
					t.Fatalf("Fsck(repair %t) found %+v, want %s of %q", repair, f, c.kind, c.key)
				}
			}
			if _, all := tr.fsck(store.FsckOptions{Repair: true, Deep: true}); c.repair && len(all) != 0 {
				t.Errorf("after the repair Fsck found %+v", all)
			}
			if c.kind == FindingStray || c.kind == FindingShadowed {
				if lost, _ := filepath.Glob(tr.home("lost", "*")); len(lost) != 1 {
					t.Errorf("lost = %q, want one file", lost)
				}
			}
		})
	}
}
