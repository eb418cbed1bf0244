package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"sync"
)

// maxSigningKeys bounds the cache: one entry per access key, day, region and
// service.
const maxSigningKeys = 4096

// scopeKey names a derived key. The secret is part of the name, so that a
// changed secret misses the cache.
type scopeKey struct {
	accessKey, secret, date, region, service string
}

// signingKeys caches derived keys, which cost four rounds of HMAC each.
type signingKeys struct {
	mu sync.RWMutex
	// m is guarded by mu. A key in it is never changed.
	m map[scopeKey]*[sha256.Size]byte
}

// get returns the derived key of a signature, and whether it was cached.
func (c *signingKeys) get(key Key, s *signature4) (derived *[sha256.Size]byte, cached bool) {
	name := scopeKey{key.AccessKey, key.SecretKey, s.date, s.region, s.service}
	c.mu.RLock()
	derived = c.m[name]
	c.mu.RUnlock()
	if derived != nil {
		return derived, true
	}
	return deriveKey(key.SecretKey, s.date, s.region, s.service), false
}

// remember keeps a derived key. Called only for signatures that were good, so
// that strangers cannot fill the cache.
func (c *signingKeys) remember(key Key, s *signature4, derived *[sha256.Size]byte) {
	name := cloneScope(scopeKey{key.AccessKey, key.SecretKey, s.date, s.region, s.service})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxSigningKeys {
		c.m = make(map[scopeKey]*[sha256.Size]byte) // yesterday's keys go with it
	}
	c.m[name] = derived
}

// cloneScope keeps the cache from holding on to whole requests' headers.
func cloneScope(k scopeKey) scopeKey {
	b := k.date + k.region + k.service
	d, r := len(k.date), len(k.date)+len(k.region)
	return scopeKey{k.accessKey, k.secret, b[:d], b[d:r], b[r:]}
}

func deriveKey(secret, date, region, service string) *[sha256.Size]byte {
	mac := func(key []byte, data string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(data))
		return h.Sum(nil)
	}
	k := mac([]byte("AWS4"+secret), date)
	k = mac(k, region)
	k = mac(k, service)
	return (*[sha256.Size]byte)(mac(k, terminator4))
}

// hmacSum is HMAC-SHA256 (RFC 2104) for a derived key. Short messages, all
// that version 4 signs, cost no allocation, which crypto/hmac cannot offer.
func hmacSum(key *[sha256.Size]byte, msg []byte) [sha256.Size]byte {
	const block, short = sha256.BlockSize, 512
	if len(msg) > short {
		h := hmac.New(sha256.New, key[:])
		h.Write(msg)
		return [sha256.Size]byte(h.Sum(nil))
	}
	var inner [block + short]byte
	var outer [block + sha256.Size]byte
	for i := range block {
		inner[i], outer[i] = 0x36, 0x5c
	}
	for i, b := range key {
		inner[i] ^= b
		outer[i] ^= b
	}
	n := copy(inner[block:], msg)
	sum := sha256.Sum256(inner[:block+n])
	copy(outer[block:], sum[:])
	return sha256.Sum256(outer[:])
}
