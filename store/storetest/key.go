package storetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"herald/store"
)

// awkwardKeys are keys that do not make good file names.
func awkwardKeys() []string {
	long := strings.Repeat("x", 1023)
	keys := []string{
		// files beside directories, directories with content
		"a", "a/", "a/b", "a/b/", "a/b/c", "a//b", "a//", "/", "//", "/a", "/a/", "///", "a/b//c",
		// dots
		".", "..", "./", "../", "./a", "../a", "a/.", "a/..", "a/./b", "a/../b", "...", ".a", "..a", "a./b", "../../../../etc/passwd", "a/../../x",
		// the gateway's own names, or what they might be
		".herald", ".herald/", ".herald/lock", ".herald/index/x", "x/.herald", "x/.herald/y", ".Herald", ".herald2", "herald", ".tmp", ".sgwtmp", "lost+found",
		// bytes
		"\x00", "a\x00b", "\x01", "\x7f", "\xff", "\xff\xfe", "\xc3\x28", "é", "e\u0301", "日本語/キー", "😀", "\n", "a\nb", "\t", " ", " a", "a ", "  ", "a /b", "a/ b", "\r",
		// marks that an encoding may use
		"%", "%%", "%2F", "%2f", "a%2Fb", "%00", "a%", "\\", "a\\b", "\\..\\x", "~", "~a", "@", "@a", "=", "#", "+", "&", "*", "?", ":", "a:b", "|", "\"", "'", "$", "`", "<>", "!", "^", ",", ";", "{}", "[]",
		"A", "A/B", "aa", "a-b", "a.b", "a0", "-", "-rf", "_", "__", "con", "nul.txt",
		// length
		strings.Repeat("y", 254), strings.Repeat("y", 255), strings.Repeat("y", 256), strings.Repeat("y", 257), strings.Repeat("y", 300) + "/z",
		long + "1", long + "2", strings.Repeat("a/", 512), strings.Repeat("a/", 511) + "bc", strings.Repeat("é", 512), strings.Repeat("\x00", 1024), strings.Repeat("\xff", 700),
		strings.Repeat("%", 200), strings.Repeat("/", 1024), strings.Repeat("../", 341), strings.Repeat("z", 255) + "/" + strings.Repeat("z", 255) + "/" + strings.Repeat("w", 400),
	}
	for i := range 9 { // lengths around every bound that a name with a suffix may meet
		keys = append(keys, "n/"+strings.Repeat("n", 240+2*i), "m/"+strings.Repeat("é", 118+2*i))
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func keyCases() []testCase {
	return []testCase{
		{"Each", func(f *Fixture) {
			for _, k := range awkwardKeys() {
				f.Put(k, "value of "+k)
				f.Want(k, "", "value of "+k)
				if keys := f.Keys(); !slices.Equal(keys, []string{k}) {
					f.Fatalf("keys after Put(%.60q) = %.80q", k, keys)
				}
				f.Remove(k, "")
				f.Absent(k)
			}
			f.deleteBucket()
		}},
		{"Together", func(f *Fixture) { f.keysTogether(awkwardKeys()) }},
		{"Together_Backwards", func(f *Fixture) {
			keys := awkwardKeys()
			slices.Reverse(keys)
			f.keysTogether(keys)
		}},
		{"Versions", keyVersions},
		{"FileAndDirectory", keyFileAndDirectory},
		{"LongSiblings", func(f *Fixture) {
			var keys []string
			for i := range 40 {
				keys = append(keys, strings.Repeat("s", 1021)+fmt.Sprintf("%03d", i))
			}
			f.keysTogether(keys)
		}},
	}
}

func (f *Fixture) keysTogether(keys []string) {
	f.Helper()
	for _, k := range keys {
		f.Put(k, "value of "+k)
	}
	sorted := slices.Sorted(slices.Values(keys))
	check := func(what string) {
		f.Helper()
		for _, k := range keys {
			f.Want(k, "", "value of "+k)
		}
		if diff := cmp.Diff(sorted, f.Keys()); diff != "" {
			f.Fatalf("keys %s (-want +got):\n%s", what, diff)
		}
	}
	check("after Put")
	for _, k := range keys {
		f.Put(k, "value of "+k, WithAttrs(store.Attrs{"n": "2"}))
	}
	f.Crash()
	check("after overwriting and reopening")
	for i, k := range keys {
		if i%2 == 0 {
			f.Remove(k, "")
		}
	}
	for i, k := range keys {
		if i%2 == 0 {
			f.Absent(k)
		} else {
			f.Want(k, "", "value of "+k)
		}
	}
	f.Crash()
	for i, k := range keys {
		if i%2 != 0 {
			f.Want(k, "", "value of "+k)
			f.Remove(k, "")
		}
	}
	if got := f.Keys(); len(got) != 0 {
		f.Fatalf("keys at the end = %.200q", got)
	}
	f.deleteBucket()
}

func keyVersions(f *Fixture) {
	f.Versioning = store.Enabled
	keys := awkwardKeys()
	first, second, marker := map[string]string{}, map[string]string{}, map[string]string{}
	for _, k := range keys {
		first[k] = f.Put(k, "1"+k).Info.VersionID
	}
	for _, k := range keys {
		second[k] = f.Put(k, "2"+k).Info.VersionID
		marker[k] = f.Remove(k, "").Info.VersionID
	}
	f.Crash()
	for _, k := range keys {
		f.WantErr(k, "", store.ErrDeleteMarker)
		f.Want(k, first[k], "1"+k)
		f.Want(k, second[k], "2"+k)
		f.Remove(k, marker[k])
		f.Want(k, "", "2"+k)
		f.Remove(k, second[k])
		f.Want(k, "", "1"+k)
	}
	if diff := cmp.Diff(keys, f.Keys()); diff != "" {
		f.Fatalf("keys (-want +got):\n%s", diff)
	}
	f.Crash()
	for _, k := range keys {
		f.Want(k, "", "1"+k)
		f.Remove(k, first[k])
	}
	f.deleteBucket()
}

// keyFileAndDirectory: keys of which one names a directory of the other, put
// and removed in every order.
func keyFileAndDirectory(f *Fixture) {
	families := [][]string{
		{"a", "a/b"}, {"a", "a/"}, {"a/", "a/b"}, {"a", "a/", "a/b"}, {"a", "a/b", "a/b/c"}, {"a/b", "a/b/", "a/b/c"},
	}
	for _, keys := range families {
		for _, putOrder := range permutations(keys) {
			for _, removeOrder := range permutations(keys) {
				f.fileAndDirectory(putOrder, removeOrder)
			}
		}
	}
	f.deleteBucket()
}

func (f *Fixture) fileAndDirectory(putOrder, removeOrder []string) {
	f.Helper()
	here := map[string]bool{}
	check := func() {
		f.Helper()
		for _, k := range putOrder {
			if here[k] {
				f.Want(k, "", "in "+k)
			} else {
				f.Absent(k)
			}
		}
	}
	for _, k := range putOrder {
		f.Put(k, "in "+k)
		here[k] = true
		check()
	}
	for _, k := range removeOrder {
		f.Remove(k, "")
		here[k] = false
		check()
	}
	if keys := f.Keys(); len(keys) != 0 {
		f.Fatalf("put %q, removed %q: left %q", putOrder, removeOrder, keys)
	}
}

func permutations(s []string) [][]string {
	if len(s) <= 1 {
		return [][]string{slices.Clone(s)}
	}
	var out [][]string
	for i, first := range s {
		rest := slices.Concat(s[:i], s[i+1:])
		for _, p := range permutations(rest) {
			out = append(out, append([]string{first}, p...))
		}
	}
	return out
}
