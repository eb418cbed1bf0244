package notify

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"herald/queue"
)

// sharing shares the queues of topics out between the gateways that deliver
// them (docs/adr/0008-many-gateways.md). Every gateway is in the group
// "gateways", and for each of its topics in the group "topic/QUEUE"; who is in
// both has a part of the topic's queues. Gateways see changes of a group one
// after the other: what makes a queue one's own is its lease alone.
type sharing struct {
	s *Service

	mu     sync.Mutex // guards all below; not held while the locker is asked
	alive  []string   // the owners in "gateways", as of joined
	joined time.Time
	shares map[string]*share // by queue
}

// share is a topic's queues, and who has a part of them.
type share struct {
	topic   *Topic
	members []member // in byte order
	joins   int
	due     time.Time // of the next Join
}

// member is a gateway that serves a topic: in the group as "OWNER/SHARDS".
// Gateways with different stores may have given one topic different numbers.
type member struct {
	owner  string
	shards int
}

const (
	// GatewaysGroup is the group of the gateways that deliver.
	GatewaysGroup = "gateways"
	// ProbeSuffix ends the name of who is in a group only to look.
	ProbeSuffix = "?"
	// joinSpacing bounds the rate at which topics are joined again: with very
	// many topics it happens less often.
	joinSpacing = 10 * time.Millisecond
	// atOnce is how many calls to the queues' server run at the same time when
	// there are many alike.
	atOnce   = 16
	probeTTL = time.Second
)

func topicGroup(queue string) string { return "topic/" + queue }

// newOwner names this process in locks and groups: "STORE-HOST-RANDOM".
func newOwner(storeID string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	host = strings.Map(func(r rune) rune {
		if r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, host)
	return storeTag(storeID) + host[:min(len(host), 64)] + "-" + rand.Text()[:13]
}

// storeTag is how the owners on one store begin.
func storeTag(storeID string) string {
	sum := sha256.Sum256([]byte(storeID))
	return hex.EncodeToString(sum[:4]) + "-"
}

func parseMember(s string) (m member, ok bool) {
	owner, shards, ok := strings.Cut(s, "/")
	n, err := strconv.Atoi(shards)
	return member{owner, n}, ok && err == nil
}

// gatewaysTTL is how long a gateway that died is thought to be alive.
func (g *sharing) gatewaysTTL() time.Duration { return g.s.opt.Lease * 2 / 3 }

// every is the pause between looks at "gateways".
func (g *sharing) every() time.Duration { return min(g.s.opt.ScanEvery, g.s.opt.Lease/6) }

// rejoin is the pause between Joins for one topic.
func (g *sharing) rejoin() time.Duration {
	return max(g.s.opt.Lease/3, time.Duration(len(g.shares))*joinSpacing)
}

// update takes part in the groups of the topics, and learns who else does. If
// it cannot, what it knew before holds on.
func (g *sharing) update(ctx context.Context, topics []*Topic) error {
	ctx, cancel := context.WithTimeout(ctx, g.s.opt.Lease/3)
	defer cancel()
	gone, first := g.reconcile(topics)
	var errs []error
	parallel(len(gone), atOnce, func(i int) { g.leave(ctx, gone[i]) })
	if first {
		// Be found under the topics by those who find us alive.
		errs = append(errs, g.joinTopics(ctx))
	}
	errs = append(errs, g.joinGateways(ctx), g.joinTopics(ctx))
	return errors.Join(errs...)
}

// reconcile takes over the list of topics, and returns the shares that are no
// more. first: nothing has been joined yet.
func (g *sharing) reconcile(topics []*Topic) (gone []*share, first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.shares
	g.shares = make(map[string]*share, len(topics))
	for _, t := range topics {
		if t.Dest.Queue == "" {
			continue
		}
		sh := old[t.Dest.Queue]
		if sh == nil || sh.topic.Dest.Shards != t.Dest.Shards {
			sh = &share{}
		} else {
			delete(old, t.Dest.Queue)
		}
		sh.topic = t
		g.shares[t.Dest.Queue] = sh
	}
	return slices.Collect(maps.Values(old)), g.joined.IsZero()
}

// joinGateways tells that this gateway is alive. When the others are not those
// that they were, all topics are looked at anew.
func (g *sharing) joinGateways(ctx context.Context) error {
	g.mu.Lock()
	due := time.Since(g.joined) >= g.every()/2
	g.mu.Unlock()
	if !due {
		return nil
	}
	names, err := g.s.cfg.Queues.Locker().Join(ctx, GatewaysGroup, g.s.owner, g.gatewaysTTL())
	if err != nil {
		return fmt.Errorf("join gateways: %w", err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, ProbeSuffix) })
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(names, g.alive) {
		g.s.log.Info("gateways that share the queues", "gateways", names)
		for _, sh := range g.shares {
			if !g.joined.IsZero() {
				sh.due = time.Time{}
			}
		}
	}
	g.joined, g.alive = time.Now(), names
	return nil
}

// joinTopics joins the groups of the topics for which it is time.
func (g *sharing) joinTopics(ctx context.Context) error {
	now := time.Now()
	g.mu.Lock()
	var due []*share
	for _, sh := range g.shares {
		if !sh.due.After(now) {
			due = append(due, sh)
		}
	}
	ttl := 3 * g.rejoin()
	g.mu.Unlock()
	errs := make([]error, len(due))
	parallel(len(due), atOnce, func(i int) { errs[i] = g.join(ctx, due[i], ttl) })
	failed := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("join %d of %d topics: %w", len(failed), len(due), failed[0])
}

func (g *sharing) join(ctx context.Context, sh *share, ttl time.Duration) error {
	g.mu.Lock()
	t := sh.topic
	g.mu.Unlock()
	names, err := g.s.cfg.Queues.Locker().Join(ctx, topicGroup(t.Dest.Queue), g.memberName(t), ttl)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if err != nil {
		sh.due = now.Add(g.every())
		return err
	}
	sh.members = nil
	for _, name := range names {
		if m, ok := parseMember(name); ok {
			sh.members = append(sh.members, m)
		}
	}
	// Others find a new topic within seconds: look soon whether they did.
	sh.due = now.Add(g.rejoin())
	if sh.joins++; sh.joins == 1 {
		sh.due = now.Add(min(2*g.every(), g.rejoin()))
	}
	return nil
}

func (g *sharing) memberName(t *Topic) string {
	return g.s.owner + "/" + strconv.Itoa(t.Dest.Shards)
}

func (g *sharing) leave(ctx context.Context, sh *share) {
	t := sh.topic
	for i := range t.Dest.Shards {
		g.s.handles.Delete(ShardName(t.Dest.Queue, i))
	}
	if err := g.s.cfg.Queues.Locker().Leave(ctx, topicGroup(t.Dest.Queue), g.memberName(t)); err != nil {
		g.s.log.Debug("leave topic", "topic", t.ARN, "err", err) // it runs out
	}
}

// leaveAll is the end: the others need not wait for it to be noticed.
func (g *sharing) leaveAll() {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	if err := g.s.cfg.Queues.Locker().Leave(ctx, GatewaysGroup, g.s.owner); err != nil {
		g.s.log.Warn("leave gateways: others will notice after a while", "err", err)
		return
	}
	g.mu.Lock()
	all := slices.Collect(maps.Values(g.shares))
	g.shares, g.joined = nil, time.Time{}
	g.mu.Unlock()
	parallel(len(all), atOnce, func(i int) { g.leave(ctx, all[i]) })
}

// owner names who has a topic's i-th queue, as far as this gateway knows; ""
// if it does not know. mu is held.
func (g *sharing) owner(sh *share, i int) string {
	var able []string
	for _, m := range sh.members {
		if m.shards > i && (m.owner == g.s.owner || slices.Contains(g.alive, m.owner)) {
			able = append(able, m.owner)
		}
	}
	if len(able) == 0 {
		return ""
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(sh.topic.Dest.Queue)) // never fails
	return able[(int(h.Sum32()%1024)+i)%len(able)]
}

// ours returns which of a topic's queues this gateway is to deliver.
func (g *sharing) ours(t *Topic) []int {
	g.mu.Lock()
	defer g.mu.Unlock()
	sh := g.shares[t.Dest.Queue]
	if sh == nil {
		return nil
	}
	var out []int
	for i := range t.Dest.Shards {
		if g.owner(sh, i) == g.s.owner {
			out = append(out, i)
		}
	}
	return out
}

// strangers tells whether gateways with another store serve the queues of that
// name now.
func (g *sharing) strangers(ctx context.Context, queueName string) (bool, error) {
	alive, err := g.look(ctx, GatewaysGroup)
	if err != nil {
		return false, err
	}
	members, err := g.look(ctx, topicGroup(queueName))
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(members, func(name string) bool {
		m, ok := parseMember(name)
		return ok && slices.Contains(alive, m.owner) && !strings.HasPrefix(m.owner, storeTag(g.s.cfg.StoreID))
	}), nil
}

// Shard is one queue of a topic, and who delivers it.
type Shard struct {
	Topic string `json:"topic"` // ARN
	Shard int    `json:"shard"`
	Queue string `json:"queue"`
	// Owner is the gateway whose turn it is, "STORE-HOST-RANDOM"; empty while
	// that is not known.
	Owner string `json:"owner"`
	// Ours: it is this one, and no other one holds it still.
	Ours bool `json:"ours"`
}

// Shards returns the queues of all topics and who delivers them, as this
// gateway sees it, in the order of queues. Nobody is asked for it.
func (s *Service) Shards(context.Context) []Shard {
	g := &s.sharing
	g.mu.Lock()
	defer g.mu.Unlock()
	out := []Shard{}
	for _, sh := range g.shares {
		for i := range sh.topic.Dest.Shards {
			name := ShardName(sh.topic.Dest.Queue, i)
			owner := g.owner(sh, i)
			out = append(out, Shard{
				Topic: sh.topic.ARN, Shard: i, Queue: name, Owner: owner,
				Ours: owner == s.owner && s.working.has(name),
			})
		}
	}
	slices.SortFunc(out, func(a, b Shard) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Shard, b.Shard))
	})
	return out
}

// Gateway is this process's name among those that share the queues.
func (s *Service) Gateway() string { return s.owner }

// working are the queues that this process delivers: it is their turn, and no
// other gateway has them.
type working struct {
	mu sync.Mutex // guards set
	by map[string]struct{}
}

func (w *working) set(name string, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !on {
		delete(w.by, name)
		return
	}
	if w.by == nil {
		w.by = make(map[string]struct{})
	}
	w.by[name] = struct{}{}
}

func (w *working) has(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.by[name]
	return ok
}

func (w *working) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.by)
}

// openQueue opens a queue. Handles of queues on a server are kept: to get one
// there takes a round trip. Errors: queue.ErrNoSuchQueue.
func (s *Service) openQueue(ctx context.Context, name string) (queue.Queue, error) {
	if !s.remote {
		return s.cfg.Queues.Open(ctx, name)
	}
	if q, ok := s.handles.Load(name); ok {
		return q.(queue.Queue), nil
	}
	q, err := s.cfg.Queues.Open(ctx, name)
	if err == nil {
		s.handles.Store(name, q)
	}
	return q, err
}
