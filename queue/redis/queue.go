package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"herald/queue"
)

// Queue is a handle of a queue.
type Queue struct {
	d    *Driver
	name string
	id   string // of this queue, not of others of its name
	keys []string
	past *past
}

var (
	_ queue.Queue  = (*Queue)(nil)
	_ queue.Waiter = (*Queue)(nil)
)

func (d *Driver) handle(name, id string) *Queue {
	return &Queue{d: d, name: name, id: id, keys: d.queueKeys(name), past: d.pastOf(id)}
}

func (d *Driver) infoFlag() string { return flag(d.mayInfo) }

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// call runs a script about the queue and reads the beginning of its answer.
// Errors: ErrNoSuchQueue, ErrNoSuchMarker.
func (q *Queue) call(ctx context.Context, s *script, args ...any) (*reader, *node, error) {
	before := q.past.mark()
	c := &call{script: s, keys: q.keys, args: append([]any{q.id}, args...)}
	_, n, err := q.d.do(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	r, err := q.d.read(q, n, c, before)
	if err == nil && r.first() == 3 {
		err = queue.ErrNoSuchMarker
	}
	return r, n, err
}

// wrap names the queue in an error.
func (q *Queue) wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s queue %s: %w", verb, q.name, err)
}

// Reserve makes a reservation. It is made when the script has run; if ctx ends
// before the answer comes, it is aborted.
func (q *Queue) Reserve(ctx context.Context, intent []byte, size int64, entries int) (queue.ID, error) {
	if size < 1 || entries < 1 {
		return 0, q.wrap("reserve in", queue.ErrInvalid)
	}
	if err := q.d.durable(); err != nil {
		return 0, q.wrap("reserve in", err)
	}
	if reserveBytes(size, entries) >= maxNumber || len(intent) > maxValue || entries > math.MaxInt32 {
		size, entries, intent = maxNumber, 1, nil // full, or no such queue
	}
	id := newID()
	code, sent, err := q.change(ctx, reserveOp, idString(id), reservedHead+len(intent), reservedValue(size, entries, intent))
	switch {
	case err != nil && sent > 0 && !errors.Is(err, queue.ErrNoSuchQueue):
		q.abandon(idString(id)) // its outcome is not known
	case sent > 1:
		q.d.doubts.add(idString(id))
	}
	if err == nil && code != '1' {
		err = queue.ErrFull
	}
	if err != nil {
		return 0, q.wrap("reserve in", err)
	}
	return id, nil
}

// reservedHead is how long the value of a reservation is without its intent.
const reservedHead = 8 + 4

// reservedValue is that of a reservation; see scripts/common.lua.
func reservedValue(size int64, entries int, intent []byte) []byte {
	b := make([]byte, 0, reservedHead+len(intent))
	b = binary.BigEndian.AppendUint64(b, uint64(size))
	b = binary.BigEndian.AppendUint32(b, uint32(entries))
	return append(b, intent...)
}

// Renew sets the time stamp when the script has run.
func (q *Queue) Renew(ctx context.Context, id queue.ID) error {
	code, _, err := q.change(ctx, renewOp, idString(id), 0)
	if err == nil && code != '1' {
		q.settle(idString(id)) // somebody else has ended it
		err = queue.ErrNoSuchReservation
	}
	return q.wrap("renew in", err)
}

// Commit appends the entries when the script has run.
func (q *Queue) Commit(ctx context.Context, id queue.ID, entries [][]byte) error {
	args, size, err := commitArgs(entries)
	if err != nil {
		return q.wrap("commit to", err)
	}
	code, _, err := q.change(ctx, commitOp, idString(id), size, args...)
	return q.committed(idString(id), code, err)
}

// commitArgs are the arguments of a commit, and about how many bytes they are
// on their way. Errors: queue.ErrTooLarge.
func commitArgs(entries [][]byte) (args []any, size int, err error) {
	args = make([]any, 0, 2+len(entries))
	args = append(args, newToken(), len(entries))
	for _, e := range entries {
		if len(e) > maxValue {
			return nil, 0, queue.ErrTooLarge
		}
		args = append(args, e)
		size += len(e) + 16
	}
	return args, size, nil
}

// committed is what a commit's result means.
func (q *Queue) committed(id string, code byte, err error) error {
	switch {
	case err != nil:
	case code == '2':
		err = queue.ErrTooLarge
	default:
		if code == '0' {
			err = queue.ErrNoSuchReservation
		}
		q.settle(id)
	}
	return q.wrap("commit to", err)
}

// Abort ends the reservation when the script has run.
func (q *Queue) Abort(ctx context.Context, id queue.ID) error {
	_, _, err := q.change(ctx, abortOp, idString(id), 0)
	if err == nil {
		q.settle(idString(id))
	}
	return q.wrap("abort in", err)
}

// maxValue is the largest datum that is sent: the server ends the connection of
// who sends more than 512 MiB.
const maxValue = 256 << 20

// Bounds of one answer of the server, so that it is busy with it for less than
// a millisecond.
const (
	listEntries  = 250
	listBytes    = 256_000
	pageBytes    = 4 << 20 // of one List
	ackEntries   = 100
	reservations = 150
)

// List reads entries, by several calls when there are many.
func (q *Queue) List(ctx context.Context, after queue.Marker, most int) (entries []queue.Entry, more bool, err error) {
	room := pageBytes
	for more = true; more && len(entries) < most && (room > 0 || len(entries) == 0); {
		n := min(most-len(entries), listEntries)
		r, node, err := q.call(ctx, listScript, markerArg(after), n, min(room, listBytes))
		if err != nil {
			return nil, false, q.wrap("list", err)
		}
		more = r.nextNumber() == 1
		list := r.nextList()
		for list.left() > 0 && list.err == nil {
			marker := list.nextText()
			if after = queue.Marker(marker); markerArg(after) == "" {
				return nil, false, q.wrap("list", errReply)
			}
			data, ok := list.next().(string)
			tries := list.nextText()
			if !ok {
				continue // its data is lost; a check finds that
			}
			e, err := entry(node, marker, data, tries)
			if err != nil {
				return nil, false, q.wrap("list", err)
			}
			entries = append(entries, e)
			room -= len(data)
		}
		if list.err != nil {
			return nil, false, q.wrap("list", list.err)
		}
	}
	return entries, more, nil
}

func entry(n *node, marker, data, tries string) (queue.Entry, error) {
	_, _, micros, ok := parseMarker(marker)
	if !ok {
		return queue.Entry{}, errReply
	}
	e := queue.Entry{Marker: queue.Marker(marker), Data: []byte(data), Enqueued: n.clock.fromServer(micros)}
	if tries == "" {
		return e, nil
	}
	count, last, _ := strings.Cut(tries, " ")
	attempts, err1 := strconv.Atoi(count)
	at, err2 := strconv.ParseInt(last, 10, 64)
	if err1 != nil || err2 != nil {
		return queue.Entry{}, errReply
	}
	e.Attempts, e.LastTry = attempts, n.clock.fromServer(at)
	return e, nil
}

// Ack removes and notes by as many calls as it takes; each is atomic, and
// refuses an old fence and an unknown marker.
func (q *Queue) Ack(ctx context.Context, ack queue.Ack) error {
	upTo := markerArg(ack.UpTo)
	done, failed := ack.Done, ack.Failed
	for first := true; first || upTo != "" || len(done) > 0 || len(failed) > 0; first = false {
		n := min(len(done), ackEntries)
		args := []any{ack.Fence, upTo, ackEntries, n}
		for _, m := range done[:n] {
			args = append(args, string(m))
		}
		done = done[n:]
		n = min(len(failed), ackEntries)
		clock, err := q.d.clockOf(ctx, q.keys[0])
		if err != nil {
			return q.wrap("ack in", err)
		}
		for _, f := range failed[:n] {
			args = append(args, string(f.Marker), f.Attempts, clock.toServer(f.LastTry))
		}
		failed = failed[n:]
		more, err := q.ackOnce(ctx, args)
		if err != nil {
			return q.wrap("ack in", err)
		}
		if !more {
			upTo = ""
		}
	}
	return nil
}

// ackOnce answers whether more is to be removed up to the number.
func (q *Queue) ackOnce(ctx context.Context, args []any) (more bool, err error) {
	r, _, err := q.call(ctx, ackScript, args...)
	if err != nil {
		return false, err
	}
	more = r.nextNumber() == 1
	if r.err == nil && r.first() == 2 {
		return false, queue.ErrFenced
	}
	return more, r.err
}

// Reservations reads by several calls when there are many.
func (q *Queue) Reservations(ctx context.Context, before time.Time, most int) ([]queue.Reservation, error) {
	var list []queue.Reservation
	seen := make(map[queue.ID]bool)
	clock, err := q.d.clockOf(ctx, q.keys[0])
	if err != nil {
		return nil, q.wrap("list reservations of", err)
	}
	from, last := int64(0), "" // the time stamp of the last, and its id
	for len(list) < most {
		n := min(most-len(list), reservations)
		r, _, err := q.call(ctx, reservationsScript, from, clock.toServer(before), last, n)
		if err != nil {
			return nil, q.wrap("list reservations of", err)
		}
		page := r.nextList()
		if err := page.err; err != nil {
			return nil, q.wrap("list reservations of", err)
		}
		got := page.left() / 3
		for range got {
			res, at, err := reservation(clock, page)
			if err != nil {
				return nil, q.wrap("list reservations of", err)
			}
			from, last = at, idString(res.ID)
			if res.Size > 0 && !seen[res.ID] {
				seen[res.ID] = true
				list = append(list, res)
			}
		}
		if got < n {
			break
		}
	}
	return list, nil
}

// reservation reads one of a page. One that is only in the index has size 0.
func reservation(c *clock, page *reader) (r queue.Reservation, at int64, err error) {
	id := page.nextText()
	at = page.nextNumber()
	value, _ := page.next().(string)
	if page.err != nil {
		return r, 0, page.err
	}
	if r.ID, err = parseID(id); err != nil {
		return r, 0, err
	}
	if len(value) >= reservedHead {
		r.Size = int64(binary.BigEndian.Uint64([]byte(value)))
		r.Entries = int(binary.BigEndian.Uint32([]byte(value[8:])))
		r.Intent = []byte(value[reservedHead:])
	}
	r.Time = c.fromServer(at)
	return r, at, nil
}

// Stats reads what is counted.
func (q *Queue) Stats(ctx context.Context) (queue.Stats, error) {
	r, n, err := q.call(ctx, statsScript)
	if err != nil {
		return queue.Stats{}, q.wrap("read", err)
	}
	s := queue.Stats{
		Capacity: r.nextNumber(), Entries: r.nextNumber(), Bytes: r.nextNumber(),
		Reservations: r.nextNumber(), Reserved: r.nextNumber(),
	}
	if oldest := r.nextText(); oldest != "" {
		_, _, micros, _ := parseMarker(oldest)
		s.Oldest = n.clock.fromServer(micros)
	}
	return s, q.wrap("read", r.err)
}
