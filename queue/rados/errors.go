//go:build rados

package rados

import "errors"

// Errors besides those of the contract.
var (
	ErrClosed      = errors.New("queue driver closed")
	ErrInvalidName = errors.New("invalid queue name")
	ErrNotQueue    = errors.New("the object is no queue of this kind")
)
