package soak

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"herald/tests/gatewaytest"
)

// mood is how a sink takes requests.
type mood int

const (
	good      mood = iota
	refusing       // answers 500
	forgetful      // takes the event, and closes the connection
	lying          // takes the event, and answers 503
	silent         // never answers
	slow           // good after a while
)

// sink is an HTTP endpoint, with a topic for each path.
type sink struct {
	addr string
	t    testing.TB

	mu       sync.Mutex // guards what follows
	mood     mood
	giveUp   bool // what comes for the topic deadTopic is refused
	got      map[string][][]byte
	server   *http.Server
	finished chan struct{} // closed when the server has ended
}

func newSink(t testing.TB) *sink {
	s := &sink{addr: gatewaytest.FreeAddress(t), t: t, got: map[string][][]byte{}}
	s.up()
	t.Cleanup(s.down)
	return s
}

// up lets it take connections.
func (s *sink) up() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.server, s.finished = &http.Server{Handler: s}, make(chan struct{})
	go func(server *http.Server, finished chan struct{}) {
		_ = server.Serve(l) // until it is closed
		close(finished)
	}(s.server, s.finished)
}

// down cuts all connections and takes no more.
func (s *sink) down() {
	_ = s.server.Close() // its connections are what it could complain of
	<-s.finished
}

// set changes the mood.
func (s *sink) set(m mood) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mood = m
}

// refuse has what comes for the topic deadTopic refused, or not.
func (s *sink) refuse(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveUp = on
}

// messages are what came for a topic, in order.
func (s *sink) messages(topic string) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got[topic])
}

// ServeHTTP implements http.Handler.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the gateway was killed while it sent
	}
	topic := strings.TrimPrefix(r.URL.Path, "/")
	s.mu.Lock()
	m := s.mood
	if topic == deadTopic && s.giveUp {
		m = refusing
	}
	if m != refusing && m != silent {
		s.got[topic] = append(s.got[topic], body)
	}
	s.mu.Unlock()
	switch m {
	case refusing:
		w.WriteHeader(http.StatusInternalServerError)
	case lying:
		w.WriteHeader(http.StatusServiceUnavailable)
	case forgetful:
		panic(http.ErrAbortHandler)
	case silent:
		<-r.Context().Done() // the gateway has given up
	case slow:
		time.Sleep(200 * time.Millisecond)
	}
}
