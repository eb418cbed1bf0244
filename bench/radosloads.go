package main

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// storeRow is one kind of request that both gateways are measured with.
type storeRow struct {
	name    string
	want    float64 // times radosgw's rate
	heavy   bool    // moves GiB: fewer rounds
	load    func(r *radosStore, g *gate, clients int) (result, error)
	prepare func(r *radosStore, g *gate, clients int) error // before each load; not measured
	after   func(r *radosStore, g *gate, clients int) error // the same, after it
}

func storeRows() []storeRow {
	return []storeRow{
		{name: "put-4KiB", want: 1.5, load: putRow(4 << 10)},
		{name: "get-4KiB", want: 2.5, load: getRow(4<<10, 1000), prepare: fillRow(4<<10, 1000)},
		{name: "list", want: 1.5, load: listRow, prepare: prepareList},
		{name: "notify-4KiB", want: 2, load: notifyRow, prepare: prepareNotify},
		{name: "delete", want: 1, load: deleteRow, prepare: prepareDelete},
		{name: "put-1MiB", want: 1.2, load: putRow(1 << 20), after: dropLarge},
		{name: "get-1MiB", want: 1.2, load: getRow(1<<20, 128), prepare: fillRow(1<<20, 128)},
		{name: "get-64MiB", want: 1.2, heavy: true, load: getRow(64<<20, 4), prepare: fillRow(64<<20, 4)},
		{name: "put-64MiB", want: 1.2, heavy: true, load: putRow(64 << 20), after: dropLarge},
	}
}

func randomBody() []byte {
	body := make([]byte, 4<<10)
	_, _ = rand.Read(body)
	return body
}

// bodyOf returns so many bytes, the same ones at each call.
func (r *radosStore) bodyOf(size int) []byte {
	if len(r.body) < size {
		r.body = []byte(strings.Repeat(string(r.body[:4<<10]), size/(4<<10)))
	}
	return r.body[:size]
}

// put PUTs objects PREFIX + number, for the loads' time or so many.
func (r *radosStore) put(g *gate, clients, total int, prefix string, first int, body []byte) (result, error) {
	limit := r.seconds
	if total > 0 {
		limit = time.Hour
	}
	return load(clients, total, limit, g.pid, g.client, func(c *client, n int) (int64, error) {
		_, err := c.expect(http.StatusOK, "PUT", fmt.Sprintf("%s%08d", prefix, first+n), "", body)
		return int64(len(body)), err
	})
}

const (
	smallObjects = "/bench/small-"
	largeObjects = "/bench/large-"
)

// putRow PUTs new objects.
func putRow(size int) func(r *radosStore, g *gate, clients int) (result, error) {
	return func(r *radosStore, g *gate, clients int) (result, error) {
		if size > 64<<10 {
			return r.put(g, clients, 0, largeObjects, 0, r.bodyOf(size))
		}
		res, err := r.put(g, clients, 0, smallObjects, g.next, r.bodyOf(size))
		g.next += res.requests
		return res, err
	}
}

// dropLarge deletes what putRow left, and frees the space.
func dropLarge(r *radosStore, g *gate, clients int) error {
	c := g.client()
	defer c.close()
	for {
		answer, err := c.expect(http.StatusOK, "GET", "/bench", "list-type=2&max-keys=1000&prefix=large-", nil)
		if err != nil {
			return err
		}
		keys := strings.Split(string(answer), "<Key>")[1:]
		if len(keys) == 0 {
			return g.clean()
		}
		_, err = load(min(clients, 16), len(keys), time.Hour, g.pid, g.client, func(c *client, n int) (int64, error) {
			key, _, _ := strings.Cut(keys[n], "<")
			_, err := c.expect(http.StatusNoContent, "DELETE", "/bench/"+key, "", nil)
			return 0, err
		})
		if err != nil {
			return err
		}
	}
}

func getPrefix(size int) string { return fmt.Sprintf("/bench/get-%d-", size) }

// once does something for a gateway if it was not done yet.
func (g *gate) once(what string, f func() error) error {
	if g.prepared[what] {
		return nil
	}
	g.prepared[what] = true
	return f()
}

// fillRow makes the objects that getRow reads.
func fillRow(size, count int) func(r *radosStore, g *gate, clients int) error {
	return func(r *radosStore, g *gate, _ int) error {
		return g.once(getPrefix(size), func() error {
			_, err := r.put(g, min(16, count), count, getPrefix(size), 0, r.bodyOf(size))
			return err
		})
	}
}

// getRow GETs any of some objects.
func getRow(size, count int) func(r *radosStore, g *gate, clients int) (result, error) {
	return func(r *radosStore, g *gate, clients int) (result, error) {
		prefix := getPrefix(size)
		return load(clients, 0, r.seconds, g.pid, g.client, func(c *client, _ int) (int64, error) {
			status, _, err := c.do("GET", fmt.Sprintf("%s%08d", prefix, mathrand.IntN(count)), "", nil, false)
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("GET = %d", status)
			}
			return int64(size), err
		})
	}
}

// deleteMin is how many objects a load of DELETEs has at least.
const deleteMin = 2000

// prepareDelete makes objects, if those of putRow do not suffice.
func prepareDelete(r *radosStore, g *gate, _ int) error {
	missing := g.first + deleteMin - g.next
	if missing <= 0 {
		return nil
	}
	_, err := r.put(g, 64, missing, smallObjects, g.next, r.bodyOf(4<<10))
	g.next += missing
	return err
}

// deleteRow DELETEs small objects until the time is over or none is left.
func deleteRow(r *radosStore, g *gate, clients int) (result, error) {
	first := g.first
	res, err := load(clients, g.next-first, r.seconds, g.pid, g.client, func(c *client, n int) (int64, error) {
		_, err := c.expect(http.StatusNoContent, "DELETE", fmt.Sprintf("%s%08d", smallObjects, first+n), "", nil)
		return 0, err
	})
	g.first += res.requests
	return res, err
}

const listedKeys = 10_000

// prepareList fills a bucket.
func prepareList(r *radosStore, g *gate, _ int) error {
	return g.once("list", func() error {
		c := g.client()
		defer c.close()
		if _, err := c.expect(http.StatusOK, "PUT", "/listed", "", nil); err != nil {
			return err
		}
		_, err := r.put(g, 64, listedKeys, "/listed/object-", 0, r.bodyOf(64))
		return err
	})
}

// listRow reads pages of 1,000 keys, any of them.
func listRow(r *radosStore, g *gate, clients int) (result, error) {
	return load(clients, 0, r.seconds, g.pid, g.client, func(c *client, _ int) (int64, error) {
		after := fmt.Sprintf("object-%08d", mathrand.IntN(listedKeys-1001))
		answer, err := c.expect(http.StatusOK, "GET", "/listed", "list-type=2&max-keys=1000&start-after="+after, nil)
		if n := strings.Count(string(answer), "<Key>"); err == nil && n != 1000 {
			err = fmt.Errorf("a page of %d keys", n)
		}
		return 0, err
	})
}

// prepareNotify makes a bucket with a persistent topic, whose endpoint takes
// everything at once.
func prepareNotify(r *radosStore, g *gate, _ int) error {
	return g.once("notify", func() error {
		sink, err := r.sink()
		if err != nil {
			return err
		}
		c := g.client()
		defer c.close()
		if _, err := c.expect(http.StatusOK, "PUT", "/noticed", "", nil); err != nil {
			return err
		}
		return g.addTopicTo("noticed", sink)
	})
}

// notifyRow PUTs new objects into the bucket with a topic.
func notifyRow(r *radosStore, g *gate, clients int) (result, error) {
	res, err := r.put(g, clients, 0, "/noticed/object-", g.noticed, r.bodyOf(4<<10))
	g.noticed += res.requests
	return res, err
}
