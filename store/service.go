package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// MaxKeyLength is the longest key, in bytes (S3).
const MaxKeyLength = 1024

// Service is what s3api, lifecycle and admin use: a driver, with the checks,
// bucket attributes and error wrapping that all drivers share.
type Service struct {
	driver Driver
	cache  sync.Map // driver's bucket name -> *cachedBucket
}

// cachedBucket is a decoded bucket record; it is never changed.
type cachedBucket struct {
	version uint64
	info    *BucketInfo
}

// NewService returns a Service over a driver.
func NewService(d Driver) *Service { return &Service{driver: d} }

// BucketInfo is what the gateway knows of a bucket: the record "bucket/NAME".
// Values that Service hands out are shared: they must not be changed, except
// inside UpdateBucket.
type BucketInfo struct {
	Name   string `json:"name"`             // as clients see it
	Tenant string `json:"tenant,omitempty"` // "" for most
	ID     string `json:"id"`
	// Owner is a user id, "tenant$uid" or "uid". Empty: a directory that
	// nobody made through the gateway.
	Owner      string     `json:"owner"`
	Created    time.Time  `json:"created"`
	Versioning Versioning `json:"versioning"`
	// Attrs are the bucket's sub-resources: "notification", "tagging", ...
	Attrs map[string]string `json:"attrs,omitempty"`

	version uint64
}

// StoreName is the name under which the driver knows the bucket.
func (b *BucketInfo) StoreName() string { return StoreName(b.Tenant, b.Name) }

// Version changes with each change of the bucket's record; caches of things
// that were derived from it use it as their key, together with ID.
func (b *BucketInfo) Version() uint64 { return b.version }

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

// Records returns the driver's records.
func (s *Service) Records() Records { return s.driver.Records() }

// Outcomes returns the driver's outcomes.
func (s *Service) Outcomes() Outcomes { return s.driver.Outcomes() }

// Check answers for the store's health.
func (s *Service) Check(ctx context.Context) error {
	if c, ok := s.driver.(Checker); ok {
		return c.Check(ctx)
	}
	_, err := s.driver.ListBuckets(ctx)
	return err
}

// CreateBucket makes a bucket; info.Created and info.ID are filled in.
// Errors: ErrBucketAlreadyExists, ErrInvalidBucketName.
func (s *Service) CreateBucket(ctx context.Context, info BucketInfo) error {
	if !ValidBucketName(info.Name) {
		return ErrInvalidBucketName
	}
	info.Created = time.Now().UTC()
	info.ID = NewOpID().String()
	name := info.StoreName()
	// The record first: a directory without a record would be a bucket that
	// belongs to nobody, a record without a directory is no bucket at all.
	_, version, err := s.driver.Records().Get(ctx, recordName(name))
	if err != nil && !errors.Is(err, ErrNoSuchRecord) {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	if s.exists(ctx, name) {
		return ErrBucketAlreadyExists
	}
	data, err := json.Marshal(&info)
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	if _, err := s.driver.Records().Put(ctx, recordName(name), data, version); err != nil {
		if errors.Is(err, ErrRecordConflict) {
			return ErrBucketAlreadyExists
		}
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	if err := s.driver.CreateBucket(ctx, name); err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	return nil
}

func (s *Service) exists(ctx context.Context, name string) bool {
	_, err := s.driver.OpenBucket(ctx, name)
	return err == nil
}

// BucketInfo returns what is known of a bucket. A bucket that exists without
// a record (a directory made by another program) has no owner.
// Errors: ErrNoSuchBucket.
func (s *Service) BucketInfo(ctx context.Context, tenant, bucket string) (*BucketInfo, error) {
	name := StoreName(tenant, bucket)
	if _, err := s.driver.OpenBucket(ctx, name); err != nil {
		return nil, err
	}
	return s.record(ctx, name)
}

func (s *Service) record(ctx context.Context, name string) (*BucketInfo, error) {
	data, version, err := s.driver.Records().Get(ctx, recordName(name))
	if errors.Is(err, ErrNoSuchRecord) {
		tenant, bucket := SplitStoreName(name)
		return &BucketInfo{Name: bucket, Tenant: tenant}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	if c, ok := s.cache.Load(name); ok && c.(*cachedBucket).version == version {
		return c.(*cachedBucket).info, nil
	}
	info := &BucketInfo{version: version}
	if err := json.Unmarshal(data, info); err != nil {
		return nil, fmt.Errorf("bucket %s: record: %w", name, err)
	}
	s.cache.Store(name, &cachedBucket{version, info})
	return info, nil
}

// OpenBucket returns a bucket with what is known of it.
// Errors: ErrNoSuchBucket.
func (s *Service) OpenBucket(ctx context.Context, tenant, bucket string) (*OpenBucket, error) {
	name := StoreName(tenant, bucket)
	b, err := s.driver.OpenBucket(ctx, name)
	if err != nil {
		return nil, err
	}
	info, err := s.record(ctx, name)
	if err != nil {
		return nil, err
	}
	return &OpenBucket{Bucket: b, Info: info}, nil
}

// OpenBucket is a bucket as one request sees it.
type OpenBucket struct {
	Bucket
	Info *BucketInfo // as it was when the bucket was opened; not to be changed
}

// Uploads returns the bucket's capability for multipart uploads.
// Errors: ErrNotSupported.
func (b *OpenBucket) Uploads() (Uploads, error) {
	u, ok := b.Bucket.(Uploads)
	if !ok {
		return nil, ErrNotSupported
	}
	return u, nil
}

// UpdateBucket changes a bucket's record: f gets a copy, and may be called
// again when another change came between. Errors: ErrNoSuchBucket, or f's.
func (s *Service) UpdateBucket(ctx context.Context, tenant, bucket string, f func(*BucketInfo) error) error {
	name := StoreName(tenant, bucket)
	for {
		cur, err := s.BucketInfo(ctx, tenant, bucket)
		if err != nil {
			return err
		}
		next := *cur
		next.Attrs = make(map[string]string, len(cur.Attrs))
		for k, v := range cur.Attrs {
			next.Attrs[k] = v
		}
		if next.ID == "" { // adopted: a directory made by another program
			next.ID, next.Created = NewOpID().String(), time.Now().UTC()
		}
		if err := f(&next); err != nil {
			return err
		}
		data, err := json.Marshal(&next)
		if err != nil {
			return fmt.Errorf("update bucket %s: %w", name, err)
		}
		_, err = s.driver.Records().Put(ctx, recordName(name), data, cur.version)
		if errors.Is(err, ErrRecordConflict) {
			continue
		}
		if err != nil {
			return fmt.Errorf("update bucket %s: %w", name, err)
		}
		return nil
	}
}

// DeleteBucket removes an empty bucket and its record.
// Errors: ErrNoSuchBucket, ErrBucketNotEmpty.
func (s *Service) DeleteBucket(ctx context.Context, tenant, bucket string) error {
	name := StoreName(tenant, bucket)
	_, version, err := s.driver.Records().Get(ctx, recordName(name))
	if err != nil && !errors.Is(err, ErrNoSuchRecord) {
		return fmt.Errorf("delete bucket %s: %w", name, err)
	}
	if err := s.driver.DeleteBucket(ctx, name); err != nil {
		return err
	}
	s.cache.Delete(name)
	err = s.driver.Records().Delete(ctx, recordName(name), version)
	if err != nil && !errors.Is(err, ErrNoSuchRecord) && !errors.Is(err, ErrRecordConflict) {
		return fmt.Errorf("delete bucket %s: %w", name, err)
	}
	return nil
}

// ListBuckets returns the buckets for which keep answers true, in byte order
// of their driver's names.
func (s *Service) ListBuckets(ctx context.Context, keep func(*BucketInfo) bool) ([]*BucketInfo, error) {
	entries, err := s.driver.ListBuckets(ctx)
	if err != nil {
		return nil, fmt.Errorf("list buckets: %w", err)
	}
	var out []*BucketInfo
	for _, e := range entries {
		info, err := s.record(ctx, e.Name)
		if err != nil {
			return nil, err
		}
		if info.Created.IsZero() {
			c := *info
			c.Created = e.Created
			info = &c
		}
		if keep(info) {
			out = append(out, info)
		}
	}
	return slices.Clip(out), nil
}

// Close closes the driver.
func (s *Service) Close() error { return s.driver.Close() }

func recordName(storeName string) string { return "bucket/" + storeName }

// ValidBucketName tells whether S3's rules allow a bucket name: 3 to 63
// characters of a-z, 0-9, '-' and '.', beginning and ending with a letter or
// digit, no two dots in a row, not in the form of an IPv4 address.
func ValidBucketName(name string) bool {
	if len(name) < 3 || len(name) > 63 || strings.Contains(name, "..") {
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
