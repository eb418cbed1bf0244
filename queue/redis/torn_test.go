package redis

import (
	"testing"

	"herald/queue"
	"herald/tests/redistest"
)

// TestTorn kills a server while it writes a commit to its file, and again
// later: the beginning of that commit must not come back.
func TestTorn(t *testing.T) {
	s := redistest.Start(t)
	d, err := Open(t.Context(), s.URL(), Options{RequireAOF: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	s.Rewritten()
	if err := d.Create(t.Context(), "q", 1<<20); err != nil {
		t.Fatal(err)
	}
	q, err := d.Open(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	id, err := q.Reserve(t.Context(), nil, 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	data := [][]byte{[]byte("entry")}
	if err := q.Commit(t.Context(), id, data); err != nil {
		t.Fatal(err)
	}
	s.KillNine()
	const end = 14 + 10 // EXEC, and some of what is before it
	s.Tear(end)
	s.RestartTorn()
	if err := q.Commit(t.Context(), id, data); err != nil { // as after no answer
		t.Fatal(err)
	}
	s.Rewritten()
	s.KillNine()
	s.RestartTorn()
	entries, _, err := q.List(t.Context(), "", 10)
	if err != nil || len(entries) != 1 {
		t.Errorf("List = %d entries, %v, want 1", len(entries), err)
	}
	if found, err := d.Check(t.Context(), "q", false); err != nil || len(found) > 0 {
		t.Errorf("Check = %v, %v", found, err)
	}
	if st, err := q.Stats(t.Context()); err != nil || st != (queue.Stats{Capacity: 1 << 20, Entries: 1, Bytes: st.Bytes, Oldest: st.Oldest}) {
		t.Errorf("Stats = %+v, %v", st, err)
	}
}
