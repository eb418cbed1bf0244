package storetest

import (
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"

	"herald/store"
)

func versionCases() []testCase {
	return []testCase{
		{"Enabled", versionEnabled},
		{"Suspended", versionSuspended},
		{"Marker", versionMarker},
		{"Remove_CurrentPromotes", versionPromote},
		{"Transitions", versionTransitions},
		{"Transitions_Reopened", versionTransitionsReopened},
		{"Many", versionMany},
		{"IDs", versionIDs},
	}
}

// versionLines lists all versions of the bucket.
func (f *Fixture) versionLines() []string {
	f.Helper()
	lines, _ := f.allLines(store.ListOptions{Versions: true, Max: 1000})
	return lines
}

func (f *Fixture) wantVersions(want ...string) {
	f.Helper()
	if diff := cmp.Diff(want, f.versionLines()); diff != "" {
		f.Fatalf("versions (-want +got):\n%s", diff)
	}
}

func versionEnabled(f *Fixture) {
	f.Put("k", "zero")
	f.Versioning = store.Enabled
	one := f.Put("k", "one").Info.VersionID
	two := f.Put("k", "two").Info.VersionID
	if one == "" || one == store.NullVersion || one == two {
		f.Fatalf("version ids %q, %q", one, two)
	}
	check := func() {
		f.Helper()
		f.Want("k", "", "two")
		f.Want("k", two, "two")
		if i := f.Want("k", one, "one"); i.IsLatest || i.VersionID != one {
			f.Errorf("Info of a noncurrent version = %+v", i)
		}
		f.Want("k", store.NullVersion, "zero")
		f.wantVersions("k "+two+" latest", "k "+one, "k null")
		f.WantErr("k", "00000000000000000000000000000000", store.ErrNoSuchVersion)
	}
	check()
	f.Crash()
	check()
	f.Remove("k", one)
	f.WantErr("k", one, store.ErrNoSuchVersion)
	f.wantVersions("k "+two+" latest", "k null")
	f.Crash()
	f.WantErr("k", one, store.ErrNoSuchVersion)
	f.wantVersions("k "+two+" latest", "k null")
}

func versionSuspended(f *Fixture) {
	f.Versioning = store.Enabled
	one := f.Put("k", "one").Info.VersionID
	f.Versioning = store.Suspended
	if id := f.Put("k", "null one").Info.VersionID; id != store.NullVersion {
		f.Fatalf("version id in a suspended bucket = %q", id)
	}
	f.wantVersions("k null latest", "k "+one)
	out := f.Put("k", "null two")
	if out.Prior == nil || out.Prior.ETag != ETagOf("null one") {
		f.Errorf("Prior = %+v, want the null version before", out.Prior)
	}
	f.wantVersions("k null latest", "k "+one)
	two := f.Put("k", "two", With(store.Enabled)).Info.VersionID
	f.wantVersions("k "+two+" latest", "k null", "k "+one)
	f.Crash()
	f.Want("k", store.NullVersion, "null two")
	f.Put("k", "null three")
	f.wantVersions("k null latest", "k "+two, "k "+one)
	f.Crash()
	f.Want("k", store.NullVersion, "null three")
	f.Want("k", two, "two")
	f.Want("k", one, "one")
}

func versionMarker(f *Fixture) {
	f.Versioning = store.Enabled
	first := f.Remove("k", "") // nothing to hide: a marker all the same
	if !first.Changed || first.Info == nil || !first.Info.DeleteMarker || first.Prior != nil {
		f.Fatalf("Remove of nothing, versioned = %+v, want a marker", first)
	}
	one := f.Put("k", "one").Info.VersionID
	out := f.Remove("k", "")
	if out.Prior == nil || versionID(out.Prior) != one || !out.Info.DeleteMarker {
		f.Fatalf("Remove = %+v, want a marker over %s", out, one)
	}
	m1, m2 := first.Info.VersionID, out.Info.VersionID
	m3 := f.Remove("k", "").Info.VersionID
	lines := []string{"k " + m3 + " marker latest", "k " + m2 + " marker", "k " + one, "k " + m1 + " marker"}
	check := func() {
		f.Helper()
		f.WantErr("k", "", store.ErrDeleteMarker)
		f.WantErr("k", m2, store.ErrDeleteMarker)
		f.Want("k", one, "one")
		f.wantVersions(lines...)
		if keys := f.Keys(); len(keys) != 0 {
			f.Errorf("keys = %q, want none", keys)
		}
	}
	check()
	f.Crash()
	check()
	_, err := f.Bucket.Stat(f.Context(), "k", "")
	info := markerInfo(err)
	if info == nil || info.VersionID != m3 || !info.DeleteMarker || info.Key != "k" {
		f.Errorf("Stat = %v with %+v, want marker %s", err, info, m3)
	}
	f.Remove("k", m3)
	f.Remove("k", m2)
	f.Want("k", "", "one")
	f.wantVersions("k "+one+" latest", "k "+m1+" marker")
	f.Crash()
	f.Want("k", "", "one")
	f.wantVersions("k "+one+" latest", "k "+m1+" marker")
}

func markerInfo(err error) *store.Info {
	if e, ok := asMarker(err); ok {
		return e.Info
	}
	return nil
}

func versionPromote(f *Fixture) {
	for _, size := range []int{10, 200 << 10} {
		f.NewBucket()
		f.Versioning = store.Enabled
		var ids []string
		for i := range 4 {
			ids = append(ids, f.Put("d/k", pattern(i, size)).Info.VersionID)
		}
		for i := 3; i > 0; i-- {
			out := f.Remove("d/k", ids[i])
			if out.Prior == nil || versionID(out.Prior) != ids[i] || versionID(out.Info) != ids[i] {
				f.Errorf("Remove of the current version = %+v, want it as Info and Prior", out)
			}
			if info := f.Want("d/k", "", pattern(i-1, size)); !info.IsLatest || info.VersionID != ids[i-1] {
				f.Errorf("promoted: %+v", info)
			}
			if i == 2 {
				f.Crash()
				f.Want("d/k", "", pattern(i-1, size))
			}
		}
		f.Remove("d/k", ids[0])
		f.Absent("d/k")
		f.Crash()
		f.Absent("d/k")
		f.wantVersions()
		f.deleteBucket()
	}
}

// versionOps are the changes that versionTransitions strings together.
const versionOps = "PpDdcn" // put and delete (Enabled, then Suspended), remove the current version, remove the null version

// versionTransitions runs every sequence of four changes (after an object from
// before versioning) and compares with the model after each.
func versionTransitions(f *Fixture) {
	const workers, all = 16, 6 * 6 * 6 * 6
	models := make([]Model, workers)
	f.Parallel(workers, func(w int) {
		models[w] = Model{}
		for n := w; n < all; n += workers {
			script := versionScript(n, 4)
			key := "t/" + script
			f.Put(key, "null", With(store.Unversioned))
			models[w].Put(key, "null", "", store.Unversioned)
			for i := range len(script) {
				f.versionStep(models[w], key, script[i], fmt.Sprintf("%s %d", script, i))
				f.compareKey(models[w], key)
			}
		}
	})
	f.Crash()
	f.Compare(joined(models))
}

// versionTransitionsReopened crashes between the changes of many sequences.
func versionTransitionsReopened(f *Fixture) {
	m := Model{}
	const length = 5
	for i := range length {
		for n := 0; n < 6*6*6*6*6; n += 37 {
			script := versionScript(n, length)
			f.versionStep(m, "t/"+script, script[i], fmt.Sprintf("%s %d", script, i))
		}
		f.Crash()
		f.Compare(m)
	}
}

func versionScript(n, length int) string {
	var sb strings.Builder
	for range length {
		sb.WriteByte(versionOps[n%len(versionOps)])
		n /= len(versionOps)
	}
	return sb.String()
}

// versionStep does one change in the store and in the model, and compares the
// outcome.
func (f *Fixture) versionStep(m Model, key string, op byte, data string) {
	f.Helper()
	v := store.Enabled
	if op == 'p' || op == 'd' {
		v = store.Suspended
	}
	var out store.Outcome
	var prior *ModelVersion
	changed := true
	switch op {
	case 'P', 'p':
		out = f.Put(key, data, With(v))
		prior = m.Put(key, data, out.Info.VersionID, v)
	case 'D', 'd':
		out = f.Remove(key, "", With(v))
		if out.Info == nil {
			f.Fatalf("%s: Remove(%q) = %+v, want a marker", data, key, out)
		}
		changed, prior = m.Remove(key, "", out.Info.VersionID, v)
	default:
		id := store.NullVersion
		if vs := m[key]; op == 'c' && len(vs) > 0 {
			id = vs[0].ID
		}
		out = f.Remove(key, id, With(v))
		changed, prior = m.Remove(key, id, "", v)
	}
	if out.Changed != changed || !samePrior(out.Prior, prior) {
		f.Fatalf("%s: op %c on %q: changed %t, prior %+v, want %t, %+v", data, op, key, out.Changed, out.Prior, changed, prior)
	}
}

func samePrior(got *store.Info, want *ModelVersion) bool {
	if got == nil || want == nil {
		return got == nil && want == nil
	}
	return versionID(got) == want.ID && got.ETag == ETagOf(want.Data) && !got.DeleteMarker
}

func versionMany(f *Fixture) {
	f.Versioning = store.Enabled
	m := Model{}
	for i := range 300 {
		data := fmt.Sprint(i)
		m.Put("k", data, f.Put("k", data).Info.VersionID, store.Enabled)
		if i%50 == 0 {
			f.Crash()
		}
	}
	f.Compare(m)
	f.Crash()
	f.Compare(m)
}

// versionIDs: ids go into URLs and file names.
func versionIDs(f *Fixture) {
	f.Versioning = store.Enabled
	seen := map[string]bool{}
	for i := range 200 {
		id := f.Put("k", "v").Info.VersionID
		if i%2 == 0 {
			id = f.Remove("k", "").Info.VersionID
		}
		if seen[id] || id == "" || len(id) > 64 || strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.") != "" {
			f.Fatalf("version id %q", id)
		}
		seen[id] = true
	}
	for _, id := range []string{"..", ".", "/", "../k", "a/b", "\x00", strings.Repeat("x", 5000), " ", "NULL", "%00"} {
		f.WantErr("k", id, store.ErrNoSuchVersion)
		if out := f.Remove("k", id); out.Changed {
			f.Errorf("Remove(%q) = %+v", id, out)
		}
	}
}
