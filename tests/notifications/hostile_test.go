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

// TestHostile_TopicOfOldName: who makes a topic of a name that another user has
// given up does not get the events of buckets whose notifications still name it,
// until their owners put these again.
func TestHostile_TopicOfOldName(t *testing.T) {
	for _, persistent := range []string{"true", "false"} {
		t.Run("persistent="+persistent, func(t *testing.T) {
			e := newEnv(t)
			alice, mallory := e.user("alice", "shared"), e.user("mallory", "shared")
			mine, theirs := newReceiver(t), newReceiver(t)
			bucket := alice.bucket()
			arn := alice.topic("t", mine.URL, "persistent", persistent)
			alice.notify(bucket, "n", arn, created)
			alice.put(bucket, "k1", "data")
			mine.wantExactly(alice, "ObjectCreated:Put k1")

			_, err := alice.sns.DeleteTopic(t.Context(), &sns.DeleteTopicInput{TopicArn: &arn})
			e.check(err)
			if got := mallory.topic("t", theirs.URL, "persistent", persistent); got != arn {
				t.Fatalf("the topic is named %s, want %s", got, arn)
			}
			alice.put(bucket, "k2", "data")
			var explained struct {
				Notifications []struct {
					EndpointState string `json:"endpoint_state"`
					Delivery      string
				}
			}
			e.adminJSON(&explained, "notification", "explain", "--bucket", bucket, "--tenant", "shared", "--key", "k", "--event", "s3:ObjectCreated:Put")
			if n := explained.Notifications; len(n) != 1 || n[0].Delivery != "none" || !strings.Contains(n[0].EndpointState, "owner") {
				t.Errorf("notification explain = %+v", explained)
			}
			alice.notify(bucket, "n", arn, created) // now it is her will
			alice.put(bucket, "k3", "data")
			theirs.wantExactly(alice, "ObjectCreated:Put k3")
		})
	}
}

// TestHostile_Accounts: what a stranger may do with an account's topics and
// buckets is what one of another tenant may: publish, unless a policy is asked
// for, and nothing else, by whichever name the topic is called.
func TestHostile_Accounts(t *testing.T) {
	e := newEnv(t, "--topic-require-publish-policy")
	id, foreign := e.account("acme"), e.account("evil")
	owner := e.user("owner", "", "--account-id", id, "--account-root")
	strangers := map[string]*env{
		"of another account": e.user("one", "", "--account-id", foreign, "--account-root"),
		"without a tenant":   e.user("owner2", ""),
		"of a tenant":        e.user("owner", "tenant"),
	}
	const policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"%s"},"Action":"sns:Publish","Resource":"%s"}]}`
	arn := owner.topic("t", "http://127.0.0.1:9001", "persistent", "true")
	bucket := owner.bucket()
	owner.notify(bucket, "n", arn, created)
	ctx := t.Context()
	for who, s := range strangers {
		for what, try := range map[string]func() error{
			"GetTopicAttributes": func() error {
				_, err := s.sns.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &arn})
				return err
			},
			"SetTopicAttributes Policy": func() error {
				_, err := s.sns.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{
					TopicArn: &arn, AttributeName: aws.String("Policy"), AttributeValue: aws.String(fmt.Sprintf(policy, "*", arn)),
				})
				return err
			},
			"DeleteTopic": func() error {
				_, err := s.sns.DeleteTopic(ctx, &sns.DeleteTopicInput{TopicArn: &arn})
				return err
			},
		} {
			e.wantCode(what+" by a stranger "+who, try(), "AuthorizationError")
		}
		own := s.bucket()
		publish := func() error {
			return s.putNotifications(own, types.TopicConfiguration{Id: aws.String("n"), TopicArn: &arn, Events: []types.Event{created}})
		}
		e.wantCode("publishing by a stranger "+who, publish(), "AccessDenied")
		queue := strings.Replace(arn, ":sns:", ":sqs:", 1)
		_, err := s.s3.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
			Bucket: &own, NotificationConfiguration: &types.NotificationConfiguration{QueueConfigurations: []types.QueueConfiguration{
				{QueueArn: &queue, Events: []types.Event{created}},
			}},
		})
		e.wantCode("publishing as to a queue by a stranger "+who, err, "AccessDenied")
		_, err = s.s3.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &bucket})
		if err == nil {
			t.Errorf("a stranger %s reads the bucket's notifications", who)
		}
		if list := s.topics(); len(list) != 0 {
			t.Errorf("a stranger %s sees %q", who, list)
		}
		if made := s.topic("t", ""); made == arn {
			t.Errorf("a stranger %s made the topic %s anew", who, made)
		}
	}
	if list := owner.topics(); !slices.Equal(list, []string{arn}) {
		t.Errorf("the owner sees %q", list)
	}

	// A policy opens it to those whom it names, and to nobody else.
	owner.topic("t", "http://127.0.0.1:9001", "persistent", "true", "Policy", fmt.Sprintf(policy, "arn:aws:iam::tenant:user/owner", arn))
	for who, s := range strangers {
		err := s.putNotifications(s.bucket(), types.TopicConfiguration{Id: aws.String("n"), TopicArn: &arn, Events: []types.Event{created}})
		if who == "of a tenant" {
			e.check(err)
			continue
		}
		e.wantCode("publishing by a stranger "+who, err, "AccessDenied")
	}
}

// topics are the ARNs that ListTopics shows.
func (e *env) topics() []string {
	e.t.Helper()
	out, err := e.sns.ListTopics(e.t.Context(), &sns.ListTopicsInput{})
	e.check(err)
	var arns []string
	for _, topic := range out.Topics {
		arns = append(arns, *topic.TopicArn)
	}
	return arns
}

// TestHostile_ListTopics: of the topics of one tenant each user sees his own,
// those that a policy lets him read, and none that one denies him.
func TestHostile_ListTopics(t *testing.T) {
	e := newEnv(t)
	alice, bob := e.user("alice", "shared"), e.user("bob", "shared")
	const read = `{"Version":"2012-10-17","Statement":[{"Effect":"%s","Principal":{"AWS":"arn:aws:iam::shared:user/bob"},"Action":"sns:GetTopicAttributes","Resource":"*"}]}`
	hers := []string{
		alice.topic("b-hers", ""), alice.topic("c-shown", "", "Policy", fmt.Sprintf(read, "Allow")), alice.topic("d-denied", "", "Policy", fmt.Sprintf(read, "Deny")),
	}
	his := bob.topic("e-his", "")
	if got, want := bob.topics(), []string{hers[1], his}; !slices.Equal(got, want) {
		t.Errorf("bob sees %q, want %q", got, want)
	}
	if got := alice.topics(); len(got) != 3 {
		t.Errorf("alice sees %q", got)
	}
}
