package linear

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	plainKey     = keyID{bucket: plainBucket, name: "k"}
	versionedKey = keyID{bucket: versionedBucket, name: "k", versioned: true}
)

// script makes ops from lines "CALL RETURN WHAT": of a put "put ID", with
// "none" (If-None-Match), "=E" (If-Match), "lost" (no answer), "unmet"; of a read
// "read ID", 0 when there is nothing.
func script(k keyID, lines ...string) []*op {
	var out []*op
	for i, line := range lines {
		o := &op{key: k, client: i}
		var what string
		var id int64
		if _, err := fmt.Sscan(line, &o.call, &o.ret, &what, &id); err != nil {
			panic(err)
		}
		o.id, o.etag = id, etagOf(id)
		if k.versioned {
			o.version = idOf(id)
		}
		switch what {
		case "put":
		case "delete":
			o.kind = remove
		case "deleteversion":
			o.kind = removeVersion
		case "read", "source":
			o.kind, o.id = read, int64(1000+i)
			if id > 0 {
				o.got = []version{{op: id, etag: etagOf(id), id: o.version}}
			}
			if what == "source" && id > 0 {
				o.kind, o.got = source, []version{{etag: etagOf(id)}}
			}
		default:
			panic(line)
		}
		for _, word := range strings.Fields(line)[4:] {
			switch {
			case word == "none":
				o.ifNoneMatch = true
			case word == "lost":
				o.result = maybe
				if o.kind != removeVersion {
					o.version = ""
				}
			case word == "unmet":
				o.result, o.code = unmet, codePreconditionFailed
			case word == "nokey":
				o.result, o.code = unmet, codeNoSuchKey
			default:
				o.ifMatch = "e" + word[1:]
			}
		}
		out = append(out, o)
	}
	return out
}

func etagOf(id int64) string { return fmt.Sprintf("e%d", id) }
func idOf(id int64) string   { return fmt.Sprintf("v%d", id) }

func TestCheck(t *testing.T) {
	tests := []struct {
		name    string
		key     keyID
		ops     []string
		illegal bool
	}{
		{"in order", plainKey, []string{"1 2 put 1", "3 4 read 1", "5 6 put 2", "7 8 read 2"}, false},
		{"lost write", plainKey, []string{"1 2 put 1", "3 4 put 2", "5 6 read 1"}, true},
		{"nothing there", plainKey, []string{"1 2 put 1", "5 6 read 0"}, true},
		{"at once", plainKey, []string{"1 9 put 1", "2 8 put 2", "3 7 read 2", "4 6 read 0"}, false},
		{"reads that contradict", plainKey, []string{"1 2 put 1", "3 9 put 2", "4 5 read 2", "6 7 read 1"}, true},
		{"answer lost, done", plainKey, []string{"1 2 put 1", "3 4 put 2 lost", "5 6 read 2"}, false},
		{"answer lost, not done", plainKey, []string{"1 2 put 1", "3 4 put 2 lost", "5 6 read 1"}, false},
		{"answer lost, done later", plainKey, []string{"1 2 put 1", "3 4 put 2 lost", "5 6 read 1", "7 8 read 2"}, false},
		{"answer lost, done and undone", plainKey, []string{"1 2 put 1", "3 4 put 2 lost", "5 6 read 2", "7 8 read 1"}, true},
		{"delete lost", plainKey, []string{"1 2 put 1", "3 4 delete 2 lost", "5 6 read 1", "7 8 read 0"}, false},
		{"deleted and there again", plainKey, []string{"1 2 put 1", "3 4 delete 2", "5 6 read 1"}, true},
		{"exclusive twice", plainKey, []string{"1 5 put 1 none", "2 6 put 2 none"}, true},
		{"exclusive once", plainKey, []string{"1 5 put 1 none", "2 6 put 2 none unmet"}, false},
		{"exclusive failed by nothing", plainKey, []string{"1 5 put 1 none unmet"}, true},
		{"exclusive failed by a write that nobody saw", plainKey, []string{"1 2 put 1 lost", "3 5 put 2 none unmet"}, false},
		{"if-match", plainKey, []string{"1 2 put 1", "3 4 put 2 =1", "5 6 read 2"}, false},
		{"if-match of two", plainKey, []string{"1 2 put 1", "3 6 put 2 =1", "4 7 put 3 =1"}, true},
		{"if-match without object", plainKey, []string{"3 6 put 2 =1 nokey"}, false},
		{"if-match unmet for nothing", plainKey, []string{"1 2 put 1", "3 6 put 2 =1 unmet"}, true},
		{"source", plainKey, []string{"1 2 put 1", "3 4 put 2", "3 6 source 1"}, false},
		{"source too old", plainKey, []string{"1 2 put 1", "3 4 put 2", "5 6 source 1"}, true},
		{"version returns", versionedKey, []string{"1 2 put 1", "3 4 put 2", "5 6 deleteversion 2", "7 8 read 1"}, false},
		{"version does not return", versionedKey, []string{"1 2 put 1", "3 4 put 2", "5 6 deleteversion 2", "7 8 read 0"}, true},
		{"marker goes", versionedKey, []string{"1 2 put 1", "3 4 delete 2", "5 6 read 0", "7 8 deleteversion 2", "9 10 read 1"}, false},
		{"marker lost", versionedKey, []string{"1 2 put 1", "3 4 delete 2 lost", "5 6 read 0", "7 8 put 3 none"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &round{key: tt.key, init: newState(), ops: script(tt.key, tt.ops...)}
			if _, err := r.check(); (err != nil) != tt.illegal {
				t.Errorf("check = %v, want illegal %v", err, tt.illegal)
			}
		})
	}
}

// TestCheck_Before has a write of a round before come true in this one.
func TestCheck_Before(t *testing.T) {
	r := &round{key: plainKey, init: newState(), ops: script(plainKey, "1 2 put 1 lost")}
	r.before, r.ops = r.open(), script(plainKey, "11 12 read 0", "13 14 read 1")
	if _, err := r.check(); err != nil {
		t.Error(err)
	}
	r.before = nil
	if _, err := r.check(); err == nil {
		t.Error("check accepts a write that nobody asked for")
	}
}

// created and removed make events.
func created(seq int, id int64, k keyID) event {
	e := event{key: k.String(), name: put.event(false), op: id, etag: etagOf(id), sequencer: fmt.Sprintf("%016X", seq)}
	if k.versioned {
		e.version = idOf(id)
	}
	return e
}

func removed(seq int, id int64) event {
	return event{key: plainKey.String(), name: remove.event(false), etag: etagOf(id), op: id, sequencer: fmt.Sprintf("%016X", seq)}
}

func TestTell(t *testing.T) {
	e := func(events ...event) []event { return events }
	tests := []struct {
		name   string
		ops    []string
		events []event
		wrong  bool
	}{
		{"each has its event", []string{"1 2 put 1", "3 4 put 2"}, e(created(1, 1, plainKey), created(2, 2, plainKey)), false},
		{"none", []string{"1 2 put 1", "3 4 put 2"}, e(created(2, 2, plainKey)), true},
		{"invented", []string{"1 2 put 1"}, e(created(1, 1, plainKey), created(2, 2, plainKey)), true},
		{"of a refused op", []string{"1 2 put 1", "3 4 put 2 none unmet"}, e(created(1, 1, plainKey), created(2, 2, plainKey)), true},
		{"out of order", []string{"1 2 put 1", "3 4 put 2", "5 6 read 2"}, e(created(2, 1, plainKey), created(1, 2, plainKey)), true},
		{"at once", []string{"1 4 put 1", "2 3 put 2", "5 6 read 1"}, e(created(2, 1, plainKey), created(1, 2, plainKey)), false},
		{"at once, but the other is there", []string{"1 4 put 1", "2 3 put 2", "5 6 read 2"}, e(created(2, 1, plainKey), created(1, 2, plainKey)), true},
		{"of a lost answer", []string{"1 2 put 1 lost"}, e(created(2, 1, plainKey)), false},
		{"of a lost answer, though not there", []string{"1 2 put 1 lost", "3 4 read 0"}, e(created(2, 1, plainKey)), false},
		{"of a lost answer, none, though there", []string{"1 2 put 1 lost", "3 4 read 1"}, nil, true},
		{"delete", []string{"1 2 put 1", "3 4 delete 2", "5 6 delete 3"}, e(created(1, 1, plainKey), removed(2, 1)), false},
		{"delete twice", []string{"1 2 put 1", "3 4 delete 2", "5 6 delete 3"}, e(created(1, 1, plainKey), removed(2, 1), removed(3, 1)), true},
		{"delete without", []string{"1 2 put 1", "3 4 delete 2", "5 6 put 3"}, e(created(1, 1, plainKey), created(3, 3, plainKey)), true},
		{"delete of another", []string{"1 2 put 1", "3 4 put 2", "5 6 delete 3"}, e(created(1, 1, plainKey), created(2, 2, plainKey), removed(3, 1)), true},
		{"delete lost", []string{"1 2 put 1", "3 4 delete 2 lost", "5 6 read 0"}, e(created(1, 1, plainKey), removed(3, 1)), false},
		{"delete lost, not done", []string{"1 2 put 1", "3 4 delete 2 lost", "5 6 read 1"}, e(created(1, 1, plainKey)), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &round{key: plainKey, init: newState(), ops: script(plainKey, tt.ops...)}
			if _, err := r.check(); err != nil {
				t.Fatal(err)
			}
			tale, err := r.tell(tt.events)
			if err == nil {
				err = tale.check()
			}
			if (err != nil) != tt.wrong {
				t.Errorf("check of events = %v, want wrong %v", err, tt.wrong)
			}
		})
	}
}

func TestDisorder(t *testing.T) {
	if got := disorder([]event{created(1, 1, plainKey), created(3, 3, plainKey), created(2, 2, plainKey)}); len(got) != 1 {
		t.Errorf("disorder = %q, want one", got)
	}
}

// register is a store of one key with a fault.
type register struct {
	began time.Time
	fault string

	mu     sync.Mutex // guards what follows
	state  *state
	states []*state // all that were
	events []event
	ops    []*op
	n      int
}

// do lets an op happen.
func (g *register) do(o *op, r *rand.Rand) {
	o.call = int64(time.Since(g.began))
	time.Sleep(time.Duration(r.IntN(200)) * time.Microsecond)
	g.mu.Lock()
	broken := ""
	if g.n++; g.n%50 == 49 || g.n > 50 && (g.fault == "condition ignored" || g.fault == "stale read") {
		broken = g.fault
	}
	old := g.state
	switch cur := g.state.current(); {
	case o.kind == read:
		s := g.state
		if broken == "stale read" {
			s = g.states[len(g.states)-20]
		}
		if v := s.current(); v != nil {
			o.got = []version{*v}
		}
	case o.ifNoneMatch && cur != nil && broken != "condition ignored":
		o.result, o.code = unmet, codePreconditionFailed
	case broken == "lost write":
	default:
		g.state = g.state.after(o)
	}
	if g.states = append(g.states, old); g.state != old {
		g.tell(o, old, broken)
	}
	g.mu.Unlock()
	time.Sleep(time.Duration(r.IntN(200)) * time.Microsecond)
	o.ret = int64(time.Since(g.began))
	if o.kind != read && r.IntN(40) == 0 {
		o.result, o.version = maybe, ""
	}
	g.mu.Lock()
	g.ops = append(g.ops, o)
	g.mu.Unlock()
}

// tell adds the event of a change.
func (g *register) tell(o *op, old *state, broken string) {
	cur := old.current()
	switch {
	case broken == "lost event" || o.kind == remove && cur == nil:
	case o.kind == remove:
		g.events = append(g.events, removed(g.n, cur.op))
	default:
		g.events = append(g.events, created(g.n, o.id, plainKey))
	}
	if n := len(g.events); broken == "events swapped" && n > 1 {
		a, b := &g.events[n-2], &g.events[n-1]
		a.sequencer, b.sequencer = b.sequencer, a.sequencer
	}
}

// TestMutations finds each fault that a store may have, and none where there
// is none.
func TestMutations(t *testing.T) {
	for _, fault := range []string{"", "lost write", "stale read", "condition ignored", "lost event", "events swapped"} {
		t.Run("fault "+fault, func(t *testing.T) {
			g := &register{began: time.Now(), fault: fault, state: newState()}
			var group sync.WaitGroup
			for c := range 6 {
				group.Go(func() { g.load(c) })
			}
			group.Wait()
			r := &round{key: plainKey, init: newState(), ops: g.ops}
			_, err := r.check()
			if err == nil {
				var tale *tale
				if tale, err = r.tell(g.events); err == nil {
					err = tale.check()
				}
			}
			if (err == nil) != (fault == "") {
				t.Errorf("with fault %q: %v", fault, err)
			}
		})
	}
}

func (g *register) load(client int) {
	r := rand.New(rand.NewPCG(1, uint64(client)))
	for i := range 250 {
		o := &op{key: plainKey, client: client, id: int64(client*1000 + i + 1)}
		switch dice := r.IntN(10); {
		case dice < 4:
			o.kind = read
		case dice < 6:
			o.kind = remove
		default:
			o.etag, o.ifNoneMatch = etagOf(o.id), dice < 8
		}
		g.do(o, r)
	}
}
