package kafka

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Row test_lifecycle_kafka: an object that expires has an event of each of RGW's
// two families, also where the topic is not persistent.
func TestLifecycle(t *testing.T) {
	e := newEnv(t, "--lc-debug-interval", "1s")
	for name, persistent := range map[string]string{"persistent": "true", "synchronous": "false"} {
		t.Run(name, func(t *testing.T) {
			e := e.in(t)
			bucket, topic := e.Bucket(), e.name("t")
			arn := e.topic(topic, "kafka://"+e.k.Plain, "persistent", persistent)
			_, err := e.S3.PutBucketNotificationConfiguration(t.Context(), &s3.PutBucketNotificationConfigurationInput{
				Bucket: &bucket, NotificationConfiguration: &types.NotificationConfiguration{TopicConfigurations: []types.TopicConfiguration{{
					Id: aws.String("n"), TopicArn: &arn, Events: []types.Event{"s3:ObjectLifecycle:Expiration:*", "s3:LifecycleExpiration:*"},
				}}},
			})
			e.check(err)
			names := keys("go", 10)
			e.putAll(bucket, append(keys("stay", 2), names...))
			_, err = e.S3.PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{
				Bucket: &bucket, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{
					Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("go")},
					Expiration: &types.LifecycleExpiration{Days: aws.Int32(1)},
				}}},
			})
			e.check(err)
			e.consume(topic).wantEach(true, append(perEvent("ObjectLifecycle:Expiration:Current", names), perEvent("LifecycleExpiration:Delete", names)...)...)
			list, err := e.S3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
			e.check(err)
			if n := len(list.Contents); n != 2 {
				t.Errorf("%d objects are left, want 2", n)
			}
		})
	}
}
