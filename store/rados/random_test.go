//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	librados "herald/rados"
	"herald/store"
	"herald/store/storetest"
)

// lossy answers some operations on heads as if the cluster had not: before
// they were sent, or after they were done.
func lossy(one int) func(string) error {
	return func(point string) error {
		if (point == "head.write" || point == "head.written") && rand.IntN(one) == 0 {
			return syscall.ETIMEDOUT
		}
		return nil
	}
}

// TestRandomChanges lets two gateways change the same keys at random, while
// answers are lost, and then compares heads, listings and tails.
func TestRandomChanges(t *testing.T) { newPlace(t).randomChanges(t, func() {}) }

// randomChanges is what the random tests have in common; meanwhile is done
// beside the load.
func (p *testPlace) randomChanges(t *testing.T, meanwhile func()) {
	t.Helper()
	gateways := []*Driver{p.open(t, Options{Fault: lossy(10)}), p.open(t, Options{Fault: lossy(10)})}
	if err := gateways[0].CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	steps := 150
	if testing.Short() {
		steps = 40
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			b, err := packing{gateways[i%2], new(atomic.Int64)}.OpenBucket(t.Context(), "bucket")
			if err != nil {
				t.Error(err)
				return
			}
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range steps {
				if err := randomChange(t.Context(), r, b); err != nil && !errors.Is(err, store.ErrUnknownOutcome) {
					t.Error(err)
					return
				}
			}
		})
	}
	meanwhile()
	wg.Wait()
	for _, d := range gateways {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	p.check(t, "bucket")
}

// randomChange makes one change, of any kind, of one of a few keys.
func randomChange(ctx context.Context, r *rand.Rand, b store.Bucket) error {
	key := fmt.Sprint("k", r.IntN(5))
	versioning := store.Versioning(r.IntN(3))
	switch r.IntN(6) {
	case 5:
		if err := randomCopy(ctx, r, b, key, versioning); err != nil {
			return fmt.Errorf("copy to %s: %w", key, err)
		}
	case 4:
		if err := randomUpload(ctx, r, b.(store.Uploads), key, store.CommitOptions{Versioning: versioning}); err != nil {
			return fmt.Errorf("upload of %s: %w", key, err)
		}
	case 0, 1:
		size := []int{0, 10, maxInline, maxInline + 1, tailSize + 1}[r.IntN(5)]
		data := strings.Repeat(string(rune('a'+r.IntN(26))), size)
		out, err := storetest.PutObject(ctx, b, key, data, store.CommitOptions{Versioning: versioning})
		if err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
		got, _, err := storetest.ReadObject(ctx, b, key, out.Info.VersionID)
		if err == nil && out.Info.VersionID != store.NullVersion && got != data {
			err = errors.New("other bytes")
		}
		if err != nil && !errors.Is(err, store.ErrNoSuchVersion) && !errors.Is(err, store.ErrDeleteMarker) {
			return fmt.Errorf("read %s: %w", key, err)
		}
	case 2:
		id := ""
		if page, err := b.List(ctx, store.ListOptions{Versions: true, Prefix: key, Max: 10}); err != nil {
			return fmt.Errorf("list: %w", err)
		} else if n := len(page.Entries); n > 0 && r.IntN(2) == 0 {
			id = page.Entries[r.IntN(n)].VersionID
		}
		if _, err := b.Remove(ctx, key, id, store.RemoveOptions{Versioning: versioning}); err != nil {
			return fmt.Errorf("remove %s %q: %w", key, id, err)
		}
	default:
		_, err := b.Update(ctx, key, "", func(i *store.Info) (store.Attrs, error) {
			return store.Attrs{store.AttrOwner: fmt.Sprint(r.IntN(100))}, nil
		})
		if err != nil && !errors.Is(err, store.ErrNoSuchKey) && !errors.Is(err, store.ErrDeleteMarker) {
			return fmt.Errorf("update %s: %w", key, err)
		}
	}
	return nil
}

// TestDrivers_LeaveNoTails: gateways die in the middle of changes; when their
// marks are repaired, no tail is lost, and none is left that nothing knows of.
func TestDrivers_LeaveNoTails(t *testing.T) {
	g := newGateways(t, newPlace(t), 2, mortal)
	g.die(t, func() {})
	g.place.check(t, testBucket)
}

// check compares the listings of buckets with their heads, and looks for tails
// that are missing, or that nothing knows of. No other bucket may have any.
func (p *testPlace) check(t *testing.T, names ...string) {
	t.Helper()
	d := p.open(t, Options{})
	defer func() { _ = d.Close() }()
	_, tails := d.objects(t, "")
	all := maps.Clone(tails)
	for _, name := range names {
		sb, err := d.OpenBucket(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		d.checkBucket(t, sb.(*bucket), all, tails)
	}
	d.checkRefs(t, all, tails)
	for oid := range tails {
		t.Errorf("nothing uses %s", oid)
	}
}

// checkBucket compares the listing of a bucket with its heads, and takes the
// tails that it uses out of the map.
func (d *Driver) checkBucket(t *testing.T, b *bucket, all, tails map[string]bool) {
	t.Helper()
	keys, _ := d.objects(t, b.bid)
	var want []string
	for _, key := range keys {
		want = append(want, d.checkKey(t, b.head(key), tails)...)
	}
	listed := listLines(t, b)
	if !slices.Equal(want, listed) {
		t.Errorf("listing:\n%s\nheads:\n%s", strings.Join(listed, "\n"), strings.Join(want, "\n"))
	}
	d.checkUploads(t, b, all, tails)
	d.wantWell(t, store.FsckOptions{})
	t.Logf("%d heads, %d versions", len(keys), len(want))
}

// objects returns the keys of a bucket that have heads, sorted, and the names
// of all tails and lists of references.
func (d *Driver) objects(t *testing.T, bid string) (keys []string, tails map[string]bool) {
	t.Helper()
	tails = map[string]bool{}
	pools := []*librados.IO{d.heads}
	if d.data != d.heads {
		pools = append(pools, d.data)
	}
	for _, io := range pools {
		for oid, err := range io.Objects(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(oid, prefixTail) || strings.HasPrefix(oid, prefixRefs) {
				tails[oid] = true
			} else if esc, ok := strings.CutPrefix(oid, prefixHead+bid+"."); ok {
				key, ok := unescapeKey(esc)
				if !ok {
					t.Errorf("a head named %s", oid)
				}
				keys = append(keys, key)
			}
		}
	}
	slices.Sort(keys)
	return keys, tails
}

// listLines lists all versions, page by page.
func listLines(t *testing.T, b *bucket) (lines []string) {
	t.Helper()
	for opts := (store.ListOptions{Versions: true, Max: 7}); ; {
		page, err := b.List(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			lines = append(lines, entryLine(&e))
		}
		if !page.Truncated {
			return lines
		}
		opts.Marker, opts.VersionMarker = page.NextMarker, page.NextVersionMarker
	}
}

func entryLine(i *store.Info) string {
	return fmt.Sprint(i.Key, " ", i.VersionID, " ", i.IsLatest, i.DeleteMarker, i.Size, i.ETag, i.Seq, i.Attrs[store.AttrOwner])
}

// checkKey returns what a listing has to show of a key, and takes the tails
// that it uses out of the map.
func (d *Driver) checkKey(t *testing.T, k headKey, tails map[string]bool) (lines []string) {
	t.Helper()
	h, err := d.readHead(t.Context(), k, headRead{})
	if err != nil {
		t.Fatal(err)
	}
	use := func(v *version) {
		for _, s := range v.segments {
			if !s.ref.IsZero() { // checkRefs looks at the tails
				d.checkRef(t, k.bid, s)
				delete(tails, tailsName{k.bid, s.ref}.refsOID())
				continue
			}
			for n := range tailCount(s.size) {
				if oid := tailOID(k.bid, s.tag, n); tails[oid] {
					delete(tails, oid)
				} else {
					t.Errorf("%s %s lacks %s", k.key, v.id, oid)
				}
			}
		}
	}
	var infos []store.Info
	if h.current != nil {
		infos = append(infos, *h.current.info(k.key, true, listAttrs(h.attrs)))
		use(h.current)
	}
	n := uint64(0)
	err = d.eachNoncurrent(t.Context(), k, func(v *version, attrs []byte) bool {
		infos = append(infos, *v.info(k.key, false, listAttrs(attrs)))
		use(v)
		n++
		return true
	})
	if err != nil || n != h.others {
		t.Errorf("%s has %d noncurrent versions and says %d (%v)", k.key, n, h.others, err)
	}
	err = eachPair(t.Context(), d.heads, k.oid(), "", keyGarbage, func(p librados.Pair) bool {
		size, _, err := decodeNote(p.Value)
		tag, ok := store.ParseOpID(strings.TrimPrefix(p.Key, keyGarbage))
		if err != nil || !ok {
			t.Errorf("%s: note %s: %v", k.key, p.Key, err)
		}
		for n := range tailCount(size) {
			delete(tails, tailOID(k.bid, tag, n))
		}
		delete(tails, tailsName{k.bid, tag}.refsOID())
		return true
	})
	if err != nil {
		t.Error(err)
	}
	slices.SortFunc(infos, func(a, b store.Info) int { return int(int64(b.Seq - a.Seq)) })
	for i := range infos {
		if infos[i].IsLatest != (i == 0) {
			t.Errorf("%s: the current version is not the newest", k.key)
		}
		lines = append(lines, entryLine(&infos[i]))
	}
	return lines
}
