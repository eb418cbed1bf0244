package posix

import (
	"context"

	"herald/store"
)

// List implements store.Bucket.
func (b *bucket) List(ctx context.Context, opts store.ListOptions) (*store.Page, error) {
	panic("being written")
}
