package posix

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"herald/journal"
	"herald/store"
)

// queueLike is a journal client that remembers what was replayed to it.
type queueLike struct{ replayed []string }

func (q *queueLike) Replay(_ journal.LSN, p []byte) error {
	q.replayed = append(q.replayed, string(p))
	return nil
}

func (q *queueLike) Checkpoint() (journal.LSN, error) { return 0, nil }
func (q *queueLike) Flushed(journal.LSN) error        { return nil }

// putOp puts a small object with an op.
func putOp(t *testing.T, d *Driver, op store.OpID, v store.Versioning) error {
	t.Helper()
	return putData(t, d, op, v, []byte("data"))
}

func putData(t *testing.T, d *Driver, op store.OpID, v store.Versioning, data []byte) error {
	t.Helper()
	b, err := d.OpenBucket(t.Context(), "bucket")
	if err != nil {
		t.Fatal(err)
	}
	w, err := b.Create(t.Context(), "k", store.CreateHint{Size: int64(len(data))})
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	_, err = w.Commit(t.Context(), store.CommitOptions{Op: op, ETag: "e", Versioning: v})
	return err
}

// An outcome is forgotten once its event is in a queue. A snapshot of the
// outcomes must not say so before the journal has what made it true.
func TestForget_NotBeforeTheJournal(t *testing.T) {
	s := newTestStore(t, Options{})
	s.journal.CheckpointInterval = time.Hour
	op := store.NewOpID()
	ref := store.OpRef{ID: op, Bucket: "bucket", Key: "k"}
	open := func() (*Driver, *journal.Journal, *queueLike) {
		j, err := journal.Open(s.journalDir(), s.journal)
		if err != nil {
			t.Fatal(err)
		}
		q := &queueLike{}
		d, err := Open(s.root(), j, s.opts)
		if err := errors.Join(err, j.Register(journal.StreamQueue, q)); err != nil {
			t.Fatal(err)
		}
		if err := j.Recover(); err != nil {
			t.Fatal(err)
		}
		return d, j, q
	}
	armed := false
	var j *journal.Journal
	var d *Driver
	s.opts.Fault = func(point string) {
		if point == "posix.checkpoint.begin" && armed {
			armed = false
			_, err := j.Append(journal.StreamQueue, []byte("event"))
			if err := errors.Join(err, d.Outcomes().Forget(context.Background(), ref)); err != nil {
				t.Error(err)
			}
		}
	}
	d, j, _ = open()
	if err := errors.Join(d.CreateBucket(t.Context(), "bucket"), putOp(t, d, op, store.Unversioned)); err != nil {
		t.Fatal(err)
	}
	armed = true
	if err := j.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Abandon(), d.Close()); err != nil { // killed here
		t.Fatal(err)
	}
	d, j, q := open()
	_, err := d.Outcomes().Settle(t.Context(), ref)
	if len(q.replayed) == 0 && err != nil {
		t.Errorf("no event, and Settle = %v: the event is lost", err)
	}
	if err := errors.Join(j.Close(), d.Close()); err != nil {
		t.Error(err)
	}
}

// A change that is in the journal and could not be applied will have happened
// after the next start: until then nobody knows its outcome.
func TestSettle_NotApplied(t *testing.T) {
	s := newTestStore(t, Options{})
	op := store.NewOpID()
	ref := store.OpRef{ID: op, Bucket: "bucket", Key: "k"}
	versions := filepath.Join(s.root(), home, "versions")
	armed := false
	s.opts.Fault = func(point string) {
		if point == "posix.commit.journaled" && armed {
			armed = false
			if err := errors.Join(os.Remove(versions), os.WriteFile(versions, nil, 0o600)); err != nil {
				t.Error(err)
			}
		}
	}
	d := s.open(t)
	if err := errors.Join(d.CreateBucket(t.Context(), "bucket"), putOp(t, d.Driver, store.OpID{}, store.Enabled)); err != nil {
		t.Fatal(err)
	}
	armed = true
	if err := putOp(t, d.Driver, op, store.Enabled); !errors.Is(err, store.ErrUnknownOutcome) {
		t.Fatalf("Commit = %v, want ErrUnknownOutcome", err)
	}
	if _, err := d.Outcomes().Settle(t.Context(), ref); !errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("Settle = %v, want ErrUnknownOutcome", err)
	}
	if err := errors.Join(os.Remove(versions), os.Mkdir(versions, 0o700)); err != nil {
		t.Fatal(err)
	}
	s.crash(t, d)
	d = s.open(t)
	if out, err := d.Outcomes().Settle(t.Context(), ref); err != nil || !out.Changed {
		t.Errorf("Settle after the start = %+v, %v", out, err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// Sequence numbers grow across a start also if the clock was set back and
// nobody asked for outcomes.
func TestClock_Kept(t *testing.T) {
	s := newTestStore(t, Options{})
	d := s.open(t)
	if err := errors.Join(d.CreateBucket(t.Context(), "bucket"), d.j.Checkpoint()); err != nil {
		t.Fatal(err)
	}
	d.clock.seen(uint64(time.Now().Add(time.Hour).UnixNano()))
	if err := putOp(t, d.Driver, store.OpID{}, store.Unversioned); err != nil {
		t.Fatal(err)
	}
	last := d.clock.last.Load()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = s.open(t)
	if got := d.clock.last.Load(); got < last {
		t.Errorf("the clock is at %d, was at %d", got, last)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// After a panic in the middle of a change likewise: the front end goes on, and
// the record stays in the journal.
func TestSettle_Panicked(t *testing.T) {
	for _, point := range []string{"posix.commit.appended", "posix.apply.placed", "posix.remove.unlinked"} {
		t.Run(point, func(t *testing.T) {
			s := newTestStore(t, Options{})
			armed := false
			s.opts.Fault = func(p string) {
				if p == point && armed {
					panic("a bug")
				}
			}
			d := s.open(t)
			op := store.NewOpID()
			ref := store.OpRef{ID: op, Bucket: "bucket", Key: "k"}
			if err := errors.Join(d.CreateBucket(t.Context(), "bucket"), putOp(t, d.Driver, store.OpID{}, store.Unversioned)); err != nil {
				t.Fatal(err)
			}
			armed = true
			func() {
				defer func() { _ = recover() }()
				if point != "posix.remove.unlinked" {
					_ = putData(t, d.Driver, op, store.Unversioned, make([]byte, 1<<20))
				} else if b, err := d.OpenBucket(t.Context(), "bucket"); err == nil {
					_, _ = b.Remove(t.Context(), "k", "", store.RemoveOptions{Op: op})
				}
				t.Error("no panic")
			}()
			armed = false
			if _, err := d.Outcomes().Settle(t.Context(), ref); !errors.Is(err, store.ErrUnknownOutcome) {
				t.Errorf("Settle = %v, want ErrUnknownOutcome", err)
			}
			if err := d.j.Wait(d.j.End()); err != nil {
				t.Fatal(err)
			}
			s.crash(t, d)
			d = s.open(t)
			if out, err := d.Outcomes().Settle(t.Context(), ref); err != nil || !out.Changed {
				t.Errorf("Settle after the start = %+v, %v", out, err)
			}
			if b, err := d.OpenBucket(t.Context(), "bucket"); err != nil {
				t.Error(err)
			} else if info, err := b.Stat(t.Context(), "k", ""); point != "posix.remove.unlinked" && (err != nil || info.Size != 1<<20) {
				t.Errorf("Stat after the start = %+v, %v", info, err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
