package lifecycle

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"herald/notify"
	"herald/store"
)

func TestValidate(t *testing.T) {
	size := func(n int64) *int64 { return &n }
	ok := Rule{ID: "r", Days: 1}
	many := make([]Rule, MaxRules+1)
	for i := range many {
		many[i].Days = 1
	}
	tests := []struct {
		name  string
		rules []Rule
		want  error
	}{
		{"One", []Rule{ok}, nil},
		{"None", nil, ErrMalformed},
		{"TooMany", many, ErrMalformed},
		{"SameID", []Rule{ok, ok}, ErrArgument},
		{"LongID", []Rule{{ID: strings.Repeat("a", 256), Days: 1}}, ErrArgument},
		{"NoAction", []Rule{{ID: "r"}}, ErrRequest},
		{"Noon", []Rule{{Date: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}}, ErrArgument},
		{"AbortByTag", []Rule{{AbortDays: 1, Filter: Filter{Tags: []Tag{{"k", "v"}}}}}, ErrRequest},
		{"MarkerBySize", []Rule{{DeleteMarker: true, Filter: Filter{Greater: size(1)}}}, ErrRequest},
		{"Sizes", []Rule{{Days: 1, Filter: Filter{Greater: size(5), Less: size(5)}}}, ErrRequest},
		{"TagTwice", []Rule{{Days: 1, Filter: Filter{Tags: []Tag{{"k", "v"}, {"k", "w"}}}}}, ErrRequest},
		{"Newer", []Rule{{NoncurrentDays: 1, NewerVersions: 101}}, ErrArgument},
	}
	for _, tt := range tests {
		if err := Validate(tt.rules); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	rules := []Rule{{Days: 1}, {Days: 2}}
	if err := Validate(rules); err != nil || rules[0].ID == "" || rules[0].ID == rules[1].ID {
		t.Errorf("generated IDs %v, %v", rules, err)
	}
}

func TestDecide(t *testing.T) {
	day := 24 * time.Hour
	now := time.Date(2026, 6, 10, 6, 0, 0, 0, time.UTC)
	clock := Clock{Now: func() time.Time { return now }}
	old := func(d time.Duration) *store.Info { return &store.Info{Key: "a/k", Size: 10, ModTime: now.Add(-d)} }
	marker := func(d time.Duration) *store.Info {
		m := old(d)
		m.DeleteMarker = true
		return m
	}
	current := place{latest: true, only: true}
	noncurrent := func(d time.Duration, newer int) place { return place{since: now.Add(-d), newer: newer} }
	nine := int64(9)
	tests := []struct {
		name string
		rule Rule
		v    *store.Info
		at   place
		want action
	}{
		{"Days", Rule{Days: 1}, old(2 * day), current, expireCurrent},
		{"DaysNotYet", Rule{Days: 2}, old(2 * day), current, keep},      // at the next midnight
		{"Centuries", Rule{Days: 200_000}, old(9 * day), current, keep}, // more than a time.Duration holds
		{"Forever", Rule{Days: math.MaxInt32}, old(9 * day), current, keep},
		{"NoncurrentForever", Rule{NoncurrentDays: math.MaxInt32}, old(9 * day), noncurrent(2*day, 0), keep},
		{"Disabled", Rule{Days: 1}, old(9 * day), current, keep},
		{"Prefix", Rule{Days: 1, Filter: Filter{Prefix: "b/"}}, old(9 * day), current, keep},
		{"Less", Rule{Days: 1, Filter: Filter{Less: &nine}}, old(9 * day), current, keep},
		{"Greater", Rule{Days: 1, Filter: Filter{Greater: &nine}}, old(9 * day), current, expireCurrent},
		{"Tag", Rule{Days: 1, Filter: Filter{Tags: []Tag{{"a b", "c"}}}}, old(9 * day), current, expireCurrent},
		{"OtherTag", Rule{Days: 1, Filter: Filter{Tags: []Tag{{"a b", "d"}}}}, old(9 * day), current, keep},
		{"DatePast", Rule{Date: now.Truncate(day)}, old(day), current, expireCurrent},
		{"DateFuture", Rule{Date: now.Truncate(day).Add(day)}, old(9 * day), current, keep},
		{"Noncurrent", Rule{NoncurrentDays: 1}, old(9 * day), noncurrent(2*day, 0), expireNoncurrent},
		{"NoncurrentYoung", Rule{NoncurrentDays: 3}, old(9 * day), noncurrent(2*day, 0), keep},
		{"Newer", Rule{NoncurrentDays: 1, NewerVersions: 2}, old(9 * day), noncurrent(2*day, 1), keep},
		{"NewerBeyond", Rule{NoncurrentDays: 1, NewerVersions: 2}, old(9 * day), noncurrent(2*day, 2), expireNoncurrent},
		{"NoncurrentOfCurrent", Rule{NoncurrentDays: 1}, old(9 * day), current, keep},
		{"Marker", Rule{DeleteMarker: true}, marker(0), current, expireMarker},
		{"MarkerHides", Rule{DeleteMarker: true}, marker(0), place{latest: true}, keep},
		{"MarkerByDays", Rule{Days: 1}, marker(2 * day), current, expireMarker},
		{"MarkerYoung", Rule{Days: 5}, marker(2 * day), current, keep},
	}
	attrs := func() store.Attrs { return store.Attrs{notify.AttrTags: "a+b=c&x=y"} }
	for _, tt := range tests {
		tt.rule.Enabled = tt.name != "Disabled"
		if got := clock.decide([]Rule{tt.rule}, tt.v, tt.at, attrs); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	debug := Clock{Debug: 10 * time.Second, Now: clock.Now}
	if got := debug.decide([]Rule{{Enabled: true, Days: 2}}, old(20*time.Second), current, nil); got != expireCurrent {
		t.Errorf("with short days: %d", got)
	}
	debug.Debug = 24 * time.Hour
	if got := debug.decide([]Rule{{Enabled: true, Days: math.MaxInt32}}, old(20*time.Second), current, nil); got != keep {
		t.Errorf("with many debug days: %d", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`[{"id":"r","enabled":true,"days":1,"filter":{"tags":[{"k":"a","v":"b"}],"gt":1}}]`)
	f.Add(`[{"date":"2026-01-01T00:00:00Z"}]`)
	f.Add(`{}`)
	f.Fuzz(func(_ *testing.T, s string) {
		rules, err := Parse(s)
		if err != nil {
			return
		}
		_ = Validate(rules)
		_, _, _ = Expiry(rules, &store.Info{Key: "k", ModTime: time.Unix(1, 0), Attrs: store.Attrs{notify.AttrTags: s}})
	})
}
