package s3api

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

func TestParseChecksum(t *testing.T) {
	const crc, sha = "AAAAAA==", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="
	tests := []struct {
		name string
		h    map[string]string
		want checksumSpec
		code code
	}{
		{"None", nil, checksumSpec{}, ""},
		{"Header", map[string]string{"x-amz-checksum-crc32": crc}, checksumSpec{alg: algCRC32, value: crc}, ""},
		{"Trailer", map[string]string{"x-amz-trailer": "x-amz-checksum-crc64nvme"}, checksumSpec{alg: algCRC64NVME, trailer: true}, ""},
		{"SDKName", map[string]string{"x-amz-checksum-sha1": sha, "x-amz-sdk-checksum-algorithm": "sha1"}, checksumSpec{alg: algSHA1, value: sha}, ""},
		{"OtherHeadersOfThePrefix", map[string]string{"x-amz-checksum-mode": "ENABLED", "x-amz-checksum-type": "COMPOSITE", "x-amz-checksum-algorithm": "CRC32"}, checksumSpec{}, ""},
		{"Two", map[string]string{"x-amz-checksum-crc32": crc, "x-amz-checksum-sha1": sha}, checksumSpec{}, codeInvalidRequest},
		{"HeaderAndTrailer", map[string]string{"x-amz-checksum-crc32": crc, "x-amz-trailer": "x-amz-checksum-crc32"}, checksumSpec{}, codeInvalidRequest},
		{"TwoTrailers", map[string]string{"x-amz-trailer": "x-amz-checksum-crc32,x-amz-checksum-sha1"}, checksumSpec{}, codeInvalidRequest},
		{"UnknownTrailer", map[string]string{"x-amz-trailer": "x-amz-meta-a"}, checksumSpec{}, codeInvalidRequest},
		{"UnknownAlgorithm", map[string]string{"x-amz-checksum-md4": crc}, checksumSpec{}, codeInvalidRequest},
		{"UnknownSDKName", map[string]string{"x-amz-checksum-crc32": crc, "x-amz-sdk-checksum-algorithm": "crc16"}, checksumSpec{}, codeInvalidRequest},
		{"SDKNameAlone", map[string]string{"x-amz-sdk-checksum-algorithm": "CRC32"}, checksumSpec{}, codeInvalidRequest},
		{"SDKNameOfAnother", map[string]string{"x-amz-checksum-crc32": crc, "x-amz-sdk-checksum-algorithm": "SHA1"}, checksumSpec{}, codeInvalidRequest},
		{"NotBase64", map[string]string{"x-amz-checksum-crc32": "????????"}, checksumSpec{}, codeInvalidRequest},
		{"TooShort", map[string]string{"x-amz-checksum-crc32": "AAA="}, checksumSpec{}, codeInvalidRequest},
		{"Empty", map[string]string{"x-amz-checksum-crc32": ""}, checksumSpec{}, codeInvalidRequest},
		{"BitsAfterTheEnd", map[string]string{"x-amz-checksum-crc32": "AAAAAB=="}, checksumSpec{}, codeInvalidRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{}
			for k, v := range tt.h {
				h.Set(k, v)
			}
			got, err := parseChecksum(h)
			if tt.code != "" {
				if err == nil || asAPIError(err).code != tt.code {
					t.Fatalf("parseChecksum = %v, want %s", err, tt.code)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Fatalf("parseChecksum = %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

// Check values of the CRC catalogue (0xCBF43926, 0xE3069283,
// 0xAE8B14860A799888), and digests, of "123456789".
func TestAlgorithm_KnownValues(t *testing.T) {
	for alg, want := range map[algorithm]string{
		algCRC32: "y/Q5Jg==", algCRC32C: "4waSgw==", algCRC64NVME: "rosUhgp5mIg=",
		algSHA1:   "98O8HYCOBHMq32eZZczDTKeuNEE=",
		algSHA256: "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
	} {
		if got := encodeSum(alg.sum([]byte("123456789"))); got != want {
			t.Errorf("%s = %s, want %s", alg, got, want)
		}
	}
}

func TestCRCCombiner_AgreesWithWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, alg := range []algorithm{algCRC32, algCRC32C, algCRC64NVME} {
		for range 50 {
			c := newCRCCombiner(alg)
			var whole []byte
			for range rng.IntN(6) {
				part := make([]byte, rng.IntN(5000))
				for i := range part {
					part[i] = byte(rng.Uint32())
				}
				c.add(alg.sum(part), int64(len(part)))
				whole = append(whole, part...)
			}
			if got, want := c.sum(), alg.sum(whole); !bytes.Equal(got, want) {
				t.Fatalf("%s of %d bytes in parts = %x, want %x", alg, len(whole), got, want)
			}
		}
	}
}

func TestChecksumSpec_Verify(t *testing.T) {
	sum := encodeSum(algCRC32.sum([]byte("x")))
	trailer := func(v string) func() http.Header {
		return func() http.Header {
			h := http.Header{}
			if v != "" {
				h.Set("x-amz-checksum-crc32", v)
			}
			return h
		}
	}
	tests := []struct {
		name    string
		spec    checksumSpec
		trailer string
		code    code
	}{
		{"Header", checksumSpec{alg: algCRC32, value: sum}, "", ""},
		{"HeaderOfAnother", checksumSpec{alg: algCRC32, value: "AAAAAA=="}, "", codeBadDigest},
		{"Trailer", checksumSpec{alg: algCRC32, trailer: true}, sum, ""},
		{"TrailerOfAnother", checksumSpec{alg: algCRC32, trailer: true}, "AAAAAA==", codeBadDigest},
		{"TrailerMissing", checksumSpec{alg: algCRC32, trailer: true}, "", codeMalformedTrailer},
		{"TrailerInvalid", checksumSpec{alg: algCRC32, trailer: true}, "!", codeInvalidRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.spec.verify(sum, trailer(tt.trailer))
			if tt.code == "" && err != nil || tt.code != "" && (err == nil || asAPIError(err).code != tt.code) {
				t.Errorf("verify = %v, want %q", err, tt.code)
			}
		})
	}
}

func FuzzParseChecksum(f *testing.F) {
	f.Add("x-amz-checksum-crc32", "AAAAAA==", "", "CRC32")
	f.Add("x-amz-checksum-sha256", "", "x-amz-checksum-crc32, x-amz-checksum-crc32c", "sha256")
	f.Fuzz(func(t *testing.T, name, value, trailer, sdk string) {
		h := http.Header{http.CanonicalHeaderKey(name): {value}}
		if trailer != "" {
			h[hTrailer] = []string{trailer}
		}
		if sdk != "" {
			h[hSDKChecksumAlgorithm] = []string{sdk}
		}
		spec, err := parseChecksum(h)
		if err != nil {
			if c := asAPIError(err).code; c != codeInvalidRequest {
				t.Fatalf("code %s", c)
			}
			return
		}
		if spec.alg != noAlgorithm && !spec.trailer && !spec.alg.validChecksum(spec.value) {
			t.Fatalf("accepted %+v", spec)
		}
		if sdk != "" && !strings.EqualFold(sdk, spec.alg.String()) {
			t.Fatalf("accepted %+v for %q", spec, sdk)
		}
	})
}
