package notify

import "errors"

// Sentinels of the package.
var (
	// ErrFull: a persistent topic's queue has no room. Nothing was touched;
	// the client shall come again (503 SlowDown).
	ErrFull = errors.New("topic queue full")

	ErrNoSuchTopic        = errors.New("no such topic")
	ErrInvalidTopicName   = errors.New("invalid topic name")
	ErrInvalidEndpoint    = errors.New("malformed push-endpoint")
	ErrInvalidAttribute   = errors.New("invalid topic attribute")
	ErrInvalidARN         = errors.New("invalid topic ARN")
	ErrUnknownEvent       = errors.New("unknown event type")
	ErrInvalidFilter      = errors.New("invalid filter")
	ErrNoSuchNotification = errors.New("no such notification")
	ErrNoSuchDeadLetter   = errors.New("no such dead letter")
	// ErrNotQueued: the topic is not persistent, or has no endpoint.
	ErrNotQueued = errors.New("topic has no queue")

	// errUndecodable: an entry or intent that this version cannot read.
	errUndecodable = errors.New("undecodable")
)
