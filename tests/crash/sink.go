package crash

import (
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
)

// sink is an HTTP endpoint that fails at random: it refuses, refuses after it
// took the event, or hangs up.
type sink struct {
	got  *deliveries
	kind atomic.Bool // true: it behaves
	bad  atomic.Int64
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the gateway was killed while it sent
	}
	dice := rand.IntN(100)
	if s.kind.Load() {
		dice = 99
	}
	switch {
	case dice < 10:
		s.bad.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
		return
	case dice < 13:
		s.bad.Add(1)
		panic(http.ErrAbortHandler)
	}
	s.got.take(body)
	if dice < 18 { // taken, but the gateway does not know
		s.bad.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}
