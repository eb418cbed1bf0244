package s3api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	gocmp "github.com/google/go-cmp/cmp"
)

// postForm is a form of a test. It is signed by alice unless user says
// otherwise, in version 2, which needs no date; the SDK's test has version 4.
type postForm struct {
	user       string
	fields     [][2]string // beside those of the signature
	conditions []any       // beside the bucket's
	policy     string      // instead of conditions
	without    string      // a field of the signature that is left out
	file       string
	filename   string
	noFile     bool
	path       string // default "/bkt"
}

// call builds the request.
func (p postForm) call(t *testing.T) call {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	field := func(name, value string) {
		if name == p.without {
			return
		}
		if err := w.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range p.fields {
		field(f[0], f[1])
	}
	if p.policy == "" {
		doc, err := json.Marshal(map[string]any{
			"expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
			"conditions": append([]any{map[string]string{"bucket": "bkt"}}, p.conditions...),
		})
		if err != nil {
			t.Fatal(err)
		}
		p.policy = string(doc)
	}
	if p.user != "-" {
		user := cmp.Or(p.user, "alice")
		policy := base64.StdEncoding.EncodeToString([]byte(p.policy))
		mac := hmac.New(sha1.New, []byte(testSecretKey(user)))
		mac.Write([]byte(policy))
		field("AWSAccessKeyId", testAccessKey(user))
		field("policy", policy)
		field("signature", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	if !p.noFile {
		part, err := w.CreateFormFile("file", p.filename)
		if err == nil {
			_, err = io.WriteString(part, p.file)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if p.path == "" {
		p.path = "/bkt"
	}
	return call{user: "-", method: "POST", path: p.path, body: body.String(), header: http.Header{"Content-Type": {w.FormDataContentType()}}}
}

// startsWith is a condition.
func startsWith(field, value string) []any { return []any{"starts-with", "$" + field, value} }

func TestPostObject(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	large := strings.Repeat("0123456789abcdef", 3<<16)
	tests := []struct {
		name   string
		form   postForm
		status int
		key    string
		body   string // of the answer
		header http.Header
	}{
		{name: "plain", form: postForm{fields: [][2]string{{"key", "plain"}}, conditions: []any{startsWith("key", "pl")}, file: "data"}, status: 204, key: "plain"},
		{name: "large", form: postForm{fields: [][2]string{{"key", "large"}}, conditions: []any{startsWith("key", "")}, file: large}, status: 204, key: "large"},
		{name: "empty", form: postForm{fields: [][2]string{{"key", "empty"}}, conditions: []any{startsWith("key", "")}}, status: 204, key: "empty"},
		{name: "filename", form: postForm{fields: [][2]string{{"Key", "up/${filename}"}}, conditions: []any{startsWith("KEY", "up/")}, file: "x", filename: `C:\photos\me.jpg`}, status: 204, key: "up/me.jpg"},
		{name: "filename alone", form: postForm{fields: [][2]string{{"key", "${filename}"}}, conditions: []any{startsWith("key", "foo")}, file: "x", filename: "foo.txt"}, status: 204, key: "foo.txt"},
		{name: "dollar", form: postForm{fields: [][2]string{{"key", `\$foo`}}, conditions: []any{startsWith("key", `\$f`)}, file: "x"}, status: 204, key: `\$foo`},
		{
			name: "headers",
			form: postForm{
				fields: [][2]string{
					{"key", "h"}, {"acl", "private"}, {"Content-Type", "text/plain"}, {"x-amz-meta-color", "blue"}, {"Cache-Control", "no-cache"},
					{"tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"}, {"x-ignore-this", "y"},
				},
				conditions: []any{
					startsWith("key", ""), map[string]string{"acl": "private"}, startsWith("Content-Type", "text/"), []any{"eq", "$x-amz-meta-color", "blue"},
					startsWith("cache-control", ""), startsWith("tagging", ""),
				},
				file: "x",
			},
			status: 204, key: "h",
			header: http.Header{"Content-Type": {"text/plain"}, "X-Amz-Meta-Color": {"blue"}, "Cache-Control": {"no-cache"}, "X-Amz-Tagging-Count": {"1"}},
		},
		{name: "status 200", form: postForm{fields: [][2]string{{"key", "s"}, {"success_action_status", "200"}}, conditions: []any{startsWith("key", ""), startsWith("success_action_status", "")}, file: "x"}, status: 200, key: "s"},
		{name: "status unknown", form: postForm{fields: [][2]string{{"key", "s"}, {"success_action_status", "404"}}, conditions: []any{startsWith("key", ""), startsWith("success_action_status", "")}, file: "x"}, status: 204, key: "s"},
		{name: "checksum", form: postForm{fields: [][2]string{{"key", "c"}, {"x-amz-checksum-crc32", "jNwWgw=="}}, conditions: []any{startsWith("key", ""), startsWith("x-amz-checksum-crc32", "")}, file: "x"}, status: 204, key: "c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.t = t
			a := f.want(tt.status, tt.form.call(t))
			if a.header.Get("ETag") == "" {
				t.Error("no ETag")
			}
			got := f.want(200, call{method: "GET", path: "/bkt/" + strings.ReplaceAll(strings.ReplaceAll(tt.key, `\`, "%5C"), "$", "%24")})
			if got.body != tt.form.file {
				t.Errorf("GET = %d bytes, want %d", len(got.body), len(tt.form.file))
			}
			for name, want := range tt.header {
				if diff := gocmp.Diff(want, got.header[name]); diff != "" {
					t.Errorf("%s (-want +got): %s", name, diff)
				}
			}
		})
	}
}

func TestPostObject_Answers(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	f.http.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	form := postForm{
		fields:     [][2]string{{"key", "a b"}, {"success_action_status", "201"}},
		conditions: []any{startsWith("key", ""), startsWith("success_action_status", "")}, file: "hello",
	}
	a := f.want(201, form.call(t))
	wantXML(t, a.body, `<PostResponse><Location>`+f.http.URL+`/bkt/a%20b</Location><Bucket>bkt</Bucket><Key>a b</Key><ETag>&#34;5d41402abc4b2a76b9719d911017c592&#34;</ETag></PostResponse>`)

	form.fields[1] = [2]string{"success_action_redirect", "https://example.com/done?x=1"}
	form.conditions[1] = startsWith("success_action_redirect", "https://example.com/")
	a = f.want(303, form.call(t))
	const want = "https://example.com/done?x=1&bucket=bkt&key=a+b&etag=%225d41402abc4b2a76b9719d911017c592%22"
	if got := a.header.Get("Location"); got != want {
		t.Errorf("Location = %s, want %s", got, want)
	}

	form.fields[1] = [2]string{"success_action_redirect", "javascript:alert(1)"}
	form.conditions[1] = startsWith("success_action_redirect", "")
	f.want(204, form.call(t))
}

func TestPostObject_Refused(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	key := [][2]string{{"key", "k"}}
	anyKey := []any{startsWith("key", "")}
	expires := `"expiration":"` + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + `"`
	tests := []struct {
		name   string
		form   postForm
		status int
		code   code
	}{
		{"anonymous", postForm{user: "-", fields: key}, 403, codeAccessDenied},
		{"another's bucket", postForm{user: "bob", fields: key, conditions: anyKey}, 403, codeAccessDenied},
		{"unknown key", postForm{user: "nobody", fields: key, conditions: anyKey}, 403, codeInvalidAccessKeyID},
		{"no such bucket", postForm{path: "/none", fields: key, policy: `{` + expires + `,"conditions":[{"bucket":"none"},["starts-with","$key",""]]}`}, 404, codeNoSuchBucket},
		{"no signature", postForm{without: "signature", fields: key, conditions: anyKey}, 400, codeInvalidArgument},
		{"no access key", postForm{without: "AWSAccessKeyId", fields: key, conditions: anyKey}, 400, codeInvalidArgument},
		{"no key", postForm{}, 400, codeInvalidArgument},
		{"no file", postForm{fields: key, conditions: anyKey, noFile: true}, 400, codeInvalidArgument},
		{"two keys", postForm{fields: [][2]string{{"key", "a"}, {"Key", "b"}}, conditions: anyKey}, 400, codeInvalidArgument},
		{"long key", postForm{fields: [][2]string{{"key", strings.Repeat("k", 1025)}}, conditions: anyKey}, 400, codeKeyTooLong},
		{"too many fields", postForm{fields: append([][2]string{{"x-ignore-1", strings.Repeat("k", 21<<10)}}, key...), conditions: anyKey}, 400, codeMaxPostPreDataLength},
		{"field without condition", postForm{fields: append([][2]string{{"x-amz-meta-a", "1"}}, key...), conditions: anyKey}, 403, codeAccessDenied},
		{"condition without field", postForm{fields: key, conditions: append([]any{startsWith("x-amz-meta-a", "1")}, anyKey...)}, 403, codeAccessDenied},
		{"value", postForm{fields: key, conditions: []any{startsWith("key", "other")}}, 403, codeAccessDenied},
		{"bucket", postForm{fields: key, policy: `{` + expires + `,"conditions":[{"bucket":"c"},["starts-with","$key",""]]}`}, 403, codeAccessDenied},
		{"no bucket in the policy", postForm{fields: key, policy: `{` + expires + `,"conditions":[["starts-with","$key",""]]}`}, 403, codeAccessDenied},
		{"expired", postForm{fields: key, policy: `{"expiration":"2020-01-01T00:00:00Z","conditions":[{"bucket":"bkt"},["starts-with","$key",""]]}`}, 403, codeAccessDenied},
		{"date", postForm{fields: key, policy: `{"expiration":"2020-01-01 00:00:00","conditions":[{"bucket":"bkt"}]}`}, 400, codeInvalidPolicyDocument},
		{"no expiration", postForm{fields: key, policy: `{"conditions":[{"bucket":"bkt"}]}`}, 400, codeInvalidPolicyDocument},
		{"case", postForm{fields: key, policy: `{` + expires + `,"CONDITIONS":[{"bucket":"bkt"}]}`}, 400, codeInvalidPolicyDocument},
		{"empty condition", postForm{fields: key, policy: `{` + expires + `,"conditions":[{}]}`}, 400, codeInvalidPolicyDocument},
		{"operator", postForm{fields: key, policy: `{` + expires + `,"conditions":[["ends-with","$key","a"]]}`}, 400, codeInvalidPolicyDocument},
		{"no document", postForm{fields: key, policy: `nothing`}, 400, codeInvalidPolicyDocument},
		{"range of one", postForm{fields: key, conditions: append([]any{[]any{"content-length-range", 0}}, anyKey...)}, 400, codeInvalidPolicyDocument},
		{"range below zero", postForm{fields: key, conditions: append([]any{[]any{"content-length-range", -1, 5}}, anyKey...)}, 400, codeInvalidPolicyDocument},
		{"too large", postForm{fields: key, file: "123456", conditions: append([]any{[]any{"content-length-range", 0, 5}}, anyKey...)}, 400, codeEntityTooLarge},
		{"too small", postForm{fields: key, file: "1", conditions: append([]any{[]any{"content-length-range", 2, 5}}, anyKey...)}, 400, codeEntityTooSmall},
		{"checksum", postForm{fields: append([][2]string{{"x-amz-checksum-crc32", "AAAAAA=="}}, key...), file: "1", conditions: append([]any{startsWith("x-amz-checksum-crc32", "")}, anyKey...)}, 400, codeBadDigest},
		{"ACL", postForm{fields: append([][2]string{{"acl", "public"}}, key...), conditions: append([]any{startsWith("acl", "")}, anyKey...)}, 400, codeInvalidArgument},
		{"tags", postForm{fields: append([][2]string{{"tagging", "a=b"}}, key...), conditions: append([]any{startsWith("tagging", "")}, anyKey...)}, 400, codeMalformedXML},
		{"token", postForm{fields: append([][2]string{{"x-amz-security-token", "t"}}, key...), conditions: append([]any{startsWith("x-amz-security-token", "")}, anyKey...)}, 400, codeInvalidToken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.t = t
			f.wantError(tt.status, tt.code, tt.form.call(t))
			f.want(404, call{method: "HEAD", path: "/bkt/k"})
		})
	}

	good := postForm{fields: key, conditions: anyKey, file: "data"}.call(t)
	t.Run("type", func(t *testing.T) {
		f.t = t
		c := good
		c.header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
		f.wantError(412, codePreconditionFailed, c)
	})
	t.Run("cut", func(t *testing.T) {
		f.t = t
		c := good
		c.body = c.body[:strings.Index(c.body, "data\r\n")+2]
		f.wantError(400, codeIncompleteBody, c)
		f.want(404, call{method: "HEAD", path: "/bkt/k"})
	})
	t.Run("garbage", func(t *testing.T) {
		f.t = t
		c := good
		c.body = "no form"
		f.wantError(400, codeInvalidArgument, c)
	})
	f.t = t
	f.want(204, good)
}

// The bucket is the signer's tenant's.
func TestPostObject_Tenant(t *testing.T) {
	f := newFixture(t, nil)
	f.want(200, call{user: "carol", method: "PUT", path: "/bkt"})
	f.want(204, postForm{user: "carol", fields: [][2]string{{"key", "k"}}, conditions: []any{startsWith("key", "")}, file: "x"}.call(t))
	if got := f.want(200, call{user: "carol", method: "GET", path: "/bkt/k"}); got.body != "x" {
		t.Errorf("GET = %q", got.body)
	}
	f.want(200, call{method: "PUT", path: "/bkt"}) // alice's, without a tenant
	f.want(404, call{method: "HEAD", path: "/bkt/k"})
}

// TestPostObject_PolicyOfOtherTenant: a policy is for the bucket of its signer's
// tenant, whatever tenant the form is sent to.
func TestPostObject_PolicyOfOtherTenant(t *testing.T) {
	f := newFixture(t, nil)
	f.want(200, call{user: "carol", method: "PUT", path: "/bkt"})
	f.want(200, call{user: "root", method: "PUT", path: "/bkt"})
	form := postForm{user: "root", path: "/acme:bkt", fields: [][2]string{{"key", "k"}}, conditions: []any{startsWith("key", "")}, file: "x"}
	f.wantError(403, codeAccessDenied, form.call(t))
	f.wantError(404, codeNoSuchKey, call{user: "carol", method: "GET", path: "/bkt/k"})
	form.path = "/:bkt"
	f.want(204, form.call(t))
	form.path = "/acme:bkt"
	form.policy = fmt.Sprintf(`{"expiration":%q,"conditions":[{"bucket":"acme:bkt"},["starts-with","$key",""]]}`,
		time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	f.want(204, form.call(t))
}

// FuzzPostObject: no form of a stranger's stores anything or breaks the server.
func FuzzPostObject(f *testing.F) {
	for _, s := range []string{
		"--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"n\"\r\n\r\ndata\r\n--x--\r\n",
		"--x\r\nContent-Disposition: form-data; name=\"policy\"\r\n\r\ne30=\r\n--x\r\nContent-Disposition: form-data; name=\"x-amz-algorithm\"\r\n\r\nAWS4-HMAC-SHA256\r\n--x--\r\n",
		"--x--", "", "--x\r\n\r\n",
	} {
		f.Add("multipart/form-data; boundary=x", s)
	}
	fx := newFixture(f, nil)
	fx.bucket("bkt")
	f.Fuzz(func(t *testing.T, kind, body string) {
		if strings.ContainsAny(kind, "\r\n\x00") || !visible(kind) {
			t.Skip()
		}
		fx.t = t
		a := fx.do(call{user: "-", method: "POST", path: "/bkt", body: body, header: http.Header{"Content-Type": {kind}}})
		if a.status < 400 || a.status >= 500 {
			t.Errorf("%q %q = %d %s", kind, body, a.status, a.body)
		}
	})
}

func visible(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}

// The fields that the Go SDK makes are taken as they are.
func TestPostObject_SDK(t *testing.T) {
	f := newFixture(t, nil)
	f.bucket("bkt")
	signed, err := s3.NewPresignClient(f.sdk()).PresignPostObject(context.Background(),
		&s3.PutObjectInput{Bucket: aws.String("bkt"), Key: aws.String("sdk/${filename}")})
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name, value := range signed.Values {
		if err := w.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	part, err := w.CreateFormFile("file", "f.txt")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(part, "from the SDK")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(signed.URL, w.FormDataContentType(), &body)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != 204 {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("POST = %d %s", resp.StatusCode, text)
	}
	if got := f.want(200, call{method: "GET", path: "/bkt/sdk/f.txt"}); got.body != "from the SDK" {
		t.Errorf("GET = %q", got.body)
	}
}
