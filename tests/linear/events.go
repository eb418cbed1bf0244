package linear

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/anishathalye/porcupine"
)

// opHeader is the name of the metadata that tells the op that wrote an object.
const opHeader = "op"

// event is what the endpoint got of an event.
type event struct {
	key, name, etag, version, sequencer string
	request                             string // id of the request that made the change
	op                                  int64  // which wrote the object; 0: none is named
}

func (e event) String() string {
	return fmt.Sprintf("%s %s #%d %s %s", e.sequencer, e.name, e.op, short(e.etag), e.version)
}

// endpoint gets events. It fails at random: it refuses, or takes an event
// without an answer that says so.
type endpoint struct {
	mu    sync.Mutex // guards what follows
	kind  bool       // it does not fail
	seen  map[event]bool
	first map[string][]event // by key, in the order of arrival, each once
	wrong []string
	all   int
}

func newEndpoint() *endpoint {
	return &endpoint{seen: map[event]bool{}, first: map[string][]event{}}
}

// ServeHTTP takes events.
func (p *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the gateway was killed while it sent
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	dice := rand.IntN(100)
	if !p.kind && dice < 4 {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	p.take(body)
	if !p.kind && dice < 8 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// take adds the events of a request. The caller holds mu.
func (p *endpoint) take(body []byte) {
	var doc struct {
		Records []struct {
			EventName        string
			ResponseElements struct {
				ID string `json:"x-amz-request-id"`
			}
			S3 struct {
				Bucket struct{ Name string }
				Object struct {
					Key, ETag, VersionID, Sequencer string
					Metadata                        []struct{ Key, Val string }
				}
			}
		}
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		p.wrong = append(p.wrong, fmt.Sprintf("an event that is not JSON: %q", body))
		return
	}
	for _, r := range doc.Records {
		o := r.S3.Object
		e := event{
			key: r.S3.Bucket.Name + "/" + o.Key, name: r.EventName, etag: o.ETag, version: o.VersionID, sequencer: o.Sequencer,
			request: r.ResponseElements.ID,
		}
		for _, m := range o.Metadata {
			if strings.TrimPrefix(strings.ToLower(m.Key), "x-amz-meta-") == opHeader {
				e.op, _ = strconv.ParseInt(m.Val, 10, 64) // 0 is found to be no op's
			}
		}
		p.all++
		if !p.seen[e] {
			p.seen[e] = true
			p.first[e.key] = append(p.first[e.key], e)
		}
	}
}

// serve starts the endpoint and returns its URL.
func (p *endpoint) serve(t testing.TB) string {
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return s.URL
}

// count is how many deliveries there were.
func (p *endpoint) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all
}

// behave makes the endpoint fail at random, or not.
func (p *endpoint) behave(kind bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kind = kind
}

// since returns the events of a key but the first n.
func (p *endpoint) since(k keyID, n int) []event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.first[k.String()][n:])
}

// disorder returns the places where events arrived after later ones (P3).
func disorder(events []event) (out []string) {
	for i := 1; i < len(events); i++ {
		if events[i].sequencer <= events[i-1].sequencer {
			out = append(out, fmt.Sprintf("P3: %s came after %s", events[i], events[i-1]))
		}
	}
	return out
}

// name fills in which op wrote the objects of events that do not say so, as far
// as ids of requests and versions, and ETags, tell, and returns how many do not.
func (r *round) name(events []event) (nameless int) {
	for i := range events {
		e := &events[i]
		if e.op != 0 || !strings.HasPrefix(e.name, "ObjectCreated:") {
			continue
		}
		nameless++
		for _, o := range append(slices.Clone(r.before), r.ops...) {
			lost := o.request == "" && o.etag == e.etag && (!r.key.versioned || o.version == "" || o.version == e.version)
			if o.kind.writes() && (lost || o.request == e.request) {
				e.op = o.id
			}
		}
	}
	return nameless
}

// tale is the history of a key in a round, as its events tell it.
type tale struct {
	round  *round
	events []event // in the order of sequencers
	states []*state
}

// tell goes through the events. Its error is something about them that is
// impossible, whatever was asked for.
func (r *round) tell(events []event) (*tale, error) {
	events = slices.Clone(events)
	slices.SortFunc(events, func(a, b event) int { return strings.Compare(a.sequencer, b.sequencer) })
	t := &tale{round: r, events: events, states: []*state{r.init}}
	for i, e := range events {
		s := t.states[i]
		next, err := s.told(e, r.key.versioned)
		if err != nil {
			return t, fmt.Errorf("%s: event %d, %s: %w; the events before tell %q", r.key, i, e, err, s.text)
		}
		t.states = append(t.states, next)
	}
	return t, nil
}

// told returns the state after an event.
func (s *state) told(e event, versioned bool) (*state, error) {
	cur := s.current()
	if !versioned {
		e.version = "" // or null
	}
	switch {
	case strings.HasPrefix(e.name, "ObjectCreated:"):
		return s.push(version{op: e.op, id: e.version, etag: e.etag}, versioned), nil
	case e.name == remove.event(true):
		return s.push(version{id: e.version, marker: true}, versioned), nil
	case e.name != remove.event(false):
		return nil, fmt.Errorf("unknown event")
	case versioned:
		next := s.without(e.version)
		if next == s {
			return nil, fmt.Errorf("there was no such version")
		}
		return next, nil
	case cur == nil:
		return nil, fmt.Errorf("there was no object")
	case cur.etag != e.etag:
		return nil, fmt.Errorf("another object was there")
	}
	return newState(), nil
}

// check compares the tale with what was asked for and answered: P2, and that
// sequencers have the order of changes.
func (t *tale) check() error {
	if err := t.compare(); err != nil {
		return fmt.Errorf("%s: %w", t.round.key, err)
	}
	ops := append(t.settle(), &op{kind: end, key: t.round.key, call: math.MaxInt64 - 1, ret: math.MaxInt64})
	if res := porcupine.CheckOperationsTimeout(t.model(), operations(ops), checkTime); res != porcupine.Ok {
		return fmt.Errorf("%s: P2 or P3: with the %d changes that the events tell, the history of %d ops is %s%s",
			t.round.key, len(t.events), len(ops), verdict(res), stuck(t.model(), ops))
	}
	return nil
}

// order is the order of the versions that the events tell.
func (t *tale) order() map[string]int {
	out := map[string]int{}
	for i, e := range t.events {
		if t.round.key.versioned && e.name != removeVersion.event(true) {
			out[e.version] = i + 1
		}
	}
	return out
}

// compare finds writes that have no event, or should have none.
func (t *tale) compare() error {
	asked := map[int64]*op{}
	for _, o := range append(slices.Clone(t.round.before), t.round.ops...) {
		if o.kind.writes() {
			asked[o.id] = o
		}
	}
	told := map[int64]bool{}
	for _, e := range t.events {
		if !strings.HasPrefix(e.name, "ObjectCreated:") {
			continue
		}
		switch o := asked[e.op]; {
		case o == nil:
			return fmt.Errorf("P2: nobody asked for %s", e)
		case o.result == unmet:
			return fmt.Errorf("P2: %s was refused, but has an event: %s", o, e)
		case told[e.op]:
			return fmt.Errorf("P2: another event of the same op: %s", e)
		case e.name != o.kind.event(t.round.key.versioned), o.etag != "" && o.etag != e.etag, t.round.key.versioned && o.version != "" && o.version != e.version:
			return fmt.Errorf("P2: the event %s is not that of %s", e, o)
		}
		told[e.op] = true
	}
	for _, o := range t.round.settle(false) {
		if o.kind.writes() && o.result == done && !told[o.id] {
			return fmt.Errorf("P2: no event of %s", o)
		}
	}
	return nil
}

// settle returns the ops as they are checked: those without an answer only if
// an event may be theirs.
func (t *tale) settle() []*op {
	told := map[int64]event{}
	deletes := map[string]bool{} // by request
	for _, e := range t.events {
		if strings.HasPrefix(e.name, "ObjectCreated:") {
			told[e.op] = e
		} else {
			deletes[e.request] = true
		}
	}
	for _, o := range t.round.ops {
		if o.request != "" {
			delete(deletes, o.request)
		}
	}
	var out []*op
	for _, o := range t.round.settle(true) {
		if o.result == maybe && !o.kind.writes() && len(deletes) == 0 {
			continue
		}
		if o.result == maybe && o.kind.writes() {
			e, ok := told[o.id]
			if !ok {
				continue
			}
			o.etag, o.result = e.etag, done
			if o.key.versioned {
				o.version = e.version
			}
		}
		out = append(out, o)
	}
	return out
}

// model is the key as events tell it: its state is how many of them happened.
func (t *tale) model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{0} },
		Step: func(s, in, _ any) []any { return t.step(s.(int), in.(*op)) },
		Hash: func(s any) uint64 { return uint64(s.(int)) },
	}
	return m.ToModel()
}

func (t *tale) step(i int, o *op) (out []any) {
	if o.kind == end {
		if i == len(t.events) {
			out = append(out, i)
		}
		return out
	}
	for _, s := range t.states[i].step(o) {
		if s.text == t.states[i].text {
			out = append(out, i)
		}
	}
	if i == len(t.events) || !o.causes(t.events[i]) {
		return out
	}
	c := *o
	if c.version == "" && c.key.versioned {
		c.version = t.events[i].version
	}
	for _, s := range t.states[i].step(&c) {
		if s.text == t.states[i+1].text {
			out = append(out, i+1)
		}
	}
	return out
}

// causes tells whether an event may be that of an op.
func (o *op) causes(e event) bool {
	return o.kind.event(o.key.versioned) == e.name && (!o.kind.writes() || o.id == e.op) &&
		(o.version == "" || !o.key.versioned || o.version == e.version) && (o.request == "" || o.request == e.request)
}
