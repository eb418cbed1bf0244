//go:build rados

package rados

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"herald/store"
)

// The spaces of a shard's omap. A key in them is the space, the object's key
// escaped, keyEnd, and what tells those of one key apart.
const (
	spaceCurrent  = "e/" // KEY: the current version, or a delete marker
	spaceVersions = "v/" // KEY NUMBER ID: a noncurrent version; the newest first
	spaceMarks    = "p/" // KEY TAG: a change that was begun
	spaceUploads  = "u/" // KEY TIME ID: a multipart upload
	spaceDead     = "d/" // TIME KEY: the head may be a tombstone, or note what it does not use: sweep it
	spaceChanged  = "c/" // KEY: something of the key changed while the shard is copied
	spaceSums     = "s/" // what one gateway's changes added; not by key
)

// keyEnd ends a key. It is below all that an escaped key goes on with, so that
// the spaces are in the order of the keys. NUL itself will not do: librados
// takes the place where a page begins as a C string.
const keyEnd = "\x01\x01"

var (
	keyEscaper   = strings.NewReplacer("\x00", "\x01\x02", "\x01", "\x01\x03")
	keyUnescaper = strings.NewReplacer("\x01\x02", "\x00", "\x01\x03", "\x01")
)

// orderedKey keeps the order of keys, and a prefix of a key a prefix.
func orderedKey(key string) string { return keyEscaper.Replace(key) }

// omapKey is what begins all names of a key in a space.
func omapKey(space, key string) string { return space + orderedKey(key) + keyEnd }

func markKey(key string, tag store.OpID) string { return omapKey(spaceMarks, key) + tag.String() }

func versionKey(info *store.Info) string {
	return versionBound(info.Key, info.Seq) + info.VersionID
}

// deadKey notes that a key's head is to be looked at, in the order of time.
func deadKey(key string, at time.Time) string {
	return omapKey(fmt.Sprintf("%s%016x", spaceDead, uint64(at.UnixNano())), key)
}

// splitDeadKey is the inverse of deadKey.
func splitDeadKey(name string) (key string, at time.Time, ok bool) {
	key, _, ok = splitOmapKey(name)
	if !ok || len(key) < 16 {
		return "", at, false
	}
	ns, err := strconv.ParseUint(key[:16], 16, 63)
	return key[16:], time.Unix(0, int64(ns)), err == nil
}

// splitMarkKey is the inverse of markKey.
func splitMarkKey(name string) (key string, tag store.OpID, ok bool) {
	key, rest, ok := splitOmapKey(name)
	if ok {
		tag, ok = store.ParseOpID(rest)
	}
	return key, tag, ok
}

// uploadKey names an upload; those of one key are in the order of time.
func uploadKey(key string, initiated time.Time, id string) string {
	return fmt.Sprintf("%s%016x", omapKey(spaceUploads, key), uint64(initiated.UnixNano())^1<<63) + id
}

// splitUploadKey is the inverse of uploadKey.
func splitUploadKey(name string) (key string, initiated time.Time, id string, ok bool) {
	key, rest, ok := splitOmapKey(name)
	if !ok || len(rest) < 16 {
		return "", initiated, "", false
	}
	ns, err := strconv.ParseUint(rest[:16], 16, 64)
	return key, time.Unix(0, int64(ns^1<<63)).UTC(), rest[16:], err == nil
}

// versionBound comes before the versions of key that have the number seq, and
// after those with greater ones.
func versionBound(key string, seq uint64) string {
	return fmt.Sprintf("%s%016x", omapKey(spaceVersions, key), ^seq)
}

// versionSeq returns the number in what follows keyEnd in a version's name.
func versionSeq(rest string) (uint64, error) {
	if len(rest) < 16 {
		return 0, errCorrupt
	}
	seq, err := strconv.ParseUint(rest[:16], 16, 64)
	return ^seq, err
}

// splitOmapKey is the inverse of omapKey: rest is what follows keyEnd.
func splitOmapKey(name string) (key, rest string, ok bool) {
	if len(name) < 2 {
		return "", "", false
	}
	name = name[2:]
	for i := 0; ; {
		j := strings.IndexByte(name[i:], keyEnd[0])
		if j < 0 || i+j+1 == len(name) {
			return "", "", false
		}
		first := i == 0 // so nothing before is escaped
		if i += j + 2; name[i-1] != keyEnd[1] {
			continue
		}
		if key = name[:i-2]; !first {
			key = keyUnescaper.Replace(key)
		}
		return key, name[i:], true
	}
}

// successor is the first string after all that begin with prefix; false if
// there is none.
func successor(prefix string) (string, bool) {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xFF {
			return prefix[:i] + string([]byte{prefix[i] + 1}), true
		}
	}
	return "", false
}
