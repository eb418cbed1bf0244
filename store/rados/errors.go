//go:build rados

package rados

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	librados "herald/rados"
	"herald/store"
)

// patience is how long a change that was sent is followed, whatever becomes of
// the request.
const patience = time.Minute

// detached is a context for what must not be left in the middle: it ends
// after patience, not with the request.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), patience)
}

// unsure tells whether an operation may have been done in spite of its error.
func unsure(err error) bool {
	var e *librados.Error
	return errors.Is(err, syscall.ETIMEDOUT) ||
		!errors.As(err, &e) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}

// conflict tells whether a guarded operation met another state of the object.
func conflict(err error) bool {
	return errors.Is(err, librados.ErrMismatch) || errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.ENOENT)
}

// storeError is an error as the contract wants it; nil for nil.
func storeError(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s: %w: %w", what, store.ErrNoSpace, err)
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, errMarkGone), errors.Is(err, errClosed),
		errors.Is(err, errTailsGone): // the client may come again
		return fmt.Errorf("%s: %w: %w", what, context.DeadlineExceeded, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// ignoreAbsent: an object that is not there is all right.
func ignoreAbsent(err error) error {
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// ignoreNoBucket: a bucket that was deleted meanwhile is all right.
func ignoreNoBucket(err error) error {
	if errors.Is(err, store.ErrNoSuchBucket) {
		return nil
	}
	return err
}
