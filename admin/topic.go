package admin

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"herald/notify"
	"herald/queue"
	"herald/store"
)

var topicCommands = []command{
	{"topic list", "the topics of a tenant", []string{"tenant", "uid", "account-id", "max-entries", "marker"}, (*Admin).topicList},
	{"topic get", "show a topic", []string{"topic", "tenant", "account-id"}, (*Admin).topicGet},
	{"topic rm", "remove a topic and what waits in its queues", []string{"topic", "tenant", "account-id"}, (*Admin).topicRm},
	{"topic stats", "entries, bytes and reservations of its queues", []string{"topic", "tenant", "account-id"}, (*Admin).topicStats},
	{"topic dump", "the events that wait", []string{"topic", "tenant", "account-id", "max-entries"}, (*Admin).topicDump},
	{"topic dead-letters list", "the events that were given up", []string{"topic", "tenant", "account-id", "max-entries", "marker"}, (*Admin).deadLettersList},
	{"topic dead-letters peek", "the same, the oldest alone unless told", []string{"topic", "tenant", "account-id", "max-entries", "marker"}, (*Admin).deadLettersPeek},
	{"topic dead-letters redrive", "send them again", []string{"topic", "tenant", "account-id", "marker"}, (*Admin).deadLettersRedrive},
	{"topic dead-letters purge", "drop them", []string{"topic", "tenant", "account-id", "marker"}, (*Admin).deadLettersPurge},
}

var notificationCommands = []command{
	{"notification list", "the notifications of a bucket", []string{"bucket", "tenant", "uid"}, (*Admin).notificationList},
	{"notification get", "show a notification", []string{"bucket", "tenant", "uid", "notification-id"}, (*Admin).notificationGet},
	{"notification explain", "what each notification would do with an event, and why", []string{"bucket", "tenant", "uid", "account-id", "key", "event", "version-id"}, (*Admin).notificationExplain},
	{"notification test", "send a test event to the endpoints of a bucket's notifications, or of a topic, now", []string{"bucket", "tenant", "uid", "account-id", "notification-id", "topic", "key"}, (*Admin).notificationTest},
	{"notification rm", "remove one notification of a bucket, or all", []string{"bucket", "tenant", "uid", "notification-id"}, (*Admin).notificationRm},
}

// topicTenant is the tenant that --tenant or --account-id names.
func (c *call) topicTenant() string {
	if c.accountID != "" {
		return c.accountID
	}
	if t, _, ok := strings.Cut(c.uid, "$"); ok && c.tenant == "" {
		return t
	}
	return c.tenant
}

// withTopic checks that --topic was given and names a topic.
func (a *Admin) withTopic(ctx context.Context, c *call) (*notify.Topic, error) {
	if c.topic == "" {
		return nil, invalid("no --topic given")
	}
	t, err := a.Notify.Topics().Get(ctx, c.topicTenant(), c.topic)
	if errors.Is(err, notify.ErrNoSuchTopic) {
		return nil, notFound("no topic %q", c.topic)
	}
	return t, err
}

// topicJSON adds to a topic what is not kept with it.
func (a *Admin) topicJSON(ctx context.Context, t *notify.Topic) (map[string]any, error) {
	data, err := json.Marshal(t.Redacted())
	if err != nil {
		return nil, err
	}
	doc := map[string]any{}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	buckets, err := a.Notify.Topics().SubscribedBuckets(ctx, t.ARN)
	if err != nil {
		return nil, err
	}
	doc["subscribed_buckets"] = append([]string{}, buckets...)
	return doc, nil
}

func (a *Admin) topicList(ctx context.Context, c *call) error {
	topics, _, err := a.Notify.Topics().List(ctx, c.topicTenant(), c.marker, c.maxEntries)
	if err != nil {
		return err
	}
	docs := []map[string]any{}
	for _, t := range topics {
		doc, err := a.topicJSON(ctx, t)
		if err != nil {
			return err
		}
		docs = append(docs, doc)
	}
	return c.print(docs)
}

func (a *Admin) topicGet(ctx context.Context, c *call) error {
	t, err := a.withTopic(ctx, c)
	if err != nil {
		return err
	}
	doc, err := a.topicJSON(ctx, t)
	if err != nil {
		return err
	}
	return c.print(doc)
}

// topicRm removes a topic. Where it is not, there is nothing to do (RGW).
func (a *Admin) topicRm(ctx context.Context, c *call) error {
	if c.topic == "" {
		return invalid("no --topic given")
	}
	err := a.Notify.Topics().Delete(ctx, c.topicTenant(), c.topic)
	if errors.Is(err, notify.ErrNoSuchTopic) {
		return nil
	}
	return err
}

func (a *Admin) topicStats(ctx context.Context, c *call) error {
	if _, err := a.withTopic(ctx, c); err != nil {
		return err
	}
	stats, err := a.Notify.TopicStats(ctx, c.topicTenant(), c.topic)
	if err != nil {
		return err
	}
	return c.print(map[string]notify.TopicStats{"Topic Stats": stats})
}

func (a *Admin) topicDump(ctx context.Context, c *call) error {
	if _, err := a.withTopic(ctx, c); err != nil {
		return err
	}
	entries, err := a.Notify.Dump(ctx, c.topicTenant(), c.topic, c.maxEntries)
	if err != nil {
		return err
	}
	return c.print(append([]notify.DumpEntry{}, entries...))
}

func (a *Admin) deadLettersPeek(ctx context.Context, c *call) error {
	if c.maxEntries == 0 {
		c.maxEntries = 1
	}
	return a.deadLettersList(ctx, c)
}

func (a *Admin) deadLettersList(ctx context.Context, c *call) error {
	if _, err := a.withTopic(ctx, c); err != nil {
		return err
	}
	letters, err := a.Notify.DeadLetters(ctx, c.topicTenant(), c.topic, c.marker, c.maxEntries)
	if errors.Is(err, queue.ErrInvalid) {
		return invalid("--marker %s is none that was shown", c.marker)
	}
	if err != nil {
		return err
	}
	return c.print(append([]notify.DeadLetter{}, letters...))
}

func (a *Admin) deadLettersRedrive(ctx context.Context, c *call) error {
	if _, err := a.withTopic(ctx, c); err != nil {
		return err
	}
	markers, err := c.markers()
	if err != nil {
		return err
	}
	n, err := a.Notify.Redrive(ctx, c.topicTenant(), c.topic, markers...)
	if err != nil {
		return err
	}
	return c.print(map[string]int{"redriven": n})
}

func (a *Admin) deadLettersPurge(ctx context.Context, c *call) error {
	if _, err := a.withTopic(ctx, c); err != nil {
		return err
	}
	markers, err := c.markers()
	if err != nil {
		return err
	}
	n, err := a.Notify.PurgeDeadLetters(ctx, c.topicTenant(), c.topic, markers...)
	if err != nil {
		return err
	}
	return c.print(map[string]int{"purged": n})
}

// markers are those that --marker names, separated by commas; none without it.
func (c *call) markers() ([]string, error) {
	list := strings.FieldsFunc(c.marker, func(r rune) bool { return r == ',' || r == ' ' })
	return list, c.blank("marker", strings.Join(list, ""))
}

// rules returns a bucket's notifications.
func (a *Admin) rules(ctx context.Context, c *call) ([]notify.Rule, error) {
	if c.bucket == "" {
		return nil, invalid("no --bucket given")
	}
	info, err := a.Store.BucketInfo(ctx, c.topicTenant(), c.bucket)
	if err != nil {
		return nil, err
	}
	return notify.ParseRules(info.Attrs[notify.AttrNotification])
}

func (a *Admin) notificationList(ctx context.Context, c *call) error {
	rules, err := a.rules(ctx, c)
	if err != nil {
		return err
	}
	return c.print(map[string][]notify.Rule{"notifications": append([]notify.Rule{}, rules...)})
}

func (a *Admin) notificationGet(ctx context.Context, c *call) error {
	rules, err := a.rules(ctx, c)
	if err != nil {
		return err
	}
	rule, err := notify.FindRule(rules, c.notificationID)
	if err != nil {
		return notFound("no notification %q", c.notificationID)
	}
	return c.print(rule)
}

func (a *Admin) notificationRm(ctx context.Context, c *call) error {
	if c.bucket == "" {
		return invalid("no --bucket given")
	}
	if err := c.blank("notification-id", c.notificationID); err != nil {
		return err
	}
	return a.Store.UpdateBucket(ctx, c.topicTenant(), c.bucket, func(info *store.BucketInfo) error {
		rules, err := notify.ParseRules(info.Attrs[notify.AttrNotification])
		if err != nil {
			return err
		}
		rules = notify.RemoveRule(rules, c.notificationID)
		if len(rules) == 0 {
			delete(info.Attrs, notify.AttrNotification)
			return nil
		}
		info.Attrs[notify.AttrNotification] = notify.FormatRules(rules)
		return nil
	})
}
