package admin

import (
	"context"
	"errors"

	"herald/notify"
	"herald/store"
)

// notificationExplain tells what each rule of a bucket would do with an event.
// Filters on metadata and tags are held against the object that is there, or
// against none.
func (a *Admin) notificationExplain(ctx context.Context, c *call) error {
	if c.bucket == "" || c.key == "" || c.event == "" {
		return invalid("--bucket, --key and --event are needed")
	}
	typ, err := notify.ParseEventType(c.event)
	if err != nil {
		return invalid("%v", err)
	}
	bucket, err := a.Store.OpenBucket(ctx, c.topicTenant(), c.bucket)
	if err != nil {
		return err
	}
	attrs := store.Attrs{}
	switch info, err := bucket.Stat(ctx, c.key, c.versionID); {
	case err == nil:
		attrs = info.Attrs
	case errors.Is(err, store.ErrNoSuchKey), errors.Is(err, store.ErrNoSuchVersion):
	default:
		return err
	}
	list, err := a.Notify.ExplainChange(ctx, bucket.Info, typ, c.key, attrs)
	if err != nil {
		return err
	}
	return c.print(map[string][]notify.Explained{"notifications": list})
}

// testKey is the key of test events that are given none.
const testKey = "herald-test-event"

// notificationTest sends test events now, and shows what the endpoints answer.
// It fails when one of them does not take its event.
func (a *Admin) notificationTest(ctx context.Context, c *call) error {
	if (c.bucket == "") == (c.topic == "") {
		return invalid("either --bucket or --topic is needed")
	}
	if c.key == "" {
		c.key = testKey
	}
	rules := []notify.Rule{{ID: "test"}}
	if c.topic != "" {
		t, err := a.withTopic(ctx, c)
		if err != nil {
			return err
		}
		rules[0].TopicARN = t.ARN
	} else {
		var err error
		if rules, err = a.rules(ctx, c); err != nil {
			return err
		}
		if c.notificationID != "" {
			rule, err := notify.FindRule(rules, c.notificationID)
			if err != nil {
				return notFound("no notification %q", c.notificationID)
			}
			rules = []notify.Rule{*rule}
		}
	}
	results := []notify.TestResult{}
	refused := 0
	for _, r := range rules {
		tenant, name, err := notify.ParseTopicARN(r.TopicARN)
		if err != nil {
			return err
		}
		result, err := a.Notify.TestTopic(ctx, tenant, name, c.bucket, r.ID, c.key)
		if errors.Is(err, notify.ErrNoSuchTopic) || errors.Is(err, notify.ErrInvalidEndpoint) {
			result, err = notify.TestResult{Topic: r.TopicARN, Status: notify.Rejected.String(), Error: err.Error()}, nil
		}
		if err != nil {
			return err
		}
		if result.Status != notify.Acked.String() {
			refused++
		}
		results = append(results, result)
	}
	if err := c.print(map[string][]notify.TestResult{"results": results}); err != nil {
		return err
	}
	if refused > 0 {
		return &exitError{exitOther, "not every endpoint took its test event"}
	}
	return nil
}
