package storetest

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herald/store"
)

func attrCases() []testCase {
	small := store.Attrs{"content-type": "text/plain; charset=utf-8", "x-amz-meta-a": "b", "x-amz-meta-empty": ""}
	big := store.Attrs{"content-type": "x/y", "herald-bytes": "\x00\xff\xfe\n\"é"}
	for i := range 8 {
		big[fmt.Sprintf("x-amz-meta-%d", i)] = strings.Repeat(string(rune('a'+i)), 1024)
	}
	huge := store.Attrs{"herald-parts": pattern(7, 300<<10)}
	return []testCase{
		{"Small", func(f *Fixture) { f.attrRoundTrip(small) }},
		{"None", func(f *Fixture) { f.attrRoundTrip(nil) }},
		{"Big", func(f *Fixture) { f.attrRoundTrip(big) }},
		{"Huge", func(f *Fixture) { f.attrRoundTrip(huge) }},
		{"SmallToBigToSmall", func(f *Fixture) {
			for _, a := range []store.Attrs{small, big, huge, small, nil, huge, big} {
				f.Put("k", "v", WithAttrs(a))
				f.wantAttrs("k", "", a)
				f.update("k", "", big)
				f.wantAttrs("k", "", big)
				f.update("k", "", a)
				f.wantAttrs("k", "", a)
			}
			f.Crash()
			f.wantAttrs("k", "", big)
			f.Remove("k", "")
			f.deleteBucket()
		}},
		{"InListing", attrInListing},
		{"Update_LeavesTheRest", attrUpdate},
		{"Update_OfAVersion", attrUpdateVersion},
		{"Update_Fails", func(f *Fixture) {
			stop := errors.New("stop")
			f.Put("k", "v", WithAttrs(small))
			_, err := f.Bucket.Update(f.Context(), "k", "", func(i *store.Info) (store.Attrs, error) {
				i.Attrs["x"] = "y" // a copy: no harm
				return nil, stop
			})
			f.wantIs("Update", err, stop)
			f.wantAttrs("k", "", small)
			_, err = f.Bucket.Update(f.Context(), "none", "", func(*store.Info) (store.Attrs, error) {
				f.Error("Update called f for a key that is not")
				return nil, nil
			})
			f.wantIs("Update of none", err, store.ErrNoSuchKey)
		}},
		{"Update_Race", attrUpdateRace},
		{"Overwrite_DropsOldAttrs", func(f *Fixture) {
			f.Put("k", "v", WithAttrs(big))
			f.Put("k", "v", WithAttrs(store.Attrs{"content-type": "a/b"}))
			f.wantAttrs("k", "", store.Attrs{"content-type": "a/b"})
			f.Crash()
			f.wantAttrs("k", "", store.Attrs{"content-type": "a/b"})
		}},
	}
}

func (f *Fixture) attrRoundTrip(a store.Attrs) {
	f.Helper()
	f.Put("d/k", "v", WithAttrs(maps.Clone(a)))
	f.wantAttrs("d/k", "", a)
	f.Crash()
	f.wantAttrs("d/k", "", a)
	f.Versioning = store.Enabled
	id := f.Put("d/k", "w", WithAttrs(maps.Clone(a))).Info.VersionID
	f.Put("d/k", "x")
	f.wantAttrs("d/k", id, a)
	f.wantAttrs("d/k", store.NullVersion, a)
	f.Crash()
	f.wantAttrs("d/k", id, a)
	f.wantAttrs("d/k", store.NullVersion, a)
	f.wantAttrs("d/k", "", nil)
	f.Want("d/k", id, "w")
}

func (f *Fixture) wantAttrs(key, versionID string, want store.Attrs) {
	f.Helper()
	if diff := cmp.Diff(want, f.Stat(key, versionID).Attrs, cmpopts.EquateEmpty()); diff != "" {
		f.Fatalf("attributes of %q (-want +got):\n%s", key, diff)
	}
}

func (f *Fixture) update(key, versionID string, to store.Attrs) *store.Info {
	f.Helper()
	info, err := f.Bucket.Update(f.Context(), key, versionID, func(*store.Info) (store.Attrs, error) { return maps.Clone(to), nil })
	if err != nil {
		f.Fatalf("Update(%q, %q) = %v", key, versionID, err)
	}
	if diff := cmp.Diff(to, info.Attrs, cmpopts.EquateEmpty()); diff != "" {
		f.Fatalf("Update(%q) returned attributes (-want +got):\n%s", key, diff)
	}
	return info
}

func attrInListing(f *Fixture) {
	a := store.Attrs{
		store.AttrOwner: "tenant$user", store.AttrStorageClass: "COLD",
		store.AttrChecksumAlgorithm: "CRC64NVME", store.AttrChecksumType: "FULL_OBJECT",
	}
	f.Put("k", "v", WithAttrs(maps.Clone(a)))
	check := func(what string) {
		f.Helper()
		for _, versions := range []bool{false, true} {
			e := f.List(store.ListOptions{Max: 1, Versions: versions}).Entries[0]
			for _, name := range store.ListAttrs {
				if e.Attrs[name] != a[name] {
					f.Errorf("%s: listing (versions %t) has %s = %q, want %q", what, versions, name, e.Attrs[name], a[name])
				}
			}
			if e.Size != 1 || e.ETag != ETagOf("v") {
				f.Errorf("%s: listing has %+v", what, e)
			}
		}
	}
	check("after Put")
	a[store.AttrOwner], a[store.AttrStorageClass] = "other", "STANDARD_IA"
	f.update("k", "", a)
	check("after Update")
	f.Crash()
	check("after reopening")
}

func attrUpdate(f *Fixture) {
	f.Put("a", "1")
	f.Put("k", "value", WithAttrs(store.Attrs{"x-amz-meta-n": "1"}))
	f.Put("z", "1")
	before := f.Stat("k", "")
	f.update("k", "", store.Attrs{"x-amz-meta-n": "2", "herald-tags": "a=b"})
	after := f.Want("k", "", "value")
	if !after.ModTime.Equal(before.ModTime) || after.ETag != before.ETag || after.Size != before.Size || after.VersionID != before.VersionID {
		f.Errorf("Update changed %+v to %+v", before, after)
	}
	f.Crash()
	f.wantAttrs("k", "", store.Attrs{"x-amz-meta-n": "2", "herald-tags": "a=b"})
	f.Want("k", "", "value")
}

func attrUpdateVersion(f *Fixture) {
	f.Versioning = store.Enabled
	v1 := f.Put("k", "one", WithAttrs(store.Attrs{"n": "1"})).Info.VersionID
	v2 := f.Put("k", "two", WithAttrs(store.Attrs{"n": "2"})).Info.VersionID
	f.update("k", v1, store.Attrs{"n": "1b"})
	f.wantAttrs("k", v2, store.Attrs{"n": "2"})
	f.update("k", "", store.Attrs{"n": "2b"})
	marker := f.Remove("k", "").Info.VersionID
	noop := func(i *store.Info) (store.Attrs, error) { return i.Attrs, nil }
	_, err := f.Bucket.Update(f.Context(), "k", "", noop)
	f.wantIs("Update under a marker", err, store.ErrDeleteMarker)
	_, err = f.Bucket.Update(f.Context(), "k", marker, noop)
	f.wantIs("Update of a marker", err, store.ErrDeleteMarker)
	f.Crash()
	f.wantAttrs("k", v1, store.Attrs{"n": "1b"})
	f.wantAttrs("k", v2, store.Attrs{"n": "2b"})
	f.Remove("k", marker)
	f.wantAttrs("k", "", store.Attrs{"n": "2b"})
	f.Want("k", "", "two")
	f.Want("k", v1, "one")
	want := []string{"k " + v2 + " latest", "k " + v1}
	if diff := cmp.Diff(want, f.versionLines()); diff != "" {
		f.Errorf("order after Update (-want +got):\n%s", diff)
	}
}

func attrUpdateRace(f *Fixture) {
	f.Put("k", "v", WithAttrs(store.Attrs{}))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				_, err := f.Bucket.Update(f.Context(), "k", "", func(info *store.Info) (store.Attrs, error) {
					info.Attrs[fmt.Sprintf("%d-%d", i, j)] = "x"
					return info.Attrs, nil
				})
				if err != nil {
					f.Errorf("Update = %v", err)
				}
			}
		})
	}
	wg.Wait()
	f.Crash()
	if got := len(f.Stat("k", "").Attrs); got != 80 {
		f.Errorf("%d of 80 concurrent updates are there", got)
	}
}
