package s3api

import (
	"strings"

	"herald/auth"
	"herald/notify"
)

// allowTopic decides whether the caller may do something with a topic.
// Errors: AuthorizationError.
func (s *Server) allowTopic(r *request, t *notify.Topic, action string) error {
	if s.topicAllowed(r, t, action) {
		return nil
	}
	return codeAuthorizationError
}

// topicAllowed is RGW's rule: the topic's policy decides; where it is silent,
// the owner may do everything, and others may publish if there is no policy at
// all (unless that was switched off). A topic without an owner and without a
// policy is everybody's. Administrators may do everything, so that a policy
// that locks out its author can be taken back.
func (s *Server) topicAllowed(r *request, t *notify.Topic, action string) bool {
	if r.user.Privileged() {
		return true
	}
	mine := r.user.Owns(t.Owner)
	if t.Policy == "" {
		return mine || t.Owner == "" || action == "sns:Publish" && !s.topics.publishPolicy
	}
	p, err := auth.ParsePolicy([]byte(t.Policy))
	if err != nil {
		return mine // was checked when it was stored; who cannot be read allows nobody else
	}
	switch p.Evaluate(auth.PolicyRequest{
		Principals: r.verified.Principals(), Action: action, Resource: t.ARN,
	}) {
	case auth.Deny:
		return false
	case auth.Allow:
		return true
	}
	return mine
}

// checkSecret refuses to take a secret over a connection that others can read.
// Errors: InvalidArgument.
func (s *Server) checkSecret(r *request, t *notify.Topic) error {
	if t.Dest.StoredSecret && !s.secure(r) {
		return fail(codeInvalidArgument, "A topic with a secret can be made only over a secure transport.")
	}
	return nil
}

// showSecret refuses to show one. Errors: AccessDenied.
func (s *Server) showSecret(r *request, t *notify.Topic) error {
	if t.Dest.StoredSecret && !s.secure(r) {
		return fail(codeAccessDenied, "A topic with a secret is shown only over a secure transport.")
	}
	return nil
}

// secure tells whether secrets may travel on the request's connection.
func (s *Server) secure(r *request) bool {
	if r.http.TLS != nil || s.topics.cleartext {
		return true
	}
	if !s.topics.forwarded {
		return false
	}
	if proto := r.header("X-Forwarded-Proto"); proto != "" {
		return strings.EqualFold(proto, "https")
	}
	// RFC 7239: the first element is that of the client's own connection.
	first, _, _ := strings.Cut(r.header("Forwarded"), ",")
	for pair := range strings.SplitSeq(first, ";") {
		name, value, _ := strings.Cut(pair, "=")
		if strings.EqualFold(strings.TrimSpace(name), "proto") {
			return strings.EqualFold(strings.Trim(strings.TrimSpace(value), `"`), "https")
		}
	}
	return false
}
