//go:build rados

package rados

import (
	"context"
	"sync"
)

// hints remember where the first bytes of large objects were when they were
// read last, so that the next reader asks for them beside the head. The head
// then says whether they still are the object's: a tail never changes.
type hints struct {
	mu sync.Mutex // guards m
	m  map[headKey]piece
}

// maxHints is how many objects are remembered.
const maxHints = 10_000

func newHints() *hints { return &hints{m: make(map[headKey]piece)} }

func (h *hints) get(k headKey) (piece, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.m[k]
	return p, ok
}

func (h *hints) set(k headKey, p piece) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.m[k]; !ok && len(h.m) >= maxHints {
		for other := range h.m { // any
			delete(h.m, other)
			break
		}
	}
	h.m[k] = p
}

func (h *hints) forget(k headKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.m, k)
}

// guess is a piece that is read before it is known to be wanted.
type guess struct {
	d      *Driver
	k      headKey
	piece  piece
	answer chan pieceRead
}

// guess begins to read what the last reader of a key read first; nil: nobody
// knows.
func (d *Driver) guess(ctx context.Context, k headKey) *guess {
	p, ok := d.hints.get(k)
	if !ok {
		return nil
	}
	g := &guess{d: d, k: k, piece: p, answer: make(chan pieceRead, 1)}
	go func() {
		data, err := d.readTail(ctx, &g.piece)
		g.answer <- pieceRead{data, err}
	}()
	return g
}

// take returns what was read, if that is the piece; nil if not, or it failed.
func (g *guess) take(p *piece) []byte {
	if g == nil || g.piece != *p {
		g.drop()
		return nil
	}
	return (<-g.answer).data
}

// drop is for a guess that was wrong: the next reader makes none.
func (g *guess) drop() {
	if g == nil {
		return
	}
	g.d.hints.forget(g.k)
	go func() { g.d.buffers.put((<-g.answer).data) }()
}
