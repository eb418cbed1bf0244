package s3api

import (
	"context"
	"errors"
	"strings"

	"herald/notify"
	"herald/store"
)

// maxRules bounds a bucket's notifications, encoded, in bytes: the bucket's
// record is read with every request.
const maxRules = 256 << 10

// getNotification shows all of a bucket's notifications, or, with a value of
// the parameter, the one of that id (RGW). Errors: NoSuchKey for an id that
// there is not.
func (s *Server) getNotification(_ context.Context, r *request) (*response, error) {
	rules, err := notify.ParseRules(r.bucket.Info.Attrs[notify.AttrNotification])
	if err != nil {
		return nil, err
	}
	if id := r.query.get("notification"); id != "" {
		one, err := notify.FindRule(rules, id)
		if err != nil {
			return nil, err
		}
		rules = []notify.Rule{*one}
	}
	x := newXML("NotificationConfiguration", nsS3)
	for i := range rules {
		x.rule(&rules[i])
	}
	x.end("NotificationConfiguration")
	return x.response(), nil
}

// rule writes one TopicConfiguration, or one of another kind.
func (x *xmlWriter) rule(rule *notify.Rule) {
	outer, inner := string(rule.Kind)+"Configuration", string(rule.Kind)
	arn := rule.PutARN
	if rule.Kind == notify.RuleTopic {
		outer, inner, arn = "TopicConfiguration", "Topic", rule.TopicARN
	}
	x.open(outer)
	x.elem("Id", rule.ID)
	x.elem(inner, arn)
	if f := &rule.Filter; !f.IsZero() {
		x.open("Filter")
		x.filterRules("S3Key", f.Key.FilterRules)
		x.filterRules("S3Metadata", f.Metadata.FilterRules)
		x.filterRules("S3Tags", f.Tags.FilterRules)
		x.end("Filter")
	}
	for _, e := range rule.Events {
		x.elem("Event", e.String())
	}
	x.end(outer)
}

func (x *xmlWriter) filterRules(name string, rules []notify.FilterRule) {
	if len(rules) == 0 {
		return
	}
	x.open(name)
	for _, r := range rules {
		x.open("FilterRule")
		x.elem("Name", r.Name)
		x.elem("Value", r.Value)
		x.end("FilterRule")
	}
	x.end(name)
}

// deleteNotification removes all of a bucket's notifications, or the one of an
// id (RGW); that there is none is no error.
func (s *Server) deleteNotification(ctx context.Context, r *request) (*response, error) {
	id := r.query.get("notification")
	err := s.updateRules(ctx, r, func(rules []notify.Rule) []notify.Rule {
		return notify.RemoveRule(rules, id)
	})
	if err != nil {
		return nil, err
	}
	return ok(), nil
}

// putNotification adds notifications to those of the bucket: one with the id
// and topic of another replaces it, an empty document removes all (RGW). With
// the option ReplaceNotifications the document replaces everything, as in S3.
// All is checked before anything is stored.
func (s *Server) putNotification(ctx context.Context, r *request) (*response, error) {
	if v := r.query.get("notification"); v != "" {
		return nil, invalidArgument("notification", v, "The parameter notification takes no value here.")
	}
	doc, err := r.document(maxDocument, "NotificationConfiguration")
	if errors.Is(err, codeMissingRequestBody) {
		return nil, fail(codeInvalidArgument, "A notification configuration is required.")
	}
	if err != nil {
		return nil, err
	}
	rules, err := parseNotification(doc)
	if err != nil {
		return nil, err
	}
	if err := s.resolveTopics(ctx, r, rules); err != nil {
		return nil, err
	}
	err = s.updateRules(ctx, r, func(have []notify.Rule) []notify.Rule {
		if s.topics.replaceRules {
			have = nil
		}
		return notify.MergeRules(have, rules)
	})
	if err != nil {
		return nil, err
	}
	s.notify.Publisher().Configured(ctx, r.bucket.Info, rules, r.id, s.hostID)
	return ok(), nil
}

// resolveTopics checks that every topic exists and lets the caller publish, in
// that order, and puts its own ARN into the rules.
// Errors: NoSuchKey, InvalidArgument, AccessDenied.
func (s *Server) resolveTopics(ctx context.Context, r *request, rules []notify.Rule) error {
	topics := make([]*notify.Topic, len(rules))
	for i := range rules {
		tenant, name, err := notify.ParseRuleARN(rules[i].Kind, rules[i].TopicARN)
		if err != nil {
			return err // cannot be: it was validated
		}
		topics[i], err = s.notify.Topics().Get(ctx, tenant, name)
		if errors.Is(err, notify.ErrNoSuchTopic) && rules[i].Kind != notify.RuleTopic {
			return invalidArgument(string(rules[i].Kind), rules[i].TopicARN, "There is no topic of that name.") // S3's error
		}
		if errors.Is(err, notify.ErrNoSuchTopic) {
			return fail(codeNoSuchKey, "There is no topic %s.", rules[i].TopicARN)
		}
		if err != nil {
			return err
		}
	}
	for i, t := range topics {
		if !s.topicAllowed(r, t, "sns:Publish") {
			return fail(codeAccessDenied, "The topic %s does not let you publish to it.", t.ARN)
		}
		if rules[i].Kind != notify.RuleTopic {
			rules[i].PutARN = rules[i].TopicARN
		}
		rules[i].TopicARN, rules[i].TopicOwner = t.ARN, t.Owner
	}
	return nil
}

// updateRules changes the bucket's rules in one atomic step; f may be called
// more than once.
func (s *Server) updateRules(ctx context.Context, r *request, f func([]notify.Rule) []notify.Rule) error {
	return s.updateBucket(ctx, r, func(b *store.BucketInfo) error {
		have, err := notify.ParseRules(b.Attrs[notify.AttrNotification])
		if err != nil {
			return err
		}
		attr := notify.FormatRules(f(have))
		if len(attr) > maxRules {
			return fail(codeInvalidArgument, "The bucket's notifications would be too long.")
		}
		if attr == "" {
			delete(b.Attrs, notify.AttrNotification)
		} else {
			b.Attrs[notify.AttrNotification] = attr
		}
		return nil
	})
}

// ruleKind tells which rules an element is for.
func ruleKind(element string) (kind notify.RuleKind, arn string, ok bool) {
	switch element {
	case "TopicConfiguration":
		return notify.RuleTopic, "Topic", true
	case "QueueConfiguration":
		return notify.RuleQueue, "Queue", true
	case "CloudFunctionConfiguration", "LambdaFunctionConfiguration":
		return notify.RuleFunction, "CloudFunction", true
	}
	return "", "", false
}

// parseNotification reads the rules of a NotificationConfiguration. Those for
// queues and functions are about the topic that their ARN names. Elements that
// S3 does not know are errors, and so are EventBridge's (RGW passes over all of
// these): a document of nothing else would remove all notifications, and a filter
// that was misspelt would let every event through.
// Errors: MalformedXML, InvalidArgument, NotImplemented.
func parseNotification(doc *node) ([]notify.Rule, error) {
	var rules []notify.Rule
	for i := range doc.children {
		c := &doc.children[i]
		kind, arn, ok := ruleKind(c.name)
		switch {
		case c.name == "EventBridgeConfiguration":
			return nil, fail(codeNotImplemented, "There is no EventBridge here.")
		case !ok:
			return nil, fail(codeMalformedXML, "There is no element %s in a NotificationConfiguration.", c.name)
		}
		rule, err := parseRule(c, kind, arn)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func parseRule(c *node, kind notify.RuleKind, arn string) (notify.Rule, error) {
	rule := notify.Rule{Kind: kind}
	if err := c.only("Id", arn, "Event", "Filter"); err != nil {
		return rule, err
	}
	if c.child(arn) == nil {
		return rule, fail(codeMalformedXML, "A %s needs %s.", c.name, arn)
	}
	rule.ID, rule.TopicARN = c.childText("Id"), c.childText(arn)
	for i := range c.children {
		if c.children[i].name != "Event" {
			continue
		}
		text := strings.TrimSpace(c.children[i].text)
		typ, err := notify.ParseEventType(text)
		if err != nil || !strings.HasPrefix(text, "s3:") {
			return rule, invalidArgument("Event", text, "There is no such event.")
		}
		rule.Events = append(rule.Events, typ)
	}
	var err error
	if rule.Filter, err = parseFilter(c.child("Filter")); err != nil {
		return rule, err
	}
	if c.child("Id") == nil { // S3 makes one up (RGW refuses the document)
		rule.ID = rule.MadeID()
	}
	switch err := rule.Validate(); {
	case errors.Is(err, notify.ErrInvalidFilter):
		return rule, fail(codeMalformedXML, "The notification %s is not valid: %v.", rule.ID, err)
	case err != nil:
		return rule, fail(codeInvalidArgument, "The notification is not valid: %v.", err)
	}
	return rule, nil
}

// parseFilter reads a Filter element; nil gives the filter that matches all.
// Errors: MalformedXML.
func parseFilter(f *node) (notify.Filter, error) {
	var out notify.Filter
	if f == nil {
		return out, nil
	}
	if err := f.only("S3Key", "S3Metadata", "S3Tags"); err != nil {
		return out, err
	}
	for _, part := range []struct {
		name string
		to   *notify.FilterRules
	}{
		{"S3Key", &out.Key}, {"S3Metadata", &out.Metadata}, {"S3Tags", &out.Tags},
	} {
		c := f.child(part.name)
		if c == nil {
			continue
		}
		if err := c.only("FilterRule"); err != nil {
			return out, err
		}
		for i := range c.children {
			r := &c.children[i]
			name, value := r.child("Name"), r.child("Value")
			if name == nil || value == nil {
				return out, fail(codeMalformedXML, "A FilterRule needs Name and Value.")
			}
			rule := notify.FilterRule{Name: strings.TrimSpace(name.text), Value: value.text}
			if part.to == &out.Key {
				rule.Name = strings.ToLower(rule.Name) // S3 shows "Prefix" to those who wrote "prefix"
			}
			part.to.FilterRules = append(part.to.FilterRules, rule)
		}
	}
	return out, nil
}
