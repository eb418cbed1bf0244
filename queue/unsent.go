package queue

import "context"

// OutboxIntent is the beginning of the intents of reservations that outboxes
// (queue/outbox) hold. Only the outbox that made one ends it.
const OutboxIntent = "\x00outbox/"

// Sender is the optional capability of a Queue whose entries, once committed,
// wait in an outbox before they are listed.
type Sender interface {
	// Unsent returns the oldest of these, at most max. Their markers are not
	// those of List.
	Unsent(ctx context.Context, max int) ([]Entry, error)
}
