package posix

import (
	"strings"
)

const (
	maxComponent = 255 // bytes in a file name, on every filesystem we know
	escComponent = 200 // bytes of an escaped key in one component, without the '+'
)

// natural tells whether a key is a clean relative path, so that it can be its
// own file's path within the bucket.
func natural(key string) bool {
	for rest := key; ; {
		c, tail, more := strings.Cut(rest, "/")
		if c == "" || c == "." || c == ".." || len(c) > maxComponent || strings.IndexByte(c, 0) >= 0 {
			return false
		}
		if !more {
			return true
		}
		rest = tail
	}
}

// escape maps any key to a relative path, reversibly and without two keys
// sharing a path, or one's path being another's directory: the key is
// percent-encoded as a whole, '/' included, and cut into components, all but
// the last marked by a final '+' (which the encoding never gives). A
// component never begins with '.'.
func escape(key string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(len(key) + len(key)/8 + 8)
	n := 0 // bytes in the present component
	put := func(c byte) {
		if n == escComponent {
			b.WriteString("+/")
			n = 0
		}
		b.WriteByte(c)
		n++
	}
	for i := range len(key) {
		c := key[i]
		// At the start of a component, or where the encoding could wrap onto
		// one, '.' is encoded.
		if plain(c) || c == '.' && n > 0 && n < escComponent {
			put(c)
			continue
		}
		put('%')
		put(hexDigits[c>>4])
		put(hexDigits[c&15])
	}
	return b.String()
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '_' || c == '='
}

// unescape is the inverse of escape. It answers false for paths that escape
// does not give.
func unescape(path string) (key string, ok bool) {
	joined := strings.ReplaceAll(path, "+/", "")
	b := make([]byte, 0, len(joined))
	for i := 0; i < len(joined); i++ {
		c := joined[i]
		if c != '%' {
			b = append(b, c)
			continue
		}
		if i+2 >= len(joined) {
			return "", false
		}
		hi, lo := unhex(joined[i+1]), unhex(joined[i+2])
		if hi > 15 || lo > 15 {
			return "", false
		}
		b = append(b, hi<<4|lo)
		i += 2
	}
	key = string(b)
	return key, key != "" && escape(key) == path
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// splitPath cuts a path into its directory ("." if none) and its last
// component.
func splitPath(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return ".", path
}

// area is one of the places where a bucket's files are.
type area uint8

const (
	areaNatural  area = iota // <root>/<bucket>
	areaKeys                 // .herald/keys/<bucket>
	areaVersions             // .herald/versions/<bucket>
	areaMeta                 // .herald/meta/<bucket>
)

const home = ".herald" // the gateway's own directory in root

// root returns the area's directory, relative to the tree's root.
func (a area) root(bucket string) string {
	switch a {
	case areaKeys:
		return home + "/keys/" + bucket
	case areaVersions:
		return home + "/versions/" + bucket
	case areaMeta:
		return home + "/meta/" + bucket
	}
	return bucket
}

// location is where one file of a bucket is.
type location struct {
	area area
	dir  string // within the area, "." for its root
	name string
}

func naturalLocation(key string) location {
	dir, name := splitPath(key)
	return location{areaNatural, dir, name}
}

func escapeLocation(key string) location {
	dir, name := splitPath(escape(key))
	return location{areaKeys, dir, name}
}

func versionLocation(key, versionID string) location {
	return location{areaVersions, escape(key), versionID}
}

// path returns the location's path within its area.
func (l location) path() string {
	if l.dir == "." {
		return l.name
	}
	return l.dir + "/" + l.name
}

// bucketDir tells whether a directory entry of root may be a bucket.
func bucketDir(name string) bool {
	return name != "" && name[0] != '.' && strings.IndexByte(name, '/') < 0 && len(name) <= maxComponent
}
