package queue

import "errors"

// Sentinels of the contract.
var (
	ErrQueueExists       = errors.New("queue exists")
	ErrNoSuchQueue       = errors.New("no such queue")
	ErrFull              = errors.New("queue full")
	ErrInvalid           = errors.New("invalid reservation")
	ErrNoSuchReservation = errors.New("no such reservation")
	ErrNoSuchMarker      = errors.New("no such marker: the queue has lost what came with it; list anew")
	ErrTooLarge          = errors.New("larger than reserved")
	ErrFenced            = errors.New("fenced: another owner was there")
	ErrLocked            = errors.New("locked by another owner")
	ErrLeaseLost         = errors.New("lease lost")
)
