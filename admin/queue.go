package admin

import (
	"context"
	"errors"
	"time"

	"herald/notify"
	"herald/queue"
)

var queueCommands = []command{
	{"queue list", "the names of all queues", nil, (*Admin).queueList},
	{"queue stats", "capacity, entries and reservations of each queue, or of one", []string{"name"}, (*Admin).queueStats},
	{"queue owners", "which gateway delivers each queue, as the one that is asked sees it", nil, (*Admin).queueOwners},
	{"queue fsck", "check the arithmetic of each queue, or of one; --repair puts it right", []string{"name", "repair"}, (*Admin).queueFsck},
	{"queue migrate", "move all queues to another place, while no gateway runs", []string{"from", "to", "keep", "force"}, (*Admin).queueMigrate},
	{"queue adopt", "have this directory's embedded queues be those of a store in RADOS, when another directory that was it is lost", nil, (*Admin).queueAdopt},
}

// exitFindings is the exit code of a check that left something wrong, as that
// of e2fsck.
const exitFindings = 4

// Places are where queues can be. A running gateway has none to offer: what
// is moved must not be in use.
type Places interface {
	// Open opens the queues at a place: a value of the option queue, or
	// @FILE, a file that holds one. The caller closes the driver.
	Open(ctx context.Context, place string) (Place, error)
	// Moved notes that all queues are at another place now.
	Moved(ctx context.Context, to string) error
}

// Place is an open place.
type Place struct {
	queue.Driver
	Name   string             // in messages
	Format notify.EntryFormat // of the events in its queues
	Own    bool               // no other store ever had queues there
	// Settle, when set, moves there what is on its way there. It is called
	// before a migration moves anything away.
	Settle func(ctx context.Context) error
}

// queueNames are the queues that --name names, or all.
func (a *Admin) queueNames(ctx context.Context, c *call) ([]string, error) {
	if c.name != "" {
		return []string{c.name}, nil
	}
	return a.Queues.List(ctx, "")
}

func (a *Admin) queueList(ctx context.Context, c *call) error {
	names, err := a.Queues.List(ctx, "")
	if err != nil {
		return err
	}
	return c.print(append([]string{}, names...))
}

// queueFigures are a queue's figures, as printed.
type queueFigures struct {
	Queue        string     `json:"queue"`
	Capacity     int64      `json:"capacity"`
	Entries      int64      `json:"entries"`
	Bytes        int64      `json:"bytes"`
	Reservations int64      `json:"reservations"`
	Reserved     int64      `json:"reserved"`
	Oldest       *time.Time `json:"oldest,omitempty"`
}

func (a *Admin) queueStats(ctx context.Context, c *call) error {
	names, err := a.queueNames(ctx, c)
	if err != nil {
		return err
	}
	out := []queueFigures{}
	for _, name := range names {
		f, err := figures(ctx, a.Queues, name)
		if errors.Is(err, queue.ErrNoSuchQueue) && c.name == "" {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		out = append(out, f)
	}
	return c.print(out)
}

func figures(ctx context.Context, d queue.Driver, name string) (queueFigures, error) {
	q, err := d.Open(ctx, name)
	if err != nil {
		return queueFigures{}, err
	}
	st, err := q.Stats(ctx)
	if err != nil {
		return queueFigures{}, err
	}
	f := queueFigures{
		Queue: name, Capacity: st.Capacity, Entries: st.Entries, Bytes: st.Bytes,
		Reservations: st.Reservations, Reserved: st.Reserved,
	}
	if !st.Oldest.IsZero() {
		oldest := st.Oldest.UTC()
		f.Oldest = &oldest
	}
	return f, nil
}

// owners is who delivers what, as printed.
type owners struct {
	Gateway string         `json:"gateway"` // that is asked
	Queues  []notify.Shard `json:"queues"`
}

func (a *Admin) queueOwners(ctx context.Context, c *call) error {
	if a.Places != nil {
		return &exitError{exitNoEntry, "no gateway runs on this directory"}
	}
	return c.print(owners{a.Notify.Gateway(), a.Notify.Shards(ctx)})
}

// queueFinding is a finding, as printed.
type queueFinding struct {
	Queue    string `json:"queue"`
	Kind     string `json:"kind"`
	Detail   string `json:"detail"`
	Repaired bool   `json:"repaired"`
}

func (a *Admin) queueFsck(ctx context.Context, c *call) error {
	checker, ok := a.Queues.(queue.Checker)
	if !ok {
		return &exitError{exitUnsupported, "these queues cannot be checked"}
	}
	names, err := a.queueNames(ctx, c)
	if err != nil {
		return err
	}
	out, left := []queueFinding{}, 0
	for _, name := range names {
		list, err := checker.Check(ctx, name, c.repair)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return &exitError{exitUnsupported, "these queues cannot be checked"}
		case errors.Is(err, queue.ErrNoSuchQueue) && c.name == "":
			continue // deleted meanwhile
		case err != nil:
			return err
		}
		for _, f := range list {
			if !f.Repaired {
				left++
			}
			out = append(out, queueFinding(f))
		}
	}
	if err := c.print(out); err != nil {
		return err
	}
	if left > 0 {
		return &exitError{exitFindings, "not everything is right; --repair mends"}
	}
	return nil
}

func (a *Admin) queueMigrate(ctx context.Context, c *call) error {
	switch {
	case a.Places == nil:
		return &exitError{exitBusy, "a gateway runs on this directory; stop it, and all others that use these queues, and try again"}
	case c.from == "" || c.to == "":
		return invalid("no --from or no --to given: embedded, a URL as in the option queue, or @FILE, a file that holds one")
	}
	from, err := a.Places.Open(ctx, c.from)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // everything it was told is durable
	to, err := a.Places.Open(ctx, c.to)
	if err != nil {
		return err
	}
	defer func() { _ = to.Close() }() // likewise
	if from.Name == to.Name {
		return invalid("--from and --to are the same place: %s", to.Name)
	}
	id, err := a.Store.ID(ctx)
	if err != nil {
		return err
	}
	m := &migration{store: id, adopt: from.Own, from: from, to: to, format: to.Format, settle: from.Settle, keep: c.keep, force: c.force, progress: c.errOut}
	sum, err := m.run(ctx)
	if err != nil {
		return err
	}
	if err := a.Places.Moved(ctx, c.to); err != nil {
		return err
	}
	sum.From, sum.To = from.Name, to.Name
	return c.print(sum)
}

// queueAdopt notes that the embedded queues of this directory are the store's.
func (a *Admin) queueAdopt(ctx context.Context, c *call) error {
	if a.Places == nil {
		return &exitError{exitBusy, "a gateway runs on this directory; stop it, and try again"}
	}
	return a.Places.Moved(ctx, "embedded")
}
