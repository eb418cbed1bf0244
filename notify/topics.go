package notify

import "context"

// Topics are the topics of all tenants, as records "topic/TENANT:NAME".
type Topics struct{ s *Service }

// TopicCheck decides, under the guard of the change, whether it is allowed.
// cur is nil when the topic is new. Its error is passed on.
type TopicCheck func(cur, next *Topic) error

// Create stores a topic. One that exists keeps its owner, its queues and
// their number; all else is replaced. check may be nil.
func (t *Topics) Create(ctx context.Context, topic *Topic, check TopicCheck) (*Topic, error) {
	return topic, nil
}

// SetAttribute changes one attribute. Making a topic not persistent, or its
// endpoint empty, deletes its queues with all that waits in them (RGW).
// check may be nil.
// Errors: ErrNoSuchTopic, ErrInvalidAttribute, ErrInvalidEndpoint.
func (t *Topics) SetAttribute(ctx context.Context, tenant, name, attr, value string, check TopicCheck) (*Topic, error) {
	return nil, ErrNoSuchTopic
}

// Get returns a topic. Errors: ErrNoSuchTopic.
func (t *Topics) Get(ctx context.Context, tenant, name string) (*Topic, error) {
	return nil, ErrNoSuchTopic
}

// Delete removes a topic, its queues and its dead letters. Rules that point
// to it stay, and are skipped. Errors: ErrNoSuchTopic.
func (t *Topics) Delete(ctx context.Context, tenant, name string) error { return ErrNoSuchTopic }

// List returns a page of a tenant's topics in byte order of their names: those
// after a name, at most max (0: all). next is the name to go on after, empty
// at the end.
func (t *Topics) List(ctx context.Context, tenant, after string, max int) (topics []*Topic, next string, err error) {
	return nil, "", nil
}

// SubscribedBuckets returns the names ("tenant:bucket" or "bucket") of the
// buckets with a rule for the topic.
func (t *Topics) SubscribedBuckets(ctx context.Context, arn string) ([]string, error) {
	return nil, nil
}
