package notify

import (
	"fmt"
	"io"
	"sync"
)

// shared is what pushers have in common: one value (a client, a connection) per
// key, from the first pusher that takes it until the last one lets go of it. Its
// zero value is ready, and its methods may be called concurrently.
type shared struct {
	mu sync.Mutex // guards by
	by map[string]*sharedValue
}

type sharedValue struct {
	value io.Closer
	users int
}

// takeShared returns the value of a key, and how to let go of it: the last one to do
// so closes it. open makes it if there is none; it must not wait. Without a pool
// (nil) the value is the caller's alone.
func takeShared[T io.Closer](p *shared, key string, open func() T) (value T, letGo func() error) {
	if p == nil {
		value = open()
		return value, sync.OnceValue(value.Close)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by == nil {
		p.by = make(map[string]*sharedValue)
	}
	key = fmt.Sprintf("%T %s", value, key) // pushers of several kinds have one pool
	v := p.by[key]
	if v == nil {
		v = &sharedValue{value: open()}
		p.by[key] = v
	}
	v.users++
	return v.value.(T), sync.OnceValue(func() error { return p.letGo(key, v) })
}

func (p *shared) letGo(key string, v *sharedValue) error {
	p.mu.Lock()
	v.users--
	last := v.users == 0
	if last {
		delete(p.by, key)
	}
	p.mu.Unlock()
	if !last {
		return nil
	}
	return v.value.Close()
}

// sharedKey names what endpoints of one kind may share: those with equal URLs,
// equal arguments of these names, and the same way to connect.
func (e *Endpoint) sharedKey(args ...string) string {
	key := fmt.Sprintf("%q %q %v %v", e.DialName, e.URL, e.ConnectTimeout, e.Timeout)
	for _, name := range args {
		key += fmt.Sprintf(" %q", e.Arg(name))
	}
	return key
}
