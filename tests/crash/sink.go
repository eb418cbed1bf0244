package crash

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
)

// sink is an HTTP endpoint that fails at random: it refuses, refuses after it
// took the event, hangs up, or is down for a while.
type sink struct {
	got  deliveries
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
	s.take(body)
	if dice < 18 { // taken, but the gateway does not know
		s.bad.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (s *sink) take(body []byte) {
	var doc struct {
		Records []struct {
			EventName string
			S3        struct {
				Bucket struct{ Name string }
				Object struct {
					Key, ETag, VersionID, Sequencer string
					Size                            int64
				}
			}
		}
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		s.got.add(record{name: "not JSON: " + string(body)})
		return
	}
	for _, r := range doc.Records {
		o := r.S3.Object
		s.got.add(record{
			bucket: r.S3.Bucket.Name, key: o.Key, name: r.EventName, etag: o.ETag,
			versionID: o.VersionID, sequencer: o.Sequencer, size: o.Size,
		})
	}
}
