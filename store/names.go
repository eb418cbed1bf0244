package store

import "strings"

// MaxKeyLength is the longest key, in bytes (S3).
const MaxKeyLength = 1024

// StoreName joins tenant and bucket to the driver's bucket name.
func StoreName(tenant, bucket string) string {
	if tenant == "" {
		return bucket
	}
	return tenant + ":" + bucket
}

// SplitStoreName is the inverse of StoreName.
func SplitStoreName(name string) (tenant, bucket string) {
	if t, b, ok := strings.Cut(name, ":"); ok {
		return t, b
	}
	return "", name
}

func recordName(storeName string) string { return "bucket/" + storeName }

// checkedName is StoreName of names that clients gave.
// Errors: ErrInvalidBucketName.
func checkedName(tenant, bucket string) (string, error) {
	if !ValidBucketName(bucket) || strings.ContainsAny(tenant, "/\\:\x00") || strings.HasPrefix(tenant, ".") {
		return "", ErrInvalidBucketName
	}
	return StoreName(tenant, bucket), nil
}

// ValidBucketName tells whether S3's rules allow a bucket name: 3 to 63
// characters of a-z, 0-9, '-' and '.', beginning and ending with a letter or
// digit, no two dots in a row nor a dot beside a hyphen (each part is a host
// name's label), not in the form of an IPv4 address.
func ValidBucketName(name string) bool {
	if len(name) < 3 || len(name) > 63 || strings.Contains(name, "..") ||
		strings.Contains(name, ".-") || strings.Contains(name, "-.") {
		return false
	}
	digitsAndDots, dots := true, 0
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z':
			digitsAndDots = false
		case c >= '0' && c <= '9':
		case c == '.' || c == '-':
			if i == 0 || i == len(name)-1 {
				return false
			}
			if c == '.' {
				dots++
			} else {
				digitsAndDots = false
			}
		default:
			return false
		}
	}
	return !digitsAndDots || dots != 3
}

// ValidKey tells whether a key may name an object.
// Errors: ErrKeyTooLong; ErrNoSuchKey for the empty key.
func ValidKey(key string) error {
	switch {
	case key == "":
		return ErrNoSuchKey
	case len(key) > MaxKeyLength:
		return ErrKeyTooLong
	}
	return nil
}
