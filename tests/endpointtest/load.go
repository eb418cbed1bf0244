package endpointtest

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
)

// Load is changes of a bucket by several workers, and what events they have. The
// changes are made when they are asked for: what happens between them does so at
// the same point on machines of any speed.
type Load struct {
	e      *Env
	bucket string
	n      int // changes, in the end
	wg     sync.WaitGroup

	mu    sync.Mutex // guards what follows
	moved *sync.Cond // limit or ended changed, or done
	want  map[string][]string
	begun int
	done  int
	limit int // so many may begin
	ended bool
}

// workers is how many change a bucket at once; each has keysEach keys.
const workers, keysEach = 4, 5

// StartLoad prepares n changes of a bucket, a multiple of 4.
func (e *Env) StartLoad(bucket string, n int) *Load {
	l := &Load{e: e, bucket: bucket, n: n, want: make(map[string][]string)}
	l.moved = sync.NewCond(&l.mu)
	for w := range workers {
		l.wg.Go(func() { l.work(w, n/workers) })
	}
	e.t.Cleanup(func() { // a test that failed did not ask for all
		l.mu.Lock()
		l.ended = true
		l.mu.Unlock()
		l.moved.Broadcast()
		l.wg.Wait()
	})
	return l
}

func (l *Load) work(worker, n int) {
	there := map[string]bool{}
	for i := range n {
		if !l.begin() {
			return
		}
		key := fmt.Sprintf("w%d/k%d", worker, i%keysEach)
		name, err := "ObjectCreated:Put", error(nil)
		if there[key] && i%3 == 0 {
			name, err = "ObjectRemoved:Delete", l.e.delete(l.bucket, key)
			there[key] = false
		} else {
			err = l.e.put(l.bucket, key)
			there[key] = true
		}
		if err != nil {
			l.e.t.Errorf("%s %s: %v", name, key, err)
		}
		l.mu.Lock()
		l.want[key] = append(l.want[key], name)
		l.done++
		l.ended = l.ended || err != nil
		l.mu.Unlock()
		l.moved.Broadcast()
	}
}

// begin waits until a change may begin.
func (l *Load) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.begun >= l.limit && !l.ended {
		l.moved.Wait()
	}
	l.begun++
	return !l.ended
}

// Done is how many changes were made.
func (l *Load) Done() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done
}

// Begin asks for the n-th part of all changes, at most what is left.
func (l *Load) Begin(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = min(l.limit+l.n/n, l.n)
	l.moved.Broadcast()
}

// Make asks for the n-th part of all changes and waits until all were made that
// were asked for.
func (l *Load) Make(n int) {
	l.e.t.Helper()
	l.Begin(n)
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.done < l.limit && !l.ended {
		l.moved.Wait()
	}
	if l.ended {
		l.e.t.FailNow()
	}
}

// Wait makes all changes that are left.
func (l *Load) Wait() {
	l.e.t.Helper()
	l.Make(1)
}

// Record is what checks need of an event.
type Record struct {
	EventName string `json:"eventName"`
	S3        struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"`
			Sequencer string `json:"sequencer"`
			ETag      string `json:"eTag"`
			Metadata  []struct{ Key, Val string }
		} `json:"object"`
	} `json:"s3"`
}

// Parse reads a message.
func Parse(message []byte) (Record, error) {
	var doc struct{ Records []Record }
	err := json.Unmarshal(message, &doc)
	if err == nil && len(doc.Records) != 1 {
		err = fmt.Errorf("%d records", len(doc.Records))
	}
	if err != nil {
		return Record{}, fmt.Errorf("message %q: %w", message, err)
	}
	return doc.Records[0], nil
}

// Decode reads a message, or fails the test.
func Decode(t *testing.T, message []byte) Record {
	t.Helper()
	r, err := Parse(message)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Check fails the test unless messages, in the order in which they came, are the
// events of the changes: each at least once, each first one in the order of its
// key, and none besides. It returns how many came once more.
func (l *Load) Check(messages [][]byte) (again int) {
	l.e.t.Helper()
	got := map[string][]string{}
	seen := map[string]bool{}
	last := map[string]string{}
	for _, m := range messages {
		r := Decode(l.e.t, m)
		key, seq := r.S3.Object.Key, r.S3.Object.Sequencer
		if r.S3.Bucket.Name != l.bucket {
			l.e.t.Errorf("an event of bucket %s", r.S3.Bucket.Name)
		}
		if seen[key+" "+seq] {
			again++
			continue
		}
		seen[key+" "+seq] = true
		if seq <= last[key] {
			l.e.t.Errorf("%s: sequencer %s came after %s", key, seq, last[key])
		}
		last[key] = seq
		got[key] = append(got[key], r.EventName)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, want := range l.want {
		if fmt.Sprint(got[key]) != fmt.Sprint(want) {
			l.e.t.Errorf("%s: events %v, want %v", key, got[key], want)
		}
	}
	for key := range got {
		if l.want[key] == nil {
			l.e.t.Errorf("%s: events %v of a key that was not changed", key, got[key])
		}
	}
	return again
}
