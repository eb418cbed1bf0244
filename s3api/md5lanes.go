package s3api

import (
	"hash"
	"slices"
	"sync"

	md5simd "github.com/minio/md5-simd"
)

// MD5 is what a large PUT costs most, and the bytes of one body cannot be
// hashed beside each other; those of several bodies can, in the lanes of vector
// registers: of eight bodies at a third of the cost.
const (
	laneBytes = 256 << 10 // a body shorter than that is hashed on its own
	laneWorth = 3         // large bodies under way from which on lanes pay
	laneCount = 16        // of a group
)

// md5Lanes are the groups of all large bodies under way.
var md5Lanes laneGroups

// laneGroups hand out lanes. A group has a goroutine while it has a body.
type laneGroups struct {
	mu     sync.Mutex // guards what follows
	bodies int        // large ones, in lanes or not
	groups []*laneGroup
}

type laneGroup struct {
	server md5simd.Server
	bodies int
	idle   []hash.Hash // a server never forgets one, so they are used again
}

// lane is the part that one large body has.
type lane struct {
	hash.Hash // nil: there are too few bodies
	group     *laneGroup
}

// join counts a large body, and gives it a lane if there are others.
func (l *laneGroups) join() *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bodies++; l.bodies < laneWorth {
		return &lane{}
	}
	i := slices.IndexFunc(l.groups, func(g *laneGroup) bool { return g.bodies < laneCount })
	if i < 0 {
		i = len(l.groups)
		l.groups = append(l.groups, &laneGroup{server: md5simd.NewServer()})
	}
	g := l.groups[i]
	g.bodies++
	if n := len(g.idle); n > 0 {
		h := g.idle[n-1]
		g.idle = g.idle[:n-1]
		return &lane{h, g}
	}
	return &lane{g.server.NewHash(), g}
}

// leave ends the part of a body.
func (l *laneGroups) leave(a *lane) {
	if a.Hash != nil {
		a.Reset()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bodies--
	g := a.group
	if g == nil {
		return
	}
	g.idle = append(g.idle, a.Hash)
	if g.bodies--; g.bodies == 0 {
		g.server.Close()
		l.groups = slices.DeleteFunc(l.groups, func(o *laneGroup) bool { return o == g })
	}
}
