package main

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

func objectPath(n int) string { return fmt.Sprintf("/bench/object-%08d", n) }

// putLoad PUTs fresh 4 KiB objects.
func (b *bench) putLoad(s *server, first *int) (result, error) {
	base := *first
	r, err := load(b.clients, 0, b.seconds, s.pid, s.client, func(c *client, n int) (int64, error) {
		_, err := c.expect(http.StatusOK, "PUT", objectPath(base+n), "", b.body)
		return int64(len(b.body)), err
	})
	*first += r.requests + b.clients
	return r, err
}

func (b *bench) puts() error {
	sink, err := b.sink()
	if err != nil {
		return err
	}
	servers := map[string]*server{}
	for name, args := range map[string][]string{
		"full": nil, "relaxed": {"--durability", "relaxed"}, "topic, live endpoint": nil, "topic, dead endpoint": {"--queue-capacity", "4000000000"},
	} {
		if servers[name], err = b.start(strings.ReplaceAll(strings.ReplaceAll(name, ", ", "-"), " ", "-"), append(args, "--log-level", "info")...); err != nil {
			return err
		}
	}
	if err := servers["topic, live endpoint"].addTopic(sink); err != nil {
		return err
	}
	if err := servers["topic, dead endpoint"].addTopic("http://" + freeAddress() + "/"); err != nil {
		return err
	}
	loads := []namedLoad{{"bare program", func() (result, error) {
		dir, err := b.freshDir("floor")
		if err != nil {
			return result{}, err
		}
		return floor(dir, b.clients, b.seconds, b.body)
	}}}
	for _, name := range []string{"full", "relaxed", "topic, live endpoint", "topic, dead endpoint"} {
		s, first := servers[name], new(int)
		loads = append(loads, namedLoad{name, func() (result, error) {
			return b.profiled(s, "put "+name, func() (result, error) { return b.putLoad(s, first) })
		}})
	}
	m, err := b.alternate(loads)
	if err != nil {
		return err
	}
	full := m["full"].rate()
	ratio("PUT 4 KiB, durable, of the bare program", full, m["bare program"].rate(), 1)
	ratio("PUT 4 KiB, durable, of relaxed", full, m["relaxed"].rate(), 0.85)
	ratio("PUT 4 KiB with a persistent topic (events wait) of without", m["topic, dead endpoint"].rate(), full, 0.9)
	ratio("PUT 4 KiB with a persistent topic (delivered meanwhile) of without", m["topic, live endpoint"].rate(), full, 0.9)
	b.stop()
	return nil
}

const getObjects = 1000

func (b *bench) gets() error {
	s, err := b.start("get")
	if err != nil {
		return err
	}
	c := s.client()
	for n := range getObjects {
		if _, err := c.expect(http.StatusOK, "PUT", objectPath(n), "", b.body); err != nil {
			return err
		}
	}
	c.close()
	nginx, err := b.nginx(s.data)
	if err != nil {
		return err
	}
	get := func(s *server) func() (result, error) {
		return func() (result, error) {
			return load(b.clients, 0, b.seconds, s.pid, s.client, func(c *client, n int) (int64, error) {
				status, _, err := c.do("GET", objectPath(n%getObjects), "", nil, false)
				if err == nil && status != http.StatusOK {
					err = fmt.Errorf("GET = %d", status)
				}
				return int64(len(b.body)), err
			})
		}
	}
	m, err := b.alternate([]namedLoad{{"nginx", get(nginx)}, {"herald", func() (result, error) { return b.profiled(s, "get", get(s)) }}})
	if err != nil {
		return err
	}
	ratio("GET 4 KiB of nginx", m["herald"].rate(), m["nginx"].rate(), 0.5)
	b.stop()
	return nil
}

const largeSize = 1 << 30

func (b *bench) large() error {
	s, err := b.start("large")
	if err != nil {
		return err
	}
	body := bytes.Repeat(b.body, largeSize/len(b.body))
	nginx, err := b.nginx(s.data)
	if err != nil {
		return err
	}
	one := func(s *server, op func(c *client, n int) error) func() (result, error) {
		return func() (result, error) {
			return load(1, 1, time.Hour, s.pid, s.client, func(c *client, n int) (int64, error) { return largeSize, op(c, n) })
		}
	}
	none := &server{}
	get := func(c *client, _ int) error {
		status, _, err := c.do("GET", "/bench/large", "", nil, false)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("GET = %d", status)
		}
		return err
	}
	m, err := b.alternate([]namedLoad{
		{"MD5", one(none, func(*client, int) error { _ = md5.Sum(body); return nil })},
		{"disk", one(none, func(*client, int) error { return b.writeLarge(body) })},
		{"PUT 1 GiB", one(s, func(c *client, _ int) error {
			_, err := c.expect(http.StatusOK, "PUT", "/bench/large", "", body)
			return err
		})},
		{"nginx GET 1 GiB", one(nginx, get)},
		{"GET 1 GiB", one(s, get)},
	})
	if err != nil {
		return err
	}
	ratio("GET 1 GiB of nginx", m["GET 1 GiB"].rate(), m["nginx GET 1 GiB"].rate(), 0.7)
	ratio("PUT 1 GiB of the slower of MD5 and disk", m["PUT 1 GiB"].rate(), min(m["MD5"].rate(), m["disk"].rate()), 0.7)
	b.stop()
	return nil
}

// writeLarge writes and flushes a file.
func (b *bench) writeLarge(body []byte) error {
	dir, err := b.freshDir("disk")
	if err != nil {
		return err
	}
	f, err := os.Create(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(body); err != nil {
		return err
	}
	return datasync(f)
}

// list fills a bucket with many keys, with a topic whose endpoint is dead, and
// reads pages.
func (b *bench) list() error {
	s, err := b.start("list", "--queue-capacity", "4000000000")
	if err != nil {
		return err
	}
	fill := func(first, count int) error {
		if count == 0 {
			return nil // load would take it as no bound
		}
		r, err := load(b.clients, count, time.Hour, s.pid, s.client, func(c *client, n int) (int64, error) {
			_, err := c.expect(http.StatusOK, "PUT", objectPath(first+n), "", b.body[:64])
			return 64, err
		})
		fmt.Printf("filled   %d objects: %s\n", count, r)
		return err
	}
	unnoticed := max(b.keys-b.queued, 0)
	if err := fill(0, unnoticed); err != nil {
		return err
	}
	if err := s.addTopic("http://" + freeAddress() + "/"); err != nil {
		return err
	}
	if err := fill(unnoticed, b.keys-unnoticed); err != nil {
		return err
	}
	for _, p := range []struct{ name, after string }{{"first page", ""}, {"last page", objectPath(b.keys - 1001)[len("/bench/"):]}} {
		if err := b.page(s, p.name, p.after); err != nil {
			return err
		}
	}
	fmt.Printf("memory   gateway peak %d MiB with %d keys and %d waiting events (wanted: under 300)\n", peakMemory(s.pid), b.keys, b.queued)
	b.stop()
	return nil
}

var keyElement = regexp.MustCompile(`<Key>`)

func (b *bench) page(s *server, name, after string) error {
	c := s.client()
	defer c.close()
	var times []time.Duration
	for range 50 {
		began := time.Now()
		answer, err := c.expect(http.StatusOK, "GET", "/bench", "list-type=2&max-keys=1000&start-after="+after, nil)
		if err != nil {
			return err
		}
		times = append(times, time.Since(began))
		if n := len(keyElement.FindAll(answer, -1)); n != 1000 {
			return fmt.Errorf("%s has %d keys", name, n)
		}
	}
	slices.Sort(times)
	median := times[len(times)/2]
	verdict := "met"
	if median > 20*time.Millisecond {
		verdict = "MISSED"
	}
	fmt.Printf("bar      %-60s %s (wanted under 20 ms): %s\n", name+" of 1,000 keys, median", median.Round(10*time.Microsecond), verdict)
	return nil
}
