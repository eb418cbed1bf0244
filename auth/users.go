package auth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"herald/store"
)

// User may sign requests. Values that Users hands out are shared and must not
// be changed, except inside Update.
type User struct {
	ID          string    `json:"id"`
	Tenant      string    `json:"tenant,omitempty"` // "" for most
	DisplayName string    `json:"display_name,omitempty"`
	Email       string    `json:"email,omitempty"`
	Keys        []Key     `json:"keys,omitempty"`
	Admin       bool      `json:"admin,omitempty"`     // may do everything
	System      bool      `json:"system,omitempty"`    // the same, in RGW's word
	Suspended   bool      `json:"suspended,omitempty"` // every request is refused
	Created     time.Time `json:"created"`
	// Account owns what the user makes, "" if it belongs to none. Every user of
	// an account may do everything with what the account owns.
	Account string `json:"account,omitempty"`
}

// UID returns the full user id: "tenant$id", or "id" without a tenant.
func (u *User) UID() string { return joinUID(u.Tenant, u.ID) }

// ARN returns the user's name in policies, as RGW writes it:
// arn:aws:iam::<account or tenant>:user/<id>.
func (u *User) ARN() string { return "arn:aws:iam::" + u.Namespace() + ":user/" + u.ID }

// Namespace is what the user's topics are named in: the account or the tenant.
func (u *User) Namespace() string { return cmp.Or(u.Account, u.Tenant) }

// Owner is the id of what owns what the user makes: the account, or the user.
func (u *User) Owner() string { return cmp.Or(u.Account, u.UID()) }

// Owns tells whether something of that owner is the user's: its own, also from
// before it came to an account, or the account's.
func (u *User) Owns(owner string) bool {
	return owner != "" && (owner == u.UID() || owner == u.Account)
}

// Privileged tells whether no permission is checked for the user.
func (u *User) Privileged() bool { return u.Admin || u.System }

// AnonymousID is the user id of those who do not sign, and the owner of what
// they make (RGW). No user can be named so.
const AnonymousID = "anonymous"

// AnonymousUser stands for those who do not sign.
func AnonymousUser() *User { return &User{ID: AnonymousID} }

// Anonymous tells whether the user is AnonymousUser.
func (u *User) Anonymous() bool { return u.ID == AnonymousID && u.Tenant == "" }

func joinUID(tenant, id string) string {
	if tenant == "" {
		return id
	}
	return tenant + "$" + id
}

// SplitUID is the inverse of User.UID.
func SplitUID(uid string) (tenant, id string) {
	if t, i, ok := strings.Cut(uid, "$"); ok {
		return t, i
	}
	return "", uid
}

// ValidUserID tells whether id may be a user's id or a tenant's name: 1 to 128
// ASCII letters, digits, '-', '_', '.' and '@', beginning with a letter, a
// digit or '_'. What looks like an account's id is none: it would be taken for
// the account. Nor is AnonymousID.
func ValidUserID(id string) bool {
	return !ValidAccountID(id) && id != AnonymousID && id != "" && len(id) <= 128 && !strings.ContainsAny(id[:1], "-.@") && plainName(id)
}

func plainName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !isAlnum(c) && c != '-' && c != '_' && c != '.' && c != '@' {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// Users keeps users in the store's records: "user/<uid>" is the user with its
// keys, "key/<access key>" names the key's user. A key counts only when both
// agree, so whatever is left of a change that was cut short is harmless.
// Users may be used concurrently, by several gateways.
type Users struct {
	records store.Records
	byUID   sync.Map // uid -> *cachedUser; only users that exist
	byKey   sync.Map // access key -> *cachedKey; only keys that exist
}

// cachedUser is a decoded user record; it is never changed.
type cachedUser struct {
	version uint64
	user    *User
}

// cachedKey is a decoded key record with the user's key it stands for; it is
// never changed.
type cachedKey struct {
	version uint64
	uid     string
	user    *User // of which key is
	key     Key
}

// NewUsers returns the users in records.
func NewUsers(records store.Records) *Users { return &Users{records: records} }

func userRecord(uid string) string { return "user/" + uid }

// Get returns a user. Errors: ErrNoSuchUser.
func (s *Users) Get(ctx context.Context, uid string) (*User, error) {
	u, _, err := s.get(ctx, uid)
	return u, err
}

func (s *Users) get(ctx context.Context, uid string) (*User, uint64, error) {
	if tenant, id := SplitUID(uid); !ValidUserID(id) || tenant != "" && !ValidUserID(tenant) {
		return nil, 0, ErrNoSuchUser
	}
	data, version, err := s.records.Get(ctx, userRecord(uid))
	if errors.Is(err, store.ErrNoSuchRecord) {
		s.byUID.Delete(uid)
		return nil, 0, ErrNoSuchUser
	}
	if err != nil {
		return nil, 0, fmt.Errorf("get user %s: %w", uid, err)
	}
	if c, ok := s.byUID.Load(uid); ok && c.(*cachedUser).version == version {
		return c.(*cachedUser).user, version, nil
	}
	u := new(User)
	if err := json.Unmarshal(data, u); err != nil {
		return nil, 0, fmt.Errorf("get user %s: %w", uid, err)
	}
	s.byUID.Store(uid, &cachedUser{version, u})
	return u, version, nil
}

// Create adds a user with its keys; u.Created is filled in when zero.
// Errors: ErrUserExists, ErrKeyExists, ErrInvalidID, ErrInvalidKey.
func (s *Users) Create(ctx context.Context, u *User) error {
	if !ValidUserID(u.ID) || u.Tenant != "" && !ValidUserID(u.Tenant) {
		return ErrInvalidID
	}
	if _, err := s.Get(ctx, u.UID()); !errors.Is(err, ErrNoSuchUser) {
		if err == nil {
			err = ErrUserExists
		}
		return err
	}
	if u.Created.IsZero() {
		u.Created = time.Now().UTC().Truncate(time.Millisecond)
	}
	data, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("create user %s: %w", u.UID(), err)
	}
	// The keys first: a key record without its user counts for nothing.
	for i, k := range u.Keys {
		if err := s.claim(ctx, k, u.UID()); err != nil {
			s.release(ctx, u.UID(), u.Keys[:i])
			return err
		}
	}
	if _, err := s.records.Put(ctx, userRecord(u.UID()), data, 0); err != nil {
		if errors.Is(err, store.ErrRecordConflict) {
			return ErrUserExists
		}
		s.release(ctx, u.UID(), u.Keys)
		return fmt.Errorf("create user %s: %w", u.UID(), err)
	}
	return nil
}

// Update changes a user: f gets a copy, and is called again when another
// change came between. Keys may come and go; id and tenant stay.
// Errors: ErrNoSuchUser, ErrKeyExists (a new key is another user's),
// ErrInvalidKey, or f's.
func (s *Users) Update(ctx context.Context, uid string, f func(*User) error) (*User, error) {
	for {
		cur, version, err := s.get(ctx, uid)
		if err != nil {
			return nil, err
		}
		next := *cur
		next.Keys = slices.Clone(cur.Keys)
		if err := f(&next); err != nil {
			return nil, err
		}
		next.ID, next.Tenant = cur.ID, cur.Tenant
		err = s.replace(ctx, cur, &next, version)
		if err == nil {
			return &next, nil
		}
		if !errors.Is(err, store.ErrRecordConflict) {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// replace writes a user over its previous state, of the given version. New
// keys are claimed before, old ones let go after: a key record alone counts
// for nothing. Errors: store.ErrRecordConflict, ErrKeyExists, ErrInvalidKey.
func (s *Users) replace(ctx context.Context, cur, next *User, version uint64) error {
	uid := cur.UID()
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("update user %s: %w", uid, err)
	}
	added := missingKeys(cur.Keys, next.Keys)
	for i, k := range added {
		if err := s.claim(ctx, k, uid); err != nil {
			s.release(ctx, uid, added[:i])
			return err
		}
	}
	if _, err := s.records.Put(ctx, userRecord(uid), data, version); err != nil {
		if !errors.Is(err, store.ErrRecordConflict) { // else they are claimed again
			s.release(ctx, uid, added)
		}
		return fmt.Errorf("update user %s: %w", uid, err)
	}
	s.release(ctx, uid, missingKeys(next.Keys, cur.Keys))
	return nil
}

// Delete removes a user and its keys. Buckets and topics stay.
// Errors: ErrNoSuchUser.
func (s *Users) Delete(ctx context.Context, uid string) error {
	for {
		u, version, err := s.get(ctx, uid)
		if err != nil {
			return err
		}
		// The user first: from here on its keys count for nothing.
		err = s.records.Delete(ctx, userRecord(uid), version)
		switch {
		case errors.Is(err, store.ErrRecordConflict) && ctx.Err() == nil:
			continue
		case errors.Is(err, store.ErrNoSuchRecord):
			return ErrNoSuchUser
		case err != nil:
			return fmt.Errorf("delete user %s: %w", uid, err)
		}
		s.byUID.Delete(uid)
		s.release(ctx, uid, u.Keys)
		return nil
	}
}

// List returns the ids of all users, in byte order.
func (s *Users) List(ctx context.Context) ([]string, error) {
	names, err := s.records.List(ctx, userRecord(""), "", 0)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	for i, n := range names {
		names[i] = strings.TrimPrefix(n, userRecord(""))
	}
	return names, nil
}
