package store_test

import (
	"errors"
	"strconv"
	"testing"

	"herald/store"
)

func TestAttrCache(t *testing.T) {
	var c store.AttrCache[int]
	decodes := 0
	decode := func(attr string) (int, error) {
		decodes++
		return strconv.Atoi(attr)
	}
	for _, tt := range []struct {
		id, attr string
		want     int
		err      error
		decodes  int // in all
	}{
		{"a", "", 0, nil, 0},
		{"a", "1", 1, nil, 1},
		{"a", "1", 1, nil, 1},
		{"b", "2", 2, nil, 2},
		{"a", "3", 3, nil, 3},
		{"b", "2", 2, nil, 3},
		{"a", "x", 0, strconv.ErrSyntax, 4},
		{"a", "3", 3, nil, 4},
		{"a", "", 0, nil, 4},
	} {
		b := &store.BucketInfo{ID: tt.id, Attrs: store.Attrs{"n": tt.attr}}
		got, err := c.Of(b, "n", decode)
		if got != tt.want || !errors.Is(err, tt.err) || decodes != tt.decodes {
			t.Errorf("Of(%s, %q) = %d, %v after %d decodes, want %d, %v, %d", tt.id, tt.attr, got, err, decodes, tt.want, tt.err, tt.decodes)
		}
	}
	for i := range 10_000 { // more than it keeps
		b := &store.BucketInfo{ID: strconv.Itoa(i), Attrs: store.Attrs{"n": strconv.Itoa(i)}}
		if got, err := c.Of(b, "n", decode); got != i || err != nil {
			t.Fatalf("Of(%d) = %d, %v", i, got, err)
		}
	}
}
