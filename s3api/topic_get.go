package s3api

import (
	"context"
	"encoding/json"
	"strconv"

	"herald/notify"
)

// getTopicAttributes shows a topic in SNS's shape: names and values.
func (s *Server) getTopicAttributes(ctx context.Context, r *request, f form) (*response, error) {
	t, err := s.readTopic(ctx, r, f)
	if err != nil {
		return nil, err
	}
	endpoint, err := json.Marshal(topicEndpoint{
		Address: t.Dest.PushEndpoint, Args: t.Dest.Args, Topic: t.Dest.Topic,
		HasSecret: t.Dest.StoredSecret, Persistent: t.Dest.Persistent,
		TimeToLive: t.Dest.TimeToLive, MaxRetries: t.Dest.MaxRetries, RetrySleep: t.Dest.RetrySleep,
	})
	if err != nil {
		return nil, err
	}
	x := newXML("GetTopicAttributesResponse", nsSNS)
	x.open("GetTopicAttributesResult")
	x.open("Attributes")
	for _, e := range [][2]string{
		{"User", t.Owner}, {"Name", t.Name}, {"EndPoint", string(endpoint)},
		{"TopicArn", t.ARN}, {"OpaqueData", t.OpaqueData}, {"Policy", t.Policy},
	} {
		x.open("entry")
		x.elem("key", e[0])
		x.elem("value", e[1])
		x.end("entry")
	}
	x.end("Attributes")
	x.end("GetTopicAttributesResult")
	return r.endTopic(x, "GetTopicAttributesResponse"), nil
}

// topicEndpoint is the value of the attribute EndPoint.
type topicEndpoint struct {
	Address    string       `json:"EndpointAddress"`
	Args       string       `json:"EndpointArgs"`
	Topic      string       `json:"EndpointTopic"`
	HasSecret  bool         `json:"HasStoredSecret"`
	Persistent bool         `json:"Persistent"`
	TimeToLive notify.Limit `json:"TimeToLive"`
	MaxRetries notify.Limit `json:"MaxRetries"`
	RetrySleep notify.Limit `json:"RetrySleepDuration"`
}

// getTopic shows a topic in RGW's own shape.
func (s *Server) getTopic(ctx context.Context, r *request, f form) (*response, error) {
	t, err := s.readTopic(ctx, r, f)
	if err != nil {
		return nil, err
	}
	x := newXML("GetTopicResponse", "") // without a namespace (RGW)
	x.open("GetTopicResult")
	x.topic("Topic", t)
	x.end("GetTopicResult")
	return r.endTopic(x, "GetTopicResponse"), nil
}

// readTopic finds the form's topic for showing it.
func (s *Server) readTopic(ctx context.Context, r *request, f form) (*notify.Topic, error) {
	t, err := s.findTopic(ctx, r, f, "sns:GetTopicAttributes")
	if err != nil {
		return nil, err
	}
	return t, s.showSecret(r, t)
}

// listTopics shows a page of the caller's tenant's topics: those that the
// caller may read. One with a secret makes the whole answer need a secure
// transport (RGW).
func (s *Server) listTopics(ctx context.Context, r *request, f form) (*response, error) {
	after, err := decodeToken(f.get("NextToken"))
	if err != nil {
		return nil, invalidArgument("NextToken", f.get("NextToken"), "The token is not one of ours.")
	}
	page, next, err := s.topicPage(ctx, r, after)
	if err != nil {
		return nil, err
	}
	x := newXML("ListTopicsResponse", nsSNS)
	x.open("ListTopicsResult")
	x.open("Topics")
	for _, t := range page {
		if err := s.showSecret(r, t); err != nil {
			x.release()
			return nil, err
		}
		x.topic("member", t)
	}
	x.end("Topics")
	// SDKs look for the token inside of the result, RGW's own tests behind it.
	x.optional("NextToken", next)
	x.end("ListTopicsResult")
	x.metadata(r)
	x.optional("NextToken", next)
	x.end("ListTopicsResponse")
	return x.response(), nil
}

// topicPage collects topics after a name until the page is full, and returns
// the token to go on with, "" at the end.
func (s *Server) topicPage(ctx context.Context, r *request, after string) (page []*notify.Topic, token string, err error) {
	for {
		topics, next, err := s.notify.Topics().List(ctx, r.user.Namespace(), after, topicPage)
		if err != nil {
			return nil, "", err
		}
		for _, t := range topics {
			if len(page) == topicPage {
				return page, encodeToken(page[len(page)-1].Name), nil
			}
			if s.topicAllowed(r, t, "sns:GetTopicAttributes") {
				page = append(page, t)
			}
		}
		if next == "" {
			return page, "", nil
		}
		if len(page) == topicPage {
			return page, encodeToken(next), nil
		}
		after = next
	}
}

// topic writes a topic with its children as GetTopic and ListTopics show it.
func (x *xmlWriter) topic(name string, t *notify.Topic) {
	x.open(name)
	x.elem("User", t.Owner)
	x.elem("Name", t.Name)
	x.open("EndPoint")
	x.elem("EndpointAddress", t.Dest.PushEndpoint)
	x.elem("EndpointArgs", t.Dest.Args)
	x.elem("EndpointTopic", t.Dest.Topic)
	x.elem("HasStoredSecret", strconv.FormatBool(t.Dest.StoredSecret))
	x.elem("Persistent", strconv.FormatBool(t.Dest.Persistent))
	x.elem("TimeToLive", t.Dest.TimeToLive.String())
	x.elem("MaxRetries", t.Dest.MaxRetries.String())
	x.elem("RetrySleepDuration", t.Dest.RetrySleep.String())
	x.end("EndPoint")
	x.elem("TopicArn", t.ARN)
	x.elem("OpaqueData", t.OpaqueData)
	x.elem("Policy", t.Policy)
	x.end(name)
}

func (x *xmlWriter) metadata(r *request) {
	x.open("ResponseMetadata")
	x.elem("RequestId", r.id)
	x.end("ResponseMetadata")
}

// endTopic ends a document of the topic API.
func (r *request) endTopic(x *xmlWriter, root string) *response {
	x.metadata(r)
	x.end(root)
	return x.response()
}
