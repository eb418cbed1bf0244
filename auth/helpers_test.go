package auth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"herald/store"
)

const (
	testAccess = "AKIAIOSFODNN7EXAMPLE"
	testSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// memRecords is store.Records in memory.
type memRecords struct {
	mu sync.Mutex
	// m and next are guarded by mu.
	m    map[string]memRecord
	next uint64
}

type memRecord struct {
	value   []byte
	version uint64
}

func newRecords() *memRecords { return &memRecords{m: make(map[string]memRecord)} }

func (s *memRecords) Get(_ context.Context, name string) ([]byte, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.m[name]
	if !ok {
		return nil, 0, store.ErrNoSuchRecord
	}
	return r.value, r.version, nil
}

func (s *memRecords) Put(_ context.Context, name string, value []byte, version uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[name].version != version {
		return 0, store.ErrRecordConflict
	}
	s.next++
	s.m[name] = memRecord{value, s.next}
	return s.next, nil
}

func (s *memRecords) Delete(_ context.Context, name string, version uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.m[name]
	if !ok {
		return store.ErrNoSuchRecord
	}
	if r.version != version {
		return store.ErrRecordConflict
	}
	delete(s.m, name)
	return nil
}

func (s *memRecords) List(_ context.Context, prefix, after string, max int) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.m {
		if strings.HasPrefix(name, prefix) && name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if max > 0 && len(names) > max {
		names = names[:max]
	}
	return names, nil
}

// newTestUsers has the user "tester" with the test key, and "gone", who is
// suspended.
func newTestUsers(t testing.TB) *Users {
	t.Helper()
	users := NewUsers(newRecords())
	for _, u := range []*User{
		{ID: "tester", Keys: []Key{{testAccess, testSecret}}},
		{ID: "gone", Suspended: true, Keys: []Key{{"GONEGONEGONEGONEGONE", testSecret}}},
	} {
		if err := users.Create(t.Context(), u); err != nil {
			t.Fatalf("Create(%s): %v", u.ID, err)
		}
	}
	return users
}

func newTestVerifier(t testing.TB, opts VerifierOptions) *Verifier {
	t.Helper()
	return NewVerifier(newTestUsers(t), opts)
}

// at returns a clock that stands.
func at(ts time.Time) func() time.Time { return func() time.Time { return ts } }

// code returns an error's S3 code; "" for nil.
func code(err error) string {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	}
	return "not an *Error: " + err.Error()
}
