package posix

import (
	"strings"
	"testing"
)

var awkwardKeys = []string{
	"/", "//", "a/", "/a", "a//b", ".", "..", "../..", "a/./b", "a/../b", "a/..",
	".herald", ".herald/lock", "%2F", "%", "a%2Fb", "+", "a+", "a+/", "a+/b",
	strings.Repeat("x", 255), strings.Repeat("x", 256), strings.Repeat("x", 1024), strings.Repeat("/", 1024),
	strings.Repeat("x", 199) + ".", strings.Repeat("x", 200) + ".y", strings.Repeat(".", 600), strings.Repeat("%", 201),
	"\x00", "a\x00b", "\xff\xfe", "é/ü", "a\nb", " ", "null", "COM1", "a\\b",
}

func TestNatural(t *testing.T) {
	for key, want := range map[string]bool{
		"a": true, "a/b": true, ".a": true, "...": true, ".herald/lock": true, "%": true, "\xff": true,
		strings.Repeat("x", 255): true, "a/" + strings.Repeat("x", 255) + "/b": true,
		"": false, "/": false, "a/": false, "/a": false, "a//b": false, ".": false, "..": false, "a/..": false,
		"./a": false, "a\x00": false, strings.Repeat("x", 256): false,
	} {
		if got := natural(key); got != want {
			t.Errorf("natural(%q) = %t, want %t", key, got, want)
		}
	}
}

// FuzzPath: every key has one escape path, which leads back to it, stays
// where it belongs, and is no other path's directory.
func FuzzPath(f *testing.F) {
	for i, key := range awkwardKeys {
		f.Add(key, awkwardKeys[(i+1)%len(awkwardKeys)])
	}
	f.Fuzz(func(t *testing.T, key, other string) {
		if key == "" || len(key) > 1024 {
			return
		}
		path := escape(key)
		if back, ok := unescape(path); !ok || back != key {
			t.Errorf("unescape(escape(%q)) = %q, %t", key, back, ok)
		}
		checkComponents(t, path)
		if natural(key) {
			checkComponents(t, key)
		}
		if other == "" || other == key {
			return
		}
		if o := escape(other); o == path || strings.HasPrefix(o, path+"/") {
			t.Errorf("escape(%q) = %q, escape(%q) = %q: one is in the way of the other", key, path, other, o)
		}
		// What is no path of ours must not be taken for one.
		if k, ok := unescape(other); ok && escape(k) != other {
			t.Errorf("unescape(%q) = %q, whose path is %q", other, k, escape(k))
		}
	})
}

func checkComponents(t *testing.T, path string) {
	t.Helper()
	for c := range strings.SplitSeq(path, "/") {
		if c == "" || c == "." || c == ".." || len(c) > maxComponent || strings.IndexByte(c, 0) >= 0 {
			t.Errorf("path %q has the component %q", path, c)
		}
	}
}
