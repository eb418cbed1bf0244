package store

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestValidBucketName(t *testing.T) {
	tests := []struct {
		name string
		want bool
	}{
		{"abc", true}, {"a1b", true}, {"123", true}, {"a.b", true}, {"a-b", true}, {"my.bucket-1", true}, {"a--b", true},
		{strings.Repeat("a", 63), true}, {"1.2.3", true}, {"1.2.3.4.5", true}, {"1.2.3.x4", true},
		{"", false}, {"ab", false}, {strings.Repeat("a", 64), false}, {"Abc", false}, {"a_b", false}, {"a b", false},
		{".abc", false}, {"abc.", false}, {"-abc", false}, {"abc-", false}, {"a..b", false}, {"192.168.0.1", false},
		{"a/b", false}, {"../x", false}, {"...", false}, {".herald", false}, {"a:b", false}, {"a\x00b", false}, {"äbc", false},
	}
	for _, tt := range tests {
		if got := ValidBucketName(tt.name); got != tt.want {
			t.Errorf("ValidBucketName(%q) = %t", tt.name, got)
		}
	}
}

func TestValidKey(t *testing.T) {
	tests := []struct {
		key  string
		want error
	}{
		{"", ErrNoSuchKey}, {"a", nil}, {"/", nil}, {"..", nil}, {"\x00", nil},
		{strings.Repeat("k", MaxKeyLength), nil}, {strings.Repeat("k", MaxKeyLength+1), ErrKeyTooLong},
	}
	for _, tt := range tests {
		if err := ValidKey(tt.key); !errors.Is(err, tt.want) {
			t.Errorf("ValidKey(%.20q) = %v, want %v", tt.key, err, tt.want)
		}
	}
}

func TestStoreName(t *testing.T) {
	tests := []struct{ tenant, bucket, name string }{{"", "abc", "abc"}, {"t", "abc", "t:abc"}, {"T_1", "a.b", "T_1:a.b"}}
	for _, tt := range tests {
		if got := StoreName(tt.tenant, tt.bucket); got != tt.name {
			t.Errorf("StoreName(%q, %q) = %q", tt.tenant, tt.bucket, got)
		}
		if tenant, bucket := SplitStoreName(tt.name); tenant != tt.tenant || bucket != tt.bucket {
			t.Errorf("SplitStoreName(%q) = %q, %q", tt.name, tenant, bucket)
		}
	}
	for _, bad := range [][2]string{{"t/u", "abc"}, {"..", "abc"}, {"a:b", "abc"}, {"t", "ABC"}, {"t\x00", "abc"}, {"", ""}} {
		if name, err := checkedName(bad[0], bad[1]); !errors.Is(err, ErrInvalidBucketName) {
			t.Errorf("checkedName(%q) = %q, %v", bad, name, err)
		}
	}
}

func TestOpID(t *testing.T) {
	var last OpID
	seen := map[OpID]bool{}
	for range 1000 {
		id := NewOpID()
		if id.IsZero() || seen[id] || string(id[:6]) < string(last[:6]) {
			t.Fatalf("NewOpID() = %s after %s", id, last)
		}
		seen[id], last = true, id
		if back, ok := ParseOpID(id.String()); !ok || back != id {
			t.Fatalf("ParseOpID(%q) = %v, %t", id, back, ok)
		}
	}
	if ms := time.Now().UnixMilli(); time.Duration(ms-unixMilli(last)).Abs() > 60_000 {
		t.Errorf("the time in %s is %d, now is %d", last, unixMilli(last), ms)
	}
	for _, bad := range []string{"", "0", strings.Repeat("0", 31), strings.Repeat("0", 33), strings.Repeat("g", 32), strings.Repeat("é", 16)} {
		if id, ok := ParseOpID(bad); ok || !id.IsZero() {
			t.Errorf("ParseOpID(%q) = %v, %t", bad, id, ok)
		}
	}
}

func unixMilli(id OpID) (ms int64) {
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return ms
}

func TestDeleteMarkerError(t *testing.T) {
	var err error = &DeleteMarkerError{Info: &Info{Key: "k"}}
	if !errors.Is(err, ErrDeleteMarker) || errors.Is(err, ErrNoSuchKey) {
		t.Errorf("errors.Is(%v) is wrong", err)
	}
}
