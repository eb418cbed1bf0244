package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"herald/queue"
)

// The reasons for giving an event up.
const (
	reasonTTL         = "time_to_live"
	reasonRetries     = "max_retries"
	reasonRejected    = "rejected"
	reasonUndecodable = "undecodable"
)

// deadPage is how many dead letters are handled at once.
const deadPage = 256

// deadQueue is the name of the queue of dead letters beside a topic's queues.
// queueOf gives no dot.
func deadQueue(queue string) string { return queue + ".dead" }

// HoldsDeadLetters tells which queues must have made durable what they were
// given when a Commit returns: what it stands for is removed elsewhere then. A
// topic's own queue may have such a name, too.
func HoldsDeadLetters(name string) bool { return strings.HasSuffix(name, ".dead") }

// baseQueue is the name of the topic's first queue, of any of its queues.
func baseQueue(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i]
	}
	return name
}

// deadLetter is what a queue of dead letters holds, as JSON.
type deadLetter struct {
	Version   int       `json:"v"`
	Time      time.Time `json:"time"`
	Reason    string    `json:"reason"`
	Attempts  int       `json:"attempts"`
	LastError string    `json:"last_error,omitempty"`
	Queue     string    `json:"queue"`
	Raw       []byte    `json:"raw"` // the entry, as it was
}

// DeadLetter is an entry that was given up.
type DeadLetter struct {
	Marker    string          `json:"marker"`
	Time      time.Time       `json:"time"`
	Reason    string          `json:"reason"` // "time_to_live", "max_retries", "rejected", "undecodable"
	Attempts  int             `json:"attempts"`
	LastError string          `json:"last_error,omitempty"`
	Queue     string          `json:"queue"`
	Entry     json.RawMessage `json:"entry,omitempty"` // as in DumpEntry
	Raw       []byte          `json:"raw,omitempty"`   // of an undecodable entry
}

// deadLetters keeps what was given up.
type deadLetters struct{ s *Service }

// bury stores dead letters beside the queues of that name. When it returns,
// the entries that they were can be acked. If there are too many, the oldest
// go, and are counted. No fence guards it: an owner whose lease ends between
// this and the ack leaves a dead letter of what the next one may deliver.
// Errors: queue.ErrNoSuchQueue.
func (d *deadLetters) bury(ctx context.Context, base string, letters ...deadLetter) error {
	q, err := d.open(ctx, base)
	if err != nil {
		return err
	}
	data := make([][]byte, len(letters))
	var size int64
	for i := range letters {
		letters[i].Version = 1
		letters[i].Time = time.Now().UTC()
		if data[i], err = json.Marshal(&letters[i]); err != nil {
			return fmt.Errorf("dead letter: %w", err)
		}
		size += int64(len(data[i]))
	}
	for {
		id, err := q.Reserve(ctx, []byte(IntentNone), size, len(data))
		if err == nil {
			return q.Commit(ctx, id, data)
		}
		if !errors.Is(err, queue.ErrFull) {
			return fmt.Errorf("dead letter: %w", err)
		}
		dropped, err := d.dropOldest(ctx, q, base)
		if err != nil {
			return err
		}
		if dropped > 0 {
			continue
		}
		if len(letters) == 1 { // larger than all there is
			d.lose(base, 1)
			return nil
		}
		half := len(letters) / 2
		if err := d.bury(ctx, base, letters[:half]...); err != nil {
			return err
		}
		return d.bury(ctx, base, letters[half:]...)
	}
}

// baseLabel is topicLabel by the name of the queue.
func baseLabel(base string) string {
	return strings.TrimPrefix(strings.ReplaceAll(base, "%2E", "."), ":")
}

// open returns the queue of dead letters, which is made when first needed.
// Errors: queue.ErrNoSuchQueue: the topic has no queues any more.
func (d *deadLetters) open(ctx context.Context, base string) (queue.Queue, error) {
	name := deadQueue(base)
	q, err := d.s.cfg.Queues.Open(ctx, name)
	if !errors.Is(err, queue.ErrNoSuchQueue) {
		return q, err
	}
	if err := d.s.topics.makeDead(ctx, base, d.s.opt.DeadLetterCapacity); err != nil {
		return nil, err
	}
	return d.s.cfg.Queues.Open(ctx, name)
}

// dropOldest makes room, and returns how many had to go.
func (d *deadLetters) dropOldest(ctx context.Context, q queue.Queue, base string) (int, error) {
	list, _, err := q.List(ctx, "", deadPage)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	if err := q.Ack(ctx, queue.Ack{UpTo: list[len(list)-1].Marker}); err != nil {
		return 0, err
	}
	d.lose(base, len(list))
	return len(list), nil
}

// lose counts events of which nothing is left.
func (d *deadLetters) lose(base string, n int) {
	d.s.metrics.deadDropped.WithLabelValues(baseLabel(base)).Add(float64(n))
	d.s.metrics.lost.Add(float64(n))
	d.s.log.Error("events lost: there was no room for so many dead letters", "queue", deadQueue(base), "events", n)
}

func readDeadLetter(e queue.Entry) (DeadLetter, deadLetter) {
	var in deadLetter
	out := DeadLetter{Marker: string(e.Marker), Reason: reasonUndecodable, Raw: e.Data}
	if json.Unmarshal(e.Data, &in) != nil {
		return out, deadLetter{}
	}
	out = DeadLetter{
		Marker: string(e.Marker), Time: in.Time, Reason: in.Reason, Attempts: in.Attempts,
		LastError: in.LastError, Queue: in.Queue,
	}
	if entry, err := decodeEntry(in.Raw); err == nil {
		out.Entry = entry.dump()
	} else {
		out.Raw = in.Raw
	}
	return out, in
}

// deadOf opens a topic's dead letters; q is nil when there are none.
func (s *Service) deadOf(ctx context.Context, tenant, name string) (topic *Topic, q queue.Queue, err error) {
	topic, err = s.topics.Get(ctx, tenant, name)
	if err != nil || topic.Dest.Queue == "" {
		return topic, nil, err
	}
	q, err = s.cfg.Queues.Open(ctx, deadQueue(topic.Dest.Queue))
	if errors.Is(err, queue.ErrNoSuchQueue) {
		return topic, nil, nil
	}
	return topic, q, err
}

// DeadLetters lists a topic's dead letters after a marker, oldest first, at
// most max (0: 1000). Errors: ErrNoSuchTopic.
func (s *Service) DeadLetters(ctx context.Context, tenant, name, after string, max int) ([]DeadLetter, error) {
	_, q, err := s.deadOf(ctx, tenant, name)
	if err != nil || q == nil {
		return nil, err
	}
	if max <= 0 {
		max = defaultDump
	}
	out := []DeadLetter{}
	err = eachEntry(ctx, q, queue.Marker(after), func(e queue.Entry) (bool, error) {
		letter, _ := readDeadLetter(e)
		out = append(out, letter)
		return len(out) < max, nil
	})
	return out, err
}

// eachEntry calls f with the entries after a marker until it returns false.
func eachEntry(ctx context.Context, q queue.Queue, after queue.Marker, f func(queue.Entry) (bool, error)) error {
	for {
		list, more, err := q.List(ctx, after, deadPage)
		if errors.Is(err, queue.ErrNoSuchQueue) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range list {
			after = e.Marker
			if goOn, err := f(e); err != nil || !goOn {
				return err
			}
		}
		if !more || len(list) == 0 {
			return nil
		}
	}
}

// eachDead calls f with the dead letters that have one of the markers, or with
// all that are there now, and removes those for which it answers true. It
// returns how many.
func eachDead(ctx context.Context, q queue.Queue, markers []string, f func(queue.Entry) (bool, error)) (int, error) {
	st, err := q.Stats(ctx)
	if err != nil {
		return 0, err
	}
	wanted := make(map[string]bool, len(markers))
	for _, m := range markers {
		wanted[m] = true
	}
	n, left := 0, st.Entries // not those that come back meanwhile
	err = eachEntry(ctx, q, "", func(e queue.Entry) (bool, error) {
		left--
		if len(wanted) == 0 || wanted[string(e.Marker)] {
			done, err := f(e)
			if err != nil {
				return false, err
			}
			if done {
				if err := q.Ack(ctx, queue.Ack{Done: []queue.Marker{e.Marker}}); err != nil {
					return false, err
				}
				n++
			}
		}
		return left > 0, nil
	})
	return n, err
}

// Redrive puts dead letters back into the topic's queues, with a fresh age and
// no attempts: those with the markers, or all. It returns how many. What
// cannot be decoded stays. The endpoint is asked at once, however long it was
// left alone for its failures: with a short time_to_live they would else be
// given up again unsent. If the process dies in between, one of them may be
// both sent again and still be a dead letter.
// Errors: ErrNoSuchTopic, ErrNotQueued, ErrFull.
func (s *Service) Redrive(ctx context.Context, tenant, name string, markers ...string) (int, error) {
	topic, q, err := s.deadOf(ctx, tenant, name)
	if err != nil {
		return 0, err
	}
	if topic.Dest.Queue == "" {
		return 0, ErrNotQueued
	}
	if q == nil {
		return 0, nil
	}
	if target := s.targets.peek(topic.ARN); target != nil {
		target.trust()
	}
	return eachDead(ctx, q, markers, func(e queue.Entry) (bool, error) {
		_, letter := readDeadLetter(e)
		entry, err := decodeEntry(letter.Raw)
		if err != nil {
			return false, nil // stays
		}
		return true, s.requeue(ctx, topic, &entry)
	})
}

// requeue puts an entry into the queue of its key.
func (s *Service) requeue(ctx context.Context, topic *Topic, e *entry) error {
	q, err := s.cfg.Queues.Open(ctx, ShardName(topic.Dest.Queue, shardOf(e.order, topic.Dest.Shards)))
	if err != nil {
		return fmt.Errorf("redrive: %w", err)
	}
	data := s.format(e.renewed(time.Now()))[0]
	id, err := q.Reserve(ctx, []byte(IntentNone), int64(len(data)), 1)
	if errors.Is(err, queue.ErrFull) {
		return ErrFull
	}
	if err != nil {
		return fmt.Errorf("redrive: %w", err)
	}
	return q.Commit(ctx, id, [][]byte{data})
}

// PurgeDeadLetters drops dead letters: those with the markers, or all. It
// returns how many. Errors: ErrNoSuchTopic.
func (s *Service) PurgeDeadLetters(ctx context.Context, tenant, name string, markers ...string) (int, error) {
	_, q, err := s.deadOf(ctx, tenant, name)
	if err != nil || q == nil {
		return 0, err
	}
	return eachDead(ctx, q, markers, func(queue.Entry) (bool, error) { return true, nil })
}
