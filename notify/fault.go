package notify

// FaultPoints are the names that Options.Fault is called with.
func FaultPoints() []string {
	return []string{
		"notify.reserved", "notify.committed", "notify.queued", "notify.pushed", "notify.dead", "notify.resolved",
	}
}
