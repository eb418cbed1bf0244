package s3compat

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"herald/tests/gatewaytest"
)

// newUser makes a user with the given e-mail address, and a client of it.
func newUser(t *testing.T, g *gatewaytest.Gateway, uid string) *s3.Client {
	t.Helper()
	access, secret := strings.ToUpper(uid)+"ACCESSKEY0000", uid+"-secret-key-of-forty-characters-0000"
	g.MustAdmin("user", "create", "--uid", uid, "--display-name", uid, "--email", uid+"@example.com", "--access-key", access, "--secret-key", secret)
	return newClient(g, credentials.NewStaticCredentialsProvider(access, secret, ""))
}

func newClient(g *gatewaytest.Gateway, who aws.CredentialsProvider) *s3.Client {
	return s3.New(s3.Options{BaseEndpoint: &g.URL, Region: "us-east-1", UsePathStyle: true, Credentials: who, RetryMaxAttempts: 1})
}

// accesses are what the matrix of TestACL tries on a bucket and its object
// "k", by a letter each.
var accesses = []struct {
	letter string
	try    func(ctx context.Context, c *s3.Client, bucket *string) error
}{
	{"l", func(ctx context.Context, c *s3.Client, bucket *string) error {
		_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket})
		return err
	}},
	{"p", func(ctx context.Context, c *s3.Client, bucket *string) error {
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("new"), Body: strings.NewReader("x")})
		return err
	}},
	{"d", func(ctx context.Context, c *s3.Client, bucket *string) error {
		_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("new")})
		return err
	}},
	{"A", func(ctx context.Context, c *s3.Client, bucket *string) error {
		_, err := c.GetBucketAcl(ctx, &s3.GetBucketAclInput{Bucket: bucket})
		return err
	}},
	{"v", func(ctx context.Context, c *s3.Client, bucket *string) error {
		_, err := c.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: bucket})
		return err
	}},
	{"g", func(ctx context.Context, c *s3.Client, bucket *string) error {
		out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("k")})
		if err == nil {
			_, err = io.Copy(io.Discard, out.Body)
			err = errors.Join(err, out.Body.Close())
		}
		return err
	}},
	{"h", func(ctx context.Context, c *s3.Client, bucket *string) error {
		_, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("k")})
		return err
	}},
	{"a", func(ctx context.Context, c *s3.Client, bucket *string) error {
		_, err := c.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: bucket, Key: aws.String("k")})
		return err
	}},
	{"s", func(ctx context.Context, c *s3.Client, bucket *string) error {
		_, err := c.PutObjectAcl(ctx, &s3.PutObjectAclInput{Bucket: bucket, Key: aws.String("k"), ACL: types.ObjectCannedACLPrivate})
		return err
	}},
}

// TestACL: who may do what with a bucket and an object under each canned ACL,
// and under grants.
func TestACL(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	owner, other, nobody := newUser(t, g, "alice"), newUser(t, g, "bob"), newClient(g, aws.AnonymousCredentials{})
	ctx := t.Context()
	const all = "lpdAvghas"
	tests := []struct {
		name          string
		bucket        s3.CreateBucketInput
		object        s3.PutObjectInput
		other, nobody string // what they may; the owner may all
	}{
		{name: "private"},
		{"public-read", s3.CreateBucketInput{ACL: "public-read"}, s3.PutObjectInput{}, "l", "l"},
		{"public-read-write", s3.CreateBucketInput{ACL: "public-read-write"}, s3.PutObjectInput{}, "lpd", "lpd"},
		{"authenticated-read", s3.CreateBucketInput{ACL: "authenticated-read"}, s3.PutObjectInput{}, "l", ""},
		{"object-public-read", s3.CreateBucketInput{}, s3.PutObjectInput{ACL: "public-read"}, "gh", "gh"},
		{"object-public-read-write", s3.CreateBucketInput{}, s3.PutObjectInput{ACL: "public-read-write"}, "gh", "gh"},
		{"object-authenticated-read", s3.CreateBucketInput{}, s3.PutObjectInput{ACL: "authenticated-read"}, "gh", ""},
		{"object-bucket-owner-read", s3.CreateBucketInput{}, s3.PutObjectInput{ACL: "bucket-owner-read"}, "", ""},
		{"grant-read", s3.CreateBucketInput{GrantRead: aws.String("id=bob")}, s3.PutObjectInput{GrantRead: aws.String(`id="bob"`)}, "lgh", ""},
		{"grant-write", s3.CreateBucketInput{GrantWrite: aws.String("emailAddress=bob@example.com")}, s3.PutObjectInput{}, "pd", ""},
		{"grant-acp", s3.CreateBucketInput{GrantReadACP: aws.String("id=bob"), GrantRead: aws.String("uri=http://acs.amazonaws.com/groups/global/AllUsers")},
			s3.PutObjectInput{GrantReadACP: aws.String("id=bob"), GrantWriteACP: aws.String("id=bob")}, "lAas", "l"},
		{"grant-full", s3.CreateBucketInput{GrantFullControl: aws.String("id=bob")}, s3.PutObjectInput{GrantFullControl: aws.String("id=bob")}, "lpdAghas", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bucket := aws.String("b-" + tt.name)
			tt.bucket.Bucket, tt.object.Bucket, tt.object.Key = bucket, bucket, aws.String("k")
			must[*s3.CreateBucketOutput](t)(owner.CreateBucket(ctx, &tt.bucket))
			for who, c := range map[string]*s3.Client{"owner": owner, "other": other, "nobody": nobody} {
				want := map[string]string{"owner": all, "other": tt.other, "nobody": tt.nobody}[who]
				tt.object.Body = strings.NewReader("data")
				must[*s3.PutObjectOutput](t)(owner.PutObject(ctx, &tt.object))
				for _, a := range accesses {
					err := a.try(ctx, c, bucket)
					var response *awshttp.ResponseError
					switch {
					case strings.Contains(want, a.letter):
						if err != nil {
							t.Errorf("%s by %s: %v", a.letter, who, err)
						}
					case !errors.As(err, &response) || response.HTTPStatusCode() != http.StatusForbidden:
						t.Errorf("%s by %s: %v, want 403", a.letter, who, err)
					}
				}
			}
		})
	}
}

// TestACL_Document: what an SDK writes and reads of ACLs, of versions too.
func TestACL_Document(t *testing.T) {
	g := gatewaytest.Start(t, gatewaytest.Options{})
	owner, other, nobody := newUser(t, g, "alice"), newUser(t, g, "bob"), newClient(g, aws.AnonymousCredentials{})
	ctx := t.Context()
	bucket, key := aws.String("versions"), aws.String("k")
	must[*s3.CreateBucketOutput](t)(owner.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}))
	must[*s3.PutBucketVersioningOutput](t)(owner.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
		Bucket: bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	}))
	first := must[*s3.PutObjectOutput](t)(owner.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("one")})).VersionId
	must[*s3.PutObjectOutput](t)(owner.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("two")}))

	grants := []types.Grant{
		{Grantee: &types.Grantee{Type: types.TypeGroup, URI: aws.String("http://acs.amazonaws.com/groups/global/AllUsers")}, Permission: types.PermissionRead},
		{Grantee: &types.Grantee{Type: types.TypeCanonicalUser, ID: aws.String("alice"), DisplayName: aws.String("alice")}, Permission: types.PermissionFullControl},
		{Grantee: &types.Grantee{Type: types.TypeAmazonCustomerByEmail, EmailAddress: aws.String("Bob@example.com")}, Permission: types.PermissionWriteAcp},
	}
	policy := &types.AccessControlPolicy{Owner: &types.Owner{ID: aws.String("alice")}, Grants: grants}
	must[*s3.PutObjectAclOutput](t)(owner.PutObjectAcl(ctx, &s3.PutObjectAclInput{Bucket: bucket, Key: key, VersionId: first, AccessControlPolicy: policy}))
	got := must[*s3.GetObjectAclOutput](t)(owner.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: bucket, Key: key, VersionId: first}))
	if aws.ToString(got.Owner.ID) != "alice" || len(got.Grants) != 3 || got.Grants[0].Grantee.Type != types.TypeGroup ||
		aws.ToString(got.Grants[2].Grantee.ID) != "bob" || got.Grants[2].Permission != types.PermissionWriteAcp {
		t.Errorf("GetObjectAcl = %+v", got)
	}
	out := must[*s3.GetObjectOutput](t)(nobody.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, VersionId: first}))
	if body := must[[]byte](t)(io.ReadAll(out.Body)); string(body) != "one" {
		t.Errorf("GetObject = %q", body)
	}
	_, err := nobody.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	wantCode(t, "GetObject of the private version", err, "AccessDenied")
	must[*s3.PutObjectAclOutput](t)(other.PutObjectAcl(ctx, &s3.PutObjectAclInput{Bucket: bucket, Key: key, VersionId: first, ACL: types.ObjectCannedACLPrivate}))
	_, err = nobody.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, VersionId: first})
	wantCode(t, "GetObject of the version that is private again", err, "AccessDenied")

	policy.Grants[2].Grantee.EmailAddress = aws.String("nobody@example.com")
	_, err = owner.PutBucketAcl(ctx, &s3.PutBucketAclInput{Bucket: bucket, AccessControlPolicy: policy})
	wantCode(t, "PutBucketAcl for an unknown address", err, "UnresolvableGrantByEmailAddress")
	_, err = owner.PutBucketAcl(ctx, &s3.PutBucketAclInput{Bucket: bucket, ACL: types.BucketCannedACLPrivate, GrantRead: aws.String("id=bob")})
	wantCode(t, "PutBucketAcl with both", err, "InvalidRequest")
	policy.Owner = nil
	_, err = owner.PutBucketAcl(ctx, &s3.PutBucketAclInput{Bucket: bucket, AccessControlPolicy: policy})
	wantCode(t, "PutBucketAcl without an owner", err, "MalformedACLError")

	buckets := must[*s3.ListBucketsOutput](t)(other.ListBuckets(ctx, &s3.ListBucketsInput{}))
	if len(buckets.Buckets) > 0 {
		t.Errorf("ListBuckets of another = %d buckets", len(buckets.Buckets))
	}
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("%s = %v, want %s", what, err, code)
	}
}

// wantForbidden fetches a URL that nobody signed.
func wantForbidden(t *testing.T, url string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("GET %s = %s, %v, want 403", url, resp.Status, err)
	}
}
