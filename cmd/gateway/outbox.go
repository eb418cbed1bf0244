package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"herald/notify"
	"herald/queue"
	"herald/queue/embedded"
	"herald/queue/outbox"
	"herald/store"
)

// hasOutbox tells whether events go to queues on a server by way of the
// journal: where the store's durability is that of our disk, and nobody ends
// reservations by their age. A command that runs without a gateway sees either
// place as it is.
func (g *gateway) hasOutbox(u queueURL) bool { return !g.offline && g.outboxFor(u) }

// outboxFor is hasOutbox for the gateway that would run.
func (g *gateway) outboxFor(u queueURL) bool {
	return u.kind != kindEmbedded && !g.place.rados() && entryFormat(u, &g.config) == notify.EntriesOwn
}

// openOutbox puts the outbox before the queues on the server.
func (g *gateway) openOutbox(u queueURL) error {
	place, err := g.usedPlace(u)
	if err != nil {
		return err
	}
	opts := g.outboxOptions(place)
	opts.Allow = g.remote.guarded
	if g.outbox, err = outbox.New(context.Background(), g.embedded, g.remote, opts); err != nil {
		return err
	}
	g.queues = g.outbox
	g.registry.MustRegister(g.outboxMetrics()...)
	return nil
}

func (g *gateway) outboxOptions(p usedPlace) outbox.Options {
	return outbox.Options{
		ID: g.storeID, Place: p.URL + " " + p.Namespace,
		Sync:   func() error { return g.journal.Wait(g.journal.End()) },
		Direct: notify.HoldsDeadLetters, Logger: g.log, Fault: g.fault,
	}
}

// settledRecord is there while the embedded queues hold nothing that waits for
// a server: from when a migration has seen to it until a gateway starts, or the
// migration has ended. What is in them meanwhile was migrated.
const settledRecord = "store/outbox-settled"

// settlePatience bounds the wait for a server that has no room.
const settlePatience = 10 * time.Minute

// settleOutbox moves to a server what a gateway left in its outbox, before a
// migration moves anything away from there: it is newer than what is there.
func (g *gateway) settleOutbox(ctx context.Context, u queueURL, d queue.Driver) error {
	records := g.store.Records()
	if _, _, err := records.Get(ctx, settledRecord); err == nil {
		return nil
	} else if !errors.Is(err, store.ErrNoSuchRecord) {
		return err
	}
	place, err := g.usedPlace(u)
	if err != nil {
		return err
	}
	o, err := outbox.New(ctx, g.embedded, d, g.outboxOptions(place))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	if err = o.Start(ctx); err == nil {
		err = o.Drain(ctx)
	}
	if err = errors.Join(err, o.Close()); err != nil {
		return fmt.Errorf("move what waits in the outbox to %s: %w", u, err)
	}
	_, err = records.Put(ctx, settledRecord, []byte("{}"), 0)
	return err
}

// unsettle ends what settleOutbox began.
func (g *gateway) unsettle(ctx context.Context) error {
	_, version, err := g.store.Records().Get(ctx, settledRecord)
	if err == nil {
		err = g.store.Records().Delete(ctx, settledRecord, version)
	}
	if errors.Is(err, store.ErrNoSuchRecord) {
		return nil
	}
	return err
}

// outboxMetrics tell what waits to be moved to the server.
func (g *gateway) outboxMetrics() []prometheus.Collector {
	gauge := func(name, help string, of func(queue.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			st, err := g.outbox.Waiting(context.Background())
			if err != nil {
				return 0 // it is closed
			}
			return of(st)
		})
	}
	return []prometheus.Collector{
		gauge("herald_outbox_entries", "Events that wait in the outbox for the queues' server.",
			func(st queue.Stats) float64 { return float64(st.Entries) }),
		gauge("herald_outbox_bytes", "Bytes of events and reservations in the outbox.",
			func(st queue.Stats) float64 { return float64(st.Bytes + st.Reserved) }),
		gauge("herald_outbox_oldest_seconds", "Age of the oldest event in the outbox.",
			func(st queue.Stats) float64 {
				if st.Oldest.IsZero() {
					return 0
				}
				return max(time.Since(st.Oldest).Seconds(), 0)
			}),
	}
}

// drainPatience bounds the wait for the server when the gateway ends.
const drainPatience = 3 * time.Second

// endOutbox moves to the server what waits, so that a gateway that stops in
// order leaves nothing behind. What forwards ends before the journal does, which
// it may have to wait for.
func (g *gateway) endOutbox() {
	if g.outbox == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainPatience)
	defer cancel()
	if err := g.outbox.Drain(ctx); err != nil {
		g.log.Warn("events are left in the outbox; they go to their queues after the next start", "err", err)
	}
	_ = g.outbox.Close() // it cannot fail
}

// ownQueues are the embedded queues without what is the outbox's own.
type ownQueues struct{ *embedded.Driver }

// Close does nothing.
func (ownQueues) Close() error { return nil }

// List returns names.
func (d ownQueues) List(ctx context.Context, prefix string) ([]string, error) {
	names, err := d.Driver.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list embedded queues: %w", err)
	}
	return slices.DeleteFunc(names, outbox.Hidden), nil
}
