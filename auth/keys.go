package auth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"herald/store"
)

// Key is a pair with which requests are signed.
type Key struct {
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

// Lengths of generated keys, as AWS has them, and the bounds of given ones.
const (
	accessKeyLength = 20
	secretKeyLength = 40
	maxKeyLength    = 128
)

// NewKey returns a key with the given parts; an empty one is generated: 20
// upper-case letters and digits, 40 characters. Errors: ErrInvalidKey.
func NewKey(accessKey, secretKey string) (Key, error) {
	if accessKey == "" {
		accessKey = generateAccessKey()
	}
	if secretKey == "" {
		secretKey = generateSecretKey()
	}
	k := Key{accessKey, secretKey}
	return k, k.check()
}

// check holds access keys to 3 to 128 letters, digits and "-_.@", secrets to 1
// to 128 printable ASCII characters.
func (k Key) check() error {
	if len(k.AccessKey) < 3 || len(k.AccessKey) > maxKeyLength || !plainName(k.AccessKey) {
		return fmt.Errorf("%w: an access key has 3 to %d letters, digits and -_.@", ErrInvalidKey, maxKeyLength)
	}
	if k.SecretKey == "" || len(k.SecretKey) > maxKeyLength {
		return fmt.Errorf("%w: a secret key has 1 to %d characters", ErrInvalidKey, maxKeyLength)
	}
	for i := range len(k.SecretKey) {
		if c := k.SecretKey[i]; c <= ' ' || c > '~' {
			return fmt.Errorf("%w: a secret key has only printable ASCII characters", ErrInvalidKey)
		}
	}
	return nil
}

func generateAccessKey() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" // 32: no bias
	b := make([]byte, accessKeyLength)
	_, _ = rand.Read(b) // never fails since Go 1.24
	for i := range b {
		b[i] = alphabet[b[i]%32]
	}
	return string(b)
}

func generateSecretKey() string {
	b := make([]byte, secretKeyLength*3/4)
	_, _ = rand.Read(b)                            // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b) // nothing that shells or URLs would mangle
}

// keyDoc is the record "key/<access key>".
type keyDoc struct {
	User string `json:"user"`
}

func keyRecord(accessKey string) string { return "key/" + accessKey }

// ByAccessKey returns the user that has an access key, and the key. It decodes
// nothing unless a record changed. Errors: ErrNoSuchKey.
func (s *Users) ByAccessKey(ctx context.Context, accessKey string) (*User, Key, error) {
	if len(accessKey) > maxKeyLength || accessKey == "" || !plainName(accessKey) {
		return nil, Key{}, ErrNoSuchKey
	}
	c, err := s.lookupKey(ctx, accessKey)
	if err != nil {
		return nil, Key{}, err
	}
	u, _, err := s.get(ctx, c.uid)
	if errors.Is(err, ErrNoSuchUser) {
		return nil, Key{}, ErrNoSuchKey
	}
	if err != nil {
		return nil, Key{}, err
	}
	if u == c.user {
		return u, c.key, nil
	}
	i := slices.IndexFunc(u.Keys, func(k Key) bool { return k.AccessKey == accessKey })
	if i < 0 {
		return nil, Key{}, ErrNoSuchKey
	}
	s.byKey.Store(accessKey, &cachedKey{c.version, c.uid, u, u.Keys[i]})
	return u, u.Keys[i], nil
}

func (s *Users) lookupKey(ctx context.Context, accessKey string) (*cachedKey, error) {
	data, version, err := s.records.Get(ctx, keyRecord(accessKey))
	if errors.Is(err, store.ErrNoSuchRecord) {
		s.byKey.Delete(accessKey)
		return nil, ErrNoSuchKey
	}
	if err != nil {
		return nil, fmt.Errorf("get key: %w", err)
	}
	if c, ok := s.byKey.Load(accessKey); ok && c.(*cachedKey).version == version {
		return c.(*cachedKey), nil
	}
	var doc keyDoc
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("get key %s: %w", accessKey, err)
	}
	return &cachedKey{version: version, uid: doc.User}, nil
}

// CreateKey adds a key to a user. A key that the user has already gets the new
// secret. Errors: ErrNoSuchUser, ErrKeyExists (it is another user's),
// ErrInvalidKey.
func (s *Users) CreateKey(ctx context.Context, uid string, k Key) (*User, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	return s.Update(ctx, uid, func(u *User) error {
		u.Keys = append(missingKeys([]Key{k}, u.Keys), k)
		return nil
	})
}

// RemoveKey takes a key from a user. Errors: ErrNoSuchUser, ErrNoSuchKey.
func (s *Users) RemoveKey(ctx context.Context, uid, accessKey string) (*User, error) {
	return s.Update(ctx, uid, func(u *User) error {
		left := missingKeys([]Key{{AccessKey: accessKey}}, u.Keys)
		if len(left) == len(u.Keys) {
			return ErrNoSuchKey
		}
		u.Keys = left
		return nil
	})
}

// missingKeys returns the keys of list whose access keys are not in from.
func missingKeys(from, list []Key) []Key {
	return slices.DeleteFunc(slices.Clone(list), func(k Key) bool {
		return slices.ContainsFunc(from, func(o Key) bool { return o.AccessKey == k.AccessKey })
	})
}

// claim makes a key's record name uid. A record whose user does not have the
// key is what was left of a change cut short: it is taken over.
// Errors: ErrKeyExists, ErrInvalidKey.
func (s *Users) claim(ctx context.Context, k Key, uid string) error {
	if err := k.check(); err != nil {
		return err
	}
	_, version, err := s.records.Get(ctx, keyRecord(k.AccessKey))
	if err != nil && !errors.Is(err, store.ErrNoSuchRecord) {
		return fmt.Errorf("claim key %s: %w", k.AccessKey, err)
	}
	if err == nil {
		owner, _, err := s.ByAccessKey(ctx, k.AccessKey)
		switch {
		case err == nil && owner.UID() == uid:
			return nil
		case err == nil:
			return ErrKeyExists
		case !errors.Is(err, ErrNoSuchKey):
			return err
		}
	}
	data, err := json.Marshal(keyDoc{uid})
	if err != nil {
		return fmt.Errorf("claim key %s: %w", k.AccessKey, err)
	}
	_, err = s.records.Put(ctx, keyRecord(k.AccessKey), data, version)
	if errors.Is(err, store.ErrRecordConflict) {
		return s.claimed(ctx, k, uid)
	}
	if err != nil {
		return fmt.Errorf("claim key %s: %w", k.AccessKey, err)
	}
	return nil
}

// claimed tells whether a key's record names uid after somebody else wrote it
// at the same time: perhaps another gateway that makes the same user.
func (s *Users) claimed(ctx context.Context, k Key, uid string) error {
	data, _, err := s.records.Get(ctx, keyRecord(k.AccessKey))
	if err != nil {
		return fmt.Errorf("claim key %s: %w", k.AccessKey, err)
	}
	var doc keyDoc
	if err := json.Unmarshal(data, &doc); err != nil || doc.User != uid {
		return ErrKeyExists
	}
	return nil
}

// release drops the records of keys that uid no longer has. They count for
// nothing already, so what fails here is only litter.
func (s *Users) release(ctx context.Context, uid string, keys []Key) {
	for _, k := range keys {
		data, version, err := s.records.Get(ctx, keyRecord(k.AccessKey))
		if err != nil {
			continue
		}
		var doc keyDoc
		if json.Unmarshal(data, &doc) != nil || doc.User != uid {
			continue
		}
		_ = s.records.Delete(ctx, keyRecord(k.AccessKey), version) // litter
		s.byKey.Delete(k.AccessKey)
	}
}
