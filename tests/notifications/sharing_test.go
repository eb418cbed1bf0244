package notifications

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"herald/tests/gatewaytest"
)

// lag is how old what another gateway of the store shows may be.
const lag = time.Second

// seen asks until something that was just changed by another gateway is seen.
// A request that begins later than lag after the change has to see it.
func (e *env) seen(what string, ask func() error) {
	e.t.Helper()
	changed := time.Now()
	for {
		began := time.Now()
		err := ask()
		if err == nil {
			e.t.Logf("%s: seen after %s", what, time.Since(changed).Round(time.Millisecond))
			return
		}
		if began.Sub(changed) > lag {
			e.t.Fatalf("%s: asked %s after it: %v", what, began.Sub(changed), err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestSharedStore has two gateways on one store: what is made through one is
// there for clients of the other within a second, and either delivers.
func TestSharedStore(t *testing.T) {
	if gatewaytest.Store() == "posix" || gatewaytest.Queue() == "embedded" {
		t.Skip("gateways share a store only in RADOS, with queues on a server")
	}
	one := newEnv(t)
	other := (&env{t: t, g: gatewaytest.Start(t, gatewaytest.Options{Env: one.g.Place()})}).as(gatewaytest.AccessKey, gatewaytest.SecretKey, "")
	r := newReceiver(t)

	for i, pair := range [][2]*env{{one, other}, {other, one}} {
		maker, user := pair[0], pair[1]
		name := []string{"first", "second"}[i]
		ctx := t.Context()
		_, err := maker.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name})
		maker.check(err)
		user.seen("bucket", func() error {
			_, err := user.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &name})
			return err
		})
		arn := maker.topic(name, r.URL, "persistent", "true")
		user.seen("topic", func() error {
			_, err := user.sns.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &arn})
			return err
		})
		maker.notify(name, "n", arn, created, removed)
		user.seen("notification", func() error {
			if len(user.notifications(name)) == 0 {
				return errors.New("there is none")
			}
			return nil
		})
		user.put(name, "k", "from the other")
		r.wantExactly(user, "ObjectCreated:Put k")
		out, err := maker.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &name, Key: new("k")})
		maker.check(err)
		_ = out.Body.Close()
		maker.delete(name, "k")
		r.wantExactly(maker, "ObjectCreated:Put k", "ObjectRemoved:Delete k")
		r.reset()

		// What waits goes where the topic points now, whichever gateway delivers.
		_, err = maker.sns.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{TopicArn: &arn, AttributeName: new("push-endpoint"), AttributeValue: new(dead(t))})
		maker.check(err)
		user.seen("dead endpoint", func() error {
			out, err := user.sns.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &arn})
			if err == nil && strings.Contains(out.Attributes["EndPoint"], r.URL) {
				err = errors.New("it is the one of before")
			}
			return err
		})
		for _, g := range pair {
			for _, key := range keys(g.g.URL, 10) {
				g.put(name, key, "x")
			}
		}
		_, err = user.sns.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{TopicArn: &arn, AttributeName: new("push-endpoint"), AttributeValue: &r.URL})
		user.check(err)
		r.wantExactly(maker, perEvent("ObjectCreated:Put", append(keys(maker.g.URL, 10), keys(user.g.URL, 10)...))...)
		r.reset()

		maker.check(maker.putNotifications(name))
		user.seen("no notification", func() error {
			if list := user.notifications(name); len(list) > 0 {
				return errors.New("there is one still")
			}
			return nil
		})
		for _, g := range pair {
			for _, key := range keys(g.g.URL, 10) {
				g.delete(name, key)
			}
		}
		maker.versioning(name, types.BucketVersioningStatusEnabled)
		user.seen("versioning", func() error {
			out, err := user.s3.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &name})
			if err == nil && out.Status != types.BucketVersioningStatusEnabled {
				err = errors.New("status " + string(out.Status))
			}
			return err
		})
		_, err = maker.sns.DeleteTopic(ctx, &sns.DeleteTopicInput{TopicArn: &arn})
		maker.check(err)
		user.seen("no topic", func() error {
			if _, err := user.sns.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &arn}); err == nil {
				return errors.New("there is one still")
			}
			return nil
		})
		_, err = maker.s3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &name})
		maker.check(err)
		user.seen("no bucket", func() error {
			_, err := user.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &name})
			if err == nil || !strings.Contains(err.Error(), "404") {
				return errors.New("there is one still")
			}
			return nil
		})
	}
}

func (e *env) versioning(bucket string, status types.BucketVersioningStatus) {
	e.t.Helper()
	_, err := e.s3.PutBucketVersioning(e.t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: status},
	})
	e.check(err)
}

// TestSharedStore_User: so are users and their keys.
func TestSharedStore_User(t *testing.T) {
	if gatewaytest.Store() == "posix" || gatewaytest.Queue() == "embedded" {
		t.Skip("gateways share a store only in RADOS, with queues on a server")
	}
	one := newEnv(t)
	other := (&env{t: t, g: gatewaytest.Start(t, gatewaytest.Options{Env: one.g.Place()})}).as(gatewaytest.AccessKey, gatewaytest.SecretKey, "")
	list := func(e *env) error {
		_, err := e.s3.ListBuckets(t.Context(), &s3.ListBucketsInput{})
		return err
	}
	made := one.user("guest", "")
	guest := other.as(made.credentials.AccessKeyID, made.credentials.SecretAccessKey, "")
	guest.seen("user", func() error { return list(guest) })
	one.g.MustAdmin("user", "rm", "--uid", "guest")
	guest.seen("no user", func() error {
		if list(guest) == nil {
			return errors.New("it may still ask")
		}
		return nil
	})
}
