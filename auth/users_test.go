package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herald/store"
)

func TestUsers_Lifecycle(t *testing.T) {
	ctx := t.Context()
	s := NewUsers(newRecords())
	alice := &User{ID: "alice", Tenant: "t1", DisplayName: "Alice", Keys: []Key{{"AKALICE", "secret"}}}
	if err := s.Create(ctx, alice); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(ctx, &User{ID: "alice", Tenant: "t1"}); !errors.Is(err, ErrUserExists) {
		t.Errorf("Create again = %v", err)
	}
	if err := s.Create(ctx, &User{ID: "alice"}); err != nil {
		t.Errorf("Create in no tenant = %v", err)
	}
	if err := s.Create(ctx, &User{ID: "bob", Keys: []Key{{"AKBOB", "b"}, {"AKALICE", "x"}}}); !errors.Is(err, ErrKeyExists) {
		t.Errorf("Create with another's key = %v", err)
	}
	if _, _, err := s.ByAccessKey(ctx, "AKBOB"); !errors.Is(err, ErrNoSuchKey) {
		t.Errorf("ByAccessKey of a user who was refused = %v", err)
	}
	got, key, err := s.ByAccessKey(ctx, "AKALICE")
	if err != nil || got.UID() != "t1$alice" || key.SecretKey != "secret" {
		t.Errorf("ByAccessKey = %+v, %+v, %v", got, key, err)
	}
	if again, _, _ := s.ByAccessKey(ctx, "AKALICE"); again != got {
		t.Error("ByAccessKey decoded twice")
	}
	uids, err := s.List(ctx)
	if diff := cmp.Diff([]string{"alice", "t1$alice"}, uids); diff != "" || err != nil {
		t.Errorf("List = %v, %v", diff, err)
	}
	if err := s.Delete(ctx, "t1$alice"); err != nil {
		t.Errorf("Delete = %v", err)
	}
	if _, err := s.Get(ctx, "t1$alice"); !errors.Is(err, ErrNoSuchUser) {
		t.Errorf("Get after Delete = %v", err)
	}
	if _, _, err := s.ByAccessKey(ctx, "AKALICE"); !errors.Is(err, ErrNoSuchKey) {
		t.Errorf("ByAccessKey after Delete = %v", err)
	}
	if err := s.Delete(ctx, "t1$alice"); !errors.Is(err, ErrNoSuchUser) {
		t.Errorf("Delete again = %v", err)
	}
}

func TestUsers_Keys(t *testing.T) {
	ctx := t.Context()
	records := newRecords()
	s := NewUsers(records)
	other := NewUsers(records) // another gateway
	if err := s.Create(ctx, &User{ID: "u"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateKey(ctx, "nobody", Key{"AKX", "s"}); !errors.Is(err, ErrNoSuchUser) {
		t.Errorf("CreateKey of nobody = %v", err)
	}
	for _, secret := range []string{"one", "two"} {
		if _, err := s.CreateKey(ctx, "u", Key{"AKU", secret}); err != nil {
			t.Fatal(err)
		}
		for _, gw := range []*Users{s, other} {
			if u, k, err := gw.ByAccessKey(ctx, "AKU"); err != nil || k.SecretKey != secret || len(u.Keys) != 1 {
				t.Errorf("ByAccessKey = %+v, %+v, %v", u, k, err)
			}
		}
	}
	if _, err := s.RemoveKey(ctx, "u", "AKOTHER"); !errors.Is(err, ErrNoSuchKey) {
		t.Errorf("RemoveKey of another = %v", err)
	}
	if _, err := s.RemoveKey(ctx, "u", "AKU"); err != nil {
		t.Errorf("RemoveKey = %v", err)
	}
	if _, _, err := other.ByAccessKey(ctx, "AKU"); !errors.Is(err, ErrNoSuchKey) {
		t.Errorf("ByAccessKey after RemoveKey = %v", err)
	}
}

func TestUsers_UpdateReplacesKeys(t *testing.T) {
	ctx := t.Context()
	s := NewUsers(newRecords())
	for _, u := range []*User{{ID: "u", Keys: []Key{{"AKOLD", "s"}}}, {ID: "v", Keys: []Key{{"AKV", "s"}}}} {
		if err := s.Create(ctx, u); err != nil {
			t.Fatal(err)
		}
	}
	set := func(keys ...Key) error {
		_, err := s.Update(ctx, "u", func(u *User) error { u.Keys = keys; return nil })
		return err
	}
	if err := set(Key{"AKNEW", "n"}); err != nil {
		t.Fatal(err)
	}
	if u, _, err := s.ByAccessKey(ctx, "AKNEW"); err != nil || u.ID != "u" {
		t.Errorf("ByAccessKey of the new key = %v, %v", u, err)
	}
	if _, _, err := s.ByAccessKey(ctx, "AKOLD"); !errors.Is(err, ErrNoSuchKey) {
		t.Errorf("ByAccessKey of the old key = %v", err)
	}
	if err := set(Key{"AKNEW", "n"}, Key{"AKMORE", "n"}, Key{"AKV", "stolen"}); !errors.Is(err, ErrKeyExists) {
		t.Errorf("Update with another's key = %v", err)
	}
	if _, k, err := s.ByAccessKey(ctx, "AKV"); err != nil || k.SecretKey != "s" {
		t.Errorf("ByAccessKey of the other's key = %+v, %v", k, err)
	}
	if _, _, err := s.ByAccessKey(ctx, "AKMORE"); !errors.Is(err, ErrNoSuchKey) {
		t.Errorf("ByAccessKey of a key that was refused = %v", err)
	}
}

func TestUsers_LeftOverKeyIsTakenOver(t *testing.T) {
	ctx := t.Context()
	records := newRecords()
	s := NewUsers(records)
	if _, err := records.Put(ctx, "key/AKLEFT", []byte(`{"user":"never-made"}`), 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.ByAccessKey(ctx, "AKLEFT"); !errors.Is(err, ErrNoSuchKey) {
		t.Errorf("ByAccessKey = %v", err)
	}
	if err := s.Create(ctx, &User{ID: "u", Keys: []Key{{"AKLEFT", "s"}}}); err != nil {
		t.Fatal(err)
	}
	if u, _, err := s.ByAccessKey(ctx, "AKLEFT"); err != nil || u.ID != "u" {
		t.Errorf("ByAccessKey = %v, %v", u, err)
	}
}

func TestUsers_UpdateConcurrently(t *testing.T) {
	ctx := t.Context()
	s := NewUsers(newRecords())
	if err := s.Create(ctx, &User{ID: "u"}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := s.CreateKey(ctx, "u", Key{fmt.Sprintf("AK%d", i), "s"}); err != nil {
				t.Error(err)
			}
			if _, err := s.Update(ctx, "u", func(u *User) error { u.Email += "x"; u.ID = "z"; return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	u, err := s.Get(ctx, "u")
	if err != nil || len(u.Keys) != 8 || len(u.Email) != 8 || u.ID != "u" {
		t.Errorf("Get = %+v, %v", u, err)
	}
}

func TestUsers_BadNames(t *testing.T) {
	ctx := t.Context()
	s := NewUsers(newRecords())
	for _, id := range []string{"", "a b", "a/b", "../x", "-a", "a$b$c", "ü", string(make([]byte, 200))} {
		if err := s.Create(ctx, &User{ID: id}); !errors.Is(err, ErrInvalidID) {
			t.Errorf("Create(%q) = %v", id, err)
		}
		if _, err := s.Get(ctx, id); !errors.Is(err, ErrNoSuchUser) {
			t.Errorf("Get(%q) = %v", id, err)
		}
	}
	for _, k := range []Key{{"a", "b"}, {"abc", ""}, {"abc", "b c"}, {"ab/c", "s"}, {"abc", "ü"}} {
		if _, err := s.CreateKey(ctx, "u", k); err == nil {
			t.Errorf("CreateKey(%q) was taken", k)
		}
		if k.SecretKey != "" {
			if _, err := NewKey(k.AccessKey, k.SecretKey); !errors.Is(err, ErrInvalidKey) {
				t.Errorf("NewKey(%q) = %v", k, err)
			}
		}
	}
}

func TestNewKey(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		k, err := NewKey("", "")
		if err != nil || len(k.AccessKey) != 20 || len(k.SecretKey) != 40 || seen[k.AccessKey] {
			t.Fatalf("NewKey = %+v, %v", k, err)
		}
		seen[k.AccessKey] = true
	}
}

// meeting are the records of several gateways, which all find a key's record
// missing before any of them writes it.
type meeting struct {
	store.Records
	all *sync.WaitGroup
	met *sync.Once
}

func (m meeting) Get(ctx context.Context, name string) ([]byte, uint64, error) {
	data, version, err := m.Records.Get(ctx, name)
	if name == keyRecord("AKROOT") {
		m.met.Do(func() {
			m.all.Done()
			m.all.Wait()
		})
	}
	return data, version, err
}

// Gateways that start together make the same user.
func TestUsers_CreateConcurrently(t *testing.T) {
	ctx := t.Context()
	records := newRecords()
	errs := make(chan error)
	var all sync.WaitGroup
	all.Add(4)
	for range 4 {
		go func() {
			users := NewUsers(meeting{records, &all, new(sync.Once)})
			errs <- users.Create(ctx, &User{ID: "root", Keys: []Key{{"AKROOT", "secret"}}})
		}()
	}
	made := 0
	for range 4 {
		switch err := <-errs; {
		case err == nil:
			made++
		case !errors.Is(err, ErrUserExists):
			t.Errorf("Create = %v", err)
		}
	}
	if made != 1 {
		t.Errorf("%d of 4 made the user", made)
	}
	if _, key, err := NewUsers(records).ByAccessKey(ctx, "AKROOT"); err != nil || key.SecretKey != "secret" {
		t.Errorf("ByAccessKey = %+v, %v", key, err)
	}
}
