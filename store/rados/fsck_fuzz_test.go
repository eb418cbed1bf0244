//go:build rados

package rados

import (
	"strings"
	"testing"
	"time"

	librados "herald/rados"
	"herald/store"
)

func FuzzObjectName(f *testing.F) {
	tag := store.NewOpID()
	for _, oid := range []string{
		oidRoot, layoutName(nobody), shardName(nobody, tag.String()), headKey{nobody, "a/b c\x00"}.oid(),
		headKey{nobody, strings.Repeat("\xff", 1000)}.oid(), tailOID(nobody, tag, 12), tailsName{nobody, tag}.refsOID(),
		uploadName{nobody, "id7"}.oid(), "t." + nobody + "." + tag.String() + ".-1", "t.", "h." + nobody, "other",
	} {
		f.Add(oid)
	}
	f.Fuzz(func(t *testing.T, oid string) {
		n := parseObjectName(oid)
		again := ""
		switch n.kind {
		case objectLayout:
			again = layoutName(n.bid)
		case objectShard:
			again = shardName(n.bid, n.rest)
		case objectHead:
			again = prefixHead + n.bid + "."
			esc, _ := escapeKey(n.rest)
			again += esc
		case objectTail:
			again = tailOID(n.bid, n.tag, n.n)
		case objectRefs:
			again = tailsName{n.bid, n.tag}.refsOID()
		case objectUpload:
			again = uploadName{n.bid, n.rest}.oid()
		default:
			again = oid
		}
		if !strings.EqualFold(again, oid) { // ids are read in either case
			t.Errorf("%q became %+v, and that %q", oid, n, again)
		}
	})
}

// FuzzFsckLines reads lines of an index as strangers may have written them.
func FuzzFsckLines(f *testing.F) {
	info := store.Info{Key: "k", Seq: 7, VersionID: "null"}
	f.Add(omapKey(spaceCurrent, "k"), (&indexEntry{gen: 1, info: info}).encode())
	f.Add(versionKey(&info), (&indexEntry{info: info}).encode())
	f.Add(markKey("k", store.NewOpID()), markValue(true, time.Now(), "gateway"))
	f.Add(uploadKey("k", time.Now(), "id"), []byte{})
	f.Add(deadKey("k", time.Now()), []byte{1})
	f.Add(spaceSums+"x", sums{1, 2, 3}.encode())
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		p := librados.Pair{Key: key, Value: value}
		_, _ = lineKey(p)
		_ = markTime(value)
		var has, says sums
		_ = countLine(p, &has, &says)
		k := &settling{key: "k", entry: value, marks: &librados.Step{}, versions: &librados.Step{Pairs: []librados.Pair{p}}}
		if got := (&fsck{}).indexProblems(nil, k, nil); len(got) != 2 {
			t.Errorf("%d problems, want two: the key has no head", len(got))
		}
	})
}
