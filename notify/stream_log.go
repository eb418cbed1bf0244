package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"herald/queue"
	"herald/store"
)

// Limits of the log of live events.
const (
	streamBuffer   = 8 << 20 // bytes that wait to be written to the log
	streamBatch    = 256     // entries written at once
	streamPage     = 64      // entries that a listener reads at once, and holds while it stalls
	streamCapacity = 16 << 20
	// streamAlive is how often a gateway shows in the log that it lives, as long
	// as somebody listens; streamDead is when it counts as gone.
	streamAlive = 10 * time.Second
	streamDead  = 45 * time.Second
)

// The kinds of log entries beside events.
const (
	kindAlive = "alive" // the gateway lives
	kindEnd   = "end"   // it stops, and has written all
)

// logEntry is an entry of the log of live events, as JSON. Run and N number a
// gateway's entries without a hole, so that a reader sees that some are
// missing.
type logEntry struct {
	Run      string          `json:"r"`
	N        uint64          `json:"n"`
	Kind     string          `json:"k,omitempty"` // empty: an event
	Tenant   string          `json:"t,omitempty"`
	Bucket   string          `json:"b,omitempty"`
	BucketID string          `json:"i,omitempty"`
	Owner    string          `json:"o,omitempty"` // of the bucket
	Key      []byte          `json:"key,omitempty"`
	Type     uint64          `json:"e,omitempty"`
	Record   json.RawMessage `json:"rec,omitempty"`
}

// id is what a listener resumes from.
func (e *logEntry) id() string { return e.Run + "-" + strconv.FormatUint(e.N, 10) }

// errLogEntry is what decodeLogEntry answers to bytes that are no entry.
var errLogEntry = errors.New("not an entry of the log of live events")

func decodeLogEntry(data []byte) (*logEntry, error) {
	e := new(logEntry)
	if err := json.Unmarshal(data, e); err != nil || e.Run == "" || e.N == 0 || strings.Contains(e.Run, "-") {
		return nil, errLogEntry
	}
	return e, nil
}

// logName is the name of the store's log among the queues. No topic's queue has
// such a name: theirs have a colon.
func (t *streams) logName() string { return "live." + t.s.cfg.StoreID }

// publish never waits: what has no room in memory is left out, which the hole
// in the numbers shows.
func (t *streams) publish(f *facts, out *store.Outcome) {
	t.write(&logEntry{
		Tenant: f.tenant, Bucket: f.bucket, BucketID: f.id, Owner: f.owner, Key: []byte(f.key), Type: uint64(f.typ),
		Record: appendRecord(nil, f, t.s.region, "", "", out),
	})
}

func (t *streams) write(e *logEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	e.Run, e.N = t.run, t.n
	size := len(e.Record) + len(e.Key) + 256
	if t.size+size > streamBuffer {
		t.lost.Inc()
		return
	}
	t.size += size
	t.buf = append(t.buf, e)
	select {
	case t.wake <- struct{}{}:
	default: // a token is there
	}
}

// take returns what waits, one batch of it.
func (t *streams) take() []*logEntry {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(t.buf), streamBatch)
	batch := t.buf[:n:n]
	t.buf = t.buf[n:]
	for _, e := range batch {
		t.size -= len(e.Record) + len(e.Key) + 256
	}
	if len(t.buf) == 0 {
		t.buf = nil
	}
	return batch
}

// logLoop writes the log until ctx is done, and then what is left.
func (t *streams) logLoop(ctx context.Context) {
	tick := time.NewTicker(min(streamAlive, t.s.opt.ListenKeep/8))
	defer tick.Stop()
	for {
		select {
		case <-t.wake:
			t.flush(ctx)
		case <-tick.C:
			if t.wanted.Load() != nil {
				t.write(&logEntry{Kind: kindAlive})
			}
			t.trim(ctx)
		case <-ctx.Done():
			t.endLog(context.WithoutCancel(ctx))
			return
		}
	}
}

// endLog writes what is left when the gateway stops.
func (t *streams) endLog(ctx context.Context) {
	if t.wanted.Load() == nil {
		return
	}
	t.write(&logEntry{Kind: kindEnd})
	ctx, cancel := context.WithTimeout(ctx, t.s.opt.DrainTimeout)
	defer cancel()
	t.flush(ctx)
}

// flush writes all that waits. It gives up when ctx is done.
func (t *streams) flush(ctx context.Context) {
	for n := 0; ; {
		batch := t.take()
		if len(batch) == 0 {
			return
		}
		data := make([][]byte, 0, len(batch))
		for _, e := range batch {
			b, err := json.Marshal(e)
			if err != nil {
				t.s.log.Error("live event", "err", err) // cannot be: records are valid JSON
				continue
			}
			data = append(data, b)
		}
		for {
			err := t.append(ctx, data)
			if err == nil {
				n = 0
				break
			}
			if _, ok := t.trouble.say(); ok {
				t.s.log.Warn("live events wait: their log cannot be written", "err", err)
			}
			if n++; sleep(ctx, backoff(n, time.Second)) != nil {
				return
			}
		}
	}
}

// append writes entries to the log; the oldest make room.
func (t *streams) append(ctx context.Context, data [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, t.s.opt.PushTimeout)
	defer cancel()
	var size int64
	for _, d := range data {
		size += int64(len(d))
	}
	for {
		q, err := t.openLog(ctx)
		if err != nil {
			return err
		}
		t.written.Store(true)
		id, err := q.Reserve(ctx, []byte(IntentNone), size, len(data))
		switch {
		case err == nil:
			return q.Commit(ctx, id, data)
		case errors.Is(err, queue.ErrFull):
			err = t.dropOldest(ctx, q)
		case errors.Is(err, queue.ErrNoSuchQueue): // deleted meanwhile; openLog makes it again
			err = sleep(ctx, 10*time.Millisecond)
		}
		if err != nil {
			return err
		}
	}
}

func (t *streams) openLog(ctx context.Context) (queue.Queue, error) {
	q, err := t.s.cfg.Queues.Open(ctx, t.logName())
	if !errors.Is(err, queue.ErrNoSuchQueue) {
		return q, err
	}
	if err := t.s.cfg.Queues.Create(ctx, t.logName(), streamCapacity); err != nil && !errors.Is(err, queue.ErrQueueExists) {
		return nil, fmt.Errorf("log of live events: %w", err)
	}
	return t.s.cfg.Queues.Open(ctx, t.logName())
}

// dropOldest makes room. Listeners that have not read that far see a hole.
func (t *streams) dropOldest(ctx context.Context, q queue.Queue) error {
	entries, _, err := q.List(ctx, "", streamBatch)
	if err != nil || len(entries) == 0 {
		return err
	}
	return q.Ack(ctx, queue.Ack{UpTo: entries[len(entries)-1].Marker})
}

// trim removes what is too old to resume from, and in the end the log.
func (t *streams) trim(ctx context.Context) {
	if !t.written.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, t.s.opt.PushTimeout)
	defer cancel()
	if err := t.trimLog(ctx); err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
		if _, ok := t.trouble.say(); ok {
			t.s.log.Warn("trim the log of live events", "err", err)
		}
	}
}

func (t *streams) trimLog(ctx context.Context) error {
	q, err := t.s.cfg.Queues.Open(ctx, t.logName())
	if errors.Is(err, queue.ErrNoSuchQueue) {
		t.written.Store(false)
		return nil
	}
	if err != nil {
		return err
	}
	before := time.Now().Add(-t.s.opt.ListenKeep)
	for {
		entries, more, err := q.List(ctx, "", 64)
		if err != nil {
			return err
		}
		old := 0
		for old < len(entries) && entries[old].Enqueued.Before(before) {
			old++
		}
		if old > 0 {
			if err := q.Ack(ctx, queue.Ack{UpTo: entries[old-1].Marker}); err != nil {
				return err
			}
		}
		switch {
		case old < len(entries):
			return nil
		case !more && t.wanted.Load() == nil:
			t.written.Store(false)
			return t.s.cfg.Queues.Delete(ctx, t.logName())
		case !more:
			return nil
		}
	}
}
