package soak

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"herald/tests/endpointtest"
)

// opHeader is the name of the metadata that tells the request that wrote an
// object.
const opHeader = "op"

// emptyETag is what S3 has for delete markers. No object of ours is empty.
const emptyETag = "d41d8cd98f00b204e9800998ecf8427e"

// arrival is an event as an endpoint got it.
type arrival struct {
	key             keyID
	name, sequencer string
	etag            string // empty: the dialect does not tell
	op              int64  // 0: likewise
}

func (a arrival) String() string {
	return fmt.Sprintf("%s %s %s #%d %s", a.key, a.sequencer, a.name, a.op, a.etag)
}

// read takes a message apart. What is no event, but a test of the endpoint, is
// not ok.
func read(message []byte) (a arrival, ok bool, err error) {
	if strings.Contains(string(message), `"Event":"s3:TestEvent"`) {
		return arrival{}, false, nil
	}
	r, err := endpointtest.Parse(message)
	if err != nil {
		return arrival{}, false, err
	}
	o := r.S3.Object
	key, err := url.QueryUnescape(o.Key) // as S3 writes it; RGW writes it as it is, and ours have nothing to escape
	if err != nil {
		return arrival{}, false, fmt.Errorf("message %q: %w", message, err)
	}
	a = arrival{key: keyID{r.S3.Bucket.Name, key}, name: r.EventName, sequencer: o.Sequencer, etag: o.ETag}
	if a.etag == emptyETag {
		a.etag = ""
	}
	for _, m := range o.Metadata {
		if strings.TrimPrefix(strings.ToLower(m.Key), "x-amz-meta-") == opHeader {
			a.op, err = strconv.ParseInt(m.Val, 10, 64)
		}
	}
	return a, true, err
}

// report is what a check found.
type report struct {
	lost, invented, disorder []string
	events                   int // that arrived, each counted once
	again                    int // arrivals of what had arrived
}

func (r *report) bad() int { return len(r.lost) + len(r.invented) + len(r.disorder) }

// check compares what arrived at a topic's endpoint, in this order, with the
// history.
func (h *history) check(topic string, arrivals []arrival) *report {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &report{}
	seen := map[arrival]bool{}
	first := map[keyID][]arrival{}
	for _, a := range arrivals {
		if seen[a] {
			r.again++
			continue
		}
		seen[a] = true
		first[a.key] = append(first[a.key], a)
	}
	r.events = len(seen)
	for k, changes := range h.keys {
		h.checkKey(r, topic, k, changes, first[k])
		delete(first, k)
	}
	for k, list := range first {
		r.invented = append(r.invented, fmt.Sprintf("%d events of %s, which nobody changed: %s ...", len(list), k, list[0]))
	}
	return r
}

// checkKey compares the first arrivals of a key's events with its changes.
func (h *history) checkKey(r *report, topic string, k keyID, changes []*change, arrivals []arrival) {
	told := make([]map[string]bool, len(changes)) // names of the events that arrived
	last := -1
	seq := ""
	for _, a := range arrivals {
		i := find(changes, told, a)
		switch {
		case i < 0:
			r.invented = append(r.invented, fmt.Sprintf("%s: no change is left that this tells of", a))
			continue
		case h.must(k.bucket, topic, changes[i]) == never:
			r.invented = append(r.invented, fmt.Sprintf("%s: no notification of %s was there for topic %s", a, k.bucket, topic))
		case i < last, i > last && a.sequencer <= seq, i == last && a.sequencer != seq:
			r.disorder = append(r.disorder, fmt.Sprintf("%s (change %d of %d): came after %s of change %d", a, i, len(changes), seq, last))
		}
		if told[i] == nil {
			told[i] = map[string]bool{}
		}
		told[i][a.name] = true
		last, seq = max(last, i), max(seq, a.sequencer)
	}
	for i, c := range changes {
		for _, name := range c.events {
			if !told[i][name] && h.must(k.bucket, topic, c) == always {
				r.lost = append(r.lost, fmt.Sprintf("%s: %s of change %d of %d, %s, made from %s to %s",
					k, name, i, len(changes), c, c.call.Format("15:04:05.000"), c.ret.Format("15:04:05.000")))
			}
		}
	}
}

// find returns the first change that an event may be of and that has none of
// this name yet.
func find(changes []*change, told []map[string]bool, a arrival) int {
	for i, c := range changes {
		for _, name := range c.events {
			if name == a.name && !told[i][name] && (a.op == 0 || a.op == c.op) && (a.etag == "" || c.etag == "" || a.etag == c.etag) {
				return i
			}
		}
	}
	return -1
}

// must tells whether a change has an event at a topic. The caller holds mu.
func (h *history) must(bucket, topic string, c *change) must {
	if r := h.rules[bucket][topic]; r != nil {
		return r.of(c)
	}
	return never
}
