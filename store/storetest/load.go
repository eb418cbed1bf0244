package storetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"

	"herald/store"
)

func loadCases() []testCase {
	return []testCase{
		{"Mixed", func(f *Fixture) { f.mixedLoad(store.Unversioned) }},
		{"Mixed_Versions", func(f *Fixture) { f.mixedLoad(store.Enabled) }},
	}
}

// mixedLoad: clients change keys of their own, which share directories, all at
// once, and read them back; the store is killed between the rounds.
func (f *Fixture) mixedLoad(v store.Versioning) {
	const clients = 8
	f.Versioning = v
	models := make([]Model, clients)
	for i := range models {
		models[i] = Model{}
	}
	for round := range 3 {
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				c := &client{f: f, id: i, m: models[i], r: rand.New(rand.NewPCG(uint64(round), uint64(i)))}
				for range 60 {
					if err := c.step(); err != nil {
						f.Errorf("client %d: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		if f.Failed() {
			return
		}
		f.Crash()
		f.Compare(joined(models))
	}
}

// joined is one model of many that share no key.
func joined(models []Model) Model {
	all := Model{}
	for _, m := range models {
		maps.Copy(all, m)
	}
	return all
}

// client is one of many that change a bucket at the same time.
type client struct {
	f  *Fixture
	id int
	m  Model
	r  *rand.Rand
}

// key returns one of the client's own keys; they lie among those of others,
// and as "a" and "a/b" in their way.
func (c *client) key() string {
	return []string{
		fmt.Sprintf("shared/%d", c.id), "shared/" + fmt.Sprintf("%d/sub", c.id), fmt.Sprintf("deep/er/%d", c.id), fmt.Sprintf("%d", c.id),
		fmt.Sprintf("a%s%d", []string{"/", "//", "/../", "%"}[c.r.IntN(4)], c.id),
	}[c.r.IntN(5)]
}

func (c *client) step() error {
	key, v := c.key(), c.f.Versioning
	if c.r.IntN(3) > 0 {
		data := pattern(c.r.Int(), c.r.IntN(2000))
		if c.r.IntN(10) == 0 {
			data = pattern(c.r.Int(), 150<<10)
		}
		out, err := c.f.TryPut(key, data)
		if err != nil {
			return fmt.Errorf("Put(%q) = %w", key, err)
		}
		if prior := c.m.Put(key, data, versionID(out.Info), v); !samePrior(out.Prior, prior) {
			return fmt.Errorf("Put(%q): Prior = %+v, want %+v", key, out.Prior, prior)
		}
		got, _, err := ReadObject(c.f.Context(), c.f.Bucket, key, "")
		if err != nil || got != data {
			return fmt.Errorf("Open(%q) = %s, %v, want %s", key, brief(got), err, brief(data))
		}
		return nil
	}
	id := ""
	if vs := c.m[key]; v == store.Enabled && len(vs) > 0 && c.r.IntN(2) == 0 {
		id = vs[c.r.IntN(len(vs))].ID
	}
	out, err := c.f.TryRemove(key, id)
	if err != nil {
		return fmt.Errorf("Remove(%q, %q) = %w", key, id, err)
	}
	markerID := ""
	if out.Info != nil {
		markerID = versionID(out.Info)
	}
	if changed, prior := c.m.Remove(key, id, markerID, v); changed != out.Changed || !samePrior(out.Prior, prior) {
		return fmt.Errorf("Remove(%q, %q) = %+v, want changed %t, prior %+v", key, id, out, changed, prior)
	}
	return nil
}
