package auth

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAccounts(t *testing.T) {
	ctx := t.Context()
	s := NewUsers(newRecords())
	id := NewAccountID()
	if !ValidAccountID(id) {
		t.Errorf("NewAccountID = %q", id)
	}
	if err := s.CreateAccount(ctx, &Account{ID: id, Name: "Acme"}); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateAccount(ctx, &Account{ID: id, Name: "Other"}); !errors.Is(err, ErrAccountExists) {
		t.Errorf("CreateAccount again = %v", err)
	}
	for _, bad := range []string{"", "RGW1", "acme", "RGW0000000000000000x", "RGW000000000000000001"} {
		if err := s.CreateAccount(ctx, &Account{ID: bad}); !errors.Is(err, ErrInvalidID) {
			t.Errorf("CreateAccount(%q) = %v", bad, err)
		}
		if _, err := s.Account(ctx, bad); !errors.Is(err, ErrNoSuchAccount) {
			t.Errorf("Account(%q) = %v", bad, err)
		}
	}
	if a, err := s.Account(ctx, id); err != nil || a.Name != "Acme" {
		t.Errorf("Account = %+v, %v", a, err)
	}
	ids, err := s.Accounts(ctx)
	if diff := cmp.Diff([]string{id}, ids); diff != "" || err != nil {
		t.Errorf("Accounts = %s, %v", diff, err)
	}
	// Who could be named like an account would own what it owns.
	if err := s.Create(ctx, &User{ID: id}); !errors.Is(err, ErrInvalidID) {
		t.Errorf("Create of a user named like an account = %v", err)
	}
	if err := s.Create(ctx, &User{ID: "u", Tenant: id}); !errors.Is(err, ErrInvalidID) {
		t.Errorf("Create in a tenant named like an account = %v", err)
	}
	if err := s.DeleteAccount(ctx, id); err != nil {
		t.Error(err)
	}
	if err := s.DeleteAccount(ctx, id); !errors.Is(err, ErrNoSuchAccount) {
		t.Errorf("DeleteAccount again = %v", err)
	}
}

func TestUser_Owns(t *testing.T) {
	const account = "RGW00000000000000001"
	for _, tt := range []struct {
		user  User
		owner string
		want  bool
	}{
		{User{ID: "u"}, "u", true},
		{User{ID: "u"}, "", false},
		{User{ID: "u"}, "v", false},
		{User{ID: "u", Tenant: "t"}, "u", false},
		{User{ID: "u", Account: account}, "u", true},
		{User{ID: "u", Account: account}, account, true},
		{User{ID: "u"}, account, false},
	} {
		if got := tt.user.Owns(tt.owner); got != tt.want {
			t.Errorf("%+v owns %q = %v", tt.user, tt.owner, got)
		}
	}
}
