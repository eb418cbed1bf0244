package s3api

import (
	"errors"
	"testing"
)

func TestParseRange(t *testing.T) {
	const whole = -1
	tests := []struct {
		header      string
		size        int64
		off, length int64 // length whole: the header is ignored
		bad         bool
	}{
		{"bytes=0-0", 10, 0, 1, false},
		{"bytes=2-5", 10, 2, 4, false},
		{"bytes=2-", 10, 2, 8, false},
		{"bytes=2-99", 10, 2, 8, false},
		{"bytes=-3", 10, 7, 3, false},
		{"bytes=-99", 10, 0, 10, false},
		{"bytes= 2 - 5 ", 10, 2, 4, false},
		{"Bytes=2-5", 10, 2, 4, false},
		{"bytes=9-9223372036854775807", 10, 9, 1, false},
		{"bytes=0-99999999999999999999999", 10, 0, 10, false},
		{"bytes=10-", 10, 0, 0, true},
		{"bytes=40-50", 10, 0, 0, true},
		{"bytes=99999999999999999999999-", 10, 0, 0, true},
		{"bytes=-0", 10, 0, 0, true},
		{"bytes=0-5", 0, 0, 0, true},
		{"bytes=-5", 0, 0, 0, true},
		{"bytes=5-2", 10, 0, whole, false},
		{"bytes=0-1,4-5", 10, 0, whole, false},
		{"bytes=-", 10, 0, whole, false},
		{"bytes=", 10, 0, whole, false},
		{"bytes=a-b", 10, 0, whole, false},
		{"bytes=--1", 10, 0, whole, false},
		{"bytes=+1-2", 10, 0, whole, false},
		{"lines=1-2", 10, 0, whole, false},
		{"bytes 1-2", 10, 0, whole, false},
	}
	for _, tt := range tests {
		rg, partial, err := parseRange(tt.header, tt.size)
		if tt.bad {
			if err == nil || asAPIError(err).code != codeInvalidRange {
				t.Errorf("parseRange(%q, %d) = %v, %v, want InvalidRange", tt.header, tt.size, rg, err)
			}
			continue
		}
		want := byteRange{tt.off, tt.length}
		if tt.length == whole {
			want = byteRange{0, tt.size}
		}
		if err != nil || rg != want || partial != (tt.length != whole) {
			t.Errorf("parseRange(%q, %d) = %v, %v, %v, want %v", tt.header, tt.size, rg, partial, err, want)
		}
	}
}

func TestParseCopyRange(t *testing.T) {
	for _, bad := range []string{"0-2", "bytes=0", "bytes=hello-world", "bytes=0-bar", "bytes=hello-", "bytes=0-2,3-5", "bytes=-3", "bytes=3-", "bytes=3-1", "bytes=1-99999999999999999999"} {
		if rg, err := parseCopyRange(bad, 10); err == nil {
			t.Errorf("parseCopyRange(%q) = %v", bad, rg)
		}
	}
	if rg, err := parseCopyRange("bytes=2-9", 10); err != nil || rg != (byteRange{2, 8}) {
		t.Errorf("parseCopyRange = %v, %v", rg, err)
	}
	if _, err := parseCopyRange("bytes=2-10", 10); err == nil || asAPIError(err).code != codeInvalidRange {
		t.Errorf("parseCopyRange beyond the end = %v", err)
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("bytes=0-5", int64(10))
	f.Add("bytes=-5", int64(0))
	f.Add("bytes=18446744073709551615-", int64(1))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		rg, partial, err := parseRange(header, size)
		if err == nil && (rg.off < 0 || rg.length < 0 || rg.off+rg.length > size || partial && rg.length == 0) {
			t.Fatalf("parseRange(%q, %d) = %v, %v", header, size, rg, partial)
		}
		if rg, err := parseCopyRange(header, size); err == nil && (rg.off < 0 || rg.length < 1 || rg.off+rg.length > size) {
			t.Fatalf("parseCopyRange(%q, %d) = %v", header, size, rg)
		}
	})
}

func TestParseCopySource(t *testing.T) {
	tests := []struct {
		header string
		want   copySource
		bad    bool
	}{
		{"b/k", copySource{bucket: "b", key: "k"}, false},
		{"/b/k", copySource{bucket: "b", key: "k"}, false},
		{"b/a/b//c", copySource{bucket: "b", key: "a/b//c"}, false},
		{"b%2Fk", copySource{bucket: "b", key: "k"}, false},
		{"b/a%20b+c%2B", copySource{bucket: "b", key: "a b+c+"}, false},
		{"b/k?versionId=v1", copySource{bucket: "b", key: "k", versionID: "v1"}, false},
		{"b/k%3FversionId=v1", copySource{bucket: "b", key: "k?versionId=v1"}, false},
		{"t:b/k", copySource{tenant: "t", hasTenant: true, bucket: "b", key: "k"}, false},
		{":b/k", copySource{hasTenant: true, bucket: "b", key: "k"}, false},
		{"t%3Ab/k", copySource{tenant: "t", hasTenant: true, bucket: "b", key: "k"}, false},
		{"", copySource{}, true},
		{"b", copySource{}, true},
		{"b/", copySource{}, true},
		{"/", copySource{}, true},
		{"//k", copySource{}, true},
		{"b/%", copySource{}, true},
		{"b/%ff", copySource{}, true},
		{"b/k?versionId=", copySource{}, true},
	}
	for _, tt := range tests {
		got, err := parseCopySource(tt.header)
		if (err != nil) != tt.bad || err == nil && got != tt.want {
			t.Errorf("parseCopySource(%q) = %+v, %v, want %+v", tt.header, got, err, tt.want)
		}
	}
}

func FuzzParseCopySource(f *testing.F) {
	f.Add("/t:b/k%20x?versionId=v")
	f.Fuzz(func(t *testing.T, header string) {
		src, err := parseCopySource(header)
		if err != nil {
			var e *apiError
			if !errors.As(err, &e) || e.code != codeInvalidArgument {
				t.Fatalf("parseCopySource(%q) = %v", header, err)
			}
			return
		}
		if src.bucket == "" && !src.hasTenant || src.key == "" {
			t.Fatalf("parseCopySource(%q) = %+v", header, src)
		}
	})
}
