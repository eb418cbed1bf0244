package posix

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"herald/store"
)

// ListUploads implements store.Uploads.
func (b *bucket) ListUploads(_ context.Context, opts store.UploadListOptions) (*store.UploadPage, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.leave()
	page := &store.UploadPage{}
	if opts.Max <= 0 {
		return page, nil
	}
	all, err := b.d.uploads.table(b.d, b.name)
	if err != nil {
		return nil, fmt.Errorf("list uploads of %s: %w", b.name, err)
	}
	for i := firstUpload(all, &opts); i < len(all) && strings.HasPrefix(all[i].key, opts.Prefix); {
		if len(page.Uploads)+len(page.CommonPrefixes) == opts.Max {
			page.Truncated = true
			return page, nil
		}
		if cp, ok := uploadPrefix(all[i].key, &opts); ok {
			page.CommonPrefixes = append(page.CommonPrefixes, cp)
			page.NextKeyMarker, page.NextUploadIDMarker = cp, ""
			i = skipPrefix(all, i, cp)
			continue
		}
		if up, err := b.readUpload(all[i].id); err == nil { // else it has just ended
			page.Uploads = append(page.Uploads, up)
			page.NextKeyMarker, page.NextUploadIDMarker = up.Key, up.ID
		}
		i++
	}
	page.NextKeyMarker, page.NextUploadIDMarker = "", ""
	return page, nil
}

func (b *bucket) readUpload(id string) (store.Upload, error) {
	blob, err := b.d.readHome(uploadDir(b.name, id) + "/upload")
	if err != nil {
		return store.Upload{}, err
	}
	return decodeUpload(blob)
}

// uploadPrefix returns the common prefix that a key is part of, if there is
// one.
func uploadPrefix(key string, opts *store.UploadListOptions) (string, bool) {
	rest, ok := strings.CutPrefix(key, opts.Prefix)
	if !ok || opts.Delimiter == "" {
		return "", false
	}
	i := strings.Index(rest, opts.Delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(opts.Prefix)+i+len(opts.Delimiter)], true
}

// firstUpload returns where a page begins.
func firstUpload(all []upNote, opts *store.UploadListOptions) int {
	i := sort.Search(len(all), func(i int) bool { return all[i].key >= opts.Prefix })
	if opts.KeyMarker == "" {
		return i
	}
	if cp, ok := uploadPrefix(opts.KeyMarker, opts); ok {
		return max(i, skipPrefix(all, 0, cp))
	}
	past := sort.Search(len(all), func(i int) bool { return all[i].key > opts.KeyMarker })
	if opts.UploadIDMarker != "" {
		first := sort.Search(len(all), func(i int) bool { return all[i].key >= opts.KeyMarker })
		at := slices.IndexFunc(all[first:past], func(n upNote) bool { return n.id == opts.UploadIDMarker })
		if at >= 0 {
			past = first + at + 1
		}
	}
	return max(i, past)
}

// skipPrefix returns the place, at or after i, of the first upload behind all
// that begin with the prefix.
func skipPrefix(all []upNote, i int, prefix string) int {
	return i + sort.Search(len(all)-i, func(j int) bool {
		k := all[i+j].key
		return k > prefix && !strings.HasPrefix(k, prefix)
	})
}
