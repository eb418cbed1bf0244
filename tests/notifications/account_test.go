package notifications

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sns"
)

// account makes an account, with a name or without, and returns its id.
func (e *env) account(name string) string {
	e.t.Helper()
	var doc struct{ ID, Name string }
	args := []string{"account", "create"}
	if name != "" {
		args = append(args, "--account-name", name)
	}
	e.adminJSON(&doc, args...)
	if doc.Name != name {
		e.t.Fatalf("account create = %+v", doc)
	}
	return doc.ID
}

// Row test_persistent_notification_http_account: topics and buckets of an
// account's users are the account's.
func TestNotificationAccount(t *testing.T) {
	e := newEnv(t)
	id := e.account("acme")
	one := e.user("one", "", "--account-id", id, "--account-root")
	two := e.user("two", "", "--account-id", id, "--account-root")
	other := e.user("other", "")
	r := newReceiver(t)
	bucket := one.bucket()
	arn := one.topic("t", r.URL, "persistent", "true")
	if want := "arn:aws:sns:default:" + id + ":t"; arn != want {
		t.Errorf("topic = %s, want %s", arn, want)
	}
	two.notify(bucket, "n", arn, created, removed) // the other user's too
	two.put(bucket, "k", "data")
	one.delete(bucket, "k")
	r.wantExactly(e, "ObjectCreated:Put k", "ObjectRemoved:Delete k")
	e.eventually("the queue is empty", func() bool {
		var doc struct {
			Stats struct{ Entries int64 } `json:"Topic Stats"`
		}
		e.adminJSON(&doc, "topic", "stats", "--topic", "t", "--account-id", id)
		return doc.Stats.Entries == 0
	})
	buckets, err := two.s3.ListBuckets(t.Context(), &s3.ListBucketsInput{})
	e.check(err)
	if len(buckets.Buckets) != 1 || *buckets.Owner.ID != id || *buckets.Owner.DisplayName != "acme" {
		t.Errorf("buckets of the account = %+v of %+v", buckets.Buckets, buckets.Owner)
	}
	_, err = other.s3.GetBucketLocation(t.Context(), &s3.GetBucketLocationInput{Bucket: &bucket})
	e.wantCode("a stranger's look at the bucket", err, "AccessDenied")
	_, err = other.sns.GetTopicAttributes(t.Context(), &sns.GetTopicAttributesInput{TopicArn: &arn})
	e.wantCode("a stranger's look at the topic", err, "AuthorizationError")

	if out, code := e.g.Admin("account", "rm", "--account-id", id); code != 39 {
		t.Errorf("account rm with users = %d %s", code, out)
	}
	if out, code := e.g.Admin("user", "create", "--uid", "three", "--account-id", id); code != 22 {
		t.Errorf("user create without --account-root = %d %s", code, out)
	}
}

// Row test_topic_migration_to_an_account: who moves into an account keeps the
// old topics, makes new ones in the account, and brings the buckets.
func TestMigrationToAccount(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	one := e.user("one", "")
	bucket := one.bucket()
	old := one.topic("t", r.URL, "persistent", "true")
	one.notify(bucket, "before", old, created)
	one.put(bucket, "k1", "data")
	r.wantExactly(e, "ObjectCreated:Put k1")
	r.reset()

	id := e.account("")
	e.g.MustAdmin("user", "modify", "--uid", "one", "--account-id", id, "--account-root")
	next := one.topic("t", r.URL, "persistent", "true")
	if next == old {
		t.Fatalf("the account's topic is named like the user's: %s", next)
	}
	b2 := one.bucket()
	one.notify(b2, "after", next, created)
	one.put(bucket, "k2", "data")
	one.put(b2, "k3", "data")
	r.wantExactly(e, "ObjectCreated:Put k2", "ObjectCreated:Put k3")

	var doc topicDoc
	e.adminJSON(&doc, "topic", "get", "--topic", "t")
	if !slices.Equal(doc.Subscribed, []string{bucket}) {
		t.Errorf("subscribed_buckets of the old topic = %q, want %q", doc.Subscribed, bucket)
	}
	e.adminJSON(&doc, "topic", "get", "--topic", "t", "--account-id", id)
	if !slices.Equal(doc.Subscribed, []string{b2}) {
		t.Errorf("subscribed_buckets of the new topic = %q, want %q", doc.Subscribed, b2)
	}

	r.reset()
	one.notify(bucket, "before", next, created) // the same notification, now about the account's topic
	one.put(bucket, "k4", "data")
	r.wantExactly(e, "ObjectCreated:Put k4")
	_, err := one.sns.DeleteTopic(t.Context(), &sns.DeleteTopicInput{TopicArn: &old})
	e.check(err)
	two := e.user("two", "", "--account-id", id, "--account-root")
	_, err = two.s3.GetBucketLocation(t.Context(), &s3.GetBucketLocationInput{Bucket: &bucket})
	e.check(err) // the bucket came along
}
