package notify

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limit is one of a topic's limits on delivery, in its unit. Unset means the
// gateway's own default; 0 means none, whatever the default.
type Limit uint32

// Unset prints as "None" (RGW keeps the same sentinel).
const Unset Limit = math.MaxUint32

// ParseLimit reads a number; any other text is Unset, not an error: clients
// send the word "None" for it (RGW).
func ParseLimit(s string) Limit {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 32)
	if err != nil {
		return Unset
	}
	return Limit(n)
}

// String is the number, or "None".
func (l Limit) String() string {
	if l == Unset {
		return "None"
	}
	return strconv.FormatUint(uint64(l), 10)
}

// Or returns the limit, or def when it is unset.
func (l Limit) Or(def Limit) Limit {
	if l == Unset {
		return def
	}
	return l
}

// MarshalJSON gives a string, as radosgw-admin does.
func (l Limit) MarshalJSON() ([]byte, error) { return json.Marshal(l.String()) }

// UnmarshalJSON reads what MarshalJSON gives.
func (l *Limit) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	*l = ParseLimit(s)
	return nil
}

// Topic is where events go. Topics handed out by Topics are shared: they must
// not be changed. The JSON form is radosgw-admin's.
type Topic struct {
	Owner string `json:"owner"` // user id, "tenant$uid" or "uid"
	Name  string `json:"name"`
	Dest  Dest   `json:"dest"`
	ARN   string `json:"arn"`
	// OpaqueData is copied into every event.
	OpaqueData string `json:"opaqueData"`
	// Policy is a resource policy document, or empty.
	Policy string `json:"policy"`
}

// Dest is the part of a topic that concerns delivery.
type Dest struct {
	// PushEndpoint is a URL; it may hold a secret. Empty: nothing is pushed.
	PushEndpoint string `json:"push_endpoint"`
	// Args are the remaining attributes, "k=v&k=v" in the order of names.
	Args  string `json:"push_endpoint_args"`
	Topic string `json:"push_endpoint_topic"`
	// StoredSecret: endpoint or attributes hold a secret.
	StoredSecret bool `json:"stored_secret"`
	Persistent   bool `json:"persistent"`
	// Queue is the name of the first shard; empty when there are no queues.
	Queue      string `json:"persistent_queue"`
	TimeToLive Limit  `json:"time_to_live"` // seconds
	MaxRetries Limit  `json:"max_retries"`
	RetrySleep Limit  `json:"retry_sleep_duration"` // seconds
	// Shards is fixed when the topic first gets queues; 0 before.
	Shards int `json:"num_shards"`
	// NamedBy is the user who named the endpoint, where it is not the owner:
	// see Topic.SetNamedBy.
	NamedBy string `json:"push_endpoint_by,omitempty"`
}

// The attributes with a place of their own; all others are arguments of the
// endpoint.
const (
	AttrPushEndpoint = "push-endpoint"
	AttrOpaqueData   = "OpaqueData"
	AttrPersistent   = "persistent"
	AttrTimeToLive   = "time_to_live"
	AttrMaxRetries   = "max_retries"
	AttrRetrySleep   = "retry_sleep_duration"
	AttrPolicy       = "Policy"
)

// Arguments that concern the gateway, not the endpoint.
const (
	ArgDialect  = "event-dialect" // "ceph" (default) or "aws"
	ArgWhenFull = "when-full"     // "reject" (default), "drop-oldest" or "drop-new"
)

// settable are the arguments that SetTopicAttributes accepts beside the
// attributes above. It is never written.
var settable = [...]string{
	ArgDialect, ArgWhenFull,
	"verify-ssl", "use-ssl", "ca-location", "cloudevents", "http-ack-level",
	argCloudMode, argHTTPHeaders, argHTTPToken, argHTTPKeys, argHTTPReject, argHTTPVersion,
	"amqp-exchange", "amqp-ack-level", "amqp-version", "mqtt-qos", "mqtt-retain",
	"kafka-ack-level", "kafka-brokers", "kafka-max-batch-size", "kafka-compression", "mechanism", "user-name", "password",
	"ssl-certificate-location", "ssl-key-location", "ssl-key-password",
	"sasl-kerberos-service-name", "sasl-kerberos-principal", "sasl-kerberos-keytab",
	"sasl-oauthbearer-token-endpoint-url", "sasl-oauthbearer-client-id",
	"sasl-oauthbearer-client-secret", "sasl-oauthbearer-scope",
	argNATSAck, argNATSSubject, argNATSStream, argNATSCredentials, argNATSNKey, argNATSInbox,
	argRedisMode, argRedisKey, argRedisMaxLen,
}

// notArgs are form fields that are no attributes. It is never written.
var notArgs = [...]string{"Action", "Name", "PayloadHash", "Version", "TopicArn"}

// TopicARN is the ARN of a topic.
func TopicARN(region, tenant, name string) string {
	return "arn:aws:sns:" + region + ":" + tenant + ":" + name
}

// ParseTopicARN splits a topic's ARN. The region is not looked at.
// Errors: ErrInvalidARN.
func ParseTopicARN(arn string) (tenant, name string, err error) {
	p := strings.SplitN(arn, ":", 6)
	if len(p) != 6 || p[0] != "arn" || p[1] == "" || p[2] != "sns" || p[5] == "" {
		return "", "", fmt.Errorf("%w: %q", ErrInvalidARN, arn)
	}
	return p[4], p[5], nil
}

// ValidTopicName tells whether a topic may be created under that name: 1 to
// 256 of A-Z, a-z, 0-9, '-' and '_'.
func ValidTopicName(name string) bool {
	if name == "" || len(name) > 256 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// isText tells whether XML can show a string: else one topic would make the list
// of all of its tenant's unreadable.
func isText(s string) bool {
	for _, r := range s {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return false
		}
	}
	return utf8.ValidString(s)
}

// NewTopic makes a topic of a CreateTopic request's attributes. It checks what
// RGW checks: the name, the syntax of the endpoint's URL, and that a user name
// comes with a password; and that the attributes are text.
// Errors: ErrInvalidTopicName, ErrInvalidEndpoint, ErrInvalidAttribute.
func NewTopic(region, tenant, name, owner string, attrs map[string]string) (*Topic, error) {
	if !ValidTopicName(name) {
		return nil, fmt.Errorf("%w: %q", ErrInvalidTopicName, name)
	}
	t := &Topic{
		Owner: owner,
		Name:  name,
		ARN:   TopicARN(region, tenant, name),
		Dest:  Dest{Topic: name, TimeToLive: Unset, MaxRetries: Unset, RetrySleep: Unset},
	}
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		if !isText(k) || !isText(attrs[k]) {
			return nil, fmt.Errorf("%w: %q has characters that no answer could show", ErrInvalidAttribute, k)
		}
		if !slices.Contains(notArgs[:], k) {
			t.set(k, attrs[k])
		}
	}
	if (t.Arg("user-name") == "") != (t.Arg("password") == "") {
		return nil, fmt.Errorf("%w: user-name and password go together", ErrInvalidAttribute)
	}
	if err := t.checkEndpoint(); err != nil {
		return nil, err
	}
	return t, nil
}

// WithAttribute returns a copy with one attribute changed, as
// SetTopicAttributes does. Errors: ErrInvalidAttribute, ErrInvalidEndpoint.
func (t *Topic) WithAttribute(name, value string) (*Topic, error) {
	switch name {
	case AttrPushEndpoint, AttrOpaqueData, AttrPersistent, AttrTimeToLive, AttrMaxRetries, AttrRetrySleep, AttrPolicy:
	default:
		if !slices.Contains(settable[:], name) {
			return nil, fmt.Errorf("%w: unknown attribute %q", ErrInvalidAttribute, name)
		}
	}
	if !isText(value) {
		return nil, fmt.Errorf("%w: %s has characters that no answer could show", ErrInvalidAttribute, name)
	}
	next := *t
	next.set(name, value)
	if err := next.checkEndpoint(); err != nil {
		return nil, err
	}
	return &next, nil
}

// set puts an attribute in its place. Booleans and numbers that cannot be read
// are defaults, not errors (RGW).
func (t *Topic) set(name, value string) {
	switch name {
	case AttrPushEndpoint:
		t.Dest.PushEndpoint = value
	case AttrOpaqueData:
		t.OpaqueData = value
	case AttrPersistent:
		t.Dest.Persistent = strings.EqualFold(value, "true")
	case AttrTimeToLive:
		t.Dest.TimeToLive = ParseLimit(value)
	case AttrMaxRetries:
		t.Dest.MaxRetries = ParseLimit(value)
	case AttrRetrySleep:
		t.Dest.RetrySleep = ParseLimit(value)
	case AttrPolicy:
		t.Policy = value
	default:
		t.setArg(name, value)
	}
}

// checkEndpoint validates the URL and notes whether there is a secret.
func (t *Topic) checkEndpoint() error {
	t.Dest.StoredSecret = t.Arg("user-name") != ""
	for _, name := range secretArgs {
		t.Dest.StoredSecret = t.Dest.StoredSecret || t.Arg(name) != ""
	}
	if err := cmp.Or(t.checkChoices(), checkHTTPArgs(t.Dest.Args), checkTokenURL(t.Arg(argTokenURL))); err != nil {
		return err
	}
	if t.Dest.PushEndpoint == "" {
		return nil
	}
	u, err := url.Parse(t.Dest.PushEndpoint)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return ErrInvalidEndpoint // the text may hold a password
	}
	if strings.Contains(t.Dest.PushEndpoint, "#") { // nothing would get what follows, half a password maybe
		return fmt.Errorf("%w: # is written %%23", ErrInvalidEndpoint)
	}
	if err := t.checkBroker(u); err != nil {
		return err
	}
	if u.User == nil {
		return nil
	}
	if pw, ok := u.User.Password(); (!ok || pw == "" || u.User.Username() == "") && !secretAlone(u) {
		return fmt.Errorf("%w: user and password go together", ErrInvalidEndpoint)
	}
	t.Dest.StoredSecret = true
	return nil
}

// Tenant is the tenant (or account) that the topic belongs to.
func (t *Topic) Tenant() string {
	tenant, _, err := ParseTopicARN(t.ARN)
	if err != nil {
		return ""
	}
	return tenant
}

// ownedBy tells whether the topic is the one that a rule was put for: of that
// owner, where the rule has noted it.
func (t *Topic) ownedBy(owner string) bool { return owner == "" || t.Owner == owner }

// Queued tells whether events of the topic go through queues: it is persistent
// and has an endpoint.
func (t *Topic) Queued() bool { return t.Dest.Persistent && t.Dest.PushEndpoint != "" }

// Arg returns one argument of the endpoint, or "".
func (t *Topic) Arg(name string) string { return argValue(t.Dest.Args, name) }

// BoolArg returns an argument that is a boolean: anything but "true" and
// "false" is def.
func (t *Topic) BoolArg(name string, def bool) bool { return boolArg(t.Dest.Args, name, def) }

func boolArg(args, name string, def bool) bool {
	switch v := argValue(args, name); {
	case strings.EqualFold(v, "true"):
		return true
	case strings.EqualFold(v, "false"):
		return false
	}
	return def
}

func argValue(args, name string) string {
	for pair := range strings.SplitSeq(args, "&") {
		if k, v, ok := strings.Cut(pair, "="); ok && unescapeArg(k) == name {
			return unescapeArg(v)
		}
	}
	return ""
}

func (t *Topic) setArg(name, value string) {
	pair := escapeArg(name, true) + "=" + escapeArg(value, false)
	var pairs []string
	if t.Dest.Args != "" {
		pairs = strings.Split(t.Dest.Args, "&")
	}
	for i, p := range pairs {
		if k, _, _ := strings.Cut(p, "="); unescapeArg(k) == name {
			pairs[i] = pair
			t.Dest.Args = strings.Join(pairs, "&")
			return
		}
	}
	t.Dest.Args = strings.Join(append(pairs, pair), "&")
}

// escapeArg keeps values apart from the "&" between arguments; RGW does not,
// and then cuts such values off.
func escapeArg(s string, name bool) string {
	s = strings.ReplaceAll(s, "%", "%25")
	s = strings.ReplaceAll(s, "&", "%26")
	if name {
		s = strings.ReplaceAll(s, "=", "%3D")
	}
	return s
}

func unescapeArg(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	s = strings.ReplaceAll(s, "%3D", "=")
	s = strings.ReplaceAll(s, "%26", "&")
	return strings.ReplaceAll(s, "%25", "%")
}

// queueOf is the name of a topic's first queue, "TENANT:NAME". A dot is written
// as "%2E": else topic "t.1" would share a queue with "t".
func queueOf(tenant, name string) string {
	return strings.ReplaceAll(tenant+":"+name, ".", "%2E")
}

// topicOfQueue is the inverse of queueOf.
func topicOfQueue(queue string) (tenant, name string, ok bool) {
	return strings.Cut(strings.ReplaceAll(queue, "%2E", "."), ":")
}

// ShardName is the name of the topic's i-th queue: the name itself, then
// "NAME.1", "NAME.2", ... (RGW).
func ShardName(queue string, i int) string {
	if i == 0 {
		return queue
	}
	return queue + "." + strconv.Itoa(i)
}

// RedactEndpoint replaces the secrets of an endpoint's URL by "xxxxx".
func RedactEndpoint(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "(malformed)"
	}
	return redactURL(u)
}

// secretArgs are the arguments that are secrets. It is never written.
var secretArgs = [...]string{
	"password", "ssl-key-password", "sasl-oauthbearer-client-secret",
	argHTTPHeaders, argHTTPToken, argHTTPKeys,
}

// BearsSecret tells whether an attribute is, or may hold, a secret.
func BearsSecret(attr string) bool {
	return attr == AttrPushEndpoint || attr == "user-name" || slices.Contains(secretArgs[:], attr)
}

// OfEndpoint tells whether an attribute says where an endpoint is, or how it is
// spoken to.
func OfEndpoint(attr string) bool {
	switch attr {
	case AttrOpaqueData, AttrPersistent, AttrTimeToLive, AttrMaxRetries, AttrRetrySleep, AttrPolicy, ArgDialect, ArgWhenFull:
		return false
	}
	return true
}

// redactArgs replaces the values of secret arguments.
func redactArgs(args string) string {
	if args == "" {
		return ""
	}
	t := Topic{Dest: Dest{Args: args}}
	for _, name := range secretArgs {
		if t.Arg(name) != "" {
			t.setArg(name, "xxxxx")
		}
	}
	return t.Dest.Args
}

// Redacted returns a copy without secrets, for logs and dumps.
func (t *Topic) Redacted() *Topic {
	c := *t
	c.Dest.PushEndpoint = RedactEndpoint(t.Dest.PushEndpoint)
	c.Dest.Args = redactArgs(t.Dest.Args)
	return &c
}
