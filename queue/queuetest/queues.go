package queuetest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"herald/queue"
)

func testQueues(t *testing.T, s *suite) {
	d := s.h.Driver()
	_, err := d.Open(s.ctx, "none")
	s.wantErr("Open(none)", err, queue.ErrNoSuchQueue)
	s.wantErr("Delete(none)", d.Delete(s.ctx, "none"), queue.ErrNoSuchQueue)
	for _, name := range []string{"b", "a", "ab", "c"} {
		s.create(name, 1000)
	}
	s.wantErr("Create(a) again", d.Create(s.ctx, "a", 1000), queue.ErrQueueExists)
	if err := d.Delete(s.ctx, "c"); err != nil {
		t.Errorf("Delete(c) = %v", err)
	}
	for range 2 {
		for prefix, want := range map[string][]string{"": {"a", "ab", "b"}, "a": {"a", "ab"}, "x": nil} {
			got, err := s.h.Driver().List(s.ctx, prefix)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("List(%q) = %v (-want +got):\n%s", prefix, err, diff)
			}
		}
		s.h.Reopen(t)
	}
}

func testDeletedHandle(t *testing.T, s *suite) {
	q := s.create("q", 1000)
	id := s.reserve(q, "", 1, 1)
	if err := s.h.Driver().Delete(s.ctx, "q"); err != nil {
		t.Fatalf("Delete(q) = %v", err)
	}
	s.gone(q, id)
}

func testRecreate(t *testing.T, s *suite) {
	q := s.create("q", 10_000)
	s.put(q, "old")
	s.reserve(q, "old", 10, 1)
	if err := s.h.Driver().Delete(s.ctx, "q"); err != nil {
		t.Fatalf("Delete(q) = %v", err)
	}
	q = s.create("q", 20_000)
	s.put(q, "new")
	for range 2 {
		s.wantUse(q, 1, 13, 0, 0)
		if got := s.stats(q).Capacity; got != 20_000 {
			t.Errorf("capacity %d, want that of the second queue", got)
		}
		if diff := cmp.Diff([]string{"new"}, dataOf(s.all(q))); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
		q = s.reopen("q")
	}
}

func testReopenEmpty(t *testing.T, s *suite) {
	s.create("q", 1000)
	for range 3 {
		q := s.reopen("q")
		s.wantUse(q, 0, 0, 0, 0)
	}
	q := s.open("q")
	s.put(q, "x")
	s.wantUse(s.reopen("q"), 1, 11, 0, 0)
}

func testNames(t *testing.T, s *suite) {
	long := make([]byte, 300)
	for i := range long {
		long[i] = ':'
	}
	names := []string{":topic", ":topic.3", "..", "Topic", "a%2Fb", "a/b", "tenant:topic", "tenant:topic.10", "topic", string(long), "ü"}
	for _, name := range names {
		s.put(s.create(name, 10_000), name)
	}
	s.h.Reopen(t)
	for _, name := range names {
		if diff := cmp.Diff([]string{name}, dataOf(s.all(s.open(name)))); diff != "" {
			t.Errorf("entries of %q (-want +got):\n%s", name, diff)
		}
	}
	got, err := s.h.Driver().List(s.ctx, ":topic")
	if diff := cmp.Diff([]string{":topic", ":topic.3"}, got); err != nil || diff != "" {
		t.Errorf("List(:topic) = %v (-want +got):\n%s", err, diff)
	}
}
