package notifications

import (
	"bytes"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const (
	lifecycleEvents types.Event = "s3:ObjectLifecycle:*"
	expiredByName   types.Event = "s3:LifecycleExpiration:*"
)

// lifecycle puts rules; a day lasts a second in these tests.
func (e *env) lifecycle(bucket string, rules ...types.LifecycleRule) {
	e.t.Helper()
	for i := range rules {
		rules[i].Status = types.ExpirationStatusEnabled
		if rules[i].Filter == nil {
			rules[i].Filter = &types.LifecycleRuleFilter{Prefix: aws.String("")}
		}
	}
	_, err := e.s3.PutBucketLifecycleConfiguration(e.t.Context(), &s3.PutBucketLifecycleConfigurationInput{
		Bucket: &bucket, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules},
	})
	e.check(err)
}

// versions counts what a bucket has.
func (e *env) versions(bucket string) (versions, markers int) {
	e.t.Helper()
	out, err := e.s3.ListObjectVersions(e.t.Context(), &s3.ListObjectVersionsInput{Bucket: &bucket})
	e.check(err)
	return len(out.Versions), len(out.DeleteMarkers)
}

// TestLifecycle (test_lifecycle_http): an object that expires has an event of
// each of RGW's two families.
func TestLifecycle(t *testing.T) {
	e := newEnv(t, "--lc-debug-interval", "1s")
	r := newReceiver(t)
	bucket := e.bucket()
	topic := e.topic("t", r.URL, "persistent", "true")
	e.notify(bucket, "n", topic, lifecycleEvents, expiredByName)
	keys := []string{"go/1", "go/2", "go/3"}
	for _, k := range append(keys, "stay/1") {
		e.put(bucket, k, "data")
	}
	e.lifecycle(bucket, types.LifecycleRule{
		Filter: &types.LifecycleRuleFilter{Prefix: aws.String("go/")}, Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)},
	})
	want := append(perEvent("ObjectLifecycle:Expiration:Current", keys), perEvent("LifecycleExpiration:Delete", keys)...)
	for _, rec := range r.wantExactly(e, want...) {
		if rec.UserIdentity.PrincipalID != "rgw lifecycle" || rec.ResponseElements.RequestID != "0" || rec.S3.Object.Size != 4 {
			t.Errorf("record %+v", rec)
		}
	}
	if n, _ := e.versions(bucket); n != 1 {
		t.Errorf("%d objects are left, want 1", n)
	}
	e.drained("t")
	var list []struct{ Bucket, Status string }
	e.adminJSON(&list, "lc", "list")
	if len(list) != 1 || list[0].Status == "UNINITIAL" {
		t.Errorf("lc list = %+v", list)
	}
	e.eventually("lc process, between two rounds of the gateway's own", func() bool {
		out, code := e.g.Admin("lc", "process", "--bucket", bucket)
		if code != 0 && code != int(syscall.EBUSY) {
			t.Fatalf("lc process: exit code %d: %s", code, out)
		}
		return code == 0
	})
}

// TestLifecycleAbortUpload (test_lifecycle_abort_mpu).
func TestLifecycleAbortUpload(t *testing.T) {
	e := newEnv(t, "--lc-debug-interval", "1s")
	r := newReceiver(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", r.URL, "persistent", "true"), lifecycleEvents)
	up, err := e.s3.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: aws.String("k")})
	e.check(err)
	_, err = e.s3.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: &bucket, Key: aws.String("k"), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader([]byte("part"))})
	e.check(err)
	e.lifecycle(bucket, types.LifecycleRule{AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(1)}})
	r.wantExactly(e, perEvent("ObjectLifecycle:Expiration:AbortMultipartUpload", []string{"k"})...)
	list, err := e.s3.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &bucket})
	e.check(err)
	if len(list.Uploads) != 0 {
		t.Errorf("uploads are left: %v", list.Uploads)
	}
}

// TestLifecycleVersions: an old version hides behind a marker, becomes
// noncurrent, goes, and the marker after it.
func TestLifecycleVersions(t *testing.T) {
	e := newEnv(t, "--lc-debug-interval", "1s")
	r := newReceiver(t)
	bucket := e.versionedBucket()
	e.notify(bucket, "n", e.topic("t", r.URL, "persistent", "true"), lifecycleEvents)
	for range 3 {
		e.put(bucket, "k", "data")
	}
	e.lifecycle(bucket,
		types.LifecycleRule{ID: aws.String("a"), Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)},
			NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(1)}},
		types.LifecycleRule{ID: aws.String("b"), Expiration: &types.LifecycleExpiration{ExpiredObjectDeleteMarker: aws.Bool(true)}},
	)
	e.eventually("nothing is left", func() bool {
		versions, markers := e.versions(bucket)
		return versions+markers == 0
	})
	k := []string{"k"}
	want := perEvent("ObjectLifecycle:Expiration:Current", k)
	for range 3 {
		want = append(want, perEvent("ObjectLifecycle:Expiration:NonCurrent", k)...)
	}
	r.wantExactly(e, append(want, perEvent("ObjectLifecycle:Expiration:DeleteMarker", k)...)...)
}
