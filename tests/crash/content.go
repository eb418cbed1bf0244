package crash

import (
	"crypto/md5"
	"encoding/hex"
	"math/rand/v2"
	"strings"
)

// noise is what bodies are cut from.
var noise = func() []byte {
	b := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}()

func md5Sum(b []byte) []byte {
	sum := md5.Sum(b)
	return sum[:]
}

func md5Hex(b []byte) string { return hex.EncodeToString(md5Sum(b)) }

// validBody tells whether a body is what its ETag says; that of a multipart
// upload is recomputed from the part sizes that the workers use.
func validBody(etag string, body []byte) bool {
	sum, parts, ok := strings.Cut(etag, "-")
	if !ok {
		return md5Hex(body) == sum
	}
	sums := md5Sum(body)
	if parts == "2" {
		sums = append(md5Sum(body[:min(len(body), 5<<20)]), md5Sum(body[min(len(body), 5<<20):])...)
	}
	return md5Hex(sums) == sum
}
