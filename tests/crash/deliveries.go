package crash

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// record is an event as the endpoint got it.
type record struct {
	bucket, key, name, etag, versionID, sequencer string
	size                                          int64
}

func (r record) String() string {
	return fmt.Sprintf("%s %s etag %q size %d version %q", r.sequencer, r.name, r.etag, r.size, r.versionID)
}

func (r record) id() string { return r.bucket + "/" + r.key }

// jsonRecord is the part of a record that is compared.
type jsonRecord struct {
	EventName string
	S3        struct {
		Bucket struct{ Name string }
		Object struct {
			Key, ETag, VersionID, Sequencer string
			Size                            int64
		}
	}
}

func (j *jsonRecord) record() record {
	o := j.S3.Object
	return record{
		bucket: j.S3.Bucket.Name, key: o.Key, name: j.EventName, etag: o.ETag,
		versionID: o.VersionID, sequencer: o.Sequencer, size: o.Size,
	}
}

// delivery is one arrival of an event.
type delivery struct {
	record
	at    time.Time
	again bool // it came before: at least once
}

func (d delivery) String() string {
	s := d.at.Format("05.000") + " " + d.record.String()
	if d.again {
		s += " (again)"
	}
	return s
}

// deliveries are all events that the endpoint got, in order, by key.
type deliveries struct {
	mu    sync.Mutex // guards what follows
	seen  map[record]bool
	first map[string][]record
	all   map[string][]delivery
	n     int
}

func newDeliveries() *deliveries {
	return &deliveries{seen: map[record]bool{}, first: map[string][]record{}, all: map[string][]delivery{}}
}

func (d *deliveries) add(r record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := r.id()
	again := d.seen[r]
	d.n++
	d.all[id] = append(d.all[id], delivery{record: r, at: time.Now(), again: again})
	if !again {
		d.seen[r] = true
		d.first[id] = append(d.first[id], r)
	}
}

// take adds the events of a request's body.
func (d *deliveries) take(body []byte) {
	var doc struct{ Records []jsonRecord }
	if err := json.Unmarshal(body, &doc); err != nil {
		d.add(record{name: "not JSON: " + string(body)})
		return
	}
	for _, r := range doc.Records {
		d.add(r.record())
	}
}

// of returns the first deliveries of each event of a key, in the order of
// arrival, and all deliveries.
func (d *deliveries) of(id string) (first []record, all []delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.first[id], d.all[id]
}

// ids are the keys that events came for.
func (d *deliveries) ids() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for id := range d.first {
		out = append(out, id)
	}
	return out
}

// count is the number of deliveries.
func (d *deliveries) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}
