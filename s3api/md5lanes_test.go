package s3api

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
)

// TestMD5Lanes hashes many bodies of many sizes beside each other, some of
// which break off.
func TestMD5Lanes(t *testing.T) {
	data := make([]byte, 3*largeBuffer)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	var wg sync.WaitGroup
	for worker := range 40 {
		wg.Go(func() {
			for round := range 6 {
				size := laneBytes - 100 + rand.IntN(len(data)-laneBytes)
				if round == 5 {
					size = laneBytes - 1 + worker
				}
				body := data[:size]
				d := newDigest(true, algCRC32, noAlgorithm)
				if rand.IntN(4) == 0 {
					if err := d.copyHashed(io.Discard, io.MultiReader(bytes.NewReader(body[:size/2]), iotest.ErrReader(io.ErrNoProgress)), int64(size)); err == nil {
						t.Error("a body that broke off was taken")
					}
					d.free()
					continue
				}
				if err := d.copyHashed(io.Discard, bytes.NewReader(body), int64(size)); err != nil {
					t.Error(err)
				}
				sum := md5.Sum(body)
				if got := d.etag(); got != hex.EncodeToString(sum[:]) {
					t.Errorf("MD5 of %d bytes = %s", size, got)
				}
				if got := d.etag(); got != hex.EncodeToString(sum[:]) {
					t.Errorf("MD5 of %d bytes asked again = %s", size, got)
				}
				d.free()
			}
		})
	}
	wg.Wait()
	if n := len(md5Lanes.groups); n != 0 || md5Lanes.bodies != 0 {
		t.Errorf("%d groups, %d bodies are left", n, md5Lanes.bodies)
	}
}
