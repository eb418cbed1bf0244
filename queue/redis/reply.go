package redis

import (
	"fmt"
	"strconv"
)

// reader reads the array that a script answers. The first mismatch is its
// error; what is read after it is zero.
type reader struct {
	list []any
	pos  int
	base int // where text and number count from
	err  error
}

func newReader(reply any) *reader {
	list, ok := reply.([]any)
	r := &reader{list: list}
	if !ok {
		r.fail(reply)
	}
	return r
}

func (r *reader) fail(v any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %T at %d of %d", errReply, v, r.pos, len(r.list))
	}
}

func (r *reader) next() any {
	if r.err != nil {
		return nil
	}
	if r.pos >= len(r.list) {
		r.fail(nil)
		return nil
	}
	r.pos++
	return r.list[r.pos-1]
}

func (r *reader) skip(n int) { r.pos += n }

// left is how many values follow.
func (r *reader) left() int { return max(0, len(r.list)-r.pos) }

// nextNumber reads a number, also one that is written as text.
func (r *reader) nextNumber() int64 {
	switch v := r.next().(type) {
	case int64:
		return v
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			r.fail(v)
		}
		return n
	default:
		r.fail(v)
		return 0
	}
}

func (r *reader) nextText() string {
	v := r.next()
	s, ok := v.(string)
	if !ok {
		r.fail(v)
	}
	return s
}

// nextList reads an array.
func (r *reader) nextList() *reader {
	v := r.next()
	if r.err != nil {
		return &reader{err: r.err}
	}
	return newReader(v)
}

// first is the status again.
func (r *reader) first() int64 {
	n, _ := r.list[0].(int64)
	return n
}

func (r *reader) status() int64 { return r.nextNumber() }

// mark reads number and term.
func (r *reader) mark() mark {
	n := r.nextNumber()
	return mark{term: r.nextText(), number: n}
}

// rest has text count from here.
func (r *reader) rest() { r.base = r.pos }

// text reads the text at a place.
func (r *reader) text(i int) string {
	r.pos = r.base + i
	return r.nextText()
}
