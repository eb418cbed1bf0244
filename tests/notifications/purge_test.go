package notifications

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Buckets are removed with what is in them by radosgw-admin's words, as Ceph's
// suite does when it ends; that gives no events.
func TestPurge(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	one := e.user("one", "")
	arn := one.topic("t", r.URL, "persistent", "true")
	bucket, other := one.versionedBucket(), one.bucket()
	for _, b := range []string{bucket, other} {
		one.notify(b, "n", arn, created, removed)
		one.put(b, "k", "data")
	}
	one.put(bucket, "k", "again")
	r.wantExactly(e, "ObjectCreated:Put k", "ObjectCreated:Put k", "ObjectCreated:Put k")

	if out, code := e.g.Admin("bucket", "rm", "--bucket", bucket); code != 39 {
		t.Errorf("bucket rm of one that is not empty = %d %s", code, out)
	}
	e.g.MustAdmin("bucket", "rm", "--bucket", bucket, "--purge-objects")
	if out, code := e.g.Admin("bucket", "rm", "--bucket", bucket); code != 2 {
		t.Errorf("bucket rm of one that is not there = %d %s", code, out)
	}
	_, err := one.s3.GetBucketLocation(t.Context(), &s3.GetBucketLocationInput{Bucket: &other})
	e.check(err)
	e.g.MustAdmin("user", "rm", "--uid", "one", "--purge-data")
	_, err = e.s3.GetBucketLocation(t.Context(), &s3.GetBucketLocationInput{Bucket: &other})
	e.wantCode("a look at a bucket of a user that was purged", err, "NoSuchBucket")
	r.wantExactly(e, "ObjectCreated:Put k", "ObjectCreated:Put k", "ObjectCreated:Put k")
}
