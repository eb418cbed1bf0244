package queuetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"herald/queue"
)

// model is a queue as the contract describes it, flat.
type model struct {
	s            *suite
	q            queue.Queue
	name         string
	capacity     int64
	fence        uint64
	reservations []modelReservation
	ended        []queue.ID
	entries      []modelEntry
	gone         []queue.Marker
}

type modelReservation struct {
	id      queue.ID
	intent  string
	size    int64
	entries int
}

type modelEntry struct {
	marker   queue.Marker // learned from List
	data     string
	attempts int
	last     time.Time
}

// testModel compares the driver with the model through random calls, with
// reopening and crashes in between.
func testModel(t *testing.T, s *suite) {
	n, most := 0, math.MaxInt
	if sc, ok := s.h.(Scaler); ok && !long() {
		most = max(100/sc.Scale(), 5)
	}
	rapid.Check(t, func(r *rapid.T) {
		if n++; n > most {
			return // time is short
		}
		m := &model{s: s, name: fmt.Sprint("q", n), capacity: rapid.Int64Range(50, 3000).Draw(r, "capacity")}
		m.q = s.create(m.name, m.capacity)
		r.Repeat(map[string]func(*rapid.T){
			"reserve": m.reserve, "reserve2": m.reserve, "commit": m.commit, "commit2": m.commit,
			"abort": m.abort, "ended": m.useEnded, "ackUpTo": m.ackUpTo, "ackSome": m.ackSome,
			"fence": m.fenced, "reopen": m.reopen,
			"": m.check,
		})
		if err := s.h.Driver().Delete(s.ctx, m.name); err != nil {
			r.Fatal(err)
		}
	})
}

func (m *model) used() (entries, bytes, reserved int64) {
	for _, e := range m.entries {
		bytes += int64(len(e.data)) + queue.EntryOverhead
	}
	for _, r := range m.reservations {
		reserved += r.size + int64(r.entries)*queue.EntryOverhead
	}
	return int64(len(m.entries)), bytes, reserved
}

func (m *model) reserve(t *rapid.T) {
	r := modelReservation{
		intent:  rapid.String().Draw(t, "intent"),
		size:    rapid.Int64Range(0, 300).Draw(t, "size"),
		entries: rapid.IntRange(0, 5).Draw(t, "entries"),
	}
	var want error
	_, bytes, reserved := m.used()
	switch {
	case r.size < 1 || r.entries < 1:
		want = queue.ErrInvalid
	case r.size+int64(r.entries)*queue.EntryOverhead > m.capacity-bytes-reserved:
		want = queue.ErrFull
	}
	var err error
	r.id, err = m.q.Reserve(m.s.ctx, []byte(r.intent), r.size, r.entries)
	m.want(t, "Reserve", err, want)
	if err == nil {
		if slices.Contains(m.ended, r.id) {
			t.Fatalf("id %d used again", r.id)
		}
		m.reservations = append(m.reservations, r)
	}
}

// pick takes a reservation at random.
func (m *model) pick(t *rapid.T) int {
	if len(m.reservations) == 0 {
		t.Skip("no reservation")
	}
	return rapid.IntRange(0, len(m.reservations)-1).Draw(t, "reservation")
}

func (m *model) commit(t *rapid.T) {
	i := m.pick(t)
	r := m.reservations[i]
	data := rapid.SliceOfN(rapid.StringN(0, 60, 120), 0, 6).Draw(t, "data")
	size := int64(0)
	for _, d := range data {
		size += int64(len(d))
	}
	var want error
	if size > r.size || len(data) > r.entries {
		want = queue.ErrTooLarge
	}
	err := m.q.Commit(m.s.ctx, r.id, bytesOf(data))
	m.want(t, "Commit", err, want)
	if err != nil {
		return
	}
	m.end(i)
	for _, d := range data {
		m.entries = append(m.entries, modelEntry{data: d})
	}
}

func (m *model) abort(t *rapid.T) {
	i := m.pick(t)
	m.want(t, "Abort", m.q.Abort(m.s.ctx, m.reservations[i].id), nil)
	m.end(i)
}

func (m *model) end(i int) {
	m.ended = append(m.ended, m.reservations[i].id)
	m.reservations = slices.Delete(m.reservations, i, i+1)
}

func (m *model) useEnded(t *rapid.T) {
	if len(m.ended) == 0 {
		t.Skip("none has ended")
	}
	id := rapid.SampledFrom(m.ended).Draw(t, "id")
	m.want(t, "Abort(ended)", m.q.Abort(m.s.ctx, id), nil)
	m.want(t, "Renew(ended)", m.q.Renew(m.s.ctx, id), queue.ErrNoSuchReservation)
	m.want(t, "Commit(ended)", m.q.Commit(m.s.ctx, id, nil), queue.ErrNoSuchReservation)
}

func (m *model) ackUpTo(t *rapid.T) {
	if len(m.entries) == 0 {
		t.Skip("no entry")
	}
	i := rapid.IntRange(0, len(m.entries)-1).Draw(t, "up to")
	m.want(t, "Ack", m.q.Ack(m.s.ctx, queue.Ack{UpTo: m.entries[i].marker, Fence: m.fence}), nil)
	for _, e := range m.entries[:i+1] {
		m.gone = append(m.gone, e.marker)
	}
	m.entries = slices.Delete(m.entries, 0, i+1)
}

// ackSome removes some entries, notes attempts of others, and names some that
// are gone.
func (m *model) ackSome(t *rapid.T) {
	var a queue.Ack
	var stay []modelEntry
	for _, e := range m.entries {
		switch rapid.IntRange(0, 3).Draw(t, "fate") {
		case 0:
			a.Done = append(a.Done, e.marker)
			m.gone = append(m.gone, e.marker)
			continue
		case 1:
			e.attempts++
			e.last = time.UnixMilli(1e12).Add(time.Duration(e.attempts) * time.Hour)
			a.Failed = append(a.Failed, queue.Attempt{Marker: e.marker, Attempts: e.attempts, LastTry: e.last})
		}
		stay = append(stay, e)
	}
	if len(m.gone) > 0 {
		g := rapid.SampledFrom(m.gone).Draw(t, "gone")
		a.Done = append(a.Done, g)
		a.Failed = append(a.Failed, queue.Attempt{Marker: g, Attempts: 7})
	}
	m.want(t, "Ack", m.q.Ack(m.s.ctx, a), nil)
	m.entries = stay
}

func (m *model) fenced(t *rapid.T) {
	f := rapid.Uint64Range(1, 10).Draw(t, "fence")
	var want error
	if f < m.fence {
		want = queue.ErrFenced
	}
	m.want(t, "Ack(fence)", m.q.Ack(m.s.ctx, queue.Ack{Fence: f}), want)
	m.fence = max(m.fence, f)
}

func (m *model) reopen(t *rapid.T) {
	if rapid.Bool().Draw(t, "crash") {
		m.s.h.Settle(m.s.T)
		if !m.s.h.Crash(m.s.T) {
			m.s.h.Reopen(m.s.T)
		}
	} else {
		m.s.h.Reopen(m.s.T)
	}
	m.q = m.s.open(m.name)
}

func (m *model) want(t *rapid.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("%s = %v, want %v", what, got, want)
	}
}

// check compares everything that can be seen.
func (m *model) check(t *rapid.T) {
	listed := m.s.after(m.q, "", rapid.IntRange(1, 20).Draw(t, "page"))
	var got, want []modelEntry
	for _, e := range listed {
		got = append(got, modelEntry{e.Marker, string(e.Data), e.Attempts, e.LastTry})
	}
	for i := range m.entries {
		if m.entries[i].marker == "" && i < len(got) {
			m.entries[i].marker = got[i].marker
		}
	}
	want = m.entries
	opts := cmp.Options{cmp.AllowUnexported(modelEntry{}, modelReservation{}), cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(timeSlack)}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Fatalf("entries (-want +got):\n%s", diff)
	}
	var rs []modelReservation
	for _, r := range m.s.reservations(m.q, m.s.later()) {
		rs = append(rs, modelReservation{r.ID, string(r.Intent), r.Size, r.Entries})
	}
	byID := cmpopts.SortSlices(func(a, b modelReservation) bool { return a.id < b.id })
	if diff := cmp.Diff(m.reservations, rs, opts, byID); diff != "" {
		t.Fatalf("reservations (-want +got):\n%s", diff)
	}
	n, bytes, reserved := m.used()
	st := m.s.stats(m.q)
	wantStats := queue.Stats{Capacity: m.capacity, Entries: n, Bytes: bytes,
		Reservations: int64(len(m.reservations)), Reserved: reserved, Oldest: st.Oldest}
	if diff := cmp.Diff(wantStats, st); diff != "" {
		t.Fatalf("Stats() (-want +got):\n%s", diff)
	}
	if n == 0 != st.Oldest.IsZero() {
		t.Fatalf("Oldest = %v with %d entries", st.Oldest, n)
	}
}
