package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tiny is a ring that is searched fast.
func tiny() Options { return Options{SegmentBytes: 16 << 10} }

// written is a journal of a few batches that was dropped, and what is in it.
type written struct {
	dir     string
	head    *header
	starts  []uint64 // of the batches, and the end
	payload []string
	counts  []int // records before each batch
}

// write makes batches of the given numbers of records.
func write(t testing.TB, opts Options, batches ...int) *written {
	t.Helper()
	w := &written{dir: t.TempDir()}
	j := start(t, w.dir, opts, newModel())
	for b, n := range batches {
		w.starts = append(w.starts, j.cur.start)
		w.counts = append(w.counts, len(w.payload))
		for i := range n {
			p := fmt.Sprintf("batch %d record %d %s", b, i, strings.Repeat("x", 60*i))
			mustAppend(t, j, 1, p)
			w.payload = append(w.payload, p)
		}
		mustWait(t, j, j.End())
	}
	w.starts = append(w.starts, uint64(j.End()))
	w.counts = append(w.counts, len(w.payload))
	crash(j)
	var err error
	if w.head, err = readHeader(w.dir); err != nil {
		t.Fatal(err)
	}
	return w
}

// read returns the records that recovery would give.
func (w *written) read() ([]string, error) {
	r := &reader{ring: newRing(w.dir, int64(w.head.segBytes), int(w.head.segments), false), epoch: w.head.epoch, start: w.head.start}
	defer r.close()
	var got []string
	_, err := r.each(func(_ LSN, _ Stream, p []byte) error {
		got = append(got, string(p))
		return nil
	})
	return got, err
}

// segment opens the file of a position for writing.
func (w *written) segment(t testing.TB, pos uint64) (*os.File, int64) {
	t.Helper()
	s, off := newRing(w.dir, int64(w.head.segBytes), int(w.head.segments), false).at(pos)
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f, off
}

// TestRecover_TornTail cuts the last batch at every byte: what follows has old
// content, or new content of which an earlier part is missing.
func TestRecover_TornTail(t *testing.T) {
	w := write(t, tiny(), 3, 5, 12)
	first, end := w.starts[2], w.starts[3]
	f, off := w.segment(t, first)
	defer f.Close()
	whole := make([]byte, end-first)
	if _, err := f.ReadAt(whole, off); err != nil {
		t.Fatal(err)
	}
	before := w.payload[:w.counts[2]]
	for cut := range len(whole) {
		for name, torn := range map[string][]byte{
			"end missing":   append(bytes.Clone(whole[:cut]), make([]byte, len(whole)-cut)...),
			"end garbage":   append(bytes.Clone(whole[:cut]), bytes.Repeat([]byte{0xa5}, len(whole)-cut)...),
			"start missing": append(make([]byte, cut), whole[cut:]...),
		} {
			if bytes.Equal(torn, whole) {
				continue
			}
			if _, err := f.WriteAt(torn, off); err != nil {
				t.Fatal(err)
			}
			got, err := w.read()
			if err != nil || len(got) != len(before) {
				t.Fatalf("%s at %d: %d records, %v, want %d", name, cut, len(got), err, len(before))
			}
		}
	}
	c := newModel()
	j := start(t, w.dir, tiny(), c)
	defer j.Close()
	if diff := cmp.Diff(before, c.values()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if lsn := mustAppend(t, j, 1, "next"); uint64(lsn) <= end {
		t.Errorf("LSN %d used again: the torn batch ended at %d", lsn, end)
	}
}

// TestRecover_DamageInTheMiddle flips each bit of a batch that others follow.
func TestRecover_DamageInTheMiddle(t *testing.T) {
	w := write(t, tiny(), 3, 6, 2)
	f, off := w.segment(t, w.starts[1])
	defer f.Close()
	size := 0
	for _, p := range w.payload[w.counts[1]:w.counts[2]] {
		size += recordHeader + len(p)
	}
	for i := range int64(batchHeader + size) {
		var b [1]byte
		if _, err := f.ReadAt(b[:], off+i); err != nil {
			t.Fatal(err)
		}
		for bit := range 8 {
			if _, err := f.WriteAt([]byte{b[0] ^ 1<<bit}, off+i); err != nil {
				t.Fatal(err)
			}
			got, err := w.read()
			var damage *CorruptError
			if !errors.As(err, &damage) || damage.Pos != w.starts[1] || len(got) != w.counts[1] {
				t.Fatalf("byte %d bit %d: %d records, %v, want an error for position %d", i, bit, len(got), err, w.starts[1])
			}
		}
		if _, err := f.WriteAt(b[:], off+i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt([]byte{0xff}, off+100); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and it stays refused
		_, err := tryStart(w.dir, tiny(), newModel())
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "ring.0 at offset") {
			t.Errorf("Recover = %v, want ErrCorrupt with the place", err)
		}
	}
}

// TestRecover_ForgedBatch has a payload that looks like a batch of an earlier
// epoch, at a block boundary.
func TestRecover_ForgedBatch(t *testing.T) {
	dir := t.TempDir()
	j := start(t, dir, small(), newModel())
	forged := newBatch(j.cur.start+3*blockSize, nil)
	forged.add(1, 6, [][]byte{[]byte("forged")})
	image := forged.seal(12345)
	pad := make([]byte, 3*blockSize-batchHeader-recordHeader)
	mustWait(t, j, mustAppend(t, j, 1, string(pad)+string(image)))
	f, off := (&written{dir: dir, head: &j.head}).segment(t, j.head.start)
	crash(j)
	if _, err := f.WriteAt([]byte("torn"), off+100); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	c := newModel()
	j = start(t, dir, small(), c)
	defer j.Close()
	if len(c.order) != 0 {
		t.Errorf("records %q out of a payload", c.values())
	}
}

func TestRecover_Headers(t *testing.T) {
	w := write(t, small(), 2)
	path := filepath.Join(w.dir, "header")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	newest := int(w.head.seq%2) * blockSize
	torn := bytes.Clone(whole)
	clear(torn[newest : newest+100])
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	if h, err := readHeader(w.dir); err != nil || h.seq > w.head.seq {
		t.Errorf("one torn header: %+v, %v", h, err)
	}
	if err := os.WriteFile(path, make([]byte, 2*blockSize), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tryStart(w.dir, small(), newModel()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("both headers torn: %v, want ErrCorrupt", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := tryStart(w.dir, small(), newModel()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("no header: %v, want ErrCorrupt", err)
	}
}

func TestRecover_UnknownStream(t *testing.T) {
	w := write(t, small(), 1)
	if _, err := tryStart(w.dir, small()); !errors.Is(err, ErrNoClient) {
		t.Errorf("Recover = %v, want ErrNoClient", err)
	}
	c := newModel()
	j := start(t, w.dir, small(), c)
	defer j.Close()
	if len(c.order) != 1 {
		t.Errorf("%d records, want 1", len(c.order))
	}
}

// TestRecover_Resize starts with other sizes than those it was written with.
func TestRecover_Resize(t *testing.T) {
	w := write(t, small(), 4, 4)
	for _, opts := range []Options{
		{SegmentBytes: 128 << 10, Segments: 3}, {SegmentBytes: 512 << 10, Segments: 6}, small(),
	} {
		c := newModel()
		j := start(t, w.dir, opts, c)
		if diff := cmp.Diff(w.payload, c.values()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		for _, p := range w.payload {
			mustAppend(t, j, 1, p)
		}
		mustWait(t, j, j.End())
		crash(j)
		files, _ := filepath.Glob(filepath.Join(w.dir, "ring.*"))
		if want := max(opts.Segments, 4); opts.Segments != 0 && len(files) != opts.Segments || opts.Segments == 0 && len(files) != want {
			t.Errorf("files %v", files)
		}
	}
}

func TestRecover_InUse(t *testing.T) {
	dir := t.TempDir()
	j := start(t, dir, small(), newModel())
	if _, err := tryStart(dir, small(), newModel()); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) {
		t.Errorf("second Recover = %v, want ErrInUse with the holder", err)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	j = start(t, dir, small(), newModel())
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// FuzzRecover overwrites parts of a journal: what recovery gives is a prefix
// of what was written, or an error.
func FuzzRecover(f *testing.F) {
	opts := tiny()
	w := write(f, opts, 2, 3, 1, 4)
	file, base := w.segment(f, w.head.start)
	whole := make([]byte, opts.SegmentBytes)
	if _, err := file.ReadAt(whole, base); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = file.Close() })
	f.Add(uint16(0), []byte("x"), uint16(0), []byte{})
	f.Add(uint16(24), []byte{0xff, 0xff, 0xff, 0xff}, uint16(4096), []byte{0})
	f.Add(uint16(4096), whole[:600], uint16(8192), whole[4096:4200])
	f.Add(uint16(12288), []byte{}, uint16(12290), make([]byte, 50))
	f.Fuzz(func(t *testing.T, at1 uint16, patch1 []byte, at2 uint16, patch2 []byte) {
		b := bytes.Clone(whole)
		copy(b[int(at1)%len(b):], patch1)
		copy(b[int(at2)%len(b):], patch2)
		if _, err := file.WriteAt(b, base); err != nil {
			t.Fatal(err)
		}
		got, err := w.read()
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if len(got) > len(w.payload) {
			t.Fatalf("%d records, %d were written", len(got), len(w.payload))
		}
		if diff := cmp.Diff(w.payload[:len(got)], got); len(got) > 0 && diff != "" {
			t.Fatalf("records (-want +got):\n%s", diff)
		}
	})
}

// FuzzHeader decodes what anybody may have written.
func FuzzHeader(f *testing.F) {
	f.Add((&header{seq: 3, segBytes: 4096, segments: 2, done: map[Stream]LSN{1: 2, 2: 3}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 8 {
			b = append(bytes.Clone(b), make([]byte, blockSize)...)[:blockSize]
			copy(b, []byte{0x48, 0x4a, 0x48, 0x31})
			sum := crc32c(b[8:])
			b[4], b[5], b[6], b[7] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		}
		h := decodeHeader(b)
		if h == nil {
			return
		}
		if diff := cmp.Diff(h, decodeHeader(h.encode()), cmp.AllowUnexported(header{})); diff != "" {
			t.Errorf("decoded again (-want +got):\n%s", diff)
		}
	})
}
