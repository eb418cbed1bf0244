package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"strconv"
	"sync"
	"time"
)

// signatureField is the field with which an endpoint knows that an event is
// from this gateway, and from when:
//
//	Herald-Signature: t=1763769000,kid=2026a,v1=HEX
//
// t is the time of the attempt in seconds since 1970, kid the key's id, and v1
// the HMAC-SHA256, with the key's secret, of t, a dot and the body. While keys
// are changed there are two pairs of kid and v1.
const signatureField = "Herald-Signature"

// signingKey is a key of http-signing-keys.
type signingKey struct {
	id     string
	secret []byte
}

// signer signs messages. It may be used concurrently.
type signer struct {
	keys []signingKey
	pool sync.Pool // of []hash.Hash, one per key
}

func newSigner(keys []signingKey) *signer {
	if len(keys) == 0 {
		return nil
	}
	s := &signer{keys: keys}
	s.pool.New = func() any {
		macs := make([]hash.Hash, len(keys))
		for i := range macs {
			macs[i] = hmac.New(sha256.New, keys[i].secret)
		}
		return &macs
	}
	return s
}

// appendValue appends the field's value for a body.
func (s *signer) appendValue(b []byte, now time.Time, body ...[]byte) []byte {
	macs := s.pool.Get().(*[]hash.Hash)
	defer s.pool.Put(macs)
	var stamp [24]byte
	t := strconv.AppendInt(stamp[:0], now.Unix(), 10)
	b = append(append(b, "t="...), t...)
	t = append(t, '.')
	for i, mac := range *macs {
		mac.Reset()
		mac.Write(t)
		for _, part := range body {
			mac.Write(part)
		}
		var sum [sha256.Size]byte
		b = append(append(b, ",kid="...), s.keys[i].id...)
		b = hex.AppendEncode(append(b, ",v1="...), mac.Sum(sum[:0]))
	}
	return b
}
