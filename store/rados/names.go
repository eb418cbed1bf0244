//go:build rados

package rados

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"herald/store"
)

// Names of objects. BID is a bucket's id, 16 hexadecimal digits.
const (
	oidRoot    = "root"    // omap: buckets
	oidRecords = "records" // omap: records
	oidOps     = "ops"     // omap: ops that were not forgotten

	prefixHead   = "h." // BID.KEY, escaped
	prefixHashed = "H." // BID.SHA-256 of a key that is too long for a name
	prefixTail   = "t." // BID.TAG.N
)

// maxEscaped is the longest escaped key in an object's name. Ceph takes names
// of 2,048 bytes (osd_max_object_name_len).
const maxEscaped = 1200

// headKey names the head of a key.
type headKey struct{ bid, key string }

// oid is the name of the head's object.
func (k headKey) oid() string {
	if esc, ok := escapeKey(k.key); ok {
		return prefixHead + k.bid + "." + esc
	}
	sum := sha256.Sum256([]byte(k.key))
	return prefixHashed + k.bid + "." + hex.EncodeToString(sum[:])
}

// escapeKey makes a key fit for an object's name: what is not printable
// ASCII, and '%', becomes %XX. ok is false when the result is too long.
func escapeKey(key string) (esc string, ok bool) {
	const digits = "0123456789ABCDEF"
	var sb strings.Builder
	sb.Grow(len(key))
	for i := range len(key) {
		c := key[i]
		if plain(c) {
			sb.WriteByte(c)
			continue
		}
		sb.WriteByte('%')
		sb.WriteByte(digits[c>>4])
		sb.WriteByte(digits[c&15])
	}
	return sb.String(), sb.Len() <= maxEscaped
}

func plain(c byte) bool { return c > ' ' && c < 0x7f && c != '%' }

// unescapeKey is the inverse of escapeKey; ok is false for what escapeKey does
// not make.
func unescapeKey(esc string) (key string, ok bool) {
	var sb strings.Builder
	for i := 0; i < len(esc); i++ {
		c := esc[i]
		if c != '%' {
			if !plain(c) {
				return "", false
			}
			sb.WriteByte(c)
			continue
		}
		if i+2 >= len(esc) {
			return "", false
		}
		b, err := hex.DecodeString(esc[i+1 : i+3])
		if err != nil || plain(b[0]) || strings.ToUpper(esc[i+1:i+3]) != esc[i+1:i+3] {
			return "", false
		}
		sb.WriteByte(b[0])
		i += 2
	}
	return sb.String(), true
}

// tailOID is the name of the n-th tail of an upload of bytes.
func tailOID(bid string, tag store.OpID, n int64) string {
	return prefixTail + bid + "." + tag.String() + "." + strconv.FormatInt(n, 10)
}

// Keys of a head's omap.
const (
	keyVersion = "v/" // and the version id: a noncurrent version
	keyOutcome = "o/" // and the op id: an outcome that is not the newest
	keyBar     = "b/" // and an op id or a TAG, which must not come true
	keyGarbage = "g/" // and a TAG: tails that nothing uses
)
