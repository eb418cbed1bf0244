package posix

// outcomes keeps what became of ops: a store.Outcomes.
type outcomes struct{}
