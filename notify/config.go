package notify

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"herald/store"
)

// AttrNotification is the bucket attribute that holds the rules.
const AttrNotification = "notification"

// AttrTags is the object attribute that holds tags, encoded as the query of a
// URL ("k=v&k2=v2").
const AttrTags = "herald-tags"

// metaPrefix is what the names of user metadata begin with.
const metaPrefix = "x-amz-meta-"

// Rule is one notification of a bucket. The JSON form is radosgw-admin's.
type Rule struct {
	TopicARN string      `json:"TopicArn"`
	ID       string      `json:"Id"`
	Events   []EventType `json:"Events"`
	Filter   Filter      `json:"Filter"`
	// Kind is that of the element that it was put as, and is shown as.
	Kind RuleKind `json:"Kind,omitempty"`
	// TopicOwner is the topic's owner when the rule was put. A topic of that name
	// that somebody else made afterwards gets nothing; empty: not known.
	TopicOwner string `json:"TopicOwner,omitempty"`
	// PutARN is the ARN that was put, of a Kind other than RuleTopic.
	PutARN string `json:"PutArn,omitempty"`
}

// RuleKind tells what a rule is put as: S3 has rules for topics, queues and
// functions. Here a topic stands behind all of them.
type RuleKind string

// The kinds of rules.
const (
	RuleTopic    RuleKind = ""
	RuleQueue    RuleKind = "Queue"
	RuleFunction RuleKind = "CloudFunction"
)

// ParseRuleARN reads the ARN of a rule of a kind. Beside a topic's own it may
// be that of a queue or function of the topic's name:
// "arn:aws:sqs:REGION:TENANT:NAME", "arn:aws:lambda:REGION:TENANT:function:NAME".
// Errors: ErrInvalidARN.
func ParseRuleARN(kind RuleKind, arn string) (tenant, name string, err error) {
	p := strings.SplitN(arn, ":", 6)
	if kind != RuleTopic && len(p) == 6 && p[0] == "arn" && p[1] != "" {
		name, ok := p[5], kind == RuleQueue && p[2] == "sqs"
		if kind == RuleFunction && p[2] == "lambda" {
			name, ok = strings.CutPrefix(p[5], "function:")
			name, _, _ = strings.Cut(name, ":") // a version or alias
		}
		if ok && name != "" {
			return p[4], name, nil
		}
	}
	return ParseTopicARN(arn)
}

// Filter says which objects a rule is about: all of its parts must match. The
// zero Filter matches everything.
type Filter struct {
	Key      FilterRules `json:"S3Key"`
	Metadata FilterRules `json:"S3Metadata"`
	Tags     FilterRules `json:"S3Tags"`
}

// FilterRules are the pairs of one part of a filter.
type FilterRules struct {
	FilterRules []FilterRule `json:"FilterRules"`
}

// FilterRule is a pair: of Key "prefix", "suffix" or "regex" and its value, of
// Metadata a header's name ("x-amz-meta-...") and its value, of Tags a tag.
type FilterRule struct {
	Name  string `json:"Name"`
	Value string `json:"Value"`
}

// IsZero tells whether the filter has no rule at all.
func (f *Filter) IsZero() bool {
	return len(f.Key.FilterRules)+len(f.Metadata.FilterRules)+len(f.Tags.FilterRules) == 0
}

// MarshalJSON gives an empty list where there are no rules.
func (r FilterRules) MarshalJSON() ([]byte, error) {
	type plain FilterRules
	if r.FilterRules == nil {
		r.FilterRules = []FilterRule{}
	}
	return json.Marshal(plain(r))
}

// DefaultEvents are those of a rule that names none; lifecycle and
// synchronisation are never implied.
func DefaultEvents() []EventType { return []EventType{ObjectCreatedAll, ObjectRemovedAll} }

// Validate checks a rule as it comes from a client. An unknown or repeated
// name of a key rule is malformed XML in RGW's eyes, an empty id or topic an
// invalid argument; errors.Is tells them apart.
// Errors: ErrInvalidFilter, ErrInvalidARN, ErrInvalidAttribute.
func (r *Rule) Validate() error {
	if r.ID == "" {
		return fmt.Errorf("%w: empty notification id", ErrInvalidAttribute)
	}
	if _, _, err := ParseRuleARN(r.Kind, r.TopicARN); err != nil {
		return err
	}
	_, err := compileKeyFilter(r.Filter.Key.FilterRules)
	return err
}

// MadeID is an id for a rule that was put without one: that of another only if
// all else is the same, so that the document may be put again.
func (r *Rule) MadeID() string {
	sum := sha256.Sum256([]byte(FormatRules([]Rule{*r})))
	return hex.EncodeToString(sum[:16])
}

// ruleKey tells rules apart: the same id with another topic is another rule. As
// in RGW, a topic of the same name in another tenant counts as the same: so a
// bucket moves to the topic of its owner's new account. (RGW joins id and name,
// and so takes some for the same that are not.)
type ruleKey struct{ id, topic string }

func (r *Rule) key() ruleKey {
	_, name, _ := ParseTopicARN(r.TopicARN)
	return ruleKey{r.ID, name}
}

// ParseRules decodes the bucket attribute; an empty one gives no rules.
func ParseRules(attr string) ([]Rule, error) {
	if attr == "" {
		return nil, nil
	}
	var rules []Rule
	if err := json.Unmarshal([]byte(attr), &rules); err != nil {
		return nil, fmt.Errorf("decode notifications: %w", err)
	}
	return rules, nil
}

// FormatRules encodes rules for the bucket attribute; none give "".
func FormatRules(rules []Rule) string {
	if len(rules) == 0 {
		return ""
	}
	data, err := json.Marshal(rules)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return string(data)
}

// MergeRules is what a PUT of a notification configuration does: rules with
// the id and topic name of one that is there replace it, others are added;
// none at all remove everything (RGW: PUT merges, the empty document clears).
// Rules without events get the default ones.
func MergeRules(have, put []Rule) []Rule {
	if len(put) == 0 {
		return nil
	}
	out := slices.Clone(have)
	at := make(map[ruleKey]int, len(have)+len(put))
	for i := range slices.Backward(out) { // of equal keys the first counts
		at[out[i].key()] = i
	}
	for _, r := range put {
		if len(r.Events) == 0 {
			r.Events = DefaultEvents()
		}
		if i, ok := at[r.key()]; ok {
			out[i] = r
			continue
		}
		at[r.key()] = len(out)
		out = append(out, r)
	}
	return out
}

// FindRule returns the first rule of that id. Errors: ErrNoSuchNotification.
func FindRule(rules []Rule, id string) (*Rule, error) {
	for i := range rules {
		if rules[i].ID == id {
			return &rules[i], nil
		}
	}
	return nil, fmt.Errorf("%w: %q", ErrNoSuchNotification, id)
}

// RemoveRule returns the rules without the first of that id; an unknown id
// changes nothing. The empty id removes all.
func RemoveRule(rules []Rule, id string) []Rule {
	if id == "" {
		return nil
	}
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == id })
	if i < 0 {
		return rules
	}
	return slices.Delete(slices.Clone(rules), i, i+1)
}

// keyFilter is a compiled key filter.
type keyFilter struct {
	prefix, suffix string
	regex          *regexp.Regexp // nil: any key
}

// compileKeyFilter: at most one each of prefix, suffix and regex. The regex
// must match the whole key. It is RE2; what only ECMAScript has (look-around,
// back-references) is refused when the rule is put, not when it would match.
// Errors: ErrInvalidFilter.
func compileKeyFilter(rules []FilterRule) (keyFilter, error) {
	var f keyFilter
	seen := make(map[string]bool, len(rules))
	for _, r := range rules {
		if seen[r.Name] {
			return f, fmt.Errorf("%w: key rule %q twice", ErrInvalidFilter, r.Name)
		}
		seen[r.Name] = true
		switch r.Name {
		case "prefix":
			f.prefix = r.Value
		case "suffix":
			f.suffix = r.Value
		case "regex":
			if r.Value == "" {
				continue // no condition (RGW)
			}
			if err := checkRegex(r.Value); err != nil {
				return f, err
			}
			re, err := regexp.Compile(`^(?:` + r.Value + `)$`)
			if err != nil {
				return f, fmt.Errorf("%w: %v", ErrInvalidFilter, err)
			}
			f.regex = re
		default:
			return f, fmt.Errorf("%w: unknown key rule %q", ErrInvalidFilter, r.Name)
		}
	}
	return f, nil
}

// Limits on a regex: a bucket may have hundreds, which are kept compiled and
// held against the key of every change.
const (
	maxRegex     = 1024 // bytes, as S3 bounds a filter's value
	maxRegexSize = 2500 // with repetitions spelled out, about instructions
)

// checkRegex parses a regex alone, since ")(" must not pass, and within the
// limits, which need no compiling. Errors: ErrInvalidFilter.
func checkRegex(s string) error {
	if len(s) > maxRegex {
		return fmt.Errorf("%w: the regex is longer than %d bytes", ErrInvalidFilter, maxRegex)
	}
	re, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrInvalidFilter, err)
	}
	if regexSize(re) > maxRegexSize {
		return fmt.Errorf("%w: the regex is too large", ErrInvalidFilter)
	}
	return nil
}

// regexSize estimates what a regex becomes when compiled. Repeat counts are at
// most 1000 in all (regexp/syntax), so that nothing overflows.
func regexSize(re *syntax.Regexp) int {
	n := 1
	if re.Op == syntax.OpLiteral {
		n = len(re.Rune)
	}
	for _, sub := range re.Sub {
		n += regexSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return n
}

func (f *keyFilter) match(key string) bool {
	return strings.HasPrefix(key, f.prefix) && strings.HasSuffix(key, f.suffix) &&
		(f.regex == nil || f.regex.MatchString(key))
}

// attrFilter is the part of a filter that looks at the object's attributes.
type attrFilter struct {
	metadata, tags []FilterRule
}

func (f *attrFilter) isZero() bool { return len(f.metadata)+len(f.tags) == 0 }

// match: every pair must be there with an equal value.
func (f *attrFilter) match(attrs store.Attrs) bool {
	for _, r := range f.metadata {
		v, ok := attrs[strings.ToLower(r.Name)]
		if !ok || v != r.Value || !strings.HasPrefix(strings.ToLower(r.Name), metaPrefix) {
			return false
		}
	}
	if len(f.tags) == 0 {
		return true
	}
	tags := decodeTags(attrs[AttrTags])
	for _, r := range f.tags {
		if !slices.Contains(tags, pair{r.Name, r.Value}) {
			return false
		}
	}
	return true
}

// compiledRule is a rule ready for matching; it is never changed.
type compiledRule struct {
	id     string
	arn    string
	record string // of the topic: see knownRecord
	owner  string // see Rule.TopicOwner
	events EventType
	key    keyFilter
	attrs  attrFilter
	alone  []intentRule // where it is the one that fires, with no filter left
}

// decodeRules compiles the rules that a bucket's attribute has.
func decodeRules(attr string) ([]compiledRule, error) {
	rules, err := ParseRules(attr)
	return compileRules(rules), err
}

// compileRules leaves out rules that cannot match anything: a broken one must
// not stop the others.
func compileRules(rules []Rule) []compiledRule {
	out := make([]compiledRule, 0, len(rules))
	for _, r := range rules {
		tenant, name, err := ParseTopicARN(r.TopicARN)
		if err != nil {
			continue
		}
		key, err := compileKeyFilter(r.Filter.Key.FilterRules)
		if err != nil {
			continue
		}
		c := compiledRule{
			id: r.ID, arn: r.TopicARN, record: knownRecord(tenant, name), owner: r.TopicOwner, key: key,
			attrs: attrFilter{r.Filter.Metadata.FilterRules, r.Filter.Tags.FilterRules},
		}
		for _, e := range r.Events {
			c.events |= e
		}
		c.alone = []intentRule{{id: c.id}}
		out = append(out, c)
	}
	// Rules of one topic side by side: they share a reservation.
	slices.SortStableFunc(out, func(a, b compiledRule) int {
		return cmp.Or(cmp.Compare(a.arn, b.arn), cmp.Compare(a.owner, b.owner))
	})
	return out
}

// match looks at what is known of every change beforehand.
func (c *compiledRule) match(typ EventType, key string) bool {
	return c.events&typ != 0 && c.key.match(key)
}
