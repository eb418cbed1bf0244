package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"herald/queue"
)

var _ queue.Checker = (*Driver)(nil)

// checkSteps are those of scripts/check.lua, in the order in which repairs
// build upon each other, with what their findings mean. Never written.
var checkSteps = []struct {
	name  string
	kinds map[string]string
}{
	{"order", map[string]string{"missing": "%d entries have lost their data; repair removes them"}},
	{"data", map[string]string{"orphan": "%d entries are not in the order; repair puts them back"}},
	{"attempts", map[string]string{"attempts": "%d notes of attempts belong to no entry"}},
	{"reserved", map[string]string{"index": "%d reservations have no time stamp; repair gives them the present"}},
	{"times", map[string]string{"stray": "%d time stamps belong to no reservation"}},
	{"intents", map[string]string{"intents": "%d intents belong to no reservation"}},
	{"entries", map[string]string{
		"entries": "the count of entries is wrong by %d",
		"bytes":   "the bytes of entries are counted wrong by %d",
	}},
	{"held", map[string]string{
		"reservations": "the count of reservations is wrong by %d",
		"reserved":     "the bytes of reservations are counted wrong by %d",
	}},
}

// errCheckBusy is the answer when a check was disturbed too often.
var errCheckBusy = errors.New("the queue has too many reservations in too much motion to be checked, or another check runs")

// Check compares what is kept of a queue, piece by piece while it is in use.
// Of a queue with more than 1,000 open reservations those are summed only when
// no write comes between.
func (d *Driver) Check(ctx context.Context, name string, repair bool) ([]queue.Finding, error) {
	id, err := d.id(ctx, name)
	c := &checking{name: name, repair: repair, token: newToken()}
	if err != nil {
		if errors.Is(err, queue.ErrNoSuchQueue) {
			err = c.phantom(ctx, d, err)
		}
		if err != nil {
			err = fmt.Errorf("check queue %s: %w", name, err)
		}
		return c.findings, err
	}
	c.q = d.handle(name, id)
	for _, step := range checkSteps {
		totals, err := c.run(ctx, step.name)
		if err != nil {
			return c.findings, fmt.Errorf("check queue %s, %s: %w", name, step.name, err)
		}
		for _, kind := range slices.Sorted(keysOf(totals)) {
			c.add(kind, fmt.Sprintf(step.kinds[kind], totals[kind]), repair)
		}
	}
	if err := c.listed(ctx); err != nil {
		return c.findings, fmt.Errorf("check queue %s, name: %w", name, err)
	}
	return c.findings, nil
}

func keysOf(m map[string]int64) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// checking is one check of a queue.
type checking struct {
	name     string
	q        *Queue // nil when there is none
	repair   bool
	token    string
	findings []queue.Finding
}

func (c *checking) add(kind, detail string, repaired bool) {
	c.findings = append(c.findings, queue.Finding{Queue: c.name, Kind: kind, Detail: detail, Repaired: repaired})
}

// checkTries is how often a step that was disturbed is begun again.
const checkTries = 20

// run goes through a step and returns the number of each kind that it found.
func (c *checking) run(ctx context.Context, step string) (map[string]int64, error) {
	for range checkTries {
		found, disturbed, err := c.try(ctx, step)
		if err != nil || !disturbed {
			return found, err
		}
	}
	return nil, errCheckBusy
}

func (c *checking) try(ctx context.Context, step string) (found map[string]int64, disturbed bool, err error) {
	found = make(map[string]int64)
	var sum held
	for cursor := "0"; ; {
		r, _, err := c.q.call(ctx, checkScript, step, cursor, flag(c.repair), c.token)
		if err != nil {
			return nil, false, err
		}
		if r.first() == 2 {
			return nil, true, nil
		}
		cursor = r.nextText()
		n, bytes := r.nextNumber(), r.nextNumber()
		sum.add(r, n, bytes)
		kinds := r.nextList()
		for kinds.left() > 0 && kinds.err == nil {
			kind := kinds.nextText()
			found[kind] += kinds.nextNumber()
		}
		if r.err != nil || kinds.err != nil {
			return nil, false, errors.Join(r.err, kinds.err)
		}
		if cursor == "0" {
			break
		}
	}
	if step == "held" && sum.pages > 0 {
		return c.compare(ctx, sum)
	}
	return found, false, nil
}

// held sums reservations by pages, which are one sum only if the queue's last
// write was the same for all.
type held struct {
	pages     int
	n, bytes  int64
	first     int64
	disturbed bool
}

func (h *held) add(r *reader, n, bytes int64) {
	if n < 0 || len(r.list) < 2 {
		return
	}
	number, _ := r.list[1].(int64)
	if h.pages == 0 {
		h.first = number
	}
	h.disturbed = h.disturbed || number != h.first
	h.pages++
	h.n += n
	h.bytes += bytes
}

// compare compares many reservations with what is counted.
func (c *checking) compare(ctx context.Context, sum held) (found map[string]int64, disturbed bool, err error) {
	r, _, err := c.q.call(ctx, statsScript)
	if err != nil {
		return nil, false, err
	}
	number, _ := r.list[1].(int64)
	r.skip(3)
	n, bytes := r.nextNumber(), r.nextNumber()
	if r.err != nil || sum.disturbed || number != sum.first {
		return nil, true, r.err
	}
	found = make(map[string]int64)
	if n != sum.n {
		found["reservations"] = n - sum.n
	}
	if bytes != sum.bytes {
		found["reserved"] = bytes - sum.bytes
	}
	if len(found) == 0 || !c.repair {
		return found, false, nil
	}
	r, _, err = c.q.call(ctx, checkScript, "settle", number, "1", c.token, sum.n, sum.bytes)
	if err != nil {
		return nil, false, err
	}
	return found, r.first() == 2, nil
}

// listed checks that the queue is in the list of queues.
func (c *checking) listed(ctx context.Context) error {
	d, keys := c.q.d, c.q.d.nameKeys()
	reply, _, err := d.do(ctx, &call{keys: keys, args: []any{"ZSCORE", keys[0], c.name}})
	if err == nil && reply != nil || err != nil && !isNil(err) {
		return err
	}
	c.add("name", "the queue is not in the list of queues", c.repair)
	return c.settleName(ctx, d)
}

// phantom checks that a queue that is not there is not in the list of queues,
// but for one that is just made or deleted. It returns missing when it is not.
func (c *checking) phantom(ctx context.Context, d *Driver, missing error) error {
	keys := d.nameKeys()
	page, err := d.namePage(ctx, "["+c.name, "["+c.name)
	if err != nil {
		return err
	}
	_, _, err = d.do(ctx, &call{keys: keys, args: []any{"HGET", keys[1], c.name}})
	if len(page) == 0 || err == nil {
		return missing
	}
	if !isNil(err) {
		return err
	}
	c.add("name", "the list of queues has one that is not there", c.repair)
	return c.settleName(ctx, d)
}

// settleName has the list of queues be right.
func (c *checking) settleName(ctx context.Context, d *Driver) error {
	if !c.repair {
		return nil
	}
	there, err := d.lookUnder(ctx, c.name, c.token)
	if err != nil {
		return err
	}
	return d.endName(ctx, c.name, c.token, there)
}
