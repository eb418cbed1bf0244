package httpendpoint

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"herald/tests/gatewaytest"
)

// mood is how a sink takes a request.
type mood int

const (
	good      mood = iota
	slow           // good after a while
	refusing       // answers 500
	busy           // answers 503, come again in a second
	moved          // answers 302: to be good elsewhere
	silent         // takes the request, and never answers
	deaf           // closes before it reads
	leaving        // reads, and closes without an answer (HTTP/2: resets)
	half           // half of an answer's header
	short          // 200, with less of a body than announced
	early          // answers 200 before it reads
	dripping       // an answer that never ends, byte by byte
	babbling       // no HTTP
	departing      // good, and the last on its connection (HTTP/2: GOAWAY)
)

// delivery is what a sink has of an event.
type delivery struct {
	key, sequencer string
	header         http.Header
	body           string
}

// sink is an HTTP endpoint with moods.
type sink struct {
	*httptest.Server
	t testing.TB

	mu    sync.Mutex // guards below
	moods func(n int) mood
	n     int
	taken []*delivery // answered with 2xx, in their order; without a body: it is still to come, or never will
	hits  int
}

// newSink starts one; protocol "h2" is HTTP/2 by TLS, "tls" HTTP/1.1 by TLS.
func newSink(t testing.TB, protocol string, moods func(n int) mood) *sink {
	t.Helper()
	s := &sink{t: t, moods: moods}
	s.Server = httptest.NewUnstartedServer(s)
	_ = s.Listener.Close()                                  // nobody connected
	l, err := net.Listen("tcp", gatewaytest.FreeAddress(t)) // which nobody takes when it is closed for a while
	if err != nil {
		t.Fatal(err)
	}
	s.Listener = l
	s.Config.ErrorLog = nil
	switch s.EnableHTTP2 = protocol == "h2"; protocol {
	case "":
		s.Start()
	default:
		s.StartTLS()
	}
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *sink) mood() mood {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	s.hits++
	if s.moods == nil {
		return good
	}
	return s.moods(s.n - 1)
}

func (s *sink) set(moods func(n int) mood) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moods = moods
}

// ServeHTTP implements http.Handler.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := s.mood()
	if m == deaf {
		panic(http.ErrAbortHandler)
	}
	if m == early && r.ProtoMajor == 1 {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			s.t.Error(err)
			return
		}
		defer conn.Close()
		d := s.answer() // the next event of the key may come at once
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(rw, body); err == nil {
			s.fill(d, r, body)
		}
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch m {
	case refusing:
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write(body) // what was sent comes back
	case busy:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	case moved:
		w.Header().Set("Location", s.URL)
		w.WriteHeader(http.StatusFound)
	case silent:
		select { // until the gateway gives up
		case <-r.Context().Done():
		case <-time.After(patience):
		}
	case leaving:
		panic(http.ErrAbortHandler)
	case half, short, dripping, babbling:
		s.lie(w, r, m)
	case departing:
		w.Header().Set("Connection", "close")
		s.fill(s.answer(), r, body)
	default:
		if m == slow {
			time.Sleep(300 * time.Millisecond)
		}
		s.fill(s.answer(), r, body)
	}
}

// lie gives an answer that is none.
func (s *sink) lie(w http.ResponseWriter, r *http.Request, m mood) {
	if r.ProtoMajor == 2 {
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "not a hundred")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		s.t.Error(err)
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, map[mood]string{
		half: "HTTP/1.1 200 O", short: "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot a hundred",
		dripping: "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", babbling: "220 mail.example ESMTP\r\n",
	}[m])
	for m == dripping {
		if _, err := conn.Write([]byte("x")); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// answer takes the next place for an event that is answered with 2xx.
func (s *sink) answer() *delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &delivery{}
	s.taken = append(s.taken, d)
	return d
}

// fill puts what came into its place.
func (s *sink) fill(d *delivery, r *http.Request, body []byte) {
	var doc struct {
		Records []struct {
			S3 struct {
				Object struct{ Key, Sequencer string }
			}
		}
	}
	if err := json.Unmarshal(body, &doc); err != nil || len(doc.Records) != 1 {
		s.t.Errorf("a message is %q: %v", body, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := doc.Records[0].S3.Object
	*d = delivery{o.Key, o.Sequencer, r.Header.Clone(), string(body)}
}

// all returns what has come, in the order of the answers.
func (s *sink) all() []delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []delivery
	for _, d := range s.taken {
		if d.body != "" {
			all = append(all, *d)
		}
	}
	return all
}

// asked is how many requests came.
func (s *sink) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits
}

// restart closes the sink, lets f pass, and opens it again at the same address.
func (s *sink) restart(f func()) {
	s.t.Helper()
	addr := s.Listener.Addr().String()
	s.CloseClientConnections()
	s.Close()
	f()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: s}}
	s.Start()
}
