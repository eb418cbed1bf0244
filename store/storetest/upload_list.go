package storetest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"herald/store"
)

func uploadListCases() []testCase {
	return []testCase{
		{"ListParts_Paging", uploadListParts},
		{"ListUploads", uploadList},
		{"ListUploads_Model", uploadListModel},
		{"TenThousandParts", uploadTenThousand},
	}
}

func (f *Fixture) listUploads(o store.UploadListOptions) *store.UploadPage {
	f.Helper()
	p, err := f.ups().ListUploads(f.Context(), o)
	if err != nil {
		f.Fatalf("ListUploads(%+v) = %v", o, err)
	}
	if len(p.Uploads)+len(p.CommonPrefixes) > o.Max {
		f.Fatalf("ListUploads(%+v) has %d uploads and %d prefixes", o, len(p.Uploads), len(p.CommonPrefixes))
	}
	return p
}

func uploadListParts(f *Fixture) {
	u := f.begin("k")
	for n := 1; n <= 25; n++ {
		u.part(n*3, fmt.Sprint(n))
	}
	f.Crash()
	for _, size := range []int{1, 4, 5, 24, 25, 26, 1000} {
		var got []int
		for after, more := 0, true; more; {
			var parts []store.Part
			var err error
			_, parts, more, err = f.ups().ListParts(f.Context(), "k", u.id, after, size)
			if err != nil || len(parts) > size || len(parts) == 0 {
				f.Fatalf("ListParts(after %d, max %d) = %d parts, %v", after, size, len(parts), err)
			}
			for _, p := range parts {
				got = append(got, p.Number)
			}
			after = parts[len(parts)-1].Number
		}
		if len(got) != 25 || !slices.IsSorted(got) || got[24] != 75 {
			f.Errorf("pages of %d parts: %v", size, got)
		}
	}
	if _, parts, more, err := f.ups().ListParts(f.Context(), "k", u.id, 75, 10); err != nil || more || len(parts) != 0 {
		f.Errorf("ListParts after the last = %v, %t, %v", parts, more, err)
	}
	if _, parts, more, err := f.ups().ListParts(f.Context(), "k", u.id, 0, 0); err != nil || more || len(parts) != 0 {
		f.Errorf("ListParts(max 0) = %v, %t, %v", parts, more, err)
	}
}

// modelUpload is one upload in the model of ListUploads.
type modelUpload struct {
	key, id   string
	initiated time.Time
}

func sortUploads(ups []modelUpload) {
	slices.SortFunc(ups, func(a, b modelUpload) int {
		return cmp.Or(cmp.Compare(a.key, b.key), a.initiated.Compare(b.initiated), cmp.Compare(a.id, b.id))
	})
}

func (f *Fixture) beginAt(key string, initiated time.Time) modelUpload {
	f.Helper()
	m := modelUpload{key, store.NewOpID().String(), initiated}
	if err := f.ups().CreateUpload(f.Context(), store.Upload{Key: key, ID: m.id, Initiated: initiated}); err != nil {
		f.Fatalf("CreateUpload(%q) = %v", key, err)
	}
	return m
}

func uploadList(f *Fixture) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if p := f.listUploads(store.UploadListOptions{Max: 10}); p.Truncated || len(p.Uploads) != 0 {
		f.Errorf("ListUploads of nothing = %+v", p)
	}
	var ups []modelUpload
	for i, k := range []string{"b", "a", "a/x", "a", "c/d", "a"} {
		ups = append(ups, f.beginAt(k, start.Add(time.Duration(60-i)*time.Second))) // later ones begun "earlier"
	}
	f.Put("a", "an object is no upload")
	f.Crash()
	sortUploads(ups)
	p := f.listUploads(store.UploadListOptions{Max: 10})
	for i, u := range p.Uploads {
		if u.Key != ups[i].key || u.ID != ups[i].id || !u.Initiated.Equal(ups[i].initiated) {
			f.Errorf("upload %d = %+v, want %+v", i, u, ups[i])
		}
	}
	if len(p.Uploads) != len(ups) || p.Truncated {
		f.Errorf("ListUploads = %d uploads, truncated %t", len(p.Uploads), p.Truncated)
	}
	if p := f.listUploads(store.UploadListOptions{Max: 0}); p.Truncated || len(p.Uploads) != 0 {
		f.Errorf("ListUploads(max 0) = %+v", p)
	}
	if p := f.listUploads(store.UploadListOptions{KeyMarker: "a", Max: 10}); len(p.Uploads) != 3 {
		f.Errorf("ListUploads(key marker a) = %+v", p.Uploads)
	}
}

// modelList is ListUploads in the plainest way.
func modelList(ups []modelUpload, o store.UploadListOptions) (lines []string, truncated bool) {
	markerAt := slices.IndexFunc(ups, func(u modelUpload) bool { return u.key == o.KeyMarker && u.id == o.UploadIDMarker })
	for i, u := range ups {
		rest, ok := strings.CutPrefix(u.key, o.Prefix)
		if !ok {
			continue
		}
		line := u.key + " " + u.id
		past := u.key > o.KeyMarker || u.key == o.KeyMarker && markerAt >= 0 && i > markerAt
		if at := strings.Index(rest, o.Delimiter); o.Delimiter != "" && at >= 0 {
			cp := o.Prefix + rest[:at+len(o.Delimiter)]
			line, past = "prefix "+cp, cp > o.KeyMarker
		}
		if !past || len(lines) > 0 && lines[len(lines)-1] == line {
			continue
		}
		if len(lines) == o.Max {
			return lines, true
		}
		lines = append(lines, line)
	}
	return lines, false
}

func uploadPageLines(p *store.UploadPage) []string {
	type line struct{ name, text string }
	var ls []line
	for _, u := range p.Uploads {
		ls = append(ls, line{u.Key, u.Key + " " + u.ID})
	}
	for _, c := range p.CommonPrefixes {
		ls = append(ls, line{c, "prefix " + c})
	}
	sort.SliceStable(ls, func(i, j int) bool { return ls[i].name < ls[j].name })
	var out []string
	for _, l := range ls {
		out = append(out, l.text)
	}
	return out
}

func uploadListModel(f *Fixture) {
	r := rand.New(rand.NewPCG(4, 4))
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var ups []modelUpload
	for range 80 {
		ups = append(ups, f.beginAt(randomKey(r), start.Add(time.Duration(r.IntN(1000))*time.Second)))
	}
	sortUploads(ups)
	for i := range 150 {
		if i == 75 {
			f.Crash()
		}
		o := store.UploadListOptions{Max: 1 + r.IntN(9), Delimiter: []string{"", "/", "a"}[r.IntN(3)]}
		if r.IntN(2) == 0 {
			o.Prefix = randomKey(r)[:1]
		}
		if r.IntN(2) == 0 {
			u := ups[r.IntN(len(ups))]
			o.KeyMarker = u.key
			if r.IntN(2) == 0 {
				o.UploadIDMarker = u.id
			}
		}
		want, truncated := modelList(ups, o)
		p := f.listUploads(o)
		if diff := gocmp.Diff(want, uploadPageLines(p), cmpopts.EquateEmpty()); diff != "" || p.Truncated != truncated {
			f.Fatalf("ListUploads(%+v): truncated %t, want %t (-want +got):\n%s", o, p.Truncated, truncated, diff)
		}
		f.compareUploadPages(ups, o)
	}
}

func (f *Fixture) compareUploadPages(ups []modelUpload, o store.UploadListOptions) {
	f.Helper()
	o.KeyMarker, o.UploadIDMarker = "", ""
	all := o
	all.Max = 1 << 30
	want, _ := modelList(ups, all)
	var got []string
	for {
		p := f.listUploads(o)
		got = append(got, uploadPageLines(p)...)
		if !p.Truncated {
			break
		}
		o.KeyMarker, o.UploadIDMarker = p.NextKeyMarker, p.NextUploadIDMarker
	}
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		f.Fatalf("all pages of ListUploads(%+v) (-want +got):\n%s", o, diff)
	}
}

// uploadTenThousand: as many parts as S3 allows.
func uploadTenThousand(f *Fixture) {
	u := f.begin("k")
	start := time.Now()
	fail := make(chan error, 16)
	for w := range 16 {
		go func() {
			var err error
			for n := w + 1; n <= 10_000 && err == nil; n += 16 {
				err = u.tryPart(f.Context(), n, tinyPart(n))
			}
			fail <- err
		}()
	}
	for range 16 {
		if err := <-fail; err != nil {
			f.Fatalf("part = %v", err)
		}
	}
	for n := 1; n <= 10_000; n++ {
		u.parts[n] = tinyPart(n)
	}
	uploaded := time.Now()
	u.check()
	u.finish()
	f.Logf("10,000 parts: uploaded in %v, completed in %v", uploaded.Sub(start), time.Since(uploaded))
	_, data := u.completed()
	f.Crash()
	f.Want("k", "", data)
}

func tinyPart(n int) string { return fmt.Sprintf("part %05d;", n) }
