package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herald/journal"
	"herald/queue"
)

// put reserves and commits one entry.
func put(t testing.TB, q queue.Queue, data string) {
	t.Helper()
	id, err := q.Reserve(t.Context(), []byte("intent"), int64(len(data))+1, 1)
	if err == nil {
		err = q.Commit(t.Context(), id, [][]byte{[]byte(data)})
	}
	if err != nil {
		t.Fatalf("put: %v", err)
	}
}

// contents lists a queue.
func contents(t testing.TB, q queue.Queue) (data []string, markers []queue.Marker) {
	t.Helper()
	for more, after := true, queue.Marker(""); more; {
		var entries []queue.Entry
		var err error
		entries, more, err = q.List(t.Context(), after, 100)
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		for _, e := range entries {
			data, markers, after = append(data, string(e.Data)), append(markers, e.Marker), e.Marker
		}
	}
	return data, markers
}

func (h *harness) queue(t testing.TB, name string) *Queue {
	t.Helper()
	q, err := h.d.Open(t.Context(), name)
	if errors.Is(err, queue.ErrNoSuchQueue) {
		if err = h.d.Create(t.Context(), name, 1<<30); err == nil {
			q, err = h.d.Open(t.Context(), name)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return q.(*Queue)
}

func (h *harness) checkpoint(t testing.TB) {
	t.Helper()
	if err := h.j.Checkpoint(); err != nil {
		t.Fatalf("Checkpoint: %v", err)
	}
}

// manual has no checkpoints by time.
func manual() journal.Options {
	return journal.Options{SegmentBytes: 8 << 20, CheckpointInterval: time.Hour}
}

// TestFiles_UsedAgain spills and acks for long: files are few, and used again.
func TestFiles_UsedAgain(t *testing.T) {
	h := newHarness(t, manual(), Options{TailBytes: 500, SegmentBytes: 2000})
	q := h.queue(t, "q")
	for round := range 200 {
		for i := range 10 {
			put(t, q, fmt.Sprintf("%d %d %s", round, i, strings.Repeat("x", 300)))
		}
		data, markers := contents(t, q)
		if len(data) != 10 {
			t.Fatalf("round %d: %d entries", round, len(data))
		}
		if err := q.Ack(t.Context(), queue.Ack{Done: markers}); err != nil {
			t.Fatal(err)
		}
		if round%7 == 0 {
			h.checkpoint(t)
		}
	}
	h.checkpoint(t)
	h.checkpoint(t)
	names, err := os.ReadDir(q.dir)
	if err != nil || len(names) > 2+spareFiles {
		t.Errorf("%d files, %v: %v", len(names), err, names)
	}
	if q.log.slots.next > 12 {
		t.Errorf("%d segment files were made", q.log.slots.next)
	}
}

// TestFiles_NoneWhenAcked never writes to a segment what is acked before the
// tail is full.
func TestFiles_NoneWhenAcked(t *testing.T) {
	h := newHarness(t, manual(), Options{})
	q := h.queue(t, "q")
	for i := range 5000 {
		put(t, q, fmt.Sprint(i))
		_, markers := contents(t, q)
		if err := q.Ack(t.Context(), queue.Ack{UpTo: markers[0]}); err != nil {
			t.Fatal(err)
		}
	}
	if c := cap(q.log.tail); q.log.slots.next != 0 || c > 64 {
		t.Errorf("%d segments, tail of %d", q.log.slots.next, c)
	}
}

// TestCrash_AcksLost has entries come again, whole, when the ack is lost and
// their file was free.
func TestCrash_AcksLost(t *testing.T) {
	jopt := manual()
	jopt.FlushDelay = time.Hour
	h := newHarness(t, jopt, Options{TailBytes: 500, SegmentBytes: 2000})
	q := h.queue(t, "q")
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprintf("%d %s", i, strings.Repeat("x", 300)))
		put(t, q, want[i])
	}
	h.checkpoint(t)
	_, markers := contents(t, q)
	if err := q.Ack(t.Context(), queue.Ack{Done: markers}); err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // spilled, not settled
		put(t, q, fmt.Sprintf("new %d %s", i, strings.Repeat("y", 300)))
	}
	h.Crash(t)
	got, _ := contents(t, h.queue(t, "q"))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

// TestCrash_UnconfirmedSnapshot leaves a snapshot that no flush confirmed, of
// records that are lost.
func TestCrash_UnconfirmedSnapshot(t *testing.T) {
	jopt := manual()
	jopt.FlushDelay = time.Hour
	h := newHarness(t, jopt, Options{})
	q := h.queue(t, "q")
	put(t, q, "old")
	h.checkpoint(t)
	put(t, q, "lost")
	q.mu.Lock()
	stamp, body := h.j.End(), []byte(nil)
	if err := q.log.spill(); err != nil {
		t.Fatal(err)
	}
	body = q.encode()
	q.mu.Unlock()
	if err := q.snap.write(h.j.ID(), stamp, q.lsn, body); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		h.Crash(t)
		q = h.queue(t, "q")
		got, _ := contents(t, q)
		if diff := cmp.Diff([]string{"old"}, got); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
		h.checkpoint(t)
	}
}

// TestDamage finds damaged files out.
func TestDamage(t *testing.T) {
	h := newHarness(t, manual(), Options{})
	q := h.queue(t, "q")
	put(t, q, "entry")
	h.checkpoint(t)
	h.Reopen(t)
	q = h.queue(t, "q")
	damage(t, segmentPath(q.dir, q.log.segs[0].slot), frameHeader)
	if _, _, err := q.List(t.Context(), "", 1); !errors.Is(err, errCorrupt) {
		t.Errorf("List = %v, want errCorrupt", err)
	}
	// With another journal nothing starts, and nothing is swept away.
	if err := h.tryJournal(filepath.Join(h.dir, "other")); !errors.Is(err, ErrForeign) {
		t.Errorf("Recover with another journal = %v, want ErrForeign", err)
	}
	// Nor without the confirmed snapshot.
	h.close(t)
	for slot := range 2 {
		_ = os.Rename(q.snap.name(slot), q.snap.name(slot+10))
	}
	if err := h.tryJournal(filepath.Join(h.dir, "journal")); !errors.Is(err, errCorrupt) {
		t.Errorf("Recover without a snapshot = %v, want errCorrupt", err)
	}
	for slot := range 2 {
		_ = os.Rename(q.snap.name(slot+10), q.snap.name(slot))
	}
	h.open(t)
	if st, err := h.queue(t, "q").Stats(t.Context()); err != nil || st.Entries != 1 {
		t.Errorf("Stats = %+v, %v", st, err)
	}
}

// tryJournal recovers the harness's queues with the journal in dir.
func (h *harness) tryJournal(dir string) error {
	j, err := journal.Open(dir, h.jopt)
	if err == nil {
		_, err = Open(filepath.Join(h.dir, "queue"), j, h.opts)
	}
	if err != nil {
		return err
	}
	return errors.Join(j.Recover(), j.Abandon())
}

func damage(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0xff}, off); err != nil {
		t.Fatal(err)
	}
}

// TestDelete_RemovesFiles leaves nothing of a deleted queue.
func TestDelete_RemovesFiles(t *testing.T) {
	h := newHarness(t, manual(), Options{TailBytes: 10})
	for _, name := range []string{"a", "b"} {
		put(t, h.queue(t, name), "entry of more than ten bytes")
	}
	h.checkpoint(t)
	dir := h.queue(t, "a").dir
	if err := h.d.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	h.checkpoint(t)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v, want it gone", dir, err)
	}
	if err := h.d.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	h.Crash(t)
	h.checkpoint(t)
	if names, _ := filepath.Glob(filepath.Join(h.dir, "queue", "*.*", "*")); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
}

// TestMarkers compares the order of markers with that of numbers.
func TestMarkers(t *testing.T) {
	if _, err := parseMarker("zz"); !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("parseMarker(zz) = %v", err)
	}
	if _, err := parseMarker("zzzzzzzzzzzzzzzz"); !errors.Is(err, queue.ErrInvalid) {
		t.Errorf("parseMarker(zz...) = %v", err)
	}
	last := queue.Marker("")
	for _, seq := range []uint64{1, 9, 10, 255, 256, 1 << 40, 1<<64 - 1} {
		m := markerOf(seq)
		if got, err := parseMarker(m); err != nil || got != seq || m <= last {
			t.Errorf("marker of %d is %q: %d, %v", seq, m, got, err)
		}
		last = m
	}
}

// FuzzNames turns names into directories and back.
func FuzzNames(f *testing.F) {
	for _, s := range []string{":topic", ":topic.3", "..", "a/b", "%2F", "ü", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		dir := dirName(name, 7)
		if filepath.Base(dir) != dir || len(dir) > 255 || strings.ContainsAny(dir, "/\x00 ") {
			t.Errorf("dirName(%q) = %q", name, dir)
		}
		got, err := queueName(dir)
		if err != nil || !strings.HasPrefix(name, got) || len(name) < 60 && got != name {
			t.Errorf("queueName(%q) = %q, %v, want %q", dir, got, err, name)
		}
	})
}

// FuzzReplay applies records that nobody has written.
func FuzzReplay(f *testing.F) {
	f.Add(putBytes([]byte{opCreate, 1}, []byte("name\x05")), []byte{opDelete, 1})
	f.Add(putNumbers([]byte{opReserve}, 9, 1, 5, 100, 1), putBytes(putNumbers([]byte{opCommit}, 9, 1, 5, 1, 1), []byte("x")))
	f.Add([]byte{opAbort, 9, 1}, (&ack{upTo: 1, done: []uint64{2}, failed: []failure{{3, attempt{1, 2}}}}).encode(nil, 9))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		d := &Driver{dir: t.TempDir(), queues: map[string]*Queue{}, byID: map[uint64]*Queue{}, opts: Options{}.withDefaults()}
		d.applyCreate(1, 9, "q", 1000)
		for i, rec := range [][]byte{one, two} {
			_ = (*client)(d).Replay(journal.LSN(i+2), rec) // an error or not, but no panic
		}
	})
}

// FuzzSnapshot decodes what may be on a disk.
func FuzzSnapshot(f *testing.F) {
	d := &Driver{dir: "dir", queues: map[string]*Queue{}, byID: map[uint64]*Queue{}}
	q := newQueue(d, 1, "q", 1000)
	q.applyReserve(1, 1, reservation{intent: []byte("intent"), size: 1, entries: 1})
	q.log.segs = []*segment{{slot: 1, first: 1, last: 3, count: 3, size: 99, live: 2, gone: []uint64{2}}}
	q.log.attempts[3] = attempt{1, 2}
	f.Add(q.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, body, err := parseSnapshot(b); err == nil {
			b = body
		}
		q := newQueue(d, 1, "q", 1000)
		if q.decode(b) == nil && newQueue(d, 1, "q", 1000).decode(q.encode()) != nil {
			t.Error("what was decoded cannot be decoded again")
		}
		d2 := &Driver{dir: "dir", queues: map[string]*Queue{}, byID: map[uint64]*Queue{}}
		_ = d2.decodeCatalog(b) // an error or not, but no panic
	})
}
