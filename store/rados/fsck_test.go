//go:build rados

package rados

import (
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	librados "herald/rados"
	"herald/store"
	"herald/store/storetest"
)

// hasty are limits for stores that nobody else uses.
var hasty = fsckLimits{pause: 20 * time.Millisecond, old: barAge + time.Hour, young: time.Hour}

// findings runs fsck.
func (d *Driver) findings(t testing.TB, opts store.FsckOptions, limits fsckLimits) (store.FsckStats, []store.Finding) {
	t.Helper()
	var all []store.Finding
	opts.Report = func(f store.Finding) { all = append(all, f) }
	stats, err := d.fsck(t.Context(), opts, limits)
	if err != nil {
		t.Fatalf("fsck = %v", err)
	}
	if int(stats.Findings) != len(all) {
		t.Errorf("stats %+v of %d findings", stats, len(all))
	}
	return stats, all
}

// wantWell fails unless fsck finds nothing.
func (d *Driver) wantWell(t testing.TB, opts store.FsckOptions) store.FsckStats {
	t.Helper()
	stats, all := d.findings(t, opts, hasty)
	for _, f := range all {
		t.Errorf("fsck: %+v", f)
	}
	return stats
}

// sick is a store to be damaged.
type sick struct {
	*testPlace
	t   *testing.T
	d   *Driver
	b   *bucket
	id  string // of the upload
	ops []store.OpID
}

// newSick makes a store with something of everything: keys small, large,
// versions, multi, copy, gone; an upload of a key "upload".
func newSick(t *testing.T) *sick {
	t.Helper()
	s := &sick{testPlace: newPlace(t), t: t}
	s.d = s.open(t, Options{KeepReplaced: time.Millisecond})
	t.Cleanup(func() { _ = s.d.Close() })
	s.must(s.d.CreateBucket(t.Context(), testBucket))
	s.must(s.d.CreateBucket(t.Context(), "empty"))
	sb, err := s.d.OpenBucket(t.Context(), testBucket)
	s.must(err)
	s.b = sb.(*bucket)
	s.put("small", "some bytes", store.CommitOptions{})
	s.put("large", strings.Repeat("large ", tailSize/4), store.CommitOptions{})
	s.put("a key/\x00\xff%", "x", store.CommitOptions{})
	s.put(strings.Repeat("long\xff", 200), "x", store.CommitOptions{})
	for i := range 3 {
		s.put("versions", fmt.Sprint("version ", i), store.CommitOptions{Versioning: store.Enabled, Op: s.op()})
	}
	_, err = s.b.Remove(t.Context(), "versions", "", store.RemoveOptions{Versioning: store.Enabled})
	s.must(err)
	s.put("gone", "soon", store.CommitOptions{Op: s.op()})
	_, err = s.b.Remove(t.Context(), "gone", "", store.RemoveOptions{Op: s.op()})
	s.must(err)
	s.must(copyObject(t.Context(), s.b, "large", s.b, "copy", store.CommitOptions{}))
	s.pack("packed", strings.Repeat("packed ", tailSize/4))
	s.pack("packed small", strings.Repeat("packed ", 100))
	s.id, _ = beginUpload(t, s.b, "upload", "small", strings.Repeat("x", tailSize+1))
	id, parts := beginUpload(t, s.b, "multi", strings.Repeat("y", maxInline+1), "last")
	_, err = s.b.Complete(t.Context(), "multi", id, parts, store.CommitOptions{ETag: multiETag(strings.Repeat("y", maxInline+1), "last")})
	s.must(err)
	_, err = s.d.records.Put(t.Context(), "record", []byte("value"), 0)
	s.must(err)
	s.d.quiet(t)
	return s
}

// pack puts an object that is kept compressed.
func (s *sick) pack(key, data string) {
	s.t.Helper()
	w, err := s.b.Create(s.t.Context(), key, store.CreateHint{Size: int64(len(data)), Compression: compressionZstd})
	s.must(err)
	_, err = io.WriteString(w, data)
	s.must(err)
	_, err = w.Commit(s.t.Context(), store.CommitOptions{ETag: storetest.ETagOf(data)})
	s.must(err)
}

func multiETag(parts ...string) string {
	all := ""
	for _, p := range parts {
		sum, _ := hex.DecodeString(storetest.ETagOf(p))
		all += string(sum)
	}
	return fmt.Sprintf("%s-%d", storetest.ETagOf(all), len(parts))
}

func (s *sick) op() store.OpID {
	op := store.NewOpID()
	s.ops = append(s.ops, op)
	return op
}

func (s *sick) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *sick) put(key, data string, opts store.CommitOptions) {
	s.t.Helper()
	_, err := storetest.PutObject(s.t.Context(), s.b, key, data, opts)
	s.must(err)
}

// do changes an object behind the driver's back.
func (s *sick) do(io *librados.IO, oid string, f func(op *librados.WriteOp)) {
	s.t.Helper()
	op := librados.NewWrite()
	f(op)
	_, err := io.Operate(s.t.Context(), oid, op, 0)
	s.must(err)
}

// shard is the only one.
func (s *sick) shard() *shard { return s.b.x.lookup("small") }

func (s *sick) line(key string, value []byte) {
	s.t.Helper()
	s.do(s.d.heads, s.shard().oid, func(op *librados.WriteOp) {
		if value == nil {
			op.OmapRm(key)
		} else {
			op.OmapSet(librados.Pair{Key: key, Value: value})
		}
	})
}

func (s *sick) head(key string) *head {
	s.t.Helper()
	h, err := s.d.readHead(s.t.Context(), s.b.head(key), headRead{data: true, omap: []string{}})
	s.must(err)
	return h
}

// note writes into a head's omap.
func (s *sick) note(key, name string, value []byte) {
	s.t.Helper()
	s.do(s.d.heads, s.b.head(key).oid(), func(op *librados.WriteOp) { op.OmapSet(librados.Pair{Key: name, Value: value}) })
}

// tail is the n-th of an object.
func (s *sick) tail(key string, n int64) string {
	seg := s.head(key).current.segments[0]
	return tailOID(seg.in(s.b.bid), seg.tag, n)
}

// oldID is an id of a week ago.
func oldID() (id store.OpID) {
	id = store.NewOpID()
	ms := time.Now().Add(-7 * 24 * time.Hour).UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	return id
}

// nobody is a bucket that is not there.
const nobody = "0123456789abcdef"

func TestFsck_Clean(t *testing.T) {
	s := newSick(t)
	stats := s.d.wantWell(t, store.FsckOptions{Deep: true})
	want := store.FsckStats{Buckets: 2, Objects: 8, Versions: 4, Uploads: 1}
	want.Bytes = stats.Bytes
	if stats != want || stats.Bytes < tailSize {
		t.Errorf("stats = %+v, want %+v", stats, want)
	}
	if sums, err := s.b.x.stats(t.Context()); err != nil || sums.Entries != 12 {
		t.Errorf("sums = %+v, %v", sums, err)
	}
}

// damages are all kinds of damage, each made by hand. Kinds that follow from a
// damage or its repair stand after the first.
var damages = []struct {
	name   string
	kinds  []store.FindingKind
	repair bool // it can be repaired
	damage func(s *sick)
}{
	{"entry gone", kinds(FindingIndexMissing, FindingIndexSums), true, func(s *sick) {
		s.line(omapKey(spaceCurrent, "small"), nil)
	}},
	{"version's entry gone", kinds(FindingIndexMissing, FindingIndexSums), true, func(s *sick) {
		state, err := s.d.keyState(s.t.Context(), s.b.bid, "versions", true)
		s.must(err)
		s.line(versionKey(&state.noncurrent[1]), nil)
	}},
	{"entry of another state", kinds(FindingIndexStale, FindingIndexSums), true, func(s *sick) {
		s.line(omapKey(spaceCurrent, "small"), (&indexEntry{gen: 1, info: store.Info{Key: "small", Size: 77}}).encode())
	}},
	{"entry of a removed key", kinds(FindingIndexExtra, FindingIndexSums), true, func(s *sick) {
		s.line(omapKey(spaceCurrent, "gone"), (&indexEntry{gen: 1, info: store.Info{Key: "gone", Size: 77}}).encode())
	}},
	{"head gone", kinds(FindingHeadLost, FindingTailLeak, FindingReferenceLost), false, func(s *sick) {
		s.do(s.d.heads, s.b.head("multi").oid(), func(op *librados.WriteOp) { op.Remove() })
	}},
	{"entry of nothing", kinds(FindingHeadLost, FindingIndexSums), false, func(s *sick) {
		s.line(omapKey(spaceCurrent, "ghost"), (&indexEntry{gen: 1, info: store.Info{Key: "ghost", Size: 77}}).encode())
	}},
	{"version of nothing", kinds(FindingHeadLost, FindingIndexSums), false, func(s *sick) {
		info := store.Info{Key: "ghost", Seq: 7, VersionID: "null"}
		s.line(versionKey(&info), (&indexEntry{info: info}).encode())
	}},
	{"version that a key does not have", kinds(FindingIndexExtra, FindingIndexSums), true, func(s *sick) {
		info := store.Info{Key: "small", Seq: 7, VersionID: "null"}
		s.line(versionKey(&info), (&indexEntry{info: info}).encode())
	}},
	{"entry of garbage", kinds(FindingIndexCorrupt, FindingIndexSums), true, func(s *sick) {
		s.line(omapKey(spaceCurrent, "small"), []byte("garbage"))
	}},
	{"line of garbage", kinds(FindingIndexCorrupt), true, func(s *sick) { s.line("p/garbage", []byte("x")) }},
	{"line that no shard has", kinds(FindingIndexCorrupt), true, func(s *sick) { s.line("z/garbage", []byte("x")) }},
	{"sums", kinds(FindingIndexSums), true, func(s *sick) {
		s.line(spaceSums+"somebody", sums{1, 2, 3}.encode())
	}},
	{"shard gone", kinds(FindingIndexLost, FindingIndexMissing, FindingUploadMissing, FindingIndexSums), true, func(s *sick) {
		s.do(s.d.heads, s.shard().oid, func(op *librados.WriteOp) { op.Remove() })
	}},
	{"layout gone", kinds(FindingIndexLost, FindingIndexMissing, FindingUploadMissing, FindingIndexStray), true, func(s *sick) {
		s.do(s.d.heads, layoutName(s.b.bid), func(op *librados.WriteOp) { op.Remove() })
	}},
	{"layout of garbage", kinds(FindingIndexCorrupt), false, func(s *sick) {
		s.do(s.d.heads, layoutName(s.b.bid), func(op *librados.WriteOp) { op.WriteFull([]byte("{}")) })
	}},
	{"shard of no layout", kinds(FindingIndexStray), true, func(s *sick) {
		s.must(createShard(s.t.Context(), s.d.indexEnv(), s.b.bid, shardRef{Tag: oldID().String()}, shardLive))
	}},
	{"layout of no bucket", kinds(FindingIndexStray), true, func(s *sick) {
		s.must(createIndex(s.t.Context(), s.d.indexEnv(), nobody))
	}},
	{"mark", kinds(FindingMark), true, func(s *sick) {
		s.line(markKey("small", oldID()), markValue(false, time.Now().Add(-7*24*time.Hour), "somebody"))
	}},

	{"head of garbage", kinds(FindingHeadCorrupt), false, func(s *sick) {
		s.do(s.d.heads, s.b.head("small").oid(), func(op *librados.WriteOp) { op.SetXattr(xattrState, []byte("garbage")) })
	}},
	{"head of another key", kinds(FindingHeadCorrupt), false, func(s *sick) {
		other := s.head("small").state
		s.do(s.d.heads, s.b.head("large").oid(), func(op *librados.WriteOp) { op.SetXattr(xattrState, other.encode()) })
	}},
	{"head that counts wrong", kinds(FindingHeadCorrupt), true, func(s *sick) {
		h := s.head("versions")
		h.others--
		s.do(s.d.heads, h.oid(), func(op *librados.WriteOp) { op.SetXattr(xattrState, h.encode()) })
	}},
	{"head in no bucket", kinds(FindingHeadOrphan), false, func(s *sick) {
		h := s.head("small")
		s.do(s.d.heads, headKey{nobody, "small"}.oid(), func(op *librados.WriteOp) {
			op.SetXattr(xattrState, h.encode())
			op.WriteFull(h.data)
		})
	}},
	{"head in a deleted bucket", kinds(FindingHeadOrphan), false, func(s *sick) {
		h := s.head("small")
		s.do(s.d.heads, oidRoot, func(op *librados.WriteOp) {
			op.OmapSet(librados.Pair{Key: rootGone + nobody, Value: []byte("was")})
		})
		s.do(s.d.heads, headKey{nobody, "small"}.oid(), func(op *librados.WriteOp) {
			op.SetXattr(xattrState, h.encode())
			op.WriteFull(h.data)
		})
	}},
	{"tombstone", kinds(FindingTombstone), true, func(s *sick) {
		s.do(s.d.heads, s.b.head("tomb").oid(), func(op *librados.WriteOp) {
			op.SetXattr(xattrState, (&state{key: "tomb", seq: 1, gen: 1}).encode())
			op.OmapSet(librados.Pair{Key: keyBar + oldID().String(), Value: []byte{1}})
		})
	}},
	{"outcome", kinds(FindingOutcome), true, func(s *sick) {
		s.note("small", keyOutcome+oldID().String(), encodeOutcome(&outcome{}))
	}},
	{"bar", kinds(FindingBar), true, func(s *sick) { s.note("small", keyBar+oldID().String(), []byte{1}) }},
	{"note of garbage", kinds(FindingGarbage), true, func(s *sick) {
		tag := store.NewOpID()
		s.do(s.d.data, tailOID(s.b.bid, tag, 0), func(op *librados.WriteOp) { op.WriteFull([]byte("x")) })
		s.note("small", keyGarbage+tag.String(), encodeNote(1, time.Now().Add(-7*24*time.Hour)))
	}},

	{"tail gone", kinds(FindingDataLost), false, func(s *sick) {
		s.do(s.d.data, s.tail("large", 1), func(op *librados.WriteOp) { op.Remove() })
	}},
	{"tail cut", kinds(FindingDataLost), false, func(s *sick) {
		s.do(s.d.data, s.tail("multi", 0), func(op *librados.WriteOp) { op.Truncate(7) })
	}},
	{"compressed tail cut", kinds(FindingDataLost), false, func(s *sick) {
		s.do(s.d.data, s.tail("packed", 1), func(op *librados.WriteOp) { op.Truncate(7) })
	}},
	{"compressed head's data cut", kinds(FindingDataLost), false, func(s *sick) {
		s.do(s.d.heads, s.b.head("packed small").oid(), func(op *librados.WriteOp) { op.Truncate(7) })
	}},
	{"compressed bytes of garbage", kinds(FindingDataLost), false, func(s *sick) {
		s.do(s.d.data, s.tail("packed", 0), func(op *librados.WriteOp) { op.Write([]byte("garbage"), 2) })
	}},
	{"tail of a part gone", kinds(FindingDataLost), false, func(s *sick) {
		u, err := s.d.readUpload(s.t.Context(), uploadName{s.b.bid, s.id}, partKey(2))
		s.must(err)
		p, err := decodePart(librados.Pair{Key: partKey(2), Value: u.omap[partKey(2)]})
		s.must(err)
		s.do(s.d.data, tailOID(s.b.bid, p.tag, 1), func(op *librados.WriteOp) { op.Remove() })
	}},
	{"head's data cut", kinds(FindingDataLost), false, func(s *sick) {
		s.do(s.d.heads, s.b.head("small").oid(), func(op *librados.WriteOp) { op.Truncate(7) })
	}},
	{"other data", kinds(FindingETag), false, func(s *sick) {
		s.do(s.d.heads, s.b.head("small").oid(), func(op *librados.WriteOp) { op.Write([]byte("other"), 2) })
	}},
	{"other data of a part", kinds(FindingETag), false, func(s *sick) {
		s.do(s.d.data, s.tail("multi", 0), func(op *librados.WriteOp) { op.Write([]byte("other"), 2) })
	}},
	{"tails of nothing", kinds(FindingTailLeak), true, func(s *sick) {
		tag := oldID()
		for _, n := range []int64{0, 1, 30} {
			s.do(s.d.data, tailOID(s.b.bid, tag, n), func(op *librados.WriteOp) { op.WriteFull([]byte("x")) })
		}
	}},
	{"a tail too many", kinds(FindingTailLeak), true, func(s *sick) {
		s.do(s.d.data, s.tail("large", 2), func(op *librados.WriteOp) { op.WriteFull([]byte("x")) })
	}},
	{"tails of no bucket", kinds(FindingTailLeak), true, func(s *sick) {
		s.do(s.d.data, tailOID(nobody, oldID(), 0), func(op *librados.WriteOp) { op.WriteFull([]byte("x")) })
	}},
	{"references of nothing", kinds(FindingTailLeak), true, func(s *sick) {
		seg := s.head("large").current.segments[0]
		seg.bid = s.b.bid
		h, tails := tailsName{s.b.bid, oldID()}, tailsName{s.b.bid, seg.tag}
		s.must(s.d.writeRefList(s.t.Context(), h, &refList{tails: []segment{seg}}))
		s.must(s.d.take(s.t.Context(), tails, h))
	}},
	{"reference lost", kinds(FindingReferenceLost), true, func(s *sick) {
		s.do(s.d.data, s.tail("copy", 0), func(op *librados.WriteOp) { op.RmXattr(xattrRefs) })
	}},
	{"references of garbage", kinds(FindingReferenceCorrupt), false, func(s *sick) {
		s.do(s.d.data, s.tail("large", 0), func(op *librados.WriteOp) { op.SetXattr(xattrRefs, []byte("garbage")) })
	}},
	{"list of references of garbage", kinds(FindingReferenceCorrupt, FindingTailLeak), false, func(s *sick) {
		h := tailsName{s.b.bid, s.head("copy").current.segments[0].ref}
		s.do(s.d.heads, h.refsOID(), func(op *librados.WriteOp) { op.WriteFull([]byte("garbage")) })
	}},
	{"tails of nothing, references of garbage", kinds(FindingTailLeak), false, func(s *sick) {
		s.do(s.d.data, tailOID(s.b.bid, oldID(), 0), func(op *librados.WriteOp) { op.SetXattr(xattrRefs, []byte("garbage")) })
	}},
	{"owner gone", kinds(FindingReferenceLost), true, func(s *sick) {
		seg := s.head("large").current.segments[0]
		_, err := s.d.disown(s.t.Context(), tailsName{s.b.bid, seg.tag})
		s.must(err)
	}},
	{"list of references lost", kinds(FindingReferenceLost), true, func(s *sick) {
		h := tailsName{s.b.bid, s.head("copy").current.segments[0].ref}
		s.do(s.d.heads, h.refsOID(), func(op *librados.WriteOp) { op.Remove() })
	}},
	{"reference left", kinds(FindingReferenceLeft), true, func(s *sick) {
		seg := s.head("large").current.segments[0]
		s.must(s.d.take(s.t.Context(), tailsName{s.b.bid, seg.tag}, tailsName{nobody, store.NewOpID()}))
	}},

	{"upload's entry gone", kinds(FindingUploadMissing), true, func(s *sick) {
		u, err := s.d.readUpload(s.t.Context(), uploadName{s.b.bid, s.id})
		s.must(err)
		s.line(uploadKey("upload", u.info.Initiated, s.id), nil)
	}},
	{"entry of no upload", kinds(FindingUploadExtra), true, func(s *sick) {
		s.line(uploadKey("upload", time.Now().Add(-7*24*time.Hour), "ghost"), []byte{})
	}},
	{"young tails of nothing", kinds(FindingTailLeak), false, func(s *sick) {
		s.do(s.d.data, tailOID(s.b.bid, store.NewOpID(), 0), func(op *librados.WriteOp) { op.WriteFull([]byte("x")) })
	}},
	{"large head of garbage", kinds(FindingHeadCorrupt, FindingTailLeak), false, func(s *sick) {
		s.do(s.d.heads, s.b.head("large").oid(), func(op *librados.WriteOp) { op.SetXattr(xattrState, []byte("garbage")) })
	}},
	{"upload of garbage", kinds(FindingUploadCorrupt, FindingTailLeak), false, func(s *sick) {
		s.do(s.d.heads, uploadName{s.b.bid, s.id}.oid(), func(op *librados.WriteOp) { op.SetXattr(xattrUpload, []byte("garbage")) })
	}},
	{"upload in no bucket", kinds(FindingUploadOrphan), true, func(s *sick) {
		op := newUploadOp(&store.Upload{Key: "k", ID: "id", Initiated: time.Now()}, uploadEnd{state: uploadLive}, newTag())
		_, err := s.d.heads.Operate(s.t.Context(), uploadName{nobody, "id"}.oid(), op, 0)
		s.must(err)
	}},

	{"name of a deleted bucket", kinds(FindingBucketLeft), true, func(s *sick) {
		r, err := s.d.lookup(s.t.Context(), "empty")
		s.must(err)
		s.must(openIndex(s.d.indexEnv(), r.bid).drop(s.t.Context()))
	}},
	{"line of a deleted bucket", kinds(FindingDeletedLeft), true, func(s *sick) {
		s.do(s.d.heads, oidRoot, func(op *librados.WriteOp) {
			op.OmapSet(librados.Pair{Key: rootGone + nobody, Value: []byte("was")})
		})
	}},
	{"bucket of garbage", kinds(FindingRootCorrupt), false, func(s *sick) {
		s.do(s.d.heads, oidRoot, func(op *librados.WriteOp) {
			op.OmapSet(librados.Pair{Key: rootBucket + "sick", Value: []byte("garbage")})
		})
	}},
	{"op of a bucket that is gone", kinds(FindingOp), true, func(s *sick) { s.opLine(oldID().String(), headKey{nobody, "k"}) }},
	{"op that did not come true", kinds(FindingOp), true, func(s *sick) { s.opLine(oldID().String(), s.b.head("small")) }},
	{"op of garbage", kinds(FindingOpCorrupt), true, func(s *sick) { s.opLine("garbage", s.b.head("small")) }},
	{"half a record", kinds(FindingRecord), false, func(s *sick) {
		s.do(s.d.heads, oidRecords, func(op *librados.WriteOp) { op.OmapRm(recordValue + "record") })
	}},
	{"stray", kinds(FindingStray), false, func(s *sick) {
		s.do(s.d.data, "t.stray", func(op *librados.WriteOp) { op.WriteFull([]byte("x")) })
		s.do(s.d.heads, "not ours", func(op *librados.WriteOp) { op.WriteFull([]byte("x")) })
	}},
}

func kinds(k ...store.FindingKind) []store.FindingKind { return k }

func (s *sick) opLine(op string, k headKey) {
	s.t.Helper()
	var e encoder
	e.byte(codecVersion)
	e.string(k.bid)
	e.string(k.key)
	s.do(s.d.heads, oidOps, func(w *librados.WriteOp) { w.OmapSet(librados.Pair{Key: op, Value: e.b}) })
}

// TestFsck_Damage plants each kind of damage. Fsck has to find it, to leave it
// alone, to repair it, and then to find nothing.
func TestFsck_Damage(t *testing.T) {
	for _, c := range damages {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			s := newSick(t)
			c.damage(s)
			limits := hasty
			if slices.Contains([]string{"layout of no bucket", "layout gone", "name of a deleted bucket"}, c.name) { // objects cannot be made old
				limits.young = 0
			}
			for _, repair := range []bool{false, true} {
				_, all := s.d.findings(t, store.FsckOptions{Deep: true, Repair: repair}, limits)
				if len(all) == 0 || !slices.ContainsFunc(all, func(f store.Finding) bool { return f.Kind == c.kinds[0] }) {
					t.Errorf("repair %t: findings %+v, want %s", repair, all, c.kinds[0])
				}
				for _, f := range all {
					if !slices.Contains(c.kinds, f.Kind) || repair && c.repair && !f.Repaired || f.Repaired && (!repair || !c.repair && f.Kind != FindingIndexSums) {
						t.Errorf("repair %t: unexpected finding %+v", repair, f)
					}
				}
				s.d.quiet(t)
			}
			if !c.repair {
				return
			}
			s.d.wantWell(t, store.FsckOptions{Deep: true})
		})
	}
}
