package posix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"herald/journal"
	"herald/store"
)

// crashVersion is what the crash tests compare of one version.
type crashVersion struct {
	Marker, Null bool
	Data         string
	Note         string
}

// crashState is a bucket: key -> versions, newest first.
type crashState map[string][]crashVersion

func (s crashState) clone() crashState {
	c := crashState{}
	for k, v := range s {
		c[k] = slices.Clone(v)
	}
	return c
}

// drop removes the versions that f tells.
func (s crashState) drop(key string, f func(crashVersion) bool) {
	if s[key] = slices.DeleteFunc(s[key], f); len(s[key]) == 0 {
		delete(s, key)
	}
}

func (s crashState) add(key string, v crashVersion) { s[key] = slices.Insert(s[key], 0, v) }

func isNull(v crashVersion) bool { return v.Null }

// victim is a store that is frozen at a fault point, as if it were killed
// there, and opened anew.
type victim struct {
	*testStore
	d       *Driver
	j       *journal.Journal
	left    int           // fault points until it is frozen; 0: never
	at      string        // the fault point where it is frozen, however many are left
	point   string        // where it was
	frozen  chan struct{} // closed then
	visited map[string]int
}

func (v *victim) fault(point string) {
	v.visited[point]++
	if v.left == 0 && point != v.at {
		return
	}
	if v.left--; v.left <= 0 {
		v.point, v.at = point, ""
		close(v.frozen)
		select {} // killed
	}
}

func newVictim(t *testing.T, opts Options) *victim {
	v := &victim{testStore: newTestStore(t, opts), visited: map[string]int{}}
	v.testStore.opts.Fault = v.fault
	v.journal = journal.Options{SegmentBytes: 2 << 20, Segments: 4, Fault: v.fault}
	t.Cleanup(func() { // else the index may write files while they are removed
		if v.d != nil {
			v.bury(t)
		}
	})
	return v
}

// start opens the store, without a goroutine of the journal's: the test does
// the checkpoints itself, so that all happens in one goroutine.
func (v *victim) start(left int) error {
	v.left, v.frozen = left, make(chan struct{})
	var err error
	if v.j, err = journal.Open(v.journalDir(), v.journal); err != nil {
		return err
	}
	if v.d, err = Open(v.root(), v.j, v.testStore.opts); err != nil {
		return err
	}
	return v.j.Recover()
}

// bury takes the locks from a frozen store.
func (v *victim) bury(t *testing.T) {
	t.Helper()
	if v.d != nil {
		_ = v.d.index.db.Close()
		_ = v.d.lock.Close()
		for _, b := range v.d.buckets {
			closeFD(b.fd)
		}
		v.d.dirs.dropBucket(nil)
		for _, fd := range []int{v.d.rootFD, v.d.homeFD, v.d.stagingFD} {
			closeFD(fd)
		}
		v.d = nil
	}
	if err := os.Remove(filepath.Join(v.journalDir(), "lock")); err != nil {
		t.Fatal(err)
	}
}

// guarded runs f, which may freeze, and tells whether it ended.
func (v *victim) guarded(f func() error) (ended bool, err error) {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return true, err
	case <-v.frozen:
		return false, nil
	case <-time.After(5 * time.Minute):
		panic("stuck")
	}
}

// readBucket reads a whole bucket.
func readBucket(t *testing.T, d *Driver, name string) crashState {
	t.Helper()
	ctx := context.Background()
	b, err := d.OpenBucket(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	page, err := b.List(ctx, store.ListOptions{Versions: true, Max: 10000})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Fsck(ctx, store.FsckOptions{Report: func(f store.Finding) { t.Errorf("fsck: %+v", f) }}); err != nil {
		t.Error(err)
	}
	s := crashState{}
	for _, e := range page.Entries {
		got := crashVersion{Marker: e.DeleteMarker, Null: e.VersionID == store.NullVersion}
		if e.IsLatest != (s[e.Key] == nil) {
			t.Errorf("%q version %s: IsLatest = %t", e.Key, e.VersionID, e.IsLatest)
		}
		if !e.DeleteMarker {
			got.Data, got.Note = readObject(t, b, e.Key, e.VersionID)
		}
		if latest, err := b.Stat(ctx, e.Key, ""); e.IsLatest && !e.DeleteMarker && (err != nil || latest.VersionID != e.VersionID) {
			t.Errorf("Stat(%q) = %+v, %v, want version %s", e.Key, latest, err, e.VersionID)
		}
		s[e.Key] = append(s[e.Key], got)
	}
	return s
}

func readObject(t testing.TB, b store.Bucket, key, versionID string) (data, note string) {
	t.Helper()
	r, err := b.Open(context.Background(), key, versionID)
	if err != nil {
		t.Fatalf("Open(%q, %q) = %v", key, versionID, err)
	}
	defer r.Close()
	var out strings.Builder
	info := r.Info()
	if _, err := r.WriteRangeTo(&out, 0, info.Size); err != nil {
		t.Fatalf("read %q: %v", key, err)
	}
	data = out.String()
	if info.ETag != etagOf(data) {
		t.Errorf("%q version %s: ETag %q does not belong to its data %s", key, versionID, info.ETag, short(data))
	}
	return short(data), short(info.Attrs["x-amz-meta-note"])
}

func etagOf(data string) string { return fmt.Sprintf("%x-%d", len(data), strings.Count(data, "1")) }

// short keeps the figures of a test readable.
func short(s string) string {
	if len(s) < 40 {
		return s
	}
	return fmt.Sprintf("%s...%d", s[:20], len(s))
}

// change is one step of a crash test: what it does, and what it does to the
// model.
type change struct {
	what  string
	op    store.OpID
	key   string
	do    func(b store.Bucket) error
	model func(s crashState)
}

func putObject(b store.Bucket, key, data string, o store.CommitOptions) error {
	w, err := b.Create(context.Background(), key, store.CreateHint{Size: int64(len(data))})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, data); err != nil {
		return errors.Join(err, w.Abort())
	}
	o.ETag = etagOf(data)
	_, err = w.Commit(context.Background(), o)
	return err
}

var crashKeys = []string{"a", "a/b", "a/b/c", "a/", "..", "x", "y/z"}

func randomPut(r *rand.Rand, n int, key string, v store.Versioning) change {
	data := fmt.Sprint(n, " ", r.Uint64())
	if r.IntN(3) == 0 {
		data = strings.Repeat(data, maxBuffered/len(data)+1)
	}
	note := fmt.Sprint("note ", n)
	if r.IntN(4) == 0 {
		note = strings.Repeat(note, 5000/len(note))
	}
	o := store.CommitOptions{Op: store.NewOpID(), Versioning: v, Attrs: store.Attrs{"x-amz-meta-note": note}}
	return change{
		what: fmt.Sprintf("put %q of %d, %d", key, len(data), v), op: o.Op, key: key,
		do: func(b store.Bucket) error { return putObject(b, key, data, o) },
		model: func(s crashState) {
			if v != store.Enabled {
				s.drop(key, isNull)
			}
			s.add(key, crashVersion{Null: v != store.Enabled, Data: short(data), Note: short(note)})
		},
	}
}

func randomRemove(key string, v store.Versioning) change {
	o := store.RemoveOptions{Op: store.NewOpID(), Versioning: v}
	return change{
		what: fmt.Sprintf("remove %q, %d", key, v), op: o.Op, key: key,
		do: func(b store.Bucket) error { _, err := b.Remove(context.Background(), key, "", o); return err },
		model: func(s crashState) {
			if v != store.Enabled {
				s.drop(key, isNull)
			}
			if v != store.Unversioned {
				s.add(key, crashVersion{Marker: true, Null: v != store.Enabled})
			}
		},
	}
}

// randomRemoveVersion removes the n-th newest version.
func randomRemoveVersion(key string, n int) change {
	o := store.RemoveOptions{Op: store.NewOpID()}
	return change{
		what: fmt.Sprintf("remove %q version %d", key, n), op: o.Op, key: key,
		do: func(b store.Bucket) error {
			page, err := b.List(context.Background(), store.ListOptions{Versions: true, Prefix: key, Max: 1000})
			if err != nil {
				return err
			}
			page.Entries = slices.DeleteFunc(page.Entries, func(e store.Info) bool { return e.Key != key })
			_, err = b.Remove(context.Background(), key, page.Entries[n].VersionID, o)
			return err
		},
		model: func(s crashState) {
			s[key] = slices.Delete(s[key], n, n+1)
			if len(s[key]) == 0 {
				delete(s, key)
			}
		},
	}
}

func randomUpdate(r *rand.Rand, key string) change {
	note := fmt.Sprint("updated ", r.Uint64())
	if r.IntN(3) == 0 {
		note = strings.Repeat(note, 5000/len(note))
	}
	return change{
		what: fmt.Sprintf("update %q", key), key: key,
		do: func(b store.Bucket) error {
			_, err := b.Update(context.Background(), key, "", func(i *store.Info) (store.Attrs, error) {
				i.Attrs["x-amz-meta-note"] = note
				return i.Attrs, nil
			})
			return err
		},
		model: func(s crashState) { s[key][0].Note = short(note) },
	}
}

// randomChange is a change of a key that begins with prefix. It depends on
// nothing but its arguments.
func randomChange(r *rand.Rand, n int, s crashState, versioned bool, prefix string) change {
	v := store.Unversioned
	if versioned {
		v = store.Versioning(1 + r.IntN(4)/3) // Enabled, and sometimes Suspended
	}
	key := prefix + crashKeys[r.IntN(len(crashKeys))]
	has := s[key]
	switch c := r.IntN(10); {
	case c < 2:
		return randomRemove(key, v)
	case c < 5 && versioned && len(has) > 0:
		return randomRemoveVersion(key, r.IntN(len(has)))
	case c < 6 && len(has) > 0 && !has[0].Marker:
		return randomUpdate(r, key)
	}
	return randomPut(r, n, key, v)
}

// TestCrash kills the store at fault points, again and again, also while it
// recovers, and compares what is there with a model.
func TestCrash(t *testing.T) {
	for _, noXattr := range []bool{false, true} {
		for _, versioned := range []bool{false, true} {
			t.Run(fmt.Sprintf("NoXattr=%t,Versioned=%t", noXattr, versioned), func(t *testing.T) {
				testCrash(t, Options{NoXattr: noXattr}, versioned)
			})
		}
	}
}

func testCrash(t *testing.T, opts Options, versioned bool) {
	rounds := crashRounds()
	if testing.Short() {
		rounds = 15
	}
	seed := crashSeed()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	v := newVictim(t, opts)
	if err := v.start(0); err != nil {
		t.Fatal(err)
	}
	if err := v.d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	c := &crashRun{victim: v, r: r, versioned: versioned, s: crashState{}}
	for round := range rounds {
		pending := c.untilKilled(t)
		point := c.recover(t)
		c.s = v.verify(t, c.s, pending, point)
		if t.Failed() {
			t.Fatalf("round %d, killed at %s, after\n%s", round, point, strings.Join(c.log, "\n"))
		}
	}
	t.Logf("%d changes; visited %v", c.n, slices.Sorted(maps.Keys(v.visited)))
}

// crashRun is a series of kills.
type crashRun struct {
	*victim
	r         *rand.Rand
	versioned bool
	s         crashState // what was acknowledged
	n         int        // changes so far
	log       []string   // of this round
}

// untilKilled makes changes until the store is frozen, and returns the one
// that did not end; nil: there is none.
func (c *crashRun) untilKilled(t *testing.T) *change {
	t.Helper()
	c.left, c.log = 1+c.r.IntN(120), nil
	for {
		c.n++
		if ended, err := c.guarded(func() error { return c.maybeCheckpoint(c.r) }); err != nil {
			t.Fatalf("checkpoint: %v", err)
		} else if !ended {
			return nil
		}
		b, err := c.d.OpenBucket(t.Context(), "bucket")
		if err != nil {
			t.Fatal(err)
		}
		next := randomChange(c.r, c.n, c.s, c.versioned, "")
		c.log = append(c.log, next.what)
		ended, err := c.guarded(func() error { return next.do(b) })
		if err != nil {
			t.Fatalf("%s: %v", next.what, err)
		}
		if !ended {
			return &next
		}
		next.model(c.s)
	}
}

// recover opens the store again, which may be killed while it recovers. It
// returns where it was killed.
func (c *crashRun) recover(t *testing.T) (points string) {
	t.Helper()
	points = c.point
	for left := c.r.IntN(40); ; left = 0 {
		c.bury(t)
		ended, err := c.reopen(left)
		if err != nil {
			t.Fatalf("open after a kill at %s: %v", points, err)
		}
		if ended {
			return points
		}
		points += ", " + c.point
	}
}

func (v *victim) maybeCheckpoint(r *rand.Rand) error {
	if r.IntN(12) > 0 {
		return nil
	}
	return v.j.Checkpoint()
}

// reopen starts the store, which may freeze after left fault points.
func (v *victim) reopen(left int) (ended bool, err error) {
	v.left, v.frozen, v.d = left, make(chan struct{}), nil
	done := make(chan error, 1)
	frozen := v.frozen
	go func() {
		var err error
		if v.j, err = journal.Open(v.journalDir(), v.journal); err == nil {
			if v.d, err = Open(v.root(), v.j, v.testStore.opts); err == nil {
				err = v.j.Recover()
			}
		}
		done <- err
	}()
	select {
	case err := <-done:
		v.left = 0
		return true, err
	case <-frozen:
		return false, nil
	}
}

// verify compares the bucket with the model: without the pending change, or
// with it. It returns the one that holds.
func (v *victim) verify(t *testing.T, s crashState, pending *change, point string) crashState {
	t.Helper()
	got := readBucket(t, v.d, "bucket")
	before := gocmp.Diff(s, got)
	if pending == nil {
		if before != "" {
			t.Errorf("after a kill at %s (-want +got):\n%s", point, before)
		}
		return s
	}
	next := s.clone()
	pending.model(next)
	after := gocmp.Diff(next, got)
	if before != "" && after != "" {
		t.Errorf("after a kill at %s within %s: neither before (-want +got):\n%s\nnor after:\n%s", point, pending.what, before, after)
	}
	if !pending.op.IsZero() {
		_, err := v.d.Outcomes().Settle(context.Background(), store.OpRef{ID: pending.op, Bucket: "bucket", Key: pending.key})
		if (err == nil) != (after == "") && before != after {
			t.Errorf("after a kill at %s within %s: Settle = %v, but the change shows: %t", point, pending.what, err, after == "")
		}
	}
	if before == "" {
		return s
	}
	return next
}

// crashRounds is the number of kills per configuration; HERALD_CRASH_ROUNDS
// changes it.
func crashRounds() int {
	if n, err := strconv.Atoi(os.Getenv("HERALD_CRASH_ROUNDS")); err == nil {
		return n
	}
	return 60
}

// crashSeed is what a crash test draws its changes and kills from;
// HERALD_CRASH_SEED sets it to that of a run that failed.
func crashSeed() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("HERALD_CRASH_SEED"), 10, 64); err == nil {
		return n
	}
	return uint64(time.Now().UnixNano())
}
