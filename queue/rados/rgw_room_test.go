//go:build rados

package rados

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"herald/queue"
	"herald/tests/cephtest"
)

// at has f called once, the next time that a driver comes to a point.
func (r *RGW) at(point string, f func()) (called *bool) {
	called = new(bool)
	r.own.opts.fault = func(p string) {
		if p == point && !*called {
			*called = true
			f()
		}
	}
	return called
}

// A page is listed from a place that others free just then. The place is
// beyond the tail by its offset in the object, which an OSD does not survive
// when it is asked for.
func TestRGW_ListFromAPlaceThatIsFreedMeanwhile(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after int // entries that come and go before, and meanwhile
		place         int // of those that are listed first
	}{
		{"the tail is in the next lap", 0, 0, 6},
		{"the front is in the next lap, too", 0, 3, 6},
		{"the place is in use again", 0, 10, 6},
		{"the place is the last byte of the ring", 8, 0, 2},
		{"the place is the last byte, and the tail in the next lap", 3, 7, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newRGWHarness(t, Options{})
			ctx, data := t.Context(), strings.Repeat("x", 90)
			wantErr(t, "Create", h.d.Create(ctx, ":t", 1000), nil)
			q := must[queue.Queue](t)(h.d.Open(ctx, ":t"))
			other := must[queue.Queue](t)(h.Second(t, 0).Open(ctx, "t"))
			removeAll := func() {
				list, _, err := other.List(ctx, "", 100)
				wantErr(t, "List", err, nil)
				wantErr(t, "Ack", other.Ack(ctx, queue.Ack{UpTo: list[len(list)-1].Marker}), nil)
			}
			for range tt.before {
				mustPut(t, other, data)
				removeAll()
			}
			for range 8 {
				mustPut(t, q, data)
			}
			list, _, err := q.List(ctx, "", 100)
			if err != nil || len(list) != 8 {
				t.Fatalf("List = %v, %v", list, err)
			}
			called := h.d.at("rgw.page", func() {
				removeAll()
				for range tt.after {
					mustPut(t, other, data)
					removeAll()
				}
				for range 3 - min(tt.after, 2) {
					mustPut(t, other, "new"+data[:87])
				}
			})
			list, _, err = q.List(ctx, list[tt.place].Marker, 100)
			if err != nil || len(list) != 3-min(tt.after, 2) || !strings.HasPrefix(string(list[0].Data), "new") {
				t.Errorf("List = %q, %v", dataOf(list), err)
			}
			if !*called {
				t.Error("nothing happened meanwhile")
			}
		})
	}
}

// drift makes a queue of 1000 bytes that the class takes for full, as it comes
// about when reservations end on older OSDs, and a reservation of 300 bytes.
func drift(t *testing.T, d *RGW) (q *rgwQueue, id queue.ID) {
	t.Helper()
	ctx := t.Context()
	wantErr(t, "Create", d.Create(ctx, ":t", 1000), nil)
	q = must[queue.Queue](t)(d.Open(ctx, ":t")).(*rgwQueue)
	id = must[queue.ID](t)(q.Reserve(ctx, []byte("i"), 290, 1))
	c := must[*rgwClass](t)(d.readClass(ctx, q.object))
	wantErr(t, "drift", d.setReserved(ctx, q.object, c, c.head.free()), nil)
	return q, id
}

// Room that the class has lost count of is found again, whatever others do
// meanwhile; and a queue that is full all the same says so.
func TestRGW_RoomIsFoundAgain(t *testing.T) {
	for _, tt := range []struct {
		name, point string
		meanwhile   func(t *testing.T, q *rgwQueue, id queue.ID)
		size        int64
		want        error
	}{
		{"alone", "rgw.full", func(*testing.T, *rgwQueue, queue.ID) {}, 690, nil},
		{"another finds it first", "rgw.full", func(t *testing.T, q *rgwQueue, _ queue.ID) {
			_, err := q.r.makeRoom(t.Context(), q.object, 700, nil)
			wantErr(t, "makeRoom", err, nil)
		}, 690, nil},
		{"another finds it at the same time", "rgw.room", func(t *testing.T, q *rgwQueue, _ queue.ID) {
			wantErr(t, "repair", q.r.setReserved(t.Context(), q.object, must[*rgwClass](t)(q.r.readClass(t.Context(), q.object)), 301), nil)
		}, 690, nil},
		{"another gives back at the same time", "rgw.room", func(t *testing.T, q *rgwQueue, id queue.ID) {
			wantErr(t, "Abort", q.Abort(t.Context(), id), nil)
		}, 690, nil},
		{"another gave back before", "rgw.full", func(t *testing.T, q *rgwQueue, id queue.ID) {
			wantErr(t, "Abort", q.Abort(t.Context(), id), nil)
		}, 990, nil},
		{"too little", "rgw.full", func(*testing.T, *rgwQueue, queue.ID) {}, 691, queue.ErrFull},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, _ := newRGW(t)
			q, id := drift(t, d)
			called := d.at(tt.point, func() { tt.meanwhile(t, q, id) })
			got, err := q.Reserve(t.Context(), []byte("i"), tt.size, 1)
			wantErr(t, "Reserve", err, tt.want)
			if !*called {
				t.Error("nothing happened meanwhile")
			}
			wantErr(t, "Abort", errors.Join(q.Abort(t.Context(), got), q.Abort(t.Context(), id)), nil)
			st := must[queue.Stats](t)(q.Stats(t.Context()))
			if st.Reservations != 0 || st.Reserved != 0 {
				t.Errorf("Stats = %+v", st)
			}
			wantErr(t, "Reserve of all", second(q.Reserve(t.Context(), []byte("i"), 990, 1)), nil)
		})
	}
}

// When it is the pool that is full, Reserve says so at once, although the ring
// has room.
func TestRGW_PoolFull(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes the monitor some seconds to notice that a pool is full")
	}
	c := cephtest.Start(t)
	h := newRGWHarness(t, Options{})
	h.close(t, h.d)
	h.opts.Pool = c.Pool(t)
	h.d = h.open(t, h.opts)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	wantErr(t, "Create", h.d.Create(ctx, ":t", 10<<20), nil)
	q := must[queue.Queue](t)(h.d.Open(ctx, ":t"))
	c.Ceph(t, "osd", "pool", "set-quota", h.opts.Pool, "max_bytes", "1")
	var ids []queue.ID
	eventually(t, func() bool { // the object grows by each
		id, err := q.Reserve(ctx, []byte("i"), 1000, 1)
		if err == nil {
			ids = append(ids, id)
		}
		return errors.Is(err, queue.ErrFull)
	})
	c.Ceph(t, "osd", "pool", "set-quota", h.opts.Pool, "max_bytes", "0")
	eventually(t, func() bool { return put(ctx, q, "after") == nil })
	for _, id := range ids {
		wantErr(t, "Commit", q.Commit(ctx, id, [][]byte{[]byte("before")}), nil)
	}
	if st := must[queue.Stats](t)(q.Stats(ctx)); st.Entries != int64(len(ids)+1) {
		t.Errorf("Stats = %+v, want %d entries", st, len(ids)+1)
	}
}
