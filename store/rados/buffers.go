//go:build rados

package rados

import "sync"

// Sizes of buffers, and how many of each size are kept for the next request, as
// long as they are needed now and then: fewer would be thrown away while many
// requests run, and made anew at once.
const (
	smallBuffer = 1 << 20
	keepSmall   = 128
	keepLarge   = 64
)

// buffers are buffers for what is read and written, of some sizes: maxInline,
// smallBuffer, tailSize. They are kept in lists, as what is in a sync.Pool is
// thrown away and made anew by each collection of garbage: there would be twice
// as many of them, and each would have to be zeroed.
type buffers struct {
	inline       sync.Pool
	small, large bufferList
}

// get returns a buffer of n bytes, which are not zeroed.
func (b *buffers) get(n int) []byte {
	switch {
	case n == maxInline:
		if p, ok := b.inline.Get().(*[maxInline]byte); ok {
			return p[:]
		}
		return new([maxInline]byte)[:]
	case n > smallBuffer && n <= tailSize:
		if buf := b.large.get(); buf != nil {
			return buf[:n]
		}
		return make([]byte, tailSize)[:n]
	case n > smallBuffer/4 && n <= smallBuffer:
		if buf := b.small.get(); buf != nil {
			return buf[:n]
		}
		return make([]byte, smallBuffer)[:n]
	}
	return make([]byte, n)
}

// put takes a buffer back that nobody uses any more.
func (b *buffers) put(buf []byte) {
	switch cap(buf) {
	case tailSize:
		b.large.put(buf[:tailSize], keepLarge)
	case smallBuffer:
		b.small.put(buf[:smallBuffer], keepSmall)
	case maxInline:
		b.inline.Put((*[maxInline]byte)(buf[:maxInline]))
	}
}

// trim lets go of what was not needed since the last call.
func (b *buffers) trim() {
	b.small.trim()
	b.large.trim()
}

// bufferList keeps buffers of one size.
type bufferList struct {
	mu   sync.Mutex // guards what follows
	free [][]byte
	idle int // the fewest that were free since trim
}

func (l *bufferList) get() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.free) - 1
	if n < 0 {
		return nil
	}
	buf := l.free[n]
	l.free[n] = nil
	l.free = l.free[:n]
	l.idle = min(l.idle, n)
	return buf
}

func (l *bufferList) put(buf []byte, keep int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) < keep {
		l.free = append(l.free, buf)
	}
}

func (l *bufferList) trim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.free) - l.idle
	clear(l.free[n:])
	l.free, l.idle = l.free[:n], n
}
