package posix

import (
	"errors"
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
