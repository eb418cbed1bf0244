package notify

import (
	"errors"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMergeRules(t *testing.T) {
	topic := func(n string) string { return TopicARN("default", "", n) }
	a := Rule{ID: "a", TopicARN: topic("1"), Events: []EventType{ObjectCreatedPut}}
	a2 := Rule{ID: "a", TopicARN: topic("2"), Events: []EventType{ObjectCreatedPut}}
	b := Rule{ID: "b", TopicARN: topic("1")}
	bDefault := b
	bDefault.Events = DefaultEvents()
	aNew := a
	aNew.Filter.Key.FilterRules = []FilterRule{{"prefix", "x"}}
	have := MergeRules(nil, []Rule{a, b})
	if d := cmp.Diff([]Rule{a, bDefault}, have); d != "" {
		t.Error(d)
	}
	have = MergeRules(have, []Rule{a2, aNew})
	if d := cmp.Diff([]Rule{aNew, bDefault, a2}, have); d != "" {
		t.Error(d)
	}
	back, err := ParseRules(FormatRules(have))
	if err != nil || len(back) != 3 {
		t.Fatal(back, err)
	}
	if r, err := FindRule(have, "a"); err != nil || r.TopicARN != topic("1") {
		t.Error(r, err)
	}
	if _, err := FindRule(have, "z"); !errors.Is(err, ErrNoSuchNotification) {
		t.Error(err)
	}
	if got := RemoveRule(have, "a"); len(got) != 2 || got[0].ID != "b" {
		t.Error(got)
	}
	if got := RemoveRule(have, "z"); len(got) != 3 {
		t.Error(got)
	}
	if got := MergeRules(have, nil); got != nil {
		t.Error("an empty configuration must clear:", got)
	}
	if got := FormatRules(nil); got != "" {
		t.Error(got)
	}
}

func TestMergeRules_Alike(t *testing.T) {
	put := []Rule{
		{ID: "x_y", TopicARN: TopicARN("default", "", "z")},
		{ID: "x", TopicARN: TopicARN("default", "", "y_z")},
	}
	if got := MergeRules(nil, put); len(got) != len(put) {
		t.Errorf("MergeRules kept %d of %d rules: %+v", len(got), len(put), got)
	}
	if got := MergeRules(put, put); len(got) != len(put) {
		t.Errorf("MergeRules made %d of %d rules: %+v", len(got), len(put), got)
	}
}

// A bucket moves to the topic of the same name of its owner's new account when
// its notification is put again.
func TestMergeRules_OtherTenant(t *testing.T) {
	user := Rule{ID: "x", TopicARN: TopicARN("default", "", "t"), Events: []EventType{ObjectCreatedPut}}
	account := user
	account.TopicARN = TopicARN("default", "RGW98765432101234567", "t")
	if d := cmp.Diff([]Rule{account}, MergeRules([]Rule{user}, []Rule{account})); d != "" {
		t.Error(d)
	}
}

// A document of 1 MiB has that many rules; the work must not grow with their
// square (it took minutes).
func TestMergeRules_Many(t *testing.T) {
	const n = 20_000
	put := make([]Rule, n)
	for i := range put {
		put[i] = Rule{ID: strconv.Itoa(i), TopicARN: TopicARN("default", "", "t")}
	}
	if got := MergeRules(MergeRules(nil, put), put); len(got) != n || got[n-1].ID != put[n-1].ID {
		t.Errorf("MergeRules gave %d rules, want %d", len(got), n)
	}
}
