package s3api

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sns"
)

// form sends an action of the topic API; values are names and values.
func (f *fixture) form(user, action string, values ...string) answer {
	f.t.Helper()
	return f.do(formCall(user, action, values...))
}

func formCall(user, action string, values ...string) call {
	v := url.Values{"Action": {action}}
	for i := 0; i < len(values); i += 2 {
		v.Set(values[i], values[i+1])
	}
	return call{user: user, method: "POST", path: "/", body: v.Encode(),
		header: http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}}}
}

// topic makes a topic of a user with attributes and returns its ARN.
func (f *fixture) topic(user, name string, attrs ...string) string {
	f.t.Helper()
	values := []string{"Name", name}
	for i := 0; i < len(attrs); i += 2 {
		n := fmt.Sprint(i + 7) // any number will do
		values = append(values, "Attributes.entry."+n+".key", attrs[i], "Attributes.entry."+n+".value", attrs[i+1])
	}
	a := f.form(user, "CreateTopic", values...)
	_, rest, _ := strings.Cut(a.body, "<TopicArn>")
	arn, _, ok := strings.Cut(rest, "</TopicArn>")
	if a.status != 200 || !ok {
		f.t.Fatalf("CreateTopic %s = %d %s", name, a.status, a.body)
	}
	return arn
}

func (f *fixture) wantForm(status int, c code, user, action string, values ...string) answer {
	f.t.Helper()
	a := f.form(user, action, values...)
	if a.status != status || c != "" && !strings.Contains(a.body, "<Code>"+string(c)+"</Code>") {
		f.t.Errorf("%s %q = %d %s, want %d %s", action, values, a.status, a.body, status, c)
	}
	return a
}

func TestTopic_Documents(t *testing.T) {
	f := newFixture(t, nil)
	a := f.wantForm(200, "", "carol", "ListTopics")
	wantXML(t, a.body, `<ListTopicsResponse xmlns="https://sns.amazonaws.com/doc/2010-03-31/"><ListTopicsResult><Topics></Topics></ListTopicsResult>
		<ResponseMetadata><RequestId>ID</RequestId></ResponseMetadata></ListTopicsResponse>`)
	a = f.wantForm(200, "", "carol", "CreateTopic", "Name", "t", "Version", "2010-03-31",
		"Attributes.entry.3.key", "push-endpoint", "Attributes.entry.3.value", "http://127.0.0.1:9/a?b=c&d",
		"Attributes.entry.12.value", "true", "Attributes.entry.12.key", "persistent",
		"Attributes.entry.1.key", "verify-ssl", "Attributes.entry.1.value", "false",
		"Attributes.entry.4.key", "max_retries", "Attributes.entry.4.value", "None",
		"Attributes.entry.5.key", "time_to_live", "Attributes.entry.5.value", "30",
		"Attributes.entry.6.key", "OpaqueData", "Attributes.entry.6.value", "<&>",
		"cloudevents", "true", "Tags.member.1.Key", "x")
	wantXML(t, a.body, `<CreateTopicResponse xmlns="https://sns.amazonaws.com/doc/2010-03-31/"><CreateTopicResult><TopicArn>arn:aws:sns:default:acme:t</TopicArn></CreateTopicResult>
		<ResponseMetadata><RequestId>ID</RequestId></ResponseMetadata></CreateTopicResponse>`)
	children := `<User>acme$carol</User><Name>t</Name>
		<EndPoint><EndpointAddress>http://127.0.0.1:9/a?b=c&amp;d</EndpointAddress><EndpointArgs>cloudevents=true&amp;verify-ssl=false</EndpointArgs><EndpointTopic>t</EndpointTopic>
		<HasStoredSecret>false</HasStoredSecret><Persistent>true</Persistent><TimeToLive>30</TimeToLive><MaxRetries>None</MaxRetries><RetrySleepDuration>None</RetrySleepDuration></EndPoint>
		<TopicArn>arn:aws:sns:default:acme:t</TopicArn><OpaqueData>&lt;&amp;&gt;</OpaqueData><Policy></Policy>`
	const arn = "arn:aws:sns:default:acme:t"
	wantXML(t, f.wantForm(200, "", "carol", "GetTopic", "TopicArn", arn).body, `<GetTopicResponse><GetTopicResult><Topic>`+children+`</Topic></GetTopicResult>
		<ResponseMetadata><RequestId>ID</RequestId></ResponseMetadata></GetTopicResponse>`)
	wantXML(t, f.wantForm(200, "", "carol", "ListTopics").body, `<ListTopicsResponse xmlns="https://sns.amazonaws.com/doc/2010-03-31/"><ListTopicsResult><Topics><member>`+children+`</member></Topics></ListTopicsResult>
		<ResponseMetadata><RequestId>ID</RequestId></ResponseMetadata></ListTopicsResponse>`)
	wantXML(t, f.wantForm(200, "", "carol", "SetTopicAttributes", "TopicArn", arn, "AttributeName", "OpaqueData", "AttributeValue", "").body,
		`<SetTopicAttributesResponse xmlns="https://sns.amazonaws.com/doc/2010-03-31/"><ResponseMetadata><RequestId>ID</RequestId></ResponseMetadata></SetTopicAttributesResponse>`)
	a = f.wantForm(200, "", "carol", "GetTopicAttributes", "TopicArn", arn)
	if want := `<entry><key>EndPoint</key><value>{&#34;EndpointAddress&#34;:&#34;http://127.0.0.1:9/a?b=c\u0026d&#34;,&#34;EndpointArgs&#34;:&#34;cloudevents=true\u0026verify-ssl=false&#34;,&#34;EndpointTopic&#34;:&#34;t&#34;,&#34;HasStoredSecret&#34;:false,&#34;Persistent&#34;:true,&#34;TimeToLive&#34;:&#34;30&#34;,&#34;MaxRetries&#34;:&#34;None&#34;,&#34;RetrySleepDuration&#34;:&#34;None&#34;}</value></entry><entry><key>TopicArn</key>`; !strings.Contains(a.body, want) {
		t.Errorf("GetTopicAttributes = %s, want %s", a.body, want)
	}
	for range 2 {
		wantXML(t, f.wantForm(200, "", "carol", "DeleteTopic", "TopicArn", arn).body,
			`<DeleteTopicResponse xmlns="https://sns.amazonaws.com/doc/2010-03-31/"><ResponseMetadata><RequestId>ID</RequestId></ResponseMetadata></DeleteTopicResponse>`)
	}
	a = f.wantForm(404, codeNotFound, "carol", "GetTopic", "TopicArn", arn)
	if !strings.Contains(a.body, `<ErrorResponse xmlns="https://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type>`) {
		t.Errorf("error document = %s", a.body)
	}
}

func TestTopic_Errors(t *testing.T) {
	f := newFixture(t, nil)
	arn := f.topic("alice", "t")
	attr := func(k, v string) []string {
		return []string{"Name", "x", "Attributes.entry.1.key", k, "Attributes.entry.1.value", v}
	}
	long := strings.Repeat("x", maxTopicSize)
	tests := []struct {
		name   string
		action string
		values []string
		status int
		code   code
	}{
		{"unknown action", "Publish", nil, 405, codeMethodNotAllowed},
		{"no action", "", nil, 405, codeMethodNotAllowed},
		{"no name", "CreateTopic", nil, 400, codeInvalidArgument},
		{"bad name", "CreateTopic", []string{"Name", "a.b"}, 400, codeInvalidArgument},
		{"bad endpoint", "CreateTopic", attr("push-endpoint", "http://["), 400, codeInvalidArgument},
		{"secret", "CreateTopic", attr("push-endpoint", "http://u:p@h"), 400, codeInvalidArgument},
		{"password alone", "CreateTopic", attr("password", "p"), 400, codeInvalidArgument},
		{"policy", "CreateTopic", attr("Policy", `{"Statement":[]}`), 400, codeMalformedPolicyDocument},
		{"long attribute", "CreateTopic", attr("OpaqueData", long), 400, codeInvalidArgument},
		{"no ARN", "DeleteTopic", nil, 400, codeInvalidArgument},
		{"bad ARN", "GetTopicAttributes", []string{"TopicArn", "arn:aws:s3:::x"}, 400, codeInvalidArgument},
		{"no topic", "SetTopicAttributes", []string{"TopicArn", arn + "x", "AttributeName", "OpaqueData"}, 404, codeNotFound},
		{"no attribute", "SetTopicAttributes", []string{"TopicArn", arn}, 400, codeInvalidArgument},
		{"unknown attribute", "SetTopicAttributes", []string{"TopicArn", arn, "AttributeName", "x"}, 400, codeInvalidArgument},
		{"set policy", "SetTopicAttributes", []string{"TopicArn", arn, "AttributeName", "Policy", "AttributeValue", "x"}, 400, codeMalformedPolicyDocument},
		{"set secret", "SetTopicAttributes", []string{"TopicArn", arn, "AttributeName", "ssl-key-password", "AttributeValue", "x"}, 400, codeInvalidArgument},
		{"set secret endpoint", "SetTopicAttributes", []string{"TopicArn", arn, "AttributeName", "push-endpoint", "AttributeValue", "http://u:p@h"}, 400, codeInvalidArgument},
		{"set long", "SetTopicAttributes", []string{"TopicArn", arn, "AttributeName", "OpaqueData", "AttributeValue", long + "x"}, 400, codeInvalidArgument},
		{"bad token", "ListTopics", []string{"NextToken", "?"}, 400, codeInvalidArgument},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := *f
			g.t = t
			g.wantForm(tt.status, tt.code, "alice", tt.action, tt.values...)
		})
	}
	f.wantError(400, codeInvalidRequest, formCall("-", "ListTopics"))
	f.wantError(400, codeInvalidArgument, call{method: "POST", path: "/", body: "Action=%zz"})
	f.wantError(400, codeMaxMessageLengthExceeded, call{method: "POST", path: "/", body: strings.Repeat("x", maxForm+1)})
	f.wantError(400, codeInvalidArgument, call{method: "POST", path: "/", body: manyFields(maxFormFields + 1)})
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "f%d=&", i)
	}
	return b.String()
}

func TestTopic_Secrets(t *testing.T) {
	const endpoint = "https://user:password@127.0.0.1:9"
	create := func(f *fixture, h http.Header) answer {
		c := formCall("alice", "CreateTopic", "Name", "s", "Attributes.entry.1.key", "push-endpoint", "Attributes.entry.1.value", endpoint)
		for k, v := range h {
			c.header[k] = v
		}
		return f.do(c)
	}
	f := newFixture(t, func(c *Config) { c.TrustForwardedHTTPS = true })
	for _, tt := range []struct {
		header, value string
		want          int
	}{
		{"X-Forwarded-Proto", "https", 200},
		{"X-Forwarded-Proto", "http", 400},
		{"Forwarded", `for=1.2.3.4;proto="https";by=x, for=5;proto=http`, 200},
		{"Forwarded", "for=1.2.3.4;proto=http, proto=https", 400},
		{"Forwarded", "proto", 400},
		{"X-Other", "https", 400},
	} {
		if a := create(f, http.Header{tt.header: {tt.value}}); a.status != tt.want {
			t.Errorf("CreateTopic with %s: %s = %d, want %d", tt.header, tt.value, a.status, tt.want)
		}
	}
	f.topic("alice", "plain")
	const arn = "arn:aws:sns:default::s"
	for _, action := range []string{"GetTopic", "GetTopicAttributes", "ListTopics"} {
		a := f.wantForm(403, codeAccessDenied, "alice", action, "TopicArn", arn)
		if strings.Contains(a.body, "password") {
			t.Errorf("%s shows the password", action)
		}
	}
	// The topic can be changed and deleted without showing it.
	f.wantForm(200, "", "alice", "SetTopicAttributes", "TopicArn", arn, "AttributeName", "OpaqueData", "AttributeValue", "x")
	open := newFixture(t, func(c *Config) { c.AllowCleartextSecrets = true })
	if a := create(open, nil); a.status != 200 {
		t.Errorf("CreateTopic with the option = %d %s", a.status, a.body)
	}
	if a := open.wantForm(200, "", "alice", "GetTopic", "TopicArn", arn); !strings.Contains(a.body, "<HasStoredSecret>true<") {
		t.Errorf("GetTopic = %s", a.body)
	}
	untrusted := newFixture(t, nil)
	if a := create(untrusted, http.Header{"X-Forwarded-Proto": {"https"}}); a.status != 400 {
		t.Errorf("CreateTopic with a header that is not trusted = %d", a.status)
	}
}

func TestTopic_Permissions(t *testing.T) {
	f := newFixture(t, nil)
	arn := f.topic("alice", "t", "push-endpoint", "http://127.0.0.1:9")
	try := func(user string, status int, c code) {
		t.Helper()
		f.wantForm(status, c, user, "SetTopicAttributes", "TopicArn", arn, "AttributeName", "OpaqueData", "AttributeValue", "x")
		f.wantForm(status, c, user, "GetTopic", "TopicArn", arn)
	}
	try("bob", 403, codeAuthorizationError)
	try("root", 200, "")
	f.wantForm(403, codeAuthorizationError, "bob", "CreateTopic", "Name", "t")
	f.wantForm(403, codeAuthorizationError, "bob", "DeleteTopic", "TopicArn", arn)
	if a := f.wantForm(200, "", "bob", "ListTopics"); strings.Contains(a.body, "<member>") {
		t.Errorf("ListTopics shows what may not be read: %s", a.body)
	}
	// In another tenant the same name is another topic.
	if other := f.topic("carol", "t"); other != "arn:aws:sns:default:acme:t" {
		t.Errorf("CreateTopic = %s", other)
	}
	policy := func(effect, who, what string) string {
		return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":%q,"Principal":{"AWS":%q},"Action":%q,"Resource":%q}]}`, effect, who, what, arn)
	}
	for _, tt := range []struct {
		policy     string
		bob, carol int
	}{
		{policy: policy("Allow", "arn:aws:iam:::user/bob", "sns:*"), bob: 200, carol: 403},
		{policy: policy("Allow", "arn:aws:iam::acme:user/carol", "sns:*"), bob: 403, carol: 200},
		{policy: policy("Allow", "*", "sns:Publish"), bob: 403, carol: 403},
	} {
		f.wantForm(200, "", "alice", "SetTopicAttributes", "TopicArn", arn, "AttributeName", "Policy", "AttributeValue", tt.policy)
		for user, want := range map[string]int{"alice": 200, "bob": tt.bob, "carol": tt.carol} {
			c := code("")
			if want != 200 {
				c = codeAuthorizationError
			}
			try(user, want, c)
		}
	}
	// A policy binds the owner too; who administers can take it back.
	f.wantForm(200, "", "alice", "SetTopicAttributes", "TopicArn", arn, "AttributeName", "Policy", "AttributeValue", policy("Deny", "*", "sns:*"))
	try("alice", 403, codeAuthorizationError)
	try("root", 200, "")
	// Created again by an admin: owner stays, attributes do not.
	f.wantForm(200, "", "root", "CreateTopic", "Name", "t")
	a := f.wantForm(200, "", "alice", "GetTopic", "TopicArn", arn)
	if !strings.Contains(a.body, "<User>alice</User>") || !strings.Contains(a.body, "<EndpointAddress></EndpointAddress>") || !strings.Contains(a.body, "<Policy></Policy>") {
		t.Errorf("GetTopic = %s", a.body)
	}
	f.wantForm(200, "", "alice", "DeleteTopic", "TopicArn", arn)
}

func TestListTopics_Pages(t *testing.T) {
	f := newFixture(t, nil)
	const n = topicPage + 7
	for i := range n {
		f.topic("alice", fmt.Sprintf("t%03d", i))
		if i%10 == 0 {
			f.topic("root", fmt.Sprintf("t%03da", i)) // which alice may not read
		}
	}
	c := sns.New(sns.Options{
		Region: "default", BaseEndpoint: aws.String(f.http.URL),
		Credentials: credentials.NewStaticCredentialsProvider(testAccessKey("alice"), testSecretKey("alice"), ""),
	})
	var sizes []int
	seen := map[string]bool{}
	for p := sns.NewListTopicsPaginator(c, &sns.ListTopicsInput{}); p.HasMorePages(); {
		page, err := p.NextPage(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page.Topics))
		for _, topic := range page.Topics {
			seen[*topic.TopicArn] = true
		}
	}
	if fmt.Sprint(sizes) != fmt.Sprint([]int{topicPage, 7}) || len(seen) != n {
		t.Errorf("pages of %v, %d topics; want %d and 7", sizes, len(seen), topicPage)
	}
	a := f.form("alice", "ListTopics")
	if strings.Count(a.body, "<NextToken>") != 2 || !strings.Contains(a.body, "</ResponseMetadata><NextToken>") {
		t.Errorf("NextToken does not stand in both places")
	}
}

func TestTopic_RelaxedNames(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.RelaxedTopicNames = true })
	if arn := f.topic("alice", "a.b$c@d"); arn != "arn:aws:sns:default::a.b$c@d" {
		t.Errorf("CreateTopic = %s", arn)
	}
	f.wantForm(200, "", "alice", "GetTopic", "TopicArn", "arn:aws:sns:default::a.b$c@d")
	for _, name := range []string{"", "a/b", "a:b", strings.Repeat("a", 257)} {
		f.wantForm(400, codeInvalidArgument, "alice", "CreateTopic", "Name", name)
	}
}

// RGW's own suite signs these by hand with version 2.
func TestTopic_SignedVersion2(t *testing.T) {
	f := newFixture(t, nil)
	f.topic("alice", "t")
	const contentType = "application/x-www-form-urlencoded; charset=utf-8"
	date := time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000")
	h := hmac.New(sha1.New, []byte(testSecretKey("alice")))
	_, _ = h.Write([]byte("POST\n\n" + contentType + "\n" + date + "\n/"))
	a := f.do(call{user: "-", method: "POST", path: "/", body: "Action=ListTopics", header: http.Header{
		"Content-Type": {contentType}, "Date": {date},
		"Authorization": {"AWS " + testAccessKey("alice") + ":" + base64.StdEncoding.EncodeToString(h.Sum(nil))},
	}})
	if a.status != 200 || !strings.Contains(a.body, "<Name>t</Name>") {
		t.Errorf("ListTopics = %d %s", a.status, a.body)
	}
}

func FuzzTopicForm(f *testing.F) {
	f.Add("Action=CreateTopic&Name=t&Attributes.entry.1.key=push-endpoint&Attributes.entry.1.value=http%3A%2F%2Fh", "Version=x")
	f.Add("Attributes.entry.18446744073709551616.key=a&Attributes.entry..key=b&Attributes.entry.1.key=", "X-Amz-Signature=x")
	f.Add("a=%&&=&+=+", "%zz")
	f.Fuzz(func(t *testing.T, body, rawQuery string) {
		q, err := parseQuery(rawQuery)
		if err != nil {
			return
		}
		fields, err := parseForm(body, q)
		if err != nil {
			if e, d := describe(err); d.status != 400 {
				t.Fatalf("parseForm = %v", e)
			}
			return
		}
		for k := range fields.attributes() {
			if k == "" || k == "Action" {
				t.Errorf("attribute %q of %q", k, body)
			}
		}
	})
}
