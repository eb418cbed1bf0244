// Package storetest is the suite that every driver of package store passes.
//
// A driver's test says how to make a Harness and calls Run:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Harness { ... })
//	}
//
// Cases are in groups, each with a store of its own; groups run in parallel. All
// cases of a group work on one store, each in buckets of its own, so that a case
// also meets what earlier ones left behind. Many reopen the store in the middle:
// what is read afterwards was persistent. Most cases are written as scripts
// (Fixture.Put, Fixture.Want, ...), the larger ones compare the store with
// Model, which says in memory what a bucket has to look like.
//
// Faulty wraps a driver and fails where a test says so; it is the only fake.
package storetest

import (
	"fmt"
	"testing"

	"herald/store"
)

// Harness is how the suite gets at one store.
type Harness struct {
	// Open opens the store. Repeated calls reach the same store; the suite
	// closes a driver before it opens the next. Required.
	Open func(t *testing.T) store.Driver
	// Crash, optional, makes the store what it would be had the process been
	// killed now: what Open reaches from here on is that. The driver given
	// will not be used again, nor closed by the suite. No call is in
	// progress when it is called.
	Crash func(t *testing.T, d store.Driver)
	// NoUploads declares that the driver lacks the capability store.Uploads;
	// otherwise its absence fails the suite.
	NoUploads bool
	// Shared declares that several drivers can have the store open at once:
	// Open is then also called while another is open.
	Shared bool
}

// suite is one group of cases on one store.
type suite struct {
	h       Harness
	d       store.Driver
	buckets int
}

// testCase is one case: it gets a fresh bucket.
type testCase struct {
	name string
	run  func(f *Fixture)
}

// Run runs the whole suite. harness is called for each group of cases: it makes a
// store for it.
func Run(t *testing.T, harness func(t *testing.T) Harness) {
	for _, g := range []struct {
		name  string
		cases []testCase
		lacks func(h Harness) bool
	}{
		{name: "Bucket", cases: bucketCases()},
		{name: "Object", cases: objectCases()},
		{name: "Key", cases: keyCases()},
		{name: "Attr", cases: attrCases()},
		{name: "Reader", cases: readerCases()},
		{name: "Copy", cases: copyCases()},
		{name: "Condition", cases: conditionCases()},
		{name: "Version", cases: versionCases()},
		{name: "Outcome", cases: outcomeCases()},
		{name: "List", cases: listCases()},
		{name: "Records", cases: recordsCases()},
		{name: "Load", cases: loadCases()},
		{"Upload", uploadCases(), func(h Harness) bool { return h.NoUploads }},
		{"Shared", sharedCases(), func(h Harness) bool { return !h.Shared }},
	} {
		t.Run(g.name, func(t *testing.T) {
			h := harness(t)
			if g.lacks != nil && g.lacks(h) {
				t.Skip("the driver lacks the capability")
			}
			t.Parallel()
			s := &suite{h: h, d: h.Open(t)}
			s.runAll(t, g.cases)
			if err := s.d.Close(); err != nil {
				t.Errorf("Close() = %v", err)
			}
		})
	}
}

func (s *suite) runAll(t *testing.T, cases []testCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := &Fixture{T: t, suite: s}
			f.NewBucket()
			c.run(f)
		})
	}
}

// Fixture is what a case works with: the store, and a bucket made for it. Its
// methods end the test when the store answers what it must not.
type Fixture struct {
	*testing.T
	suite *suite
	// Name is the bucket's name, Bucket the open bucket.
	Name   string
	Bucket store.Bucket
	// Versioning is what Put and Remove say when nothing else is asked for.
	Versioning store.Versioning
}

// Driver returns the driver that is open now.
func (f *Fixture) Driver() store.Driver { return f.suite.d }

// NewBucket makes a bucket and makes it the fixture's.
func (f *Fixture) NewBucket() {
	f.Helper()
	f.suite.buckets++
	f.Name = fmt.Sprintf("bucket-%04d", f.suite.buckets)
	if err := f.Driver().CreateBucket(f.Context(), f.Name); err != nil {
		f.Fatalf("CreateBucket(%q) = %v", f.Name, err)
	}
	f.openBucket()
}

func (f *Fixture) openBucket() {
	f.Helper()
	b, err := f.Driver().OpenBucket(f.Context(), f.Name)
	if err != nil {
		f.Fatalf("OpenBucket(%q) = %v", f.Name, err)
	}
	f.Bucket = b
}

// Reopen closes the store and opens it again.
func (f *Fixture) Reopen() {
	f.Helper()
	if err := f.Driver().Close(); err != nil {
		f.Fatalf("Close() = %v", err)
	}
	f.suite.d = f.suite.h.Open(f.T)
	f.openBucket()
}

// Crash reopens the store as after a kill of the process, or closes it first
// where the harness cannot do that.
func (f *Fixture) Crash() {
	f.Helper()
	if f.suite.h.Crash == nil {
		f.Reopen()
		return
	}
	f.suite.h.Crash(f.T, f.suite.d)
	f.suite.d = f.suite.h.Open(f.T)
	f.openBucket()
}
