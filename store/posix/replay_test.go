package posix

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"herald/store"
)

// TestReplay_NullVersionOfLater: a removal that promoted the null version is
// replayed when a later null version, a delete marker, has its name.
func TestReplay_NullVersionOfLater(t *testing.T) {
	for _, noXattr := range []bool{false, true} {
		tr := newTree(t, Options{NoXattr: noXattr})
		tr.put("k", "null", store.Unversioned)
		marker, err := tr.b.Remove(t.Context(), "k", "", store.RemoveOptions{Versioning: store.Enabled})
		tr.must(err)
		tr.remove("k", marker.Info.VersionID, store.Enabled) // promotes the null version
		tr.remove("k", "", store.Enabled)                    // archives it
		tr.remove("k", "", store.Suspended)                  // replaces it by a marker
		before := tr.lines(store.ListOptions{Versions: true})
		tr.s.crash(t, tr.o)
		tr.o = tr.s.open(t)
		tr.find()
		tr.want("keys after the crash", store.ListOptions{})
		tr.want("versions after the crash", store.ListOptions{Versions: true}, before...)
		if _, err := tr.b.Stat(t.Context(), "k", ""); !errors.Is(err, store.ErrDeleteMarker) {
			t.Errorf("Stat after the crash = %v, want a delete marker", err)
		}
		if isFile(tr.path("k")) {
			t.Error("there is a file at the key's natural place")
		}
	}
}

// homecoming is a change that brings a key from its escape place home to its
// natural one, and is killed there.
type homecoming struct {
	noXattr    bool
	versioning store.Versioning
	size       int
	promote    bool   // it removes the version that is at the escape place; else it puts one
	again      string // where the recovery is killed as well; "": nowhere
	checkpoint bool   // before the change
}

func (h homecoming) String() string {
	return fmt.Sprintf("NoXattr=%t,%d,size=%d,promote=%t,again=%s,checkpoint=%t",
		h.noXattr, h.versioning, h.size, h.promote, h.again, h.checkpoint)
}

func (h homecoming) point() string {
	if h.promote {
		return "posix.promote.placed"
	}
	return "posix.apply.placed"
}

// homecomings are all that there are.
func homecomings() (all []homecoming) {
	for _, noXattr := range []bool{false, true} {
		for _, size := range []int{20, maxBuffered + 1} {
			for _, checkpoint := range []bool{false, true} {
				for _, again := range []string{"", "posix.replay.placed"} {
					h := homecoming{noXattr: noXattr, size: size, checkpoint: checkpoint, again: again}
					for h.versioning = range store.Suspended + 1 {
						all = append(all, h)
					}
					h.versioning, h.promote = store.Enabled, true
					all = append(all, h)
				}
			}
		}
	}
	return all
}

// TestReplay_Homecoming: a key has left its natural place to a directory, and
// is back when that is gone. A kill before the file at its escape place went
// leaves that to the replay.
func TestReplay_Homecoming(t *testing.T) {
	for _, h := range homecomings() {
		t.Run(h.String(), h.run)
	}
}

func (h homecoming) run(t *testing.T) {
	v := newVictim(t, Options{NoXattr: h.noXattr})
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
	first, want := strings.Repeat("1", h.size), strings.Repeat("2", h.size)
	h.put(t, b, "a/b", first)
	if h.promote {
		want = first
		h.put(t, b, "a/b", strings.Repeat("3", h.size))
	}
	h.put(t, b, "a/b/c", "in the way")
	below := h.latest(t, b, "a/b/c")
	if _, err := b.Remove(t.Context(), "a/b/c", below, store.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if natural, escaped := h.places(v); natural || !escaped {
		t.Fatalf("before: at the natural place: %t, at the escape place: %t", natural, escaped)
	}
	if h.checkpoint {
		if err := v.j.Checkpoint(); err != nil {
			t.Fatal(err)
		}
	}
	top := h.latest(t, b, "a/b")
	v.at = h.point()
	ended, err := v.guarded(func() error {
		if h.promote {
			_, err := b.Remove(context.Background(), "a/b", top, store.RemoveOptions{})
			return err
		}
		return putObject(b, "a/b", want, store.CommitOptions{Versioning: h.versioning})
	})
	if ended {
		t.Fatalf("not killed at %s: %v", h.point(), err)
	}
	h.recover(t, v)
	// The replay of older changes may have moved a staged body once more.
	if natural, escaped := h.places(v); natural == escaped {
		t.Errorf("at the natural place: %t, at the escape place: %t", natural, escaped)
	}
	s := readBucket(t, v.d, "bucket")
	if got := s["a/b"]; len(got) == 0 || got[0].Data != short(want) {
		t.Errorf("a/b is %+v, want %s first", got, short(want))
	}
}

// places tells where the key has a file.
func (h homecoming) places(v *victim) (natural, escaped bool) {
	return isFile(v.root() + "/bucket/a/b"), isFile(v.root() + "/" + home + "/keys/bucket/a%2Fb")
}

func (h homecoming) put(t *testing.T, b store.Bucket, key, data string) {
	t.Helper()
	if err := putObject(b, key, data, store.CommitOptions{Versioning: h.versioning}); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}

func (h homecoming) latest(t *testing.T, b store.Bucket, key string) (versionID string) {
	t.Helper()
	info, err := b.Stat(t.Context(), key, "")
	if err != nil {
		t.Fatal(err)
	}
	return info.VersionID
}

// recover opens the store after the kill, and a second time if the first is
// killed too.
func (h homecoming) recover(t *testing.T, v *victim) {
	t.Helper()
	v.at = h.again
	for {
		v.bury(t)
		ended, err := v.reopen(0)
		if err != nil {
			t.Fatal(err)
		}
		if ended {
			return
		}
	}
}
