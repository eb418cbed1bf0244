package s3api

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"herald/auth"
	"herald/notify"
)

// The topic API: POST / with a form whose field Action names the operation, as
// SNS has it, with RGW's own attributes, GetTopic and errors.

const (
	// maxForm is the longest form, in bytes.
	maxForm = 1 << 20
	// maxFormFields bounds its fields.
	maxFormFields = 1000
	// maxTopicSize bounds name and attributes of a topic, in bytes, so that
	// its record stays far below the limit of records.
	maxTopicSize = 256 << 10
	// topicPage is the number of topics in a page of ListTopics (RGW).
	topicPage = 100
)

// topicRules are the options of the topic API.
type topicRules struct {
	cleartext     bool // secrets over plain HTTP
	forwarded     bool // a proxy's X-Forwarded-Proto counts
	publishPolicy bool // only a policy lets others publish
	replaceRules  bool // a PUT of a bucket's notifications replaces them
	relaxedNames  bool
}

// topicActions is the table of the topic API's operations.
var topicActions = map[string]func(*Server, context.Context, *request, form) (*response, error){
	"CreateTopic":        (*Server).createTopic,
	"SetTopicAttributes": (*Server).setTopicAttributes,
	"GetTopicAttributes": (*Server).getTopicAttributes,
	"GetTopic":           (*Server).getTopic,
	"DeleteTopic":        (*Server).deleteTopic,
	"ListTopics":         (*Server).listTopics,
}

// topicAction reads the form and runs its action. An action that is not ours
// is MethodNotAllowed, as if there were nothing at this path (RGW).
func (s *Server) topicAction(ctx context.Context, r *request) (*response, error) {
	data, err := r.readAll(maxForm)
	if err != nil {
		return nil, err
	}
	f, err := parseForm(strings.TrimRight(string(data), "\r\n"), r.query)
	if err != nil {
		return nil, err
	}
	action := f.get("Action")
	run := topicActions[action]
	if run == nil {
		return nil, codeMethodNotAllowed
	}
	r.op = action
	return run(s, ctx, r, f)
}

// form holds the fields of a form; of a name given twice the first.
type form map[string]string

func (f form) get(name string) string { return f[name] }

// parseForm reads a form, and adds the parameters of the query to its fields
// (RGW takes both for the same), except those of the signature.
// Errors: InvalidArgument.
func parseForm(data string, q query) (form, error) {
	f := form{}
	for data != "" {
		var part string
		part, data, _ = strings.Cut(data, "&")
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(k)
		if err == nil {
			v, err = url.QueryUnescape(v)
		}
		if err != nil {
			return nil, fail(codeInvalidArgument, "The form is not well escaped.")
		}
		f.add(name, v)
		if len(f) > maxFormFields {
			return nil, fail(codeInvalidArgument, "The form has too many fields.")
		}
	}
	for _, p := range q {
		if !ofSignature(p.key) {
			f.add(p.key, p.value)
		}
	}
	return f, nil
}

func (f form) add(name, value string) {
	if _, ok := f[name]; !ok {
		f[name] = value
	}
}

func ofSignature(name string) bool {
	return strings.HasPrefix(strings.ToLower(name), "x-amz-") ||
		name == "AWSAccessKeyId" || name == "Signature" || name == "Expires"
}

// attributes collects a topic's attributes: pairs Attributes.entry.N.key and
// .value with the same N, whatever the N; and plain fields, which is how very
// old clients send them (RGW). A pair goes before a plain field.
func (f form) attributes() map[string]string {
	attrs := make(map[string]string)
	for name, value := range f {
		rest, isEntry := strings.CutPrefix(name, "Attributes.entry.")
		number, isKey := strings.CutSuffix(rest, ".key")
		if !isEntry || !isKey || value == "" {
			continue
		}
		if _, err := strconv.ParseUint(number, 10, 64); err == nil {
			attrs[value] = f["Attributes.entry."+number+".value"]
		}
	}
	for name, value := range f {
		if _, ok := attrs[name]; !ok && plainAttribute(name) {
			attrs[name] = value
		}
	}
	return attrs
}

// plainAttribute: not what SNS knows itself.
func plainAttribute(name string) bool {
	switch name {
	case "", "Action", "Name", "Version", "TopicArn", "NextToken", "PayloadHash", "AttributeName", "AttributeValue", "DataProtectionPolicy":
		return false
	}
	return !strings.HasPrefix(name, "Attributes.") && !strings.HasPrefix(name, "Tags.")
}

// createTopic makes a topic of the caller's tenant, or replaces all of one but
// its owner and its queues.
func (s *Server) createTopic(ctx context.Context, r *request, f form) (*response, error) {
	t, err := s.newTopic(r, f.get("Name"), f.attributes())
	if err != nil {
		return nil, err
	}
	if err := checkPolicy(t.Policy); err != nil {
		return nil, err
	}
	if err := s.checkSecret(r, t); err != nil {
		return nil, err
	}
	t, err = s.notify.Topics().Create(ctx, t, func(cur, next *notify.Topic) error {
		if cur != nil {
			if err := s.allowTopic(r, cur, "sns:CreateTopic"); err != nil {
				return err
			}
		}
		next.SetNamedBy(r.user.UID())
		return s.notify.CheckEndpoint(ctx, next)
	})
	if err != nil {
		return nil, topicError(err)
	}
	x := newXML("CreateTopicResponse", nsSNS)
	x.open("CreateTopicResult")
	x.elem("TopicArn", t.ARN)
	x.end("CreateTopicResult")
	return r.endTopic(x, "CreateTopicResponse"), nil
}

// newTopic checks name and attributes. Errors: InvalidArgument.
func (s *Server) newTopic(r *request, name string, attrs map[string]string) (*notify.Topic, error) {
	size := len(name)
	for k, v := range attrs {
		size += len(k) + len(v)
	}
	if size > maxTopicSize {
		return nil, fail(codeInvalidArgument, "The topic's attributes are too long.")
	}
	region, tenant, uid := s.notify.Region(), r.user.Namespace(), r.user.Owner()
	if notify.ValidTopicName(name) || !s.topics.relaxedNames || !relaxedName(name) {
		t, err := notify.NewTopic(region, tenant, name, uid, attrs)
		return t, topicError(err)
	}
	t, err := notify.NewTopic(region, tenant, "relaxed", uid, attrs)
	if err != nil {
		return nil, topicError(err)
	}
	t.Name, t.Dest.Topic, t.ARN = name, name, notify.TopicARN(region, tenant, name)
	return t, nil
}

// relaxedName: what can be stored at all.
func relaxedName(name string) bool {
	return name != "" && len(name) <= 256 && strings.Trim(name,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.$@") == ""
}

// setTopicAttributes changes one attribute.
func (s *Server) setTopicAttributes(ctx context.Context, r *request, f form) (*response, error) {
	tenant, name, err := f.topicARN()
	if err != nil {
		return nil, err
	}
	attr, value := f.get("AttributeName"), f.get("AttributeValue")
	if attr == "" || len(value) > maxTopicSize {
		return nil, invalidArgument("AttributeName", attr, "AttributeName is missing, or AttributeValue is too long.")
	}
	if attr == notify.AttrPolicy {
		if err := checkPolicy(value); err != nil {
			return nil, err
		}
	}
	_, err = s.notify.Topics().SetAttribute(ctx, tenant, name, attr, value, func(cur, next *notify.Topic) error {
		if err := s.allowTopic(r, cur, "sns:SetTopicAttributes"); err != nil {
			return err
		}
		if len(next.Dest.Args)+len(next.OpaqueData)+len(next.Policy)+len(next.Dest.PushEndpoint) > maxTopicSize {
			return fail(codeInvalidArgument, "The topic's attributes are too long.")
		}
		if !notify.OfEndpoint(attr) {
			return nil
		}
		if notify.BearsSecret(attr) {
			if err := s.checkSecret(r, next); err != nil {
				return err
			}
		}
		next.SetNamedBy(r.user.UID())
		return s.notify.CheckEndpoint(ctx, next)
	})
	if err != nil {
		return nil, topicError(err)
	}
	return r.endTopic(newXML("SetTopicAttributesResponse", nsSNS), "SetTopicAttributesResponse"), nil
}

// deleteTopic removes a topic with all that waits for delivery. That there is
// no such topic is no error (RGW, SNS).
func (s *Server) deleteTopic(ctx context.Context, r *request, f form) (*response, error) {
	t, err := s.findTopic(ctx, r, f, "sns:DeleteTopic")
	if err == nil {
		err = s.notify.Topics().Delete(ctx, t.Tenant(), t.Name)
	}
	if err != nil && !errors.Is(err, notify.ErrNoSuchTopic) {
		return nil, err
	}
	return r.endTopic(newXML("DeleteTopicResponse", nsSNS), "DeleteTopicResponse"), nil
}

// topicARN reads the field TopicArn. Errors: InvalidArgument.
func (f form) topicARN() (tenant, name string, err error) {
	arn := f.get("TopicArn")
	tenant, name, err = notify.ParseTopicARN(arn)
	if err != nil {
		return "", "", invalidArgument("TopicArn", arn, "TopicArn is missing or malformed.")
	}
	return tenant, name, nil
}

// findTopic looks up the topic that the form names, in the ARN's tenant,
// whoever asks, and checks whether the caller may do the action.
// Errors: InvalidArgument, notify.ErrNoSuchTopic, AuthorizationError.
func (s *Server) findTopic(ctx context.Context, r *request, f form, action string) (*notify.Topic, error) {
	tenant, name, err := f.topicARN()
	if err != nil {
		return nil, err
	}
	t, err := s.notify.Topics().Get(ctx, tenant, name)
	if err != nil {
		return nil, err
	}
	return t, s.allowTopic(r, t, action)
}

// topicError tells the client more than the error table knows, where notify
// refused what the client sent.
func topicError(err error) error {
	for _, known := range []error{notify.ErrInvalidTopicName, notify.ErrInvalidEndpoint, notify.ErrInvalidAttribute, notify.ErrEndpointDenied, notify.ErrFileDenied} {
		if errors.Is(err, known) {
			return fail(codeInvalidArgument, "The topic is not valid: %v.", err)
		}
	}
	return err
}

// checkPolicy: a policy is empty or well-formed.
// Errors: MalformedPolicyDocument.
func checkPolicy(doc string) error {
	if doc == "" {
		return nil
	}
	_, err := auth.ParsePolicy([]byte(doc))
	return err
}
