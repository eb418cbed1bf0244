package notifications

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Row test_topic: topics of a tenant's user.
func TestTopic(t *testing.T) {
	e := newEnv(t).user("topicuser", "kuku")
	if status, body := e.form("ListTopics"); status != 200 || !strings.Contains(body, "<Topics></Topics>") && !strings.Contains(body, "<Topics/>") {
		t.Errorf("ListTopics of none = %d %s, want an empty Topics element", status, body)
	}
	var arns []string
	for i := range 3 {
		endpoint := fmt.Sprintf("http://127.0.0.1:9001/%d", i)
		arn := e.topic(fmt.Sprintf("topic_%d", i), endpoint, "verify-ssl", "false")
		if want := fmt.Sprintf("arn:aws:sns:default:kuku:topic_%d", i); arn != want {
			t.Errorf("CreateTopic = %s, want %s", arn, want)
		}
		arns = append(arns, arn)
	}
	status, body := e.form("GetTopic", "TopicArn", arns[1])
	for _, want := range []string{"<Name>topic_1</Name>", "<TopicArn>" + arns[1] + "</TopicArn>", "<EndpointAddress>http://127.0.0.1:9001/1</EndpointAddress>", "verify-ssl=false"} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("GetTopic = %d %s, want %s", status, body, want)
		}
	}
	_, err := e.sns.SetTopicAttributes(t.Context(), &sns.SetTopicAttributesInput{
		TopicArn: &arns[1], AttributeName: aws.String("push-endpoint"), AttributeValue: aws.String("http://127.0.0.1:9002"),
	})
	e.check(err)
	out, err := e.sns.GetTopicAttributes(t.Context(), &sns.GetTopicAttributesInput{TopicArn: &arns[1]})
	e.check(err)
	if !strings.Contains(out.Attributes["EndPoint"], `"EndpointAddress":"http://127.0.0.1:9002"`) || out.Attributes["User"] == "" {
		t.Errorf("GetTopicAttributes = %v", out.Attributes)
	}
	list, err := e.sns.ListTopics(t.Context(), &sns.ListTopicsInput{})
	e.check(err)
	if len(list.Topics) != 3 {
		t.Errorf("ListTopics = %d topics, want 3", len(list.Topics))
	}
	for range 2 { // the second finds nothing, which is no error
		_, err = e.sns.DeleteTopic(t.Context(), &sns.DeleteTopicInput{TopicArn: &arns[0]})
		e.check(err)
	}
	if status, body := e.form("GetTopic", "TopicArn", arns[0]); status != 404 {
		t.Errorf("GetTopic of a deleted topic = %d %s, want 404", status, body)
	}
	list, err = e.sns.ListTopics(t.Context(), &sns.ListTopicsInput{})
	e.check(err)
	if len(list.Topics) != 2 {
		t.Errorf("ListTopics = %d topics, want 2", len(list.Topics))
	}
}

// Row test_topic_name.
func TestTopicName(t *testing.T) {
	e := newEnv(t)
	for _, name := range []string{"bad name", "bad/name", "bäd", strings.Repeat("a", 257), "a.b"} {
		_, err := e.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: &name})
		e.wantCode("CreateTopic "+name, err, "InvalidArgument")
	}
	for _, name := range []string{"a", strings.Repeat("a", 256), "A-b_9"} {
		e.topic(name, "")
	}
	if status, body := e.form("CreateTopic", "Name", ""); status != 400 || !strings.Contains(body, "InvalidArgument") {
		t.Errorf("CreateTopic without a name = %d %s, want 400 InvalidArgument", status, body)
	}
	relaxed := newEnv(t, "--relaxed-topic-names")
	relaxed.topic("a.b", "")
	if status, _ := relaxed.form("CreateTopic", "Name", ""); status != 400 {
		t.Errorf("CreateTopic without a name, relaxed = %d, want 400", status)
	}
}

// topicDoc is what admin commands show of a topic.
type topicDoc struct {
	Owner, Name, ARN string
	Dest             struct {
		Endpoint   string `json:"push_endpoint"`
		Persistent bool   `json:"persistent"`
		Queue      string `json:"persistent_queue"`
		TimeToLive string `json:"time_to_live"`
		MaxRetries string `json:"max_retries"`
		RetrySleep string `json:"retry_sleep_duration"`
		Shards     int    `json:"num_shards"`
	}
	Subscribed []string `json:"subscribed_buckets"`
}

// Row test_topic_admin: owner and queue stay when a topic is created again;
// another user may not do that.
func TestTopicAdmin(t *testing.T) {
	root := newEnv(t)
	e := root.user("owner", "kaboom")
	arn := e.topic("mytopic", "http://127.0.0.1:9001", "persistent", "true")
	var before, after topicDoc
	e.adminJSON(&before, "topic", "get", "--topic", "mytopic", "--tenant", "kaboom")
	if before.ARN != arn || before.Dest.Endpoint != "http://127.0.0.1:9001" || before.Dest.Queue != "kaboom:mytopic" || before.Owner != "kaboom$owner" {
		t.Errorf("topic get = %+v", before)
	}
	e.topic("mytopic", "http://127.0.0.1:9002", "persistent", "true")
	e.adminJSON(&after, "topic", "get", "--topic", "mytopic", "--tenant", "kaboom")
	if after.Owner != before.Owner || after.Dest.Queue != before.Dest.Queue || after.Dest.Endpoint != "http://127.0.0.1:9002" {
		t.Errorf("created again = %+v, before %+v", after, before)
	}
	other := root.user("other", "kaboom")
	_, err := other.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("mytopic")})
	e.wantCode("CreateTopic of another's topic", err, "AuthorizationError")
	var list []topicDoc
	e.adminJSON(&list, "topic", "list", "--tenant", "kaboom")
	if len(list) != 1 || list[0].Name != "mytopic" {
		t.Errorf("topic list = %+v", list)
	}
	e.g.MustAdmin("topic", "rm", "--topic", "mytopic", "--tenant", "kaboom")
	if out, code := e.g.Admin("topic", "get", "--topic", "mytopic", "--tenant", "kaboom"); code != 2 {
		t.Errorf("topic get of a removed topic = exit code %d, want 2\n%s", code, out)
	}
	e.g.MustAdmin("topic", "rm", "--topic", "mytopic", "--tenant", "kaboom") // again
}

// Row test_topic_with_secret: a secret is neither taken nor shown over plain
// HTTP.
func TestTopicWithSecret(t *testing.T) {
	e := newEnv(t)
	secret := map[string]string{"push-endpoint": "http://user:password@127.0.0.1:9001"}
	_, err := e.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("secret"), Attributes: secret})
	e.wantCode("CreateTopic with a password over HTTP", err, "InvalidArgument")
	proxied := newEnv(t, "--trust-forwarded-https")
	status, body := proxied.form("CreateTopic", "Name", "secret", "Attributes.entry.1.key", "push-endpoint", "Attributes.entry.1.value", secret["push-endpoint"])
	if status != 400 {
		t.Errorf("CreateTopic without X-Forwarded-Proto = %d %s, want 400", status, body)
	}
	https := sns.WithAPIOptions(smithyhttp.AddHeaderValue("X-Forwarded-Proto", "https"))
	made, err := proxied.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("secret"), Attributes: secret}, https)
	proxied.check(err)
	_, err = proxied.sns.GetTopicAttributes(t.Context(), &sns.GetTopicAttributesInput{TopicArn: made.TopicArn}, https)
	proxied.check(err)
	_, err = proxied.sns.GetTopicAttributes(t.Context(), &sns.GetTopicAttributesInput{TopicArn: made.TopicArn})
	proxied.wantCode("GetTopicAttributes of a topic with a password over HTTP", err, "AccessDenied")
	open := newEnv(t, "--allow-notification-secrets-in-cleartext")
	arn := open.topic("secret", secret["push-endpoint"])
	out, err := open.sns.GetTopicAttributes(t.Context(), &sns.GetTopicAttributesInput{TopicArn: &arn})
	open.check(err)
	if !strings.Contains(out.Attributes["EndPoint"], `"HasStoredSecret":true`) {
		t.Errorf("GetTopicAttributes = %v, want HasStoredSecret", out.Attributes)
	}
}

// Row test_1K_topics, a tenth of it unless HERALD_LONG is set.
func TestManyTopics(t *testing.T) {
	n := 120
	if os.Getenv("HERALD_LONG") != "" {
		n = 1200
	}
	e := newEnv(t, "--topic-shards", "2")
	for i := range n {
		arn := e.topic(fmt.Sprintf("topic-%04d", i), "http://127.0.0.1:9001", "persistent", "true")
		e.notify(e.bucket(), "n", arn, created)
	}
	// The SDK closes a form that it sends as soon as an answer begins; when
	// net/http is not done with it then, it ends the connection, and of a long
	// answer the rest is lost: a call in twenty. Users of the SDK do not see it,
	// since it tries again.
	retrying := func(o *sns.Options) { o.RetryMaxAttempts = 5 }
	seen := 0
	for p := sns.NewListTopicsPaginator(e.sns, &sns.ListTopicsInput{}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context(), retrying)
		e.check(err)
		seen += len(page.Topics)
	}
	var list []topicDoc
	e.adminJSON(&list, "topic", "list")
	if seen != n || len(list) != n {
		t.Errorf("ListTopics shows %d, topic list %d, want %d", seen, len(list), n)
	}
	for i := range n {
		e.g.MustAdmin("topic", "rm", "--topic", fmt.Sprintf("topic-%04d", i))
	}
	e.adminJSON(&list, "topic", "list")
	if len(list) != 0 {
		t.Errorf("topic list after removal = %d, want 0", len(list))
	}
}

// Row test_list_topics: each tenant sees its own.
func TestListTopics(t *testing.T) {
	root := newEnv(t)
	e1, e2 := root.user("u1", "t1"), root.user("u2", "t2")
	for i := range 3 {
		e1.topic(fmt.Sprintf("topic-%d", i), "")
	}
	for i := range 2 {
		e2.topic(fmt.Sprintf("topic-%d", i), "")
	}
	for _, tt := range []struct {
		e    *env
		want int
	}{{e1, 3}, {e2, 2}, {root, 0}} {
		out, err := tt.e.sns.ListTopics(t.Context(), &sns.ListTopicsInput{})
		root.check(err)
		if len(out.Topics) != tt.want {
			t.Errorf("ListTopics of tenant %q = %d, want %d", tt.e.tenant, len(out.Topics), tt.want)
		}
		var list []topicDoc
		root.adminJSON(&list, "topic", "list", "--tenant", tt.e.tenant)
		if len(list) != tt.want {
			t.Errorf("topic list of tenant %q = %d, want %d", tt.e.tenant, len(list), tt.want)
		}
	}
}

// Rows test_topic_permissions_same_tenant and _cross_tenant: a policy that
// denies another user, then one that allows it.
func TestTopicPermissions(t *testing.T) {
	root := newEnv(t)
	for _, tenants := range [][2]string{{"one", "one"}, {"two", "three"}} {
		t.Run(tenants[0]+" "+tenants[1], func(t *testing.T) {
			owner, other := root.user("owner"+tenants[1], tenants[0]), root.user("other"+tenants[1], tenants[1])
			owner.t, other.t = t, t
			policy := func(effect string) string {
				return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Sid":"s","Effect":%q,
					"Principal":{"AWS":"arn:aws:iam::%s:user/other%s"},
					"Action":["sns:Publish","sns:SetTopicAttributes","sns:GetTopicAttributes","sns:DeleteTopic"],
					"Resource":["arn:aws:sns:default:%s:topic%s"]}]}`, effect, tenants[1], tenants[1], tenants[0], tenants[1])
			}
			name := "topic" + tenants[1]
			arn := owner.topic(name, "http://127.0.0.1:9001", "Policy", policy("Deny"))
			bucket := other.bucket()
			try := func() (get, set, publish, del error) {
				ctx := t.Context()
				_, get = other.sns.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &arn})
				_, set = other.sns.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{TopicArn: &arn, AttributeName: aws.String("OpaqueData"), AttributeValue: aws.String("x")})
				publish = other.putNotifications(bucket, types.TopicConfiguration{Id: aws.String("n"), TopicArn: &arn, Events: []types.Event{created}})
				_, del = other.sns.DeleteTopic(ctx, &sns.DeleteTopicInput{TopicArn: &arn})
				return
			}
			get, set, publish, del := try()
			other.wantCode("denied GetTopicAttributes", get, "AuthorizationError")
			other.wantCode("denied SetTopicAttributes", set, "AuthorizationError")
			other.wantCode("denied PutBucketNotificationConfiguration", publish, "AccessDenied")
			other.wantCode("denied DeleteTopic", del, "AuthorizationError")
			owner.topic(name, "http://127.0.0.1:9001", "Policy", policy("Allow"))
			get, set, publish, del = try()
			for _, err := range []error{get, set, publish, del} {
				other.check(err)
			}
		})
	}
}

// Row test_topic_no_permissions: without a policy another user may publish,
// and nothing else.
func TestTopicNoPermissions(t *testing.T) {
	root := newEnv(t)
	owner, other := root.user("owner", "tenant"), root.user("other", "tenant")
	arn := owner.topic("mine", "http://127.0.0.1:9001")
	ctx := t.Context()
	_, err := other.sns.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &arn})
	root.wantCode("GetTopicAttributes", err, "AuthorizationError")
	_, err = other.sns.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{TopicArn: &arn, AttributeName: aws.String("OpaqueData"), AttributeValue: aws.String("x")})
	root.wantCode("SetTopicAttributes", err, "AuthorizationError")
	_, err = other.sns.DeleteTopic(ctx, &sns.DeleteTopicInput{TopicArn: &arn})
	root.wantCode("DeleteTopic", err, "AuthorizationError")
	other.notify(other.bucket(), "n", arn, created)

	strict := newEnv(t, "--topic-require-publish-policy")
	sOwner, sOther := strict.user("owner", "tenant"), strict.user("other", "tenant")
	arn = sOwner.topic("mine", "http://127.0.0.1:9001")
	err = sOther.putNotifications(sOther.bucket(), types.TopicConfiguration{Id: aws.String("n"), TopicArn: &arn, Events: []types.Event{created}})
	root.wantCode("PutBucketNotificationConfiguration with topic_require_publish_policy", err, "AccessDenied")
}

// TestTopicErrors: what a client gets for bad requests.
func TestTopicErrors(t *testing.T) {
	e := newEnv(t)
	arn := e.topic("t", "http://127.0.0.1:9001")
	tests := []struct {
		name   string
		values []string // Action first
		status int
		code   string
	}{
		{"unknown action", []string{"Subscribe", "TopicArn", arn}, http.StatusMethodNotAllowed, "MethodNotAllowed"},
		{"malformed endpoint", []string{"CreateTopic", "Name", "x", "Attributes.entry.1.key", "push-endpoint", "Attributes.entry.1.value", "http://["}, 400, "InvalidArgument"},
		{"malformed policy", []string{"CreateTopic", "Name", "x", "Attributes.entry.1.key", "Policy", "Attributes.entry.1.value", "{"}, 400, "MalformedPolicyDocument"},
		{"no ARN", []string{"GetTopic"}, 400, "InvalidArgument"},
		{"bad ARN", []string{"GetTopic", "TopicArn", "arn:x"}, 400, "InvalidArgument"},
		{"unknown topic", []string{"GetTopicAttributes", "TopicArn", arn + "x"}, 404, "NotFound"},
		{"unknown attribute", []string{"SetTopicAttributes", "TopicArn", arn, "AttributeName", "nope", "AttributeValue", "x"}, 400, "InvalidArgument"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, body := e.form(tt.values[0], tt.values[1:]...)
			if status != tt.status || !strings.Contains(body, "<Code>"+tt.code+"</Code>") {
				t.Errorf("= %d %s, want %d %s", status, body, tt.status, tt.code)
			}
		})
	}
}

// Row test_topic_migration..., the part that is not about accounts:
// subscribed_buckets names the buckets whose notifications point to a topic.
func TestSubscribedBuckets(t *testing.T) {
	e := newEnv(t)
	arn := e.topic("t", "http://127.0.0.1:9001")
	b1, b2 := e.bucket(), e.bucket()
	e.notify(b1, "n", arn, created)
	e.notify(b2, "n", arn, created)
	var doc topicDoc
	e.adminJSON(&doc, "topic", "get", "--topic", "t")
	if fmt.Sprint(sorted(doc.Subscribed)) != fmt.Sprint([]string{b1, b2}) {
		t.Errorf("subscribed_buckets = %q, want %q", doc.Subscribed, []string{b1, b2})
	}
	_, err := e.s3.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: &b1})
	e.check(err)
	e.adminJSON(&doc, "topic", "get", "--topic", "t")
	if len(doc.Subscribed) != 1 || doc.Subscribed[0] != b2 {
		t.Errorf("subscribed_buckets = %q, want %q", doc.Subscribed, b2)
	}
}
