package notifications

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
)

func keyFilter(rules ...string) *types.NotificationConfigurationFilter {
	f := &types.S3KeyFilter{}
	for i := 0; i < len(rules); i += 2 {
		f.FilterRules = append(f.FilterRules, types.FilterRule{Name: types.FilterRuleName(rules[i]), Value: &rules[i+1]})
	}
	return &types.NotificationConfigurationFilter{Key: f}
}

// document is a configuration as XML, for what the SDK cannot say.
func document(id, arn, rest string) string {
	return fmt.Sprintf(`<NotificationConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><TopicConfiguration>`+
		`<Id>%s</Id><Topic>%s</Topic>%s</TopicConfiguration></NotificationConfiguration>`, id, arn, rest)
}

func (e *env) putDocument(bucket, doc string) (int, string) {
	e.t.Helper()
	status, _, body := e.raw("s3", "PUT", "/"+bucket+"?notification", []byte(doc), "application/xml")
	return status, body
}

func (e *env) notifications(bucket string) []types.TopicConfiguration {
	e.t.Helper()
	out, err := e.s3.GetBucketNotificationConfiguration(e.t.Context(), &s3.GetBucketNotificationConfigurationInput{Bucket: &bucket})
	e.check(err)
	return out.TopicConfigurations
}

// Row test_notification_configuration.
func TestNotificationConfiguration(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	arn := e.topic("t", "http://127.0.0.1:9001")
	e.check(e.putNotifications(bucket,
		types.TopicConfiguration{Id: aws.String("n1"), TopicArn: &arn, Events: []types.Event{created}},
		types.TopicConfiguration{Id: aws.String("n2"), TopicArn: &arn, Events: []types.Event{removed}},
		types.TopicConfiguration{Id: aws.String("n3"), TopicArn: &arn, Events: []types.Event{}},
	))
	status, _, body := e.raw("s3", "GET", "/"+bucket+"?notification=n1", nil, "")
	if status != 200 || !strings.Contains(body, "<Id>n1</Id>") || strings.Contains(body, "n2") || !strings.Contains(body, "<Topic>"+arn+"</Topic>") {
		t.Errorf("GET n1 = %d %s", status, body)
	}
	got := e.notifications(bucket)
	if len(got) != 3 {
		t.Fatalf("%d notifications, want 3", len(got))
	}
	for _, n := range got {
		if *n.Id == "n3" && (!slices.Contains(n.Events, created) || !slices.Contains(n.Events, removed)) {
			t.Errorf("events of n3 = %v, want creations and removals", n.Events)
		}
	}
	if status, _, body := e.raw("s3", "DELETE", "/"+bucket+"?notification=n1", nil, ""); status != 200 && status != 204 {
		t.Errorf("DELETE n1 = %d %s", status, body)
	}
	if status, _, body := e.raw("s3", "GET", "/"+bucket+"?notification=n1", nil, ""); status != 404 || !strings.Contains(body, "NoSuchKey") {
		t.Errorf("GET of a deleted notification = %d %s, want 404 NoSuchKey", status, body)
	}
	if n := len(e.notifications(bucket)); n != 2 {
		t.Errorf("%d notifications, want 2", n)
	}
	e.raw("s3", "DELETE", "/"+bucket+"?notification", nil, "")
	if n := len(e.notifications(bucket)); n != 0 {
		t.Errorf("%d notifications, want 0", n)
	}
}

// Row test_notification_configuration_admin.
func TestNotificationConfigurationAdmin(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	arn := e.topic("t", "http://127.0.0.1:9001")
	e.check(e.putNotifications(bucket,
		types.TopicConfiguration{Id: aws.String("n1"), TopicArn: &arn, Events: []types.Event{created}, Filter: keyFilter("prefix", "test")},
		types.TopicConfiguration{Id: aws.String("n2"), TopicArn: &arn, Events: []types.Event{removed}},
	))
	type rule struct {
		TopicArn, ID string
		Events       []string
		Filter       struct {
			S3Key struct {
				FilterRules []struct{ Name, Value string }
			}
		}
	}
	var list struct{ Notifications []rule }
	e.adminJSON(&list, "notification", "list", "--bucket", bucket)
	if len(list.Notifications) != 2 || list.Notifications[0].TopicArn != arn {
		t.Errorf("notification list = %+v", list)
	}
	var one rule
	e.adminJSON(&one, "notification", "get", "--bucket", bucket, "--notification-id", "n1")
	if one.ID != "n1" || fmt.Sprint(one.Events) != "[s3:ObjectCreated:*]" || fmt.Sprint(one.Filter.S3Key.FilterRules) != "[{prefix test}]" {
		t.Errorf("notification get = %+v", one)
	}
	e.g.MustAdmin("notification", "rm", "--bucket", bucket, "--notification-id", "n1")
	if n := len(e.notifications(bucket)); n != 1 {
		t.Errorf("%d notifications after rm, want 1", n)
	}
	if _, code := e.g.Admin("notification", "get", "--bucket", bucket, "--notification-id", "n1"); code != 2 {
		t.Errorf("notification get of a removed one = exit code %d, want 2", code)
	}
	e.g.MustAdmin("notification", "rm", "--bucket", bucket)
	if n := len(e.notifications(bucket)); n != 0 {
		t.Errorf("%d notifications after rm of all, want 0", n)
	}
}

// Row test_notification_empty_config.
func TestNotificationEmptyConfig(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	e.notify(bucket, "n", e.topic("t", "http://127.0.0.1:9001"), created)
	e.check(e.putNotifications(bucket))
	if n := len(e.notifications(bucket)); n != 0 {
		t.Errorf("%d notifications after the empty document, want 0", n)
	}
}

// Row test_notification_filter_amqp: prefix, both, regex; a second PUT adds.
func TestNotificationFilter(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	bucket := e.bucket()
	arn := e.topic("t", r.URL)
	on := []types.Event{created}
	e.check(e.putNotifications(bucket,
		types.TopicConfiguration{Id: aws.String("prefix"), TopicArn: &arn, Events: on, Filter: keyFilter("prefix", "hello")},
		types.TopicConfiguration{Id: aws.String("both"), TopicArn: &arn, Events: on, Filter: keyFilter("prefix", "world", "suffix", "log")},
		types.TopicConfiguration{Id: aws.String("none"), TopicArn: &arn, Events: on, Filter: keyFilter()},
	))
	if status, body := e.putDocument(bucket, document("regex", arn,
		`<Event>s3:ObjectCreated:*</Event><Filter><S3Key><FilterRule><Name>regex</Name><Value>([a-z]+)\.txt</Value></FilterRule></S3Key></Filter>`)); status != 200 {
		t.Fatalf("PUT regex = %d %s", status, body)
	}
	if n := len(e.notifications(bucket)); n != 4 {
		t.Fatalf("%d notifications, want 4: a second PUT adds", n)
	}
	for _, k := range []string{"hello.kaboom", "hello.txt", "hello123.txt", "hello", "world1.log", "world2log", "world3.log2"} {
		e.put(bucket, k, k)
	}
	byID := map[string][]string{}
	for _, ev := range r.want(e, 4+2+7+1) {
		byID[ev.S3.ConfigurationID] = append(byID[ev.S3.ConfigurationID], ev.S3.Object.Key)
		if ev.AwsRegion != "default" || ev.S3.Bucket.Arn != "arn:aws:s3:default::"+bucket {
			t.Errorf("awsRegion %q, bucket ARN %q", ev.AwsRegion, ev.S3.Bucket.Arn)
		}
	}
	for id, want := range map[string]string{
		"prefix": "[hello hello.kaboom hello.txt hello123.txt]", "both": "[world1.log world2log]", "regex": "[hello.txt]",
	} {
		if got := fmt.Sprint(sorted(byID[id])); got != want {
			t.Errorf("%s got %s, want %s", id, got, want)
		}
	}
}

// Row test_notification_errors, and what else is refused.
func TestNotificationErrors(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	arn := e.topic("t", "http://127.0.0.1:9001")
	event := "<Event>s3:ObjectCreated:*</Event>"
	tests := []struct {
		name, bucket, doc string
		status            int
		code              string
	}{
		{"unknown event", bucket, document("n", arn, "<Event>ObjectCreated</Event>"), 400, "InvalidArgument"},
		{"event that no one has", bucket, document("n", arn, "<Event>s3:ObjectTagging:*</Event>"), 400, "InvalidArgument"},
		{"empty id", bucket, document("", arn, event), 400, "InvalidArgument"},
		{"empty topic", bucket, document("n", "", event), 400, "InvalidArgument"},
		{"bad ARN", bucket, document("n", "kaboom", event), 400, "InvalidArgument"},
		{"unknown topic", bucket, document("n", arn+"kaboom", event), 404, "NoSuchKey"},
		{"unknown bucket", "no-such-bucket", document("n", arn, event), 404, "NoSuchBucket"},
		{"not XML", bucket, "<NotificationConfiguration>", 400, "MalformedXML"},
		{"empty body", bucket, "", 400, "InvalidArgument"},
		{"bad filter name", bucket, document("n", arn, event+`<Filter><S3Key><FilterRule><Name>infix</Name><Value>x</Value></FilterRule></S3Key></Filter>`), 400, "MalformedXML"},
		{"prefix twice", bucket, document("n", arn, event+`<Filter><S3Key><FilterRule><Name>prefix</Name><Value>x</Value></FilterRule><FilterRule><Name>prefix</Name><Value>y</Value></FilterRule></S3Key></Filter>`), 400, "MalformedXML"},
		{"bad regex", bucket, document("n", arn, event+`<Filter><S3Key><FilterRule><Name>regex</Name><Value>(</Value></FilterRule></S3Key></Filter>`), 400, ""},
		{"a document type", bucket, `<!DOCTYPE x [<!ENTITY a "b">]>` + document("n", arn, event), 400, "MalformedXML"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, body := e.putDocument(tt.bucket, tt.doc)
			if status != tt.status || !strings.Contains(body, "<Code>"+tt.code) {
				t.Errorf("= %d %s, want %d %s", status, body, tt.status, tt.code)
			}
		})
	}
	if status, _, _ := e.raw("s3", "PUT", "/"+bucket+"?notification=n", []byte(document("n", arn, event)), ""); status != 400 {
		t.Errorf("PUT ?notification=n = %d, want 400", status)
	}
	if n := len(e.notifications(bucket)); n != 0 {
		t.Errorf("%d notifications after refused ones, want 0", n)
	}
	for range 2 {
		_, err := e.sns.DeleteTopic(t.Context(), &sns.DeleteTopicInput{TopicArn: &arn})
		e.check(err)
	}
}

// TestNotificationOfDeletedTopic: rules that point to it stay, and are
// skipped.
func TestNotificationOfDeletedTopic(t *testing.T) {
	e := newEnv(t)
	bucket := e.bucket()
	arn := e.topic("t", "http://127.0.0.1:9001", "persistent", "true")
	e.notify(bucket, "n", arn, created)
	_, err := e.sns.DeleteTopic(t.Context(), &sns.DeleteTopicInput{TopicArn: &arn})
	e.check(err)
	e.put(bucket, "k", "v")
	if n := len(e.notifications(bucket)); n != 1 {
		t.Errorf("%d notifications, want 1", n)
	}
}

// TestConfigureThenPut: a notification holds for the very next PUT.
func TestConfigureThenPut(t *testing.T) {
	e := newEnv(t)
	r := newReceiver(t)
	for i := range 20 {
		bucket := e.bucket()
		e.notify(bucket, "n", e.topic(fmt.Sprintf("t%d", i), r.URL), created)
		e.put(bucket, "k", "v")
		if n := len(r.all()); n != i+1 {
			t.Fatalf("%d events after %d synchronous PUTs", n, i+1)
		}
	}
}
