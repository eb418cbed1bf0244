package store

import "context"

// OpenBucket is a bucket as one request sees it. Its methods are those of
// Bucket, and refuse keys that may not name an object: see ValidKey.
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
	return &openUploads{u, b.Info.Attrs[AttrCompression]}, nil
}

// openUploads are the uploads of an OpenBucket.
type openUploads struct {
	Uploads
	compression string
}

// CreatePart has new parts compressed as the bucket wants it.
func (u *openUploads) CreatePart(ctx context.Context, key, uploadID string, number int, hint CreateHint) (Writer, error) {
	hint.Compression = u.compression
	return u.Uploads.CreatePart(ctx, key, uploadID, number, hint)
}

// CreateUpload refuses keys that may not name an object; uploads of others are
// not found, then.
func (u *openUploads) CreateUpload(ctx context.Context, up Upload) error {
	if err := ValidKey(up.Key); err != nil {
		return err
	}
	return u.Uploads.CreateUpload(ctx, up)
}

// Create implements Bucket. Errors: those of ValidKey as well.
func (b *OpenBucket) Create(ctx context.Context, key string, hint CreateHint) (Writer, error) {
	if err := ValidKey(key); err != nil {
		return nil, err
	}
	hint.Compression = b.Info.Attrs[AttrCompression]
	return b.Bucket.Create(ctx, key, hint)
}

// Open implements Bucket. Errors: those of ValidKey as well.
func (b *OpenBucket) Open(ctx context.Context, key, versionID string) (Reader, error) {
	if err := ValidKey(key); err != nil {
		return nil, err
	}
	return b.Bucket.Open(ctx, key, versionID)
}

// Stat implements Bucket. Errors: those of ValidKey as well.
func (b *OpenBucket) Stat(ctx context.Context, key, versionID string) (*Info, error) {
	if err := ValidKey(key); err != nil {
		return nil, err
	}
	return b.Bucket.Stat(ctx, key, versionID)
}

// Update implements Bucket. Errors: those of ValidKey as well.
func (b *OpenBucket) Update(ctx context.Context, key, versionID string, f func(*Info) (Attrs, error)) (*Info, error) {
	if err := ValidKey(key); err != nil {
		return nil, err
	}
	return b.Bucket.Update(ctx, key, versionID, f)
}

// Remove implements Bucket. Errors: those of ValidKey as well.
func (b *OpenBucket) Remove(ctx context.Context, key, versionID string, opts RemoveOptions) (Outcome, error) {
	if err := ValidKey(key); err != nil {
		return Outcome{}, err
	}
	return b.Bucket.Remove(ctx, key, versionID, opts)
}
