package linear

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// checkTime is how long the history of a key in a round may take to be checked.
// What takes longer is not known to be right, which counts as wrong.
const checkTime = 5 * time.Minute

// round is what happened to a key in a round.
type round struct {
	key  keyID
	init *state // what was there at its beginning
	ops  []*op
	// before are ops of earlier rounds of which nobody knows whether they
	// happened: they may happen now.
	before []*op
	// order of versions by id, for those of which it is known; a hint.
	order map[string]int
}

// check tells whether there is an order of the ops that explains all answers.
// It first takes what nobody saw for what did not happen, and what happened
// without an answer for done when somebody saw it, which nearly always explains
// everything; what is not explained so is looked at again without this. doubt
// tells that this was needed.
func (r *round) check() (doubt bool, err error) {
	res := r.linearizable(r.settle(false), r.order)
	if res == porcupine.Ok {
		return false, nil
	}
	res = r.linearizable(r.settle(true), nil)
	if res == porcupine.Ok {
		return true, nil
	}
	return true, fmt.Errorf("%s: the history of %d ops is %s%s", r.key, len(r.ops), verdict(res), stuck(keyModel(r.init, r.order), r.settle(false)))
}

// stuck tells where the longest order ends that explains the answers in it.
func stuck(m porcupine.Model, ops []*op) string {
	_, info := porcupine.CheckOperationsVerbose(m, operations(ops), checkTime/4)
	var longest []porcupine.Operation
	for _, part := range info.PartialLinearizationsOperations() {
		for _, p := range part {
			if len(p) > len(longest) {
				longest = p
			}
		}
	}
	in := map[*op]bool{}
	s := "; as far as it goes it ends with"
	for i, p := range longest {
		o := p.Input.(*op)
		in[o] = true
		if i >= len(longest)-4 {
			s += "\n    " + o.String()
		}
	}
	slices.SortFunc(ops, func(a, b *op) int { return cmp.Compare(a.ret, b.ret) })
	if i := slices.IndexFunc(ops, func(o *op) bool { return !in[o] }); i >= 0 {
		s += "\n  and cannot go on with\n    " + ops[i].String()
	}
	return s
}

func verdict(res porcupine.CheckResult) string {
	if res == porcupine.Illegal {
		return "not linearizable"
	}
	return fmt.Sprintf("not found to be linearizable in %s", checkTime)
}

func (r *round) linearizable(ops []*op, order map[string]int) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(keyModel(r.init, order), operations(ops), checkTime)
}

func operations(ops []*op) []porcupine.Operation {
	out := make([]porcupine.Operation, len(ops))
	for i, o := range ops {
		out[i] = porcupine.Operation{ClientId: o.client, Input: o, Call: o.call, Return: max(o.call, o.ret)}
	}
	return out
}

// settle returns the ops as they are checked. A write without an answer that somebody
// saw was done before he was told; one that nobody saw is left out, unless all
// are asked for.
func (r *round) settle(all bool) []*op {
	saw := map[int64]*op{} // by write, who was told of it first
	for _, o := range r.ops {
		for _, v := range o.got {
			if first := saw[v.op]; v.op != 0 && (first == nil || o.ret < first.ret) {
				saw[v.op] = o
			}
		}
	}
	var out []*op
	for _, o := range r.before {
		if o = settled(o, saw[o.id]); all || o.result == done {
			out = append(out, o)
		}
	}
	for _, o := range r.ops {
		if o = settled(o, saw[o.id]); all || o.result != maybe || !o.kind.writes() {
			out = append(out, o)
		}
	}
	return out
}

// settled returns a copy of an op without an answer, as far as who saw what it
// wrote tells about it; any other op as it is.
func settled(o *op, saw *op) *op {
	if o.result != maybe {
		return o
	}
	c := *o
	c.ret = math.MaxInt64
	if saw == nil || !o.kind.writes() {
		return &c
	}
	c.result, c.ret = done, saw.ret
	for _, v := range saw.got {
		if v.op == o.id {
			c.etag, c.version = v.etag, v.id
		}
	}
	return &c
}

// open are the ops of which nobody knows at the end whether they happened.
func (r *round) open() []*op {
	var out []*op
	for _, o := range r.settle(true) {
		if o.result == maybe {
			o.call = 0
			out = append(out, o)
		}
	}
	return out
}
