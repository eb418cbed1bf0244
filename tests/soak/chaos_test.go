package soak

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"herald/tests/redistest"
)

// trouble is something that happens while clients work.
type trouble struct {
	name string
	// victim has one trouble at a time, which lasts, until end makes it well
	// again. Without a victim a trouble is over at once.
	victim string
	lasts  time.Duration // at most
	begin  func()
	end    func()
}

// chaos makes trouble.
type chaos struct {
	*world
	rand   *rand.Rand
	queue  *redistest.Server
	all    []*trouble
	deck   []*trouble // of all, those that come before any other comes again
	counts map[string]int
	group  sync.WaitGroup
	over   chan struct{} // closed when all is to become well

	mu   sync.Mutex // guards what follows
	hurt map[string]bool
}

// atOnce is how many victims are hurt at the same time, at most.
const atOnce = 4

func newChaos(w *world, seed uint64, queue *redistest.Server) *chaos {
	c := &chaos{world: w, rand: rand.New(rand.NewPCG(seed, 0)), queue: queue, counts: map[string]int{}, over: make(chan struct{}), hurt: map[string]bool{}}
	c.plan()
	return c
}

// live makes trouble for a while, one every tick, and makes all well in the end.
func (c *chaos) live(d, tick time.Duration) {
	c.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end) && !c.t.Failed(); {
		c.next()
		time.Sleep(time.Duration(c.rand.Int64N(int64(2 * tick))))
	}
	close(c.over)
	c.group.Wait()
}

// next begins the next trouble whose victim has none.
func (c *chaos) next() {
	c.t.Helper()
	if len(c.deck) == 0 {
		c.deck = slices.Clone(c.all)
		c.rand.Shuffle(len(c.deck), func(i, j int) { c.deck[i], c.deck[j] = c.deck[j], c.deck[i] })
	}
	i := slices.IndexFunc(c.deck, c.possible)
	if i < 0 {
		return
	}
	t := c.deck[i]
	c.deck = slices.Delete(c.deck, i, i+1)
	c.counts[t.name]++
	if t.victim == "" {
		t.begin()
		return
	}
	c.set(t.victim, true)
	lasts := t.lasts/4 + time.Duration(c.rand.Int64N(int64(t.lasts)*3/4))
	c.group.Go(func() {
		t.begin()
		select {
		case <-time.After(lasts):
		case <-c.over:
		}
		t.end()
		c.set(t.victim, false)
	})
}

// possible tells whether a trouble can begin now.
func (c *chaos) possible(t *trouble) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.victim == "" || !c.hurt[t.victim] && len(c.hurt) < atOnce
}

func (c *chaos) set(victim string, hurt bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if hurt {
		c.hurt[victim] = true
	} else {
		delete(c.hurt, victim)
	}
}

func (c *chaos) isHurt(victim string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hurt[victim]
}

// plan collects all troubles.
func (c *chaos) plan() {
	c.brokers()
	for _, s := range c.sites {
		c.gateway(s)
	}
	c.add("queues", "killed", 3*time.Second, c.queue.KillNine, c.queue.Restart)
	c.add("queues", "full", 4*time.Second, full(c.queue, "1"), full(c.queue, "0"))
	c.add("queues", "halted", 5*time.Second, c.queue.Pause, c.queue.Resume)
	for range 6 { // more often than others
		c.all = append(c.all,
			&trouble{name: "topic changed", begin: c.changeTopic}, &trouble{name: "notification toggled", begin: c.toggle},
			&trouble{name: "connections cut", begin: c.cut})
	}
	for range 3 {
		c.all = append(c.all, &trouble{name: "topic remade", begin: c.remake}, &trouble{name: "dead letters sent again", begin: c.redrive})
	}
}

func (c *chaos) add(victim, what string, lasts time.Duration, begin, end func()) {
	c.all = append(c.all, &trouble{name: victim + " " + what, victim: victim, begin: begin, end: end, lasts: lasts})
}

// full leaves a Redis server no memory, or as much as it likes.
func full(s *redistest.Server, memory string) func() {
	return func() { s.Do("CONFIG", "SET", "maxmemory", memory) }
}

func (c *chaos) brokers() {
	b, check := c.b, c.check
	c.add("kafka", "killed", 4*time.Second, b.kafka.Kill, func() { check(b.kafka.Start()) })
	c.add("kafka", "halted", 6*time.Second, func() { check(b.kafka.Pause()) }, func() { check(b.kafka.Resume()) })
	c.add("rabbitmq", "killed", 4*time.Second, func() { b.rabbit.Kill() }, b.rabbit.Start)
	c.add("rabbitmq", "halted", 6*time.Second, func() { b.rabbit.Pause() }, func() { b.rabbit.Resume() })
	c.add("rabbitmq", "full", 4*time.Second, func() { b.rabbit.Memory(true) }, func() { b.rabbit.Memory(false) })
	c.add("nats", "killed", 4*time.Second, b.nats.Kill, b.nats.Restart)
	c.add("nats", "halted", 6*time.Second, b.nats.Pause, b.nats.Resume)
	c.add("redis", "killed", 4*time.Second, b.redis.KillNine, b.redis.Restart)
	c.add("redis", "full", 4*time.Second, full(b.redis, "1"), full(b.redis, "0"))
	c.add("redis", "halted", 6*time.Second, b.redis.Pause, b.redis.Resume)
	c.add("mosquitto", "stopped", 4*time.Second, func() { b.mqtt.Stop() }, func() { b.mqtt.Start(); b.sub.Connect() }) // when killed it loses what it acknowledged
	c.add("mosquitto", "halted", 6*time.Second, func() { b.mqtt.Pause() }, func() { b.mqtt.Resume() })
	c.add("sink", "down", 4*time.Second, b.sink.down, b.sink.up)
	for m, name := range map[mood]string{refusing: "refuses", forgetful: "forgets to answer", lying: "lies", silent: "is silent", slow: "is slow"} {
		c.add("sink", name, 4*time.Second, func() { b.sink.set(m) }, func() { b.sink.set(good) })
	}
	c.add("topic dead", "refused", 4*time.Second, func() { b.sink.refuse(true) }, func() { b.sink.refuse(false) })
	slices.SortFunc(c.all, func(a, b *trouble) int { return compare(a.name, b.name) })
}

func (c *chaos) gateway(s *site) {
	victim := "gateway " + s.name
	up := func() {
		c.check(s.g.Launch())
		s.well.Store(true)
	}
	c.add(victim, "killed", 4*time.Second, func() { s.well.Store(false); s.g.Kill() }, up)
	c.add(victim, "killed twice", time.Second, func() { s.well.Store(false); s.g.Kill() }, func() {
		c.check(s.g.Launch())
		s.g.Kill() // soon after its start
		up()
	})
	c.add(victim, "stopped", 3*time.Second, func() { s.well.Store(false); c.check(s.g.Stop()) }, up)
	c.add(victim, "halted", 6*time.Second, func() { s.well.Store(false); c.check(s.g.Pause()) }, func() { c.check(s.g.Resume()); s.well.Store(true) })
}

// someSite returns one that is well, or nil.
func (c *chaos) someSite() *site {
	for _, i := range c.rand.Perm(len(c.sites)) {
		if c.sites[i].well.Load() {
			return c.sites[i]
		}
	}
	return nil
}

// cut cuts all connections to an endpoint that go by its proxy.
func (c *chaos) cut() {
	names := []string{"amqp", "http", "kafka", "mqtt", "nats", "redis"}
	if name := names[c.rand.IntN(len(names))]; name == "kafka" {
		c.b.kafka.Proxy.Cut()
	} else {
		c.b.proxies[name].Cut()
	}
}

// changeTopic gives an attribute of a topic another value at all gateways.
// Those that are not well keep the old one.
func (c *chaos) changeTopic() {
	e := c.endpoints[c.rand.IntN(len(c.endpoints))]
	var names []string
	for name := range e.attributes {
		names = append(names, name)
	}
	slices.Sort(names)
	name := names[c.rand.IntN(len(names))]
	value := e.attributes[name][c.rand.IntN(len(e.attributes[name]))]
	for _, s := range c.sites {
		if s.well.Load() {
			c.tried("set topic", s, s.setTopic(e.topic, name, value))
		}
	}
}

// toggle takes a notification away, or puts it back.
func (c *chaos) toggle() {
	s := c.someSite()
	if s == nil {
		return
	}
	topic := []string{"nats", "http"}[c.rand.IntN(2)]
	r := s.h.rule(s.bucket(toggled), topic)
	on := r.want()
	if r.known() { // else what was tried is tried again
		on = !on
	}
	if on {
		c.tried("put notification", s, s.notify(toggled, topic))
	} else {
		c.tried("delete notification", s, s.silence(toggled, topic))
	}
}

// remake deletes a topic that is known to have no events, or forgets them, and
// makes it again.
func (c *chaos) remake() {
	s := c.someSite()
	if s == nil || s.shared && c.isHurt("queues") {
		return
	}
	topic, gate := s.remade.topic, s.gates[remade]
	r := s.h.rule(s.bucket(remade), topic)
	gate.Lock()
	r.begin(false)
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, waits := s.waits(topic); !waits {
			break
		}
		if time.Now().After(deadline) {
			r.forget()
			break
		}
	}
	if err := s.deleteTopic(topic); err != nil {
		r.forget()
		gate.Unlock()
		c.tried("delete topic", s, err)
		return
	}
	r.done()
	gate.Unlock()
	time.Sleep(time.Duration(c.rand.Int64N(int64(time.Second)))) // clients work without it
	c.restore(s)
}

// restore makes the topic that is deleted and made again, if it is not there.
func (c *chaos) restore(s *site) {
	s.gates[remade].Lock()
	defer s.gates[remade].Unlock()
	err := s.makeTopic(s.remade)
	c.tried("make topic", s, err)
	if err == nil {
		c.tried("put notification", s, s.notify(remade, s.remade.topic))
	}
}

// redrive sends dead letters again.
func (c *chaos) redrive() {
	s := c.someSite()
	if s == nil {
		return
	}
	if out, code := s.g.Admin("topic", "dead-letters", "redrive", "--topic", deadTopic); code != 0 {
		c.tried("redrive", s, errors.New(out))
	}
}
