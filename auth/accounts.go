package auth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"herald/store"
)

// Account owns buckets and topics in place of the users that belong to it. Its
// topics have its id where those of others have a tenant.
type Account struct {
	ID      string    `json:"id"` // "RGW" and 17 digits (RGW)
	Name    string    `json:"name"`
	Tenant  string    `json:"tenant,omitempty"` // of its users and buckets
	Email   string    `json:"email,omitempty"`
	Created time.Time `json:"created"`
}

// NewAccountID makes one that is not taken.
func NewAccountID() string {
	n, err := rand.Int(rand.Reader, big.NewInt(1e17))
	if err != nil {
		panic(err) // never (crypto/rand)
	}
	return fmt.Sprintf("RGW%017d", n)
}

// ValidAccountID tells whether id has the form of an account's. No user and no
// tenant may be named so.
func ValidAccountID(id string) bool {
	digits, ok := strings.CutPrefix(id, "RGW")
	return ok && len(digits) == 17 && isDigits(digits)
}

func accountRecord(id string) string { return "account/" + id }

// Account returns an account. Errors: ErrNoSuchAccount.
func (s *Users) Account(ctx context.Context, id string) (*Account, error) {
	if !ValidAccountID(id) {
		return nil, ErrNoSuchAccount
	}
	data, _, err := s.records.Get(ctx, accountRecord(id))
	if errors.Is(err, store.ErrNoSuchRecord) {
		return nil, ErrNoSuchAccount
	}
	a := new(Account)
	if err == nil {
		err = json.Unmarshal(data, a)
	}
	if err != nil {
		return nil, fmt.Errorf("get account %s: %w", id, err)
	}
	return a, nil
}

// CreateAccount adds an account; Created is filled in.
// Errors: ErrAccountExists, ErrInvalidID.
func (s *Users) CreateAccount(ctx context.Context, a *Account) error {
	if !ValidAccountID(a.ID) || a.Tenant != "" && !ValidUserID(a.Tenant) {
		return ErrInvalidID
	}
	a.Created = time.Now().UTC().Truncate(time.Millisecond)
	data, err := json.Marshal(a)
	if err == nil {
		_, err = s.records.Put(ctx, accountRecord(a.ID), data, 0)
	}
	if errors.Is(err, store.ErrRecordConflict) {
		return ErrAccountExists
	}
	if err != nil {
		return fmt.Errorf("create account %s: %w", a.ID, err)
	}
	return nil
}

// DeleteAccount removes an account; its users, buckets and topics stay.
// Errors: ErrNoSuchAccount.
func (s *Users) DeleteAccount(ctx context.Context, id string) error {
	_, version, err := s.records.Get(ctx, accountRecord(id))
	if err == nil {
		err = s.records.Delete(ctx, accountRecord(id), version)
	}
	if errors.Is(err, store.ErrNoSuchRecord) {
		return ErrNoSuchAccount
	}
	if err != nil {
		return fmt.Errorf("delete account %s: %w", id, err)
	}
	return nil
}

// Accounts returns the ids of all accounts, in byte order.
func (s *Users) Accounts(ctx context.Context) ([]string, error) {
	names, err := s.records.List(ctx, accountRecord(""), "", 0)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	for i, n := range names {
		names[i] = strings.TrimPrefix(n, accountRecord(""))
	}
	return names, nil
}
