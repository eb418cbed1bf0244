package queue

import "context"

// Checker is the optional capability of a Driver to compare what it keeps
// count of with what is there.
type Checker interface {
	// Check examines one queue, while it is in use, and reports what does not
	// add up; with repair it is put right. Errors: ErrNoSuchQueue.
	Check(ctx context.Context, name string, repair bool) ([]Finding, error)
}

// Finding is something that does not add up in a queue.
type Finding struct {
	Queue    string
	Kind     string // a word: "bytes", "reserved", "orphan", ...
	Detail   string // for a person
	Repaired bool
}
