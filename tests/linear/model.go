package linear

import (
	"hash/maphash"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// state is all that is there of a key: the versions, newest first; in a bucket
// without versioning one at most. It is never changed.
type state struct {
	versions []version
	text     string // two states are the same if this is
}

func newState(versions ...version) *state {
	var b strings.Builder
	for _, v := range versions {
		b.WriteString(v.String())
		b.WriteByte(';')
	}
	return &state{versions: versions, text: b.String()}
}

// current is the object that is there; nil: none.
func (s *state) current() *version {
	if len(s.versions) == 0 || s.versions[0].marker {
		return nil
	}
	return &s.versions[0]
}

// push returns the state with a new version.
func (s *state) push(v version, versioned bool) *state {
	if versioned {
		return newState(append([]version{v}, s.versions...)...)
	}
	if v.marker {
		return newState()
	}
	return newState(v)
}

// without returns the state without a version, which need not be there.
func (s *state) without(id string) *state {
	i := slices.IndexFunc(s.versions, func(v version) bool { return v.id == id })
	if i < 0 {
		return s
	}
	return newState(slices.Concat(s.versions[:i], s.versions[i+1:])...)
}

// step returns the states that may follow when an op happens in a state, and
// is answered as it was: none, if it would have been answered otherwise.
func (s *state) step(o *op) []*state {
	var ok bool
	switch o.kind {
	case read, source, entry:
		ok = s.sees(o)
	case list:
		ok = slices.EqualFunc(s.versions, o.got, version.is)
	case end:
		ok = true
	default:
		return s.change(o)
	}
	if ok {
		return []*state{s}
	}
	return nil
}

// is tells whether a version is one that was seen; of either not all may be
// known.
func (v version) is(got version) bool {
	return v.marker == got.marker && agree(v.id, got.id) && agree(v.op, got.op) && agree(v.etag, got.etag)
}

// agree tells whether two values are the same, as far as they are known.
func agree[T comparable](a, b T) bool {
	var unknown T
	return a == b || a == unknown || b == unknown
}

func (s *state) sees(o *op) bool {
	cur := s.current()
	if cur == nil || len(o.got) == 0 {
		return cur == nil && len(o.got) == 0
	}
	return cur.is(o.got[0])
}

func (s *state) change(o *op) []*state {
	holds, fails := s.condition(o)
	var out []*state
	if o.result == maybe || o.result == unmet && fails {
		out = append(out, s)
	}
	if o.result != unmet && holds {
		out = append(out, s.after(o))
	}
	return out
}

// condition tells whether an op's condition may hold, and whether it may fail
// with the answer that was given: both, where an ETag is not known.
func (s *state) condition(o *op) (holds, fails bool) {
	cur := s.current()
	switch {
	case o.ifNoneMatch:
		return cur == nil, cur != nil
	case o.ifMatch == "":
		return true, false
	case cur == nil:
		return false, o.code == codeNoSuchKey
	}
	same := cur.etag == o.ifMatch
	return same || cur.etag == "", (!same || cur.etag == "") && o.code == codePreconditionFailed
}

// after is the state after an op that happens.
func (s *state) after(o *op) *state {
	switch o.kind {
	case remove:
		return s.push(version{id: o.version, marker: true}, o.key.versioned)
	case removeVersion:
		return s.without(o.version)
	}
	return s.push(version{op: o.id, id: o.version, etag: o.etag}, o.key.versioned)
}

// follows tells whether the newest version is not older than the next.
func (s *state) follows(order map[string]int) bool {
	if len(s.versions) < 2 {
		return true
	}
	newest, next := order[s.versions[0].id], order[s.versions[1].id]
	return newest == 0 || newest > next
}

// keyModel is what a key may do that begins in a state. With an order of
// versions, those that are in it are written in this order.
func keyModel(init *state, order map[string]int) porcupine.Model {
	seed := maphash.MakeSeed()
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{init} },
		Step: func(s, in, _ any) []any {
			var out []any
			for _, next := range s.(*state).step(in.(*op)) {
				if next.follows(order) {
					out = append(out, next)
				}
			}
			return out
		},
		Equal:             func(a, b any) bool { return a.(*state).text == b.(*state).text },
		Hash:              func(s any) uint64 { return maphash.String(seed, s.(*state).text) },
		DescribeOperation: func(in, _ any) string { return in.(*op).String() },
		DescribeState:     func(s any) string { return s.(*state).text },
	}
	return m.ToModel()
}
