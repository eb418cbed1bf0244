package posix

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"herald/tests/powerloss"
)

// uploadOrder is what the child is told: where the store is, and what each
// client's uploads and objects are.
type uploadOrder struct {
	Dir    string
	Seed   uint64
	Models [powerClients]*uploadModel
}

func (o *uploadOrder) store() *testStore { return (&powerOrder{Dir: o.Dir}).store() }

func (o *uploadOrder) rand(client int) *rand.Rand { return (&powerOrder{Seed: o.Seed}).rand(client) }

func (o *uploadOrder) change(r *rand.Rand, client int) uploadChange {
	return randomUploadChange(r, o.Models[client], fmt.Sprintf("%d/", client))
}

// TestPowerLossUploadsChild is the process that is killed; see
// TestPowerLoss_Uploads.
func TestPowerLossUploadsChild(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		t.Skip("runs as the child of TestPowerLoss_Uploads")
	}
	var o uploadOrder
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		t.Fatal(err)
	}
	d := o.store().open(t)
	var mu sync.Mutex // guards stdout
	say := func(client, n int, what string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println("@", client, n, what)
	}
	var wg sync.WaitGroup
	for client := range powerClients {
		wg.Go(func() {
			r := o.rand(client)
			for n := 0; ; n++ {
				c := o.change(r, client)
				say(client, n, "begun")
				b, err := d.bucket("bucket")
				if err != nil || c.do(b) != nil {
					return // the power is gone
				}
				c.model(o.Models[client])
				say(client, n, "done")
			}
		})
	}
	wg.Wait()
	select {} // until it is killed
}

// TestPowerLoss_Uploads cuts the power of a filesystem while clients upload,
// complete and abort: each acknowledged part and object is there, whole.
func TestPowerLoss_Uploads(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	fs := powerloss.Mount(t, 192)
	o := &uploadOrder{Dir: fs.Dir}
	for i := range o.Models {
		o.Models[i] = newUploadModel()
	}
	d := o.store().open(t)
	if err := d.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		o.Seed = rand.Uint64()
		log := runChild(t, fs, "TestPowerLossUploadsChild", o)
		fs.Restore(t)
		o.verify(t, log)
		if t.Failed() {
			t.Fatalf("round %d, seed %d", round, o.Seed)
		}
	}
}

// verify compares what is there with what the clients were told.
func (o *uploadOrder) verify(t *testing.T, log [powerClients]progress) {
	t.Helper()
	d := o.store().open(t)
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	b, err := d.bucket("bucket")
	if err != nil {
		t.Fatal(err)
	}
	all := readUploads(t, b)
	for client, p := range log {
		r := o.rand(client)
		what := ""
		for range p.done {
			c := o.change(r, client)
			c.model(o.Models[client])
			what += c.what + "\n"
		}
		got := all.of(fmt.Sprintf("%d/", client))
		before := got.diff(o.Models[client])
		if before == "" {
			continue
		}
		c := o.change(r, client)
		next := o.Models[client].clone()
		c.model(next)
		if after := got.diff(next); p.begun == p.done || after != "" {
			t.Errorf("client %d: neither before %s (-want +got):\n%s\nnor after:\n%s\nafter\n%s", client, c.what, before, after, what)
		}
		o.Models[client] = next
	}
	if t.Failed() {
		return
	}
	o.finish(t, b)
}

// finish completes an upload of each client: what is there can be used.
func (o *uploadOrder) finish(t *testing.T, b *bucket) {
	t.Helper()
	r := rand.New(rand.NewPCG(o.Seed, 1000))
	for _, m := range o.Models {
		for key, parts := range m.Uploads {
			if len(parts) == 0 {
				continue
			}
			c := completeChange(r, key, m.IDs[key], parts)
			if err := c.do(b); err != nil {
				t.Errorf("%s: %v", c.what, err)
			}
			c.model(m)
			if got := readWhole(t, b, key); got != m.Objects[key] {
				t.Errorf("%s: the object has %s, want %s", c.what, short(got), short(m.Objects[key]))
			}
			break
		}
	}
}

// of is the part of m whose keys begin with prefix.
func (m *uploadModel) of(prefix string) *uploadModel {
	c := newUploadModel()
	for k, v := range m.Uploads {
		if strings.HasPrefix(k, prefix) {
			c.Uploads[k], c.IDs[k] = v, m.IDs[k]
		}
	}
	for k, v := range m.Objects {
		if strings.HasPrefix(k, prefix) {
			c.Objects[k] = v
		}
	}
	return c
}
