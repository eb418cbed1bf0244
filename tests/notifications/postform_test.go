package notifications

import (
	"bytes"
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Row test_post_object_upload_amqp: an upload from a browser's form gives one
// ObjectCreated:Post, and a refused one nothing.
func TestPostObjectUpload(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", r.URL, "persistent", "true"), created)
	post := func(file string) int {
		t.Helper()
		signed, err := s3.NewPresignClient(e.s3).PresignPostObject(context.Background(),
			&s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("form/${filename}")},
			func(o *s3.PresignPostOptions) { o.Conditions = []any{[]any{"content-length-range", 1, 4}} })
		e.check(err)
		return e.postForm(signed.URL, signed.Values, "a.txt", file)
	}
	if got := post("too long"); got != http.StatusBadRequest {
		t.Errorf("POST of too much = %d, want 400", got)
	}
	if got := post("data"); got != http.StatusNoContent {
		t.Fatalf("POST = %d, want 204", got)
	}
	got := r.wantExactly(e, perEvent("ObjectCreated:Post", []string{"form/a.txt"})...)
	if size := got[0].S3.Object.Size; size != 4 {
		t.Errorf("size in the event = %d, want 4", size)
	}
}

// postForm sends a file as a browser does, and returns the status.
func (e *env) postForm(url string, fields map[string]string, name, file string) int {
	e.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name, value := range fields {
		e.check(w.WriteField(name, value))
	}
	part, err := w.CreateFormFile("file", name)
	e.check(err)
	_, err = io.WriteString(part, file)
	e.check(err)
	e.check(w.Close())
	resp, err := http.Post(url, w.FormDataContentType(), &body)
	e.check(err)
	e.check(resp.Body.Close())
	return resp.StatusCode
}

// Row test_post_object_upload_amqp, as it is: a form that nobody signed, to a
// bucket that everybody may write to. Events tell that nobody signed.
func TestPostObjectUpload_Anonymous(t *testing.T) {
	e := newEnv(t).user("alice", "")
	r := newReceiver(t)
	bucket := "public"
	_, err := e.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket, ACL: types.BucketCannedACLPublicReadWrite})
	e.check(err)
	e.notify(bucket, "n", e.topic("t", r.URL, "persistent", "true"), created, removed)
	private := e.bucket()
	e.notify(private, "n", e.topic("u", r.URL), created, removed)

	form := map[string]string{"key": "form.txt", "acl": "public-read", "Content-Type": "text/plain"}
	if got := e.postForm(e.g.URL+"/"+private, form, "a.txt", "bar"); got != http.StatusForbidden {
		t.Errorf("POST to a private bucket = %d, want 403", got)
	}
	if got := e.postForm(e.g.URL+"/"+bucket, form, "a.txt", "bar"); got != http.StatusNoContent {
		t.Fatalf("POST = %d, want 204", got)
	}
	out, err := e.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("form.txt")})
	e.check(err)
	body, err := io.ReadAll(out.Body)
	e.check(err)
	e.check(out.Body.Close())
	if string(body) != "bar" || aws.ToString(out.ContentType) != "text/plain" {
		t.Errorf("GetObject = %q, %q", body, aws.ToString(out.ContentType))
	}

	nobody := e.as("", "", "")
	nobody.s3 = s3.New(s3.Options{BaseEndpoint: &e.g.URL, Region: "us-east-1", UsePathStyle: true, Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1})
	nobody.put(bucket, "put.txt", "x")
	nobody.delete(bucket, "put.txt")
	_, err = nobody.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &private, Key: aws.String("k"), Body: strings.NewReader("x")})
	e.wantCode("PutObject by nobody", err, "AccessDenied")
	_, err = nobody.s3.GetBucketNotificationConfiguration(t.Context(), &s3.GetBucketNotificationConfigurationInput{Bucket: &bucket})
	e.wantCode("GetBucketNotificationConfiguration by nobody", err, "AccessDenied")
	err = nobody.putNotifications(bucket)
	e.wantCode("PutBucketNotificationConfiguration by nobody", err, "AccessDenied")

	got := r.wantExactly(e, "ObjectCreated:Post form.txt", "ObjectCreated:Put put.txt", "ObjectRemoved:Delete put.txt")
	for _, ev := range got {
		if ev.UserIdentity.PrincipalID != "anonymous" || ev.S3.Bucket.OwnerIdentity.PrincipalID != "alice" {
			t.Errorf("%s by %q in the bucket of %q", ev.EventName, ev.UserIdentity.PrincipalID, ev.S3.Bucket.OwnerIdentity.PrincipalID)
		}
	}
	// To set an ACL is no event (RGW).
	_, err = e.s3.PutObjectAcl(t.Context(), &s3.PutObjectAclInput{Bucket: &bucket, Key: aws.String("form.txt"), ACL: types.ObjectCannedACLPrivate})
	e.wantCode("PutObjectAcl by the bucket's owner", err, "AccessDenied")
	_, err = nobody.s3.PutObjectAcl(t.Context(), &s3.PutObjectAclInput{Bucket: &bucket, Key: aws.String("form.txt"), ACL: types.ObjectCannedACLPrivate})
	e.check(err)
	e.put(bucket, "last", "x")
	if got := r.want(e, 4)[3]; got.S3.Object.Key != "last" || got.UserIdentity.PrincipalID != "alice" {
		t.Errorf("the event after PutObjectAcl = %s %s by %s", got.EventName, got.S3.Object.Key, got.UserIdentity.PrincipalID)
	}
}
