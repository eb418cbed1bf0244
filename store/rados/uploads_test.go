//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	librados "herald/rados"
	"herald/store"
	"herald/store/storetest"
)

// putPart uploads one part.
func putPart(ctx context.Context, b store.Uploads, key, id string, number int, data string) error {
	w, err := b.CreatePart(ctx, key, id, number, store.CreateHint{Size: int64(len(data))})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, data); err != nil {
		return errors.Join(err, w.Abort())
	}
	_, err = w.Commit(ctx, store.CommitOptions{ETag: storetest.ETagOf(data)})
	return err
}

// randomUpload makes an upload of a key, in which parts are replaced and left
// out, and completes or aborts it, or leaves it.
func randomUpload(ctx context.Context, r *rand.Rand, b store.Uploads, key string, opts store.CommitOptions) error {
	id := store.NewOpID().String()
	if err := b.CreateUpload(ctx, store.Upload{Key: key, ID: id, Initiated: time.Now()}); err != nil {
		return fmt.Errorf("create upload: %w", err)
	}
	parts := map[int]string{}
	for range 1 + r.IntN(4) {
		number := 1 + r.IntN(3)
		data := strings.Repeat(string(rune('a'+r.IntN(26))), []int{0, 10, maxInline + 1, tailSize + 1}[r.IntN(4)])
		if err := putPart(ctx, b, key, id, number, data); err != nil {
			return fmt.Errorf("part %d: %w", number, err)
		}
		parts[number] = data
	}
	var list []store.CompletedPart
	for n := 1; n <= 3; n++ {
		if data, ok := parts[n]; ok && (len(list) == 0 || r.IntN(4) > 0) {
			list = append(list, store.CompletedPart{Number: n, ETag: storetest.ETagOf(data)})
		}
	}
	var err error
	switch r.IntN(8) {
	case 0:
	case 1:
		err = b.AbortUpload(ctx, key, id)
	default:
		_, err = b.Complete(ctx, key, id, list, opts)
	}
	return err
}

// eachUpload calls f with all uploads that have an object.
func (d *Driver) eachUpload(t *testing.T, bid string, f func(u *upload)) {
	t.Helper()
	for oid, err := range d.heads.Objects(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		id, ok := strings.CutPrefix(oid, prefixUpload+bid+".")
		if !ok {
			continue
		}
		u, err := d.readUpload(t.Context(), uploadName{bid, id})
		if errors.Is(err, store.ErrNoSuchUpload) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		f(u)
	}
}

// checkUploads takes the tails of which uploads know out of the map; those of
// parts that can still be completed must be there. all is what tails was at
// first. Each upload must have an entry in the index, without which no sweep
// finds it.
func (d *Driver) checkUploads(t *testing.T, b *bucket, all, tails map[string]bool) {
	t.Helper()
	listed := map[string]bool{}
	page, err := b.x.listUploads(t.Context(), store.UploadListOptions{Max: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.uploads {
		listed[e.id] = true
	}
	drop := func(tag store.OpID) {
		for oid := range tails {
			if strings.HasPrefix(oid, prefixTail+b.bid+"."+tag.String()+".") {
				delete(tails, oid)
			}
		}
		delete(tails, tailsName{b.bid, tag}.refsOID())
	}
	n := 0
	d.eachUpload(t, b.bid, func(u *upload) {
		n++
		if !listed[u.id] {
			t.Errorf("upload %s is not in the index", u.id)
		}
		err := eachPair(t.Context(), d.heads, u.oid(), "", "", func(p librados.Pair) bool {
			tag, ok := store.ParseOpID(p.Key[min(len(p.Key), 2):])
			switch {
			case strings.HasPrefix(p.Key, keyPart):
				part, err := decodePart(p)
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range part.runs() {
					if !s.ref.IsZero() && u.end.state == uploadLive {
						d.checkRef(t, b.bid, s)
					}
					for n := range tailCount(s.size) {
						if oid := tailOID(s.in(b.bid), s.tag, n); u.end.state == uploadLive && !all[oid] {
							t.Errorf("part %d of upload %s lacks %s", part.Number, u.id, oid)
						}
					}
				}
				drop(part.tag)
			case ok:
				drop(tag)
			}
			return true
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Logf("%d uploads", n)
}

// uploadDeath is one gateway that dies at a point of an upload's life.
type uploadDeath struct {
	place  *testPlace
	bucket *bucket
	id     string
	parts  map[int]string // that were acknowledged
	maybe  string         // a part 1 that was not
	ended  error          // answer of Complete or AbortUpload
	tried  bool           // to end it
}

// live does what clients do until the gateway is dead.
func (u *uploadDeath) live(ctx context.Context, abort bool, dead func() bool) {
	b := u.bucket
	u.id = store.NewOpID().String()
	if b.CreateUpload(ctx, store.Upload{Key: "k", ID: u.id, Initiated: time.Now().Add(-time.Hour)}) != nil {
		return
	}
	large := strings.Repeat("large", tailSize/4)
	for _, p := range []struct {
		number int
		data   string
	}{{3, "left out"}, {1, large}, {1, large[1:]}, {2, "small"}} {
		if p.number == 1 {
			u.maybe = p.data
		}
		err := putPart(ctx, b, "k", u.id, p.number, p.data)
		if err == nil {
			u.parts[p.number] = p.data
		}
		if err != nil || dead() {
			return
		}
	}
	u.tried = true
	if abort {
		u.ended = b.AbortUpload(ctx, "k", u.id)
		return
	}
	_, u.ended = b.Complete(ctx, "k", u.id, u.named(), store.CommitOptions{ETag: "whole"})
}

// named are the parts that are completed.
func (u *uploadDeath) named() (list []store.CompletedPart) {
	for _, n := range []int{1, 2} {
		if data, ok := u.parts[n]; ok {
			list = append(list, store.CompletedPart{Number: n, ETag: storetest.ETagOf(data)})
		}
	}
	return list
}

// TestUploads_DieAtPoints lets a gateway die at each step of an upload: another
// finds the upload as it was acknowledged, or the object, and goes on; no tail
// is lost, and none is left that nothing knows of.
func TestUploads_DieAtPoints(t *testing.T) {
	points := []string{
		"upload.listed", "part.announced", "part.written", "part.replaced",
		"upload.sealed", "head.write", "head.written", "upload.committed",
		"upload.ended", "upload.purged", "upload.removed", "",
	}
	for _, abort := range []bool{false, true} {
		for _, point := range points {
			if abort && (strings.HasPrefix(point, "head.") || point == "upload.sealed" || point == "upload.committed") {
				continue
			}
			t.Run(fmt.Sprint(point, " abort=", abort), func(t *testing.T) {
				t.Parallel()
				dieAt(t, point, abort)
			})
		}
	}
}

func dieAt(t *testing.T, point string, abort bool) {
	u := &uploadDeath{place: newPlace(t), parts: map[int]string{}}
	var mu sync.Mutex
	isDead, nth := false, 0
	dead := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return isDead
	}
	d := u.place.open(t, Options{Logger: slog.New(slog.DiscardHandler), Fault: func(at string) error {
		mu.Lock()
		defer mu.Unlock()
		if at == point {
			nth++
			isDead = isDead || nth == 2 || !strings.HasPrefix(point, "part.") || point == "part.replaced"
		}
		if !isDead {
			return nil
		}
		return fmt.Errorf("dead: %w", store.ErrUnknownOutcome)
	}})
	if err := d.CreateBucket(t.Context(), testBucket); err != nil {
		t.Fatal(err)
	}
	sb, err := d.OpenBucket(t.Context(), testBucket)
	if err != nil {
		t.Fatal(err)
	}
	u.bucket = sb.(*bucket)
	u.live(t.Context(), abort, dead)
	if point == "" || strings.HasPrefix(point, "upload.") && u.tried {
		d.quiet(t)
	}
	if dead() != (point != "") {
		t.Fatalf("the point was not met")
	}
	d.crash(t)
	u.check(t, point, abort)
}

// check looks at what another gateway makes of it.
func (u *uploadDeath) check(t *testing.T, point string, abort bool) {
	t.Helper()
	ctx := t.Context()
	d := u.place.open(t, Options{})
	sb, err := d.OpenBucket(ctx, testBucket)
	if err != nil {
		t.Fatal(err)
	}
	b := sb.(*bucket)
	_, parts, _, listErr := b.ListParts(ctx, "k", u.id, 0, 100)
	page, err := b.ListUploads(ctx, store.UploadListOptions{Max: 10})
	if err != nil || (len(page.Uploads) == 1) != (listErr == nil) {
		t.Errorf("ListParts = %v, ListUploads = %+v, %v", listErr, page, err)
	}
	got, _, readErr := storetest.ReadObject(ctx, b, "k", "")
	switch {
	case listErr == nil && u.tried && u.ended == nil:
		t.Errorf("the upload is still there after it ended")
	case listErr == nil:
		u.checkParts(t, parts)
		if abort {
			err = b.AbortUpload(ctx, "k", u.id)
		} else if len(u.named()) > 0 {
			_, err = b.Complete(ctx, "k", u.id, u.named(), store.CommitOptions{})
			got, _, readErr = storetest.ReadObject(ctx, b, "k", "")
		}
		if err != nil {
			t.Errorf("end the upload: %v", err)
		}
	case !errors.Is(listErr, store.ErrNoSuchUpload):
		t.Error(listErr)
	}
	if want := u.parts[1] + u.parts[2]; !abort && u.tried && (readErr != nil || got != want) {
		t.Errorf("the object has %d bytes, want %d (%v)", len(got), len(want), readErr)
	} else if abort && !errors.Is(readErr, store.ErrNoSuchKey) {
		t.Errorf("an aborted upload gave an object (%v)", readErr)
	}
	d.ageNotes(t, b.bid)
	if err := d.sweepUploadsNow(ctx, b.bid); err != nil {
		t.Error(err)
	}
	d.quiet(t)
	d.wantEnded(t, b, point == "part.announced" || point == "part.written" || point == "part.replaced")
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	u.place.check(t, testBucket)
}

// checkParts compares the parts with what was acknowledged.
func (u *uploadDeath) checkParts(t *testing.T, parts []store.Part) {
	t.Helper()
	for number, data := range u.parts {
		i := slices.IndexFunc(parts, func(p store.Part) bool { return p.Number == number })
		if i < 0 || parts[i].ETag != storetest.ETagOf(data) && (number != 1 || parts[i].ETag != storetest.ETagOf(u.maybe)) {
			t.Errorf("part %d is not what was acknowledged: %+v", number, parts)
		}
	}
}

// TestUploads_BecameHistory: a gateway dies when it has changed the head, and
// the key is changed many times before anybody looks at the upload. That it was
// completed shows by its version, by notes of garbage, or by missing tails.
func TestUploads_BecameHistory(t *testing.T) {
	for _, tt := range []struct {
		name       string
		versioning store.Versioning
		keep       time.Duration
	}{
		{"a noncurrent version", store.Enabled, 0},
		{"garbage", store.Unversioned, 0},
		{"gone", store.Unversioned, time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			b := uploadBuckets(t, p, func(point string) error {
				if point == "upload.committed" {
					return errors.New("dead")
				}
				return nil
			})
			id, all := beginUpload(t, b[0], "k", "", strings.Repeat("x", tailSize+1), "left out")
			if _, err := b[0].Complete(t.Context(), "k", id, all[:2], store.CommitOptions{Versioning: tt.versioning}); err != nil {
				t.Fatal(err)
			}
			d := p.open(t, Options{KeepReplaced: tt.keep})
			defer func() { _ = d.Close() }()
			other := &bucket{d: d, name: testBucket, bid: b[0].bid, x: d.index(b[0].bid)}
			for range maxRecent + 2 {
				if _, err := storetest.PutObject(t.Context(), other, "k", "new", store.CommitOptions{Versioning: tt.versioning}); err != nil {
					t.Fatal(err)
				}
			}
			if tt.keep > 0 {
				d.quiet(t)
			}
			if _, _, _, err := other.ListParts(t.Context(), "k", id, 0, 10); !errors.Is(err, store.ErrNoSuchUpload) {
				t.Errorf("ListParts = %v", err)
			}
			if err := putPart(t.Context(), other, "k", id, 4, "late"); !errors.Is(err, store.ErrNoSuchUpload) {
				t.Errorf("a late part = %v", err)
			}
			if err := d.sweepUploadsNow(t.Context(), b[0].bid); err != nil {
				t.Error(err)
			}
			for d.purging(t, other) {
				time.Sleep(10 * time.Millisecond)
			}
			p.check(t, testBucket)
		})
	}
}

// purging tells whether an upload is left.
func (d *Driver) purging(t *testing.T, b *bucket) (yes bool) {
	t.Helper()
	d.eachUpload(t, b.bid, func(*upload) { yes = true })
	return yes
}

// ageNotes makes the notes of parts that are being written so old that their
// writers are taken for dead.
func (d *Driver) ageNotes(t *testing.T, bid string) {
	t.Helper()
	d.eachUpload(t, bid, func(u *upload) {
		op := librados.NewWrite()
		op.AssertExists()
		n := 0
		err := eachPair(t.Context(), d.heads, u.oid(), "", keyWriter, func(p librados.Pair) bool {
			n++
			op.OmapSet(librados.Pair{Key: p.Key, Value: strconv.AppendInt(nil, time.Now().Add(-time.Hour).UnixNano(), 10)})
			return true
		})
		if err == nil && n > 0 {
			_, err = d.heads.Operate(t.Context(), u.oid(), op, 0)
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// wantEnded checks that nothing of any upload is left.
func (d *Driver) wantEnded(t *testing.T, b *bucket, mayLive bool) {
	t.Helper()
	d.eachUpload(t, b.bid, func(u *upload) {
		if !mayLive || u.end.state != uploadLive {
			t.Errorf("an upload is left in state %q", u.end.state)
		}
		err := eachPair(t.Context(), d.heads, u.oid(), "", keyWriter, func(p librados.Pair) bool {
			t.Errorf("upload %s still has %s", u.id, p.Key)
			return true
		})
		if err != nil {
			t.Error(err)
		}
	})
	page, err := b.x.listUploads(t.Context(), store.UploadListOptions{Max: 10})
	if err != nil || len(page.uploads) > 0 && !mayLive {
		t.Errorf("the index has %+v, %v", page, err)
	}
}
