package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"herald/admin"
	"herald/notify"
	"herald/queue"
	"herald/queue/outbox"
	"herald/store"
)

// queueDrivers are the drivers of queues that this binary has.
func queueDrivers() []string {
	drivers := []string{kindEmbedded, kindRedis}
	if hasRADOS {
		drivers = append(drivers, kindRADOS)
	}
	return drivers
}

// openRemote opens queues on a server: the list of drivers. storeID names the
// namespace when the URL does not.
func openRemote(ctx context.Context, u queueURL, c *config, storeID string, log *slog.Logger) (queue.Driver, error) {
	if u.namespace == "" {
		u = u.withNamespace(namespaceOf(u, c, storeID))
	}
	if u.kind == kindRADOS {
		return openRADOS(ctx, u, c, log)
	}
	return openRedis(ctx, u, c, log)
}

// namespaceOf is the namespace of a store's queues. Unless the URL names one
// they are the store's own, so that gateways that have nothing to do with each
// other do not mix on one server.
func namespaceOf(u queueURL, c *config, storeID string) string {
	switch {
	case u.namespace != "":
		return u.namespace
	case u.kind == kindRADOS && c.QueueRADOSRGWCompatible:
		return rgwNamespace
	}
	return "herald-" + storeID
}

// rgwNamespace is where radosgw has its queues.
const rgwNamespace = "notif"

// openQueues chooses the queues.
func (g *gateway) openQueues() error {
	logRedis(g.log)
	u, err := parseQueueURL(g.config.Queue)
	if err != nil {
		return err
	}
	g.queueURL = u
	if u.kind == kindEmbedded {
		g.queues = ownQueues{g.embedded}
		return nil
	}
	var guard *copyGuard
	// A command that runs without a gateway reserves nothing, and a cluster
	// cannot be copied by accident.
	if !g.offline && !g.place.rados() {
		if guard, err = newCopyGuard(g.storeID, g.config.Data, g.config.QueueLease, g.log); err != nil {
			return err
		}
	}
	g.remote = newRemoteQueues(u.String(), g.log, guard, func(ctx context.Context) (queue.Driver, error) {
		return openRemote(ctx, u, &g.config, g.storeID, g.log)
	})
	g.queues = g.remote
	g.registry.MustRegister(g.remote.metrics()...)
	if g.hasOutbox(u) {
		return g.openOutbox(u)
	}
	return nil
}

// entryFormat is how events are written to the queues at a place.
func entryFormat(u queueURL, c *config) notify.EntryFormat {
	if u.kind == kindRADOS && c.QueueRADOSRGWCompatible {
		return notify.EntriesRGW
	}
	return notify.EntriesOwn
}

// How many queues a new topic gets. RGW's number spreads the calls on objects
// that take some hundred each in a second; where all that wait for a queue are
// one call, each further queue costs the server as much as the first.
const (
	shardsRGW   = 11
	shardsRedis = 2 // so that two gateways deliver
	shardsRADOS = 1 // an operation for a queue is among the dearest that an OSD does
)

func topicShards(u queueURL, c *config) int {
	switch {
	case c.TopicShards > 0:
		return c.TopicShards
	case u.kind == kindEmbedded, entryFormat(u, c) == notify.EntriesRGW:
		return shardsRGW
	case u.kind == kindRADOS:
		return shardsRADOS
	}
	return shardsRedis
}

// placeRecord is where the gateway notes the place of its queues, so that the
// next start can tell when it is another one.
const placeRecord = "store/queue"

// usedPlace is the value of placeRecord.
type usedPlace struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"` // of embedded queues beside a store that others share: whose they are
	URL       string `json:"url"`                 // without user and password
}

func (g *gateway) usedPlace(u queueURL) (usedPlace, error) {
	p := usedPlace{Kind: u.kind, URL: u.String()}
	switch {
	case u.kind != kindEmbedded:
		p.Namespace = namespaceOf(u, &g.config, g.storeID)
	case g.place.rados():
		id, err := directoryID(g.config.Data)
		if err != nil {
			return p, err
		}
		p.Namespace = id
	}
	return p, nil
}

// directoryID names a data directory, which keeps the name when it moves.
func directoryID(data string) (string, error) {
	file := filepath.Join(data, ".herald", "id")
	id, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		id = []byte(store.NewOpID().String())
		err = os.WriteFile(file, id, 0o600) // if it is lost with the power, so is what waited
	}
	return string(id), err
}

// startQueues is the last look before the gateway serves: that what waits in
// queues elsewhere is not forgotten, and that the server, if it answers, is
// one that can be used. A server that does not answer may come later.
func (g *gateway) startQueues(ctx context.Context) error {
	u := g.queueURL
	if err := g.unsettle(ctx); err != nil {
		return err
	}
	if u.kind == kindEmbedded {
		if err := outbox.Forget(ctx, g.embedded); err != nil {
			return err
		}
	}
	if g.remote != nil {
		if g.outbox == nil {
			if err := g.refuseLeft(ctx); err != nil {
				return err
			}
		}
		if err := g.remote.reach(ctx); err != nil {
			return fmt.Errorf("option queue: %s: %w", u, err)
		}
	}
	now, err := g.usedPlace(u)
	if err != nil {
		return err
	}
	if g.remote != nil {
		g.log.Info("queues are on a server", "queue", now.URL, "namespace", now.Namespace)
	}
	last, err := g.lastPlace(ctx)
	if err != nil {
		return err
	}
	if last == now {
		return nil
	}
	if now.Kind == kindEmbedded && last.Kind == kindEmbedded && g.place.rados() {
		return fmt.Errorf("option queue: the events of the store %s wait in the embedded queues of another gateway, number %s. "+
			"Gateways that share a store share its queues, too: option queue, redis://... or rados://... "+
			"If that gateway's directory is lost, and what waited there with it, say here: gateway admin queue adopt", g.config.Store, last.Namespace)
	}
	if last.Kind != "" && (last.Kind != kindEmbedded || last.Namespace != "" && !g.own(last)) && (last.Kind != now.Kind || last.Namespace != now.Namespace) {
		g.log.Warn("queues are elsewhere than at the last start: what waits there is not delivered until it is moved here with gateway admin queue migrate",
			"were", last.URL, "namespace", last.Namespace, "are", now.URL)
	}
	return g.notePlace(ctx, now)
}

// refuseLeft refuses to serve with other queues while events wait in the
// embedded ones: they would be delivered too late, or never.
func (g *gateway) refuseLeft(ctx context.Context) error {
	names, err := ownQueues{g.embedded}.List(ctx, "")
	if err != nil {
		return err
	}
	var entries, reservations int64
	for _, name := range names {
		q, err := g.embedded.Open(ctx, name)
		if err != nil {
			return err
		}
		st, err := q.Stats(ctx)
		if err != nil {
			return err
		}
		entries, reservations = entries+st.Entries, reservations+st.Reservations
	}
	if entries+reservations == 0 {
		return nil
	}
	return fmt.Errorf("option queue: %d events and %d reservations wait in the embedded queues of %s; move them first:\n"+
		"    gateway admin queue migrate --data %[3]s --from embedded --to %s", entries, reservations, g.config.Data, redactURL(g.config.Queue))
}

// own tells whether embedded queues are those of our directory, at which
// refuseLeft has looked.
func (g *gateway) own(p usedPlace) bool {
	id, err := directoryID(g.config.Data)
	return err == nil && p.Namespace == id
}

func (g *gateway) lastPlace(ctx context.Context) (usedPlace, error) {
	var p usedPlace
	data, _, err := g.store.Records().Get(ctx, placeRecord)
	if errors.Is(err, store.ErrNoSuchRecord) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		return p, fmt.Errorf("record %s: %w", placeRecord, err)
	}
	return p, nil
}

func (g *gateway) notePlace(ctx context.Context, p usedPlace) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	_, version, err := g.store.Records().Get(ctx, placeRecord)
	if err != nil && !errors.Is(err, store.ErrNoSuchRecord) {
		return err
	}
	// Another gateway of the store that writes at the same time writes the same.
	if _, err := g.store.Records().Put(ctx, placeRecord, data, version); err != nil && !errors.Is(err, store.ErrRecordConflict) {
		return fmt.Errorf("record %s: %w", placeRecord, err)
	}
	return nil
}

// places opens queues for `gateway admin queue migrate`.
type places struct{ g *gateway }

// parse reads a place: a value of the option queue, or @FILE.
func (places) parse(place string) (queueURL, error) {
	if file, ok := strings.CutPrefix(place, "@"); ok {
		data, err := os.ReadFile(file)
		if err != nil {
			return queueURL{}, err
		}
		place = strings.TrimSpace(string(data))
	}
	u, err := parseQueueURL(place)
	if err == nil && u.kind == kindRADOS && !hasRADOS {
		err = errors.New(noRADOS)
	}
	if err != nil {
		return u, fmt.Errorf("queue %q: %w", redactURL(place), err)
	}
	return u, nil
}

// Open opens the queues at a place.
func (p places) Open(ctx context.Context, place string) (admin.Place, error) {
	u, err := p.parse(place)
	if err != nil {
		return admin.Place{}, err
	}
	if u.kind == kindEmbedded {
		return admin.Place{Driver: ownQueues{p.g.embedded}, Name: u.String(), Own: true}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	d, err := openRemote(ctx, u, &p.g.config, p.g.storeID, p.g.log)
	if err != nil {
		return admin.Place{}, fmt.Errorf("queue %s: %w", u, err)
	}
	named := u.withNamespace(namespaceOf(u, &p.g.config, p.g.storeID))
	to := admin.Place{Driver: d, Name: named.String(), Format: entryFormat(u, &p.g.config)}
	if p.g.outboxFor(u) {
		to.Settle = func(ctx context.Context) error { return p.g.settleOutbox(ctx, u, d) }
	}
	return to, nil
}

// Moved notes where the queues are now.
func (p places) Moved(ctx context.Context, to string) error {
	u, err := p.parse(to)
	if err != nil {
		return err
	}
	used, err := p.g.usedPlace(u)
	if err != nil {
		return err
	}
	return errors.Join(p.g.unsettle(ctx), p.g.notePlace(ctx, used))
}
