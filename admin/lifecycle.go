package admin

import (
	"context"
	"net/http"
	"time"

	"herald/lifecycle"
)

var lifecycleCommands = []command{
	{"lc list", "the buckets with lifecycle rules, and how far each is", nil, (*Admin).lcList},
	{"lc get", "a bucket's lifecycle rules", []string{"bucket", "tenant"}, (*Admin).lcGet},
	{"lc process", "carry lifecycle rules out now, of one bucket or of all", []string{"bucket", "tenant"}, (*Admin).lcProcess},
}

// lcEntry is one bucket, as radosgw-admin shows it.
type lcEntry struct {
	Bucket  string `json:"bucket"` // "TENANT:NAME:ID"
	Shard   string `json:"shard"`  // Herald has none
	Started string `json:"started"`
	Status  string `json:"status"`
}

func (a *Admin) lcList(ctx context.Context, c *call) error {
	list, err := a.Lifecycle.List(ctx)
	if err != nil {
		return err
	}
	out := []lcEntry{}
	for _, e := range list {
		started := e.Started
		if started.IsZero() {
			started = time.Unix(0, 0)
		}
		out = append(out, lcEntry{
			Bucket: e.Bucket.Tenant + ":" + e.Bucket.Name + ":" + e.Bucket.ID, Shard: "lc.0",
			Started: started.UTC().Format(http.TimeFormat), Status: e.Status,
		})
	}
	return c.print(out)
}

func (a *Admin) lcGet(ctx context.Context, c *call) error {
	if c.bucket == "" {
		return invalid("no --bucket given")
	}
	b, err := a.Store.BucketInfo(ctx, c.topicTenant(), c.bucket)
	if err != nil {
		return err
	}
	rules, err := lifecycle.Parse(b.Attrs[lifecycle.Attr])
	if err != nil {
		return err
	}
	if len(rules) == 0 {
		return notFound("bucket %s has no lifecycle rules", c.bucket)
	}
	return c.print(rules)
}

// lcProcess prints nothing, as radosgw-admin.
func (a *Admin) lcProcess(ctx context.Context, c *call) error {
	return a.Lifecycle.Process(ctx, c.topicTenant(), c.bucket)
}
