package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"herald/queue"
)

// Create makes a queue. It is made when the script has run.
func (d *Driver) Create(ctx context.Context, name string, capacity int64) error {
	id := idString(newID())
	if err := d.beginName(ctx, name, id); err != nil {
		return fmt.Errorf("create queue %s: %w", name, err)
	}
	c := &call{script: createScript, keys: d.queueKeys(name), args: []any{id, d.infoFlag(), min(capacity, maxNumber)}}
	reply, _, err := d.do(ctx, c)
	if err != nil {
		return fmt.Errorf("create queue %s: %w", name, err)
	}
	r := newReader(reply)
	exists := r.status() == 2
	if r.err != nil {
		return fmt.Errorf("create queue %s: %w", name, r.err)
	}
	if err := d.endName(ctx, name, id, true); err != nil {
		return fmt.Errorf("create queue %s: %w", name, err)
	}
	if exists {
		return fmt.Errorf("create queue %s: %w", name, queue.ErrQueueExists)
	}
	return nil
}

// beginName enters a name into the list of queues, as one whose queue may be
// there or not; see scripts/names.lua.
func (d *Driver) beginName(ctx context.Context, name, token string) error {
	_, _, err := d.do(ctx, &call{script: namesScript, keys: d.nameKeys(), args: []any{"begin", name, token}})
	return err
}

// endName ends what beginName with that token began. there is whether there is
// a queue, as was seen since.
func (d *Driver) endName(ctx context.Context, name, token string, there bool) error {
	for {
		what := "gone"
		if there {
			what = "there"
		}
		reply, _, err := d.do(ctx, &call{script: namesScript, keys: d.nameKeys(), args: []any{what, name, token}})
		if err != nil || reply == int64(1) {
			return err
		}
		if there, err = d.lookUnder(ctx, name, token); err != nil {
			return err
		}
	}
}

// lookUnder begins, and answers whether there is a queue.
func (d *Driver) lookUnder(ctx context.Context, name, token string) (there bool, err error) {
	if err := d.beginName(ctx, name, token); err != nil {
		return false, err
	}
	_, err = d.id(ctx, name)
	if err != nil && !errors.Is(err, queue.ErrNoSuchQueue) {
		return false, err
	}
	return err == nil, nil
}

// id returns that of a queue. Errors: ErrNoSuchQueue.
func (d *Driver) id(ctx context.Context, name string) (string, error) {
	reply, _, err := d.do(ctx, &call{script: openScript, keys: d.queueKeys(name), args: []any{""}})
	if err != nil {
		return "", err
	}
	r := newReader(reply)
	if r.status() == 0 && r.err == nil {
		return "", queue.ErrNoSuchQueue
	}
	got := r.mark()
	r.skip(1)
	id := r.nextText()
	if r.err == nil {
		d.observe(d.handle(name, id), mark{}, got)
	}
	return id, r.err
}

// Open returns a handle.
func (d *Driver) Open(ctx context.Context, name string) (queue.Queue, error) {
	id, err := d.id(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, err)
	}
	return d.handle(name, id), nil
}

// Delete removes a queue. It is gone when the script has run.
func (d *Driver) Delete(ctx context.Context, name string) error {
	if err := d.delete(ctx, name); err != nil {
		return fmt.Errorf("delete queue %s: %w", name, err)
	}
	return nil
}

func (d *Driver) delete(ctx context.Context, name string) error {
	id, err := d.id(ctx, name)
	if err != nil {
		return err
	}
	token := newToken()
	if err := d.beginName(ctx, name, token); err != nil {
		return err
	}
	reply, _, err := d.do(ctx, &call{script: deleteScript, keys: d.queueKeys(name), args: []any{id, token, d.channel()}})
	if err != nil {
		return err
	}
	r := newReader(reply)
	status := r.status()
	if r.err != nil {
		return r.err
	}
	d.forget(id)
	there := false
	if status != 1 { // somebody else was faster; there may be another queue now
		if there, err = d.lookUnder(ctx, name, token); err != nil {
			return err
		}
		err = queue.ErrNoSuchQueue
	}
	if e := d.endName(ctx, name, token, there); e != nil {
		return e
	}
	return err
}

// listNames is how many names are read at once.
const listNames = 500

// List reads the names by pages; one that is made or deleted meanwhile may be
// in the list or not.
func (d *Driver) List(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	from, to := "["+prefix, prefixEnd(prefix)
	for {
		page, err := d.namePage(ctx, from, to)
		if err != nil {
			return nil, fmt.Errorf("list queues: %w", err)
		}
		sure, err := d.existing(ctx, page)
		if err != nil {
			return nil, fmt.Errorf("list queues: %w", err)
		}
		names = append(names, sure...)
		if len(page) < listNames {
			return names, nil
		}
		from = "(" + page[len(page)-1]
	}
}

// prefixEnd is the end of the range of names with the prefix.
func prefixEnd(prefix string) string {
	b := []byte(prefix)
	for len(b) > 0 && b[len(b)-1] == 0xff {
		b = b[:len(b)-1]
	}
	if len(b) == 0 {
		return "+"
	}
	b[len(b)-1]++
	return "(" + string(b)
}

func (d *Driver) namePage(ctx context.Context, from, to string) ([]string, error) {
	keys := d.nameKeys()
	reply, _, err := d.do(ctx, &call{keys: keys, args: []any{"ZRANGEBYLEX", keys[0], from, to, "LIMIT", 0, listNames}})
	if err != nil {
		return nil, err
	}
	return texts(reply)
}

func texts(reply any) ([]string, error) {
	r := newReader(reply)
	list := make([]string, 0, r.left())
	for r.left() > 0 && r.err == nil {
		list = append(list, r.nextText())
	}
	return list, r.err
}

// existing leaves out the names whose queues are pending and not there.
func (d *Driver) existing(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 {
		return names, nil
	}
	keys := d.nameKeys()
	args := []any{"HMGET", keys[1]}
	for _, n := range names {
		args = append(args, n)
	}
	reply, _, err := d.do(ctx, &call{keys: keys, args: args})
	if err != nil {
		return nil, err
	}
	pending := newReader(reply)
	if pending.left() != len(names) {
		return nil, errReply
	}
	var missing []string
	for _, name := range names {
		if pending.next() == nil {
			continue
		}
		reply, _, err := d.do(ctx, &call{script: openScript, keys: d.queueKeys(name), args: []any{""}})
		if err != nil {
			return nil, err
		}
		if r := newReader(reply); r.status() == 0 {
			missing = append(missing, name)
		}
	}
	return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(missing, n) }), nil
}
