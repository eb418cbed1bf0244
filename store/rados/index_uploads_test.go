//go:build rados

package rados

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herald/store"
)

// wantUploads is what listUploads has to give, all pages together.
func wantUploads(all []uploadEntry, o store.UploadListOptions) (lines []string) {
	for _, u := range all {
		rest, ok := strings.CutPrefix(u.key, o.Prefix)
		if !ok {
			continue
		}
		line := u.key + " " + u.id
		if i := strings.Index(rest, o.Delimiter); o.Delimiter != "" && i >= 0 {
			line = "prefix " + o.Prefix + rest[:i+len(o.Delimiter)]
		}
		if len(lines) == 0 || lines[len(lines)-1] != line {
			lines = append(lines, line)
		}
	}
	return lines
}

func listUploadLines(t testing.TB, x *index, o store.UploadListOptions) (lines []string) {
	t.Helper()
	for {
		p, err := x.listUploads(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		var page []string
		for _, u := range p.uploads {
			page = append(page, u.key+" "+u.id)
		}
		for _, cp := range p.commonPrefixes {
			page = append(page, "prefix "+cp)
		}
		slices.SortStableFunc(page, func(a, b string) int { // by key or prefix
			a, _, _ = strings.Cut(strings.TrimPrefix(a, "prefix "), " ")
			b, _, _ = strings.Cut(strings.TrimPrefix(b, "prefix "), " ")
			return cmp.Compare(a, b)
		})
		if lines = append(lines, page...); !p.truncated {
			return lines
		}
		if len(page) != o.Max {
			t.Fatalf("a page of %d, of %d and truncated", len(page), o.Max)
		}
		o.KeyMarker, o.UploadIDMarker = p.nextKeyMarker, p.nextIDMarker
	}
}

func TestIndex_Uploads(t *testing.T) {
	f := newIndexes(t, 2)
	f.limit(func(l *indexLimits) { l.split = 100 })
	r := rand.New(rand.NewPCG(3, 3))
	var all []uploadEntry
	add := func(n int) {
		for i := range n {
			key := []string{"a", "b/", "a/\x00", "b/c/d", "é"}[r.IntN(5)] + fmt.Sprint(r.IntN(9))
			u := uploadEntry{key: key, initiated: time.Unix(int64(r.IntN(5)), 0).UTC(), id: fmt.Sprintf("%04d", len(all)), value: []byte(key)}
			if err := f.x[i%2].addUpload(t.Context(), u); err != nil {
				t.Error(err)
			}
			if r.IntN(4) == 0 {
				if err := f.x[1-i%2].removeUpload(t.Context(), u); err != nil {
					t.Error(err)
				}
				continue
			}
			all = append(all, u)
		}
	}
	add(60)
	f.load(t, 4, 80, func() { add(60) })              // which splits shards
	slices.SortFunc(all, func(a, b uploadEntry) int { // as the ids of the same moment are
		return cmp.Or(cmp.Compare(a.key, b.key), a.initiated.Compare(b.initiated), cmp.Compare(a.id, b.id))
	})
	for _, x := range f.x {
		for _, o := range []store.UploadListOptions{
			{Max: 1000}, {Max: 7}, {Max: 3, Delimiter: "/"}, {Max: 2, Prefix: "b/"}, {Max: 1, Prefix: "b/", Delimiter: "/"}, {Max: 5, Prefix: "a/\x00"},
		} {
			if d := gocmp.Diff(wantUploads(all, o), listUploadLines(t, x, o), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("listUploads(%+v) (-want +got):\n%s", o, d)
			}
		}
	}
	if p, err := f.x[0].listUploads(t.Context(), store.UploadListOptions{Max: 10, KeyMarker: "a0", UploadIDMarker: "gone"}); err != nil || len(p.uploads) == 0 || p.uploads[0].key != "a1" {
		t.Errorf("after an upload that is gone: %+v, %v", p, err)
	}
	f.settled(t)
}

func TestIndex_UploadsOfADeletedBucket(t *testing.T) {
	f := newIndexes(t, 2)
	u := uploadEntry{key: "k", initiated: time.Now(), id: "x"}
	if err := f.x[0].addUpload(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if err := f.x[1].drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.x[0].addUpload(t.Context(), u); !errors.Is(err, store.ErrNoSuchBucket) {
		t.Errorf("addUpload = %v", err)
	}
	dropped := ""
	f.x[0].env.dropUpload = func(_ context.Context, bid, key, id string) error {
		dropped = bid + " " + key + " " + id
		return nil
	}
	if gone, err := f.x[0].sweep(t.Context()); !gone || err != nil || dropped != f.x[0].bid+" k x" {
		t.Errorf("sweep = %t, %v, dropped %q", gone, err, dropped)
	}
}
