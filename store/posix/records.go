package posix

// records are the gateway's own documents: a store.Records.
type records struct{}
