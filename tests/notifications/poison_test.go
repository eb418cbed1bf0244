package notifications

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// poisoned passes events on to a receiver, but for those of the key "poison",
// which it refuses until it is cured.
type poisoned struct {
	receiver *receiver

	mu      sync.Mutex
	refused int
	cured   bool
}

func (p *poisoned) start(t *testing.T) string {
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return s.URL
}

func (p *poisoned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p.mu.Lock()
	bad := !p.cured && bytes.Contains(body, []byte(`"key":"poison"`))
	if bad {
		p.refused++
	}
	p.mu.Unlock()
	if bad {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	p.receiver.ServeHTTP(w, r)
}

func (p *poisoned) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

func (p *poisoned) cure() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cured = true
}
