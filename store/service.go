package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Service is what s3api, lifecycle and admin use: a driver, with the checks,
// bucket attributes and error wrapping that all drivers share.
//
// A bucket is what the driver has as one; its record "bucket/NAME" says whose
// it is. A record without a bucket (a crash came between the two, or somebody
// removed the directory) is nothing, and is overwritten when the bucket is made
// again; a bucket without a record has no owner.
type Service struct {
	driver Driver
	cache  sync.Map // driver's bucket name -> *cachedBucket

	// mu lets buckets come and go one at a time, so that of two requests for
	// the same name one finds all or nothing of the other. Gateways that share
	// a store have to do without.
	mu sync.Mutex
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

// AttrCompression is the bucket's attribute that says how new objects are kept:
// one of Service.Compressions; absent: as they are.
const AttrCompression = "compression"

// StoreName is the name under which the driver knows the bucket.
func (b *BucketInfo) StoreName() string { return StoreName(b.Tenant, b.Name) }

// Version changes with each change of the bucket's record; caches of things
// that were derived from it use it as their key, together with ID.
func (b *BucketInfo) Version() uint64 { return b.version }

// Records returns the driver's records.
func (s *Service) Records() Records { return s.driver.Records() }

// Outcomes returns the driver's outcomes.
func (s *Service) Outcomes() Outcomes { return s.driver.Outcomes() }

// idRecord holds the store's identity.
const idRecord = "store/id"

// ID is the identity of the store: 128 random bits in hexadecimal, made when
// it is first asked for and never changed. All gateways on one store get the
// same. The linearization point is the record's Put.
func (s *Service) ID(ctx context.Context) (string, error) {
	for {
		data, _, err := s.driver.Records().Get(ctx, idRecord)
		if err == nil {
			if id, err := hex.DecodeString(string(data)); err != nil || len(id) != 16 {
				return "", fmt.Errorf("identity of the store: record %s holds %q", idRecord, data)
			}
			return string(data), nil
		}
		if !errors.Is(err, ErrNoSuchRecord) {
			return "", fmt.Errorf("identity of the store: %w", err)
		}
		random := make([]byte, 16)
		_, _ = rand.Read(random) // never fails
		id := hex.EncodeToString(random)
		_, err = s.driver.Records().Put(ctx, idRecord, []byte(id), 0)
		if err == nil {
			return id, nil
		}
		if !errors.Is(err, ErrRecordConflict) {
			return "", fmt.Errorf("identity of the store: %w", err)
		}
		select { // another gateway was first; what Get gives may be a moment old
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Compressions are the ways in which the store can compress objects. Empty: it
// cannot.
func (s *Service) Compressions() []string {
	if c, ok := s.driver.(Compressor); ok {
		return c.Compressions()
	}
	return nil
}

// Check answers for the store's health.
func (s *Service) Check(ctx context.Context) error {
	if c, ok := s.driver.(Checker); ok {
		return c.Check(ctx)
	}
	_, err := s.driver.ListBuckets(ctx)
	return err
}

// CreateBucket makes a bucket; info.Created and info.ID are filled in. The
// linearization point is the driver's CreateBucket.
// Errors: ErrBucketAlreadyExists, ErrInvalidBucketName.
func (s *Service) CreateBucket(ctx context.Context, info BucketInfo) error {
	name, err := checkedName(info.Tenant, info.Name)
	if err != nil {
		return err
	}
	info.Created = time.Now().UTC()
	info.ID = NewOpID().String()
	data, err := json.Marshal(&info)
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// The record first: the other way round a crash would leave a bucket that
	// belongs to nobody.
	if err := s.claim(ctx, name, data, s.absent); err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	// From here on a client that went away must not leave it half made.
	ctx = context.WithoutCancel(ctx)
	if err := s.driver.CreateBucket(ctx, name); err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	// Another gateway may have put its record over ours, and then lost. One
	// that looked before the bucket was there, and puts its record only now,
	// is refused, because ours has another version.
	if err := s.claim(ctx, name, data, func(context.Context, string) error { return nil }); err != nil {
		return fmt.Errorf("create bucket %s: %w", name, err)
	}
	return nil
}

// absent is an error if a bucket is there.
func (s *Service) absent(ctx context.Context, name string) error {
	_, err := s.driver.OpenBucket(ctx, name)
	switch {
	case err == nil:
		return ErrBucketAlreadyExists
	case errors.Is(err, ErrNoSuchBucket):
		return nil
	}
	return err
}

// claim writes a bucket's record over what was there, if allowed finds no
// error after that was read.
func (s *Service) claim(ctx context.Context, name string, data []byte, allowed func(ctx context.Context, name string) error) error {
	for {
		_, version, err := s.driver.Records().Get(ctx, recordName(name))
		if err != nil && !errors.Is(err, ErrNoSuchRecord) {
			return err
		}
		if err := allowed(ctx, name); err != nil {
			return err
		}
		_, err = s.driver.Records().Put(ctx, recordName(name), data, version)
		if !errors.Is(err, ErrRecordConflict) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// BucketInfo returns what is known of a bucket. A bucket that exists without
// a record (a directory made by another program) has no owner.
// Errors: ErrNoSuchBucket, ErrInvalidBucketName.
func (s *Service) BucketInfo(ctx context.Context, tenant, bucket string) (*BucketInfo, error) {
	name, err := checkedName(tenant, bucket)
	if err != nil {
		return nil, err
	}
	if _, err := s.driver.OpenBucket(ctx, name); err != nil {
		return nil, err
	}
	return s.record(ctx, name)
}

// record returns a bucket's decoded record. The cache makes it cheap; it needs
// that a version of a record is never used again.
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
// Errors: ErrNoSuchBucket, ErrInvalidBucketName.
func (s *Service) OpenBucket(ctx context.Context, tenant, bucket string) (*OpenBucket, error) {
	name, err := checkedName(tenant, bucket)
	if err != nil {
		return nil, err
	}
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

// UpdateBucket changes a bucket's record: f gets a copy, and may be called
// again when another change came between.
// Errors: ErrNoSuchBucket, ErrInvalidBucketName, or f's.
func (s *Service) UpdateBucket(ctx context.Context, tenant, bucket string, f func(*BucketInfo) error) error {
	for {
		cur, err := s.BucketInfo(ctx, tenant, bucket)
		if err != nil {
			return err
		}
		next := *cur
		if next.Attrs = maps.Clone(cur.Attrs); next.Attrs == nil {
			next.Attrs = make(map[string]string)
		}
		if next.ID == "" { // adopted: a directory made by another program
			next.ID = NewOpID().String()
		}
		if err := f(&next); err != nil {
			return err
		}
		data, err := json.Marshal(&next)
		if err != nil {
			return fmt.Errorf("update bucket %s: %w", bucket, err)
		}
		_, err = s.driver.Records().Put(ctx, recordName(cur.StoreName()), data, cur.version)
		if errors.Is(err, ErrRecordConflict) {
			continue
		}
		if err != nil {
			return fmt.Errorf("update bucket %s: %w", bucket, err)
		}
		return nil
	}
}

// DeleteBucket removes an empty bucket and its record. The linearization point
// is the driver's DeleteBucket.
// Errors: ErrNoSuchBucket, ErrBucketNotEmpty, ErrInvalidBucketName.
func (s *Service) DeleteBucket(ctx context.Context, tenant, bucket string) error {
	name, err := checkedName(tenant, bucket)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	cur, err := s.record(ctx, name)
	if err != nil {
		return err
	}
	if err := s.driver.DeleteBucket(ctx, name); err != nil {
		return err
	}
	s.cache.Delete(name)
	// The bucket is gone. Should its record stay, that is harmless: see
	// Service. The record of one that another gateway made since must stay.
	ctx = context.WithoutCancel(ctx)
	for range 3 {
		now, err := s.record(ctx, name)
		if err != nil || now.ID != cur.ID || now.version == 0 {
			return nil
		}
		if err := s.driver.Records().Delete(ctx, recordName(name), now.version); !errors.Is(err, ErrRecordConflict) {
			return nil
		}
	}
	return nil
}

// ListBuckets returns the buckets for which keep answers true, in byte order
// of their driver's names. Directories whose names S3 does not allow are none.
func (s *Service) ListBuckets(ctx context.Context, keep func(*BucketInfo) bool) ([]*BucketInfo, error) {
	entries, err := s.driver.ListBuckets(ctx)
	if err != nil {
		return nil, fmt.Errorf("list buckets: %w", err)
	}
	var out []*BucketInfo
	for _, e := range entries {
		if !ValidBucketName(e.Name[strings.IndexByte(e.Name, ':')+1:]) {
			continue
		}
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
