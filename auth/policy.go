package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Decision is what a policy says about a request.
type Decision uint8

// The decisions. Deny wins over Allow.
const (
	None Decision = iota // no statement matched
	Allow
	Deny
)

// String returns "None", "Allow" or "Deny".
func (d Decision) String() string {
	return [...]string{"None", "Allow", "Deny"}[d%3]
}

// PolicyRequest is the question put to a policy.
type PolicyRequest struct {
	// Principals are the names of the one who asks: its ARN and those that
	// include it (see Identity.Principals). Empty: anonymous.
	Principals []string
	Action     string // "sns:Publish"
	Resource   string // ARN
}

// Principals returns the names under which a policy may know somebody: the
// user's ARN, then the account or the tenant as a whole. Nil when anonymous.
func (id Identity) Principals() []string {
	if id.User == nil {
		return nil
	}
	out := []string{id.User.ARN()}
	if t := id.User.Namespace(); t != "" {
		out = append(out, "arn:aws:iam::"+t+":root", t)
	}
	return out
}

const (
	// MaxPolicySize is the longest policy document, in bytes.
	MaxPolicySize = 20 << 10
	// maxPatterns bounds the patterns of a document, so that it can be
	// evaluated on every request.
	maxPatterns = 1000
)

// Policy is a parsed resource policy; it is never changed.
type Policy struct {
	statements []statement
}

// statement is one rule. Patterns may hold '*' and '?'. Of actions and
// notActions one is empty, and of resources and notResources.
type statement struct {
	effect                  Decision
	principals              []string
	allBut                  bool     // everybody but principals
	actions, notActions     []string // lower case
	resources, notResources []string
	conditional             bool // has a condition; none are understood
}

// policyDoc and statementDoc are the document as written.
type policyDoc struct {
	Version   string
	ID        string `json:"Id"`
	Statement json.RawMessage
}

type statementDoc struct {
	Sid                                      string
	Effect                                   string
	Principal, NotPrincipal                  json.RawMessage
	Action, NotAction, Resource, NotResource stringList
	Condition                                map[string]map[string]json.RawMessage
}

// stringList is a string or a list of strings.
type stringList []string

// UnmarshalJSON reads either form.
func (l *stringList) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*l = stringList{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(data, &many); err != nil {
		return errors.New("neither a string nor a list of strings")
	}
	*l = many
	return nil
}

// ParsePolicy reads a policy document: JSON as IAM has it, at most
// MaxPolicySize bytes. Every statement needs Effect, Principal, Action and
// Resource, each or its negation. Errors: *Error (MalformedPolicyDocument).
func ParsePolicy(doc []byte) (*Policy, error) {
	p, err := parsePolicy(doc)
	if err != nil {
		return nil, refuse(CodeMalformedPolicy, "the policy is malformed: "+err.Error())
	}
	return p, nil
}

func parsePolicy(doc []byte) (*Policy, error) {
	if len(doc) > MaxPolicySize {
		return nil, fmt.Errorf("longer than %d bytes", MaxPolicySize)
	}
	var d policyDoc
	if err := strictJSON(doc, &d); err != nil {
		return nil, err
	}
	if d.Version != "" && d.Version != "2012-10-17" && d.Version != "2008-10-17" {
		return nil, errors.New("unknown Version")
	}
	raw := []json.RawMessage{d.Statement}
	if bytes.HasPrefix(bytes.TrimSpace(d.Statement), []byte("[")) {
		if err := json.Unmarshal(d.Statement, &raw); err != nil {
			return nil, err
		}
	}
	p := new(Policy)
	patterns := 0
	for _, r := range raw {
		s, n, err := parseStatement(r)
		if err != nil {
			return nil, err
		}
		p.statements = append(p.statements, s)
		if patterns += n; patterns > maxPatterns {
			return nil, errors.New("too many patterns")
		}
	}
	if len(p.statements) == 0 {
		return nil, errors.New("no Statement")
	}
	return p, nil
}

func strictJSON(data []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows the document")
	}
	return nil
}

// parseStatement reads one statement and counts its patterns.
func parseStatement(raw json.RawMessage) (statement, int, error) {
	var d statementDoc
	if len(raw) == 0 {
		return statement{}, 0, errors.New("no Statement")
	}
	if err := strictJSON(raw, &d); err != nil {
		return statement{}, 0, err
	}
	s := statement{
		actions: lowered(d.Action), notActions: lowered(d.NotAction),
		resources: d.Resource, notResources: d.NotResource, conditional: d.Condition != nil,
	}
	switch d.Effect {
	case "Allow":
		s.effect = Allow
	case "Deny":
		s.effect = Deny
	default:
		return s, 0, errors.New("a statement's Effect must be Allow or Deny")
	}
	switch {
	case (d.Principal == nil) == (d.NotPrincipal == nil):
		return s, 0, errors.New("a statement needs either Principal or NotPrincipal")
	case (len(s.actions) == 0) == (len(s.notActions) == 0):
		return s, 0, errors.New("a statement needs either Action or NotAction")
	case (len(s.resources) == 0) == (len(s.notResources) == 0):
		return s, 0, errors.New("a statement needs either Resource or NotResource")
	}
	principal := d.Principal
	if principal == nil {
		principal, s.allBut = d.NotPrincipal, true
	}
	var err error
	s.principals, err = parsePrincipal(principal)
	return s, len(s.principals) + len(s.actions) + len(s.notActions) + len(s.resources) + len(s.notResources), err
}

func lowered(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strings.ToLower(s)
	}
	return out
}

// parsePrincipal reads "*" or {"AWS": NAME or [NAME, ...], ...}. Kinds other
// than AWS name nobody here.
func parsePrincipal(raw json.RawMessage) ([]string, error) {
	var all string
	if json.Unmarshal(raw, &all) == nil {
		if all != "*" {
			return nil, errors.New(`a Principal is "*" or an object`)
		}
		return []string{"*"}, nil
	}
	var kinds map[string]stringList
	if err := json.Unmarshal(raw, &kinds); err != nil {
		return nil, errors.New(`a Principal is "*" or an object`)
	}
	var out []string
	for kind, names := range kinds {
		switch kind {
		case "AWS":
			out = append(out, names...)
		case "Service", "Federated", "CanonicalUser":
		default:
			return nil, errors.New("unknown kind of Principal")
		}
	}
	return out, nil
}

// Evaluate answers a question: Deny if a statement denies, else Allow if one
// allows, else None. Conditions are not understood: a statement that has one
// never allows, and denies whether it is fulfilled or not.
func (p *Policy) Evaluate(req PolicyRequest) Decision {
	decision := None
	req.Action = strings.ToLower(req.Action)
	for i := range p.statements {
		s := &p.statements[i]
		if s.conditional && s.effect == Allow || !s.matches(req) {
			continue
		}
		if s.effect == Deny {
			return Deny
		}
		decision = Allow
	}
	return decision
}

func (s *statement) matches(req PolicyRequest) bool {
	return matchPair(s.actions, s.notActions, req.Action) &&
		matchPair(s.resources, s.notResources, req.Resource) &&
		matchPrincipals(s.principals, req.Principals) != s.allBut
}

// matchPrincipals: "*" is everybody, also the anonymous.
func matchPrincipals(patterns, who []string) bool {
	for _, p := range patterns {
		if p == "*" || slices.ContainsFunc(who, func(name string) bool { return glob(p, name) }) {
			return true
		}
	}
	return false
}

func matchPair(patterns, not []string, s string) bool {
	match := func(p string) bool { return glob(p, s) }
	if len(not) > 0 {
		return !slices.ContainsFunc(not, match)
	}
	return slices.ContainsFunc(patterns, match)
}

// glob matches all of s against a pattern, in which '*' stands for any bytes
// and '?' for one. It takes at most len(pattern) * len(s) steps.
func glob(pattern, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0: // let the last star take one more byte
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
