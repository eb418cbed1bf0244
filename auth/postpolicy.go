package auth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// PostPolicy is the document in a browser-based upload that says what may be
// uploaded with its signature.
type PostPolicy struct {
	expiration time.Time
	conditions []postCondition
	// Bounds of the file's length in bytes; maxLength is -1 when there is none.
	minLength, maxLength int64
}

// postCondition compares a form's field.
type postCondition struct {
	prefix bool // "starts-with"; else "eq"
	field  string
	value  string
}

// parsePostPolicy reads a document. Errors: *Error, InvalidPolicyDocument.
func parsePostPolicy(doc []byte) (*PostPolicy, error) {
	var top map[string]json.RawMessage // not a struct: names must match exactly
	if err := json.Unmarshal(doc, &top); err != nil {
		return nil, badPolicy("it is no JSON object")
	}
	var text string
	if err := json.Unmarshal(top["expiration"], &text); err != nil {
		return nil, badPolicy("it needs an expiration")
	}
	p := &PostPolicy{maxLength: -1}
	var err error
	if p.expiration, err = time.Parse(time.RFC3339, text); err != nil {
		return nil, badPolicy("the expiration is not in the form 2006-01-02T15:04:05Z")
	}
	var list []json.RawMessage
	if err := json.Unmarshal(top["conditions"], &list); err != nil || list == nil {
		return nil, badPolicy("it needs a list of conditions")
	}
	for _, raw := range list {
		if err := p.add(raw); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func badPolicy(format string, args ...any) *Error {
	return refuse(CodeInvalidPolicyDocument, "Invalid Policy: "+fmt.Sprintf(format, args...))
}

// add reads one condition: {"field": "value"}, ["eq", "$field", "value"],
// ["starts-with", "$field", "value"] or ["content-length-range", min, max].
func (p *PostPolicy) add(raw json.RawMessage) error {
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		var exact map[string]string
		if err := json.Unmarshal(raw, &exact); err != nil || len(exact) == 0 {
			return badPolicy("a condition is no object of names and texts: %s", raw)
		}
		for field, value := range exact {
			p.conditions = append(p.conditions, postCondition{field: strings.ToLower(field), value: value})
		}
		return nil
	}
	var parts []any
	decode := json.NewDecoder(bytes.NewReader(raw))
	decode.UseNumber()
	if err := decode.Decode(&parts); err != nil || len(parts) != 3 {
		return badPolicy("a condition is no list of three: %s", raw)
	}
	op, _ := parts[0].(string)
	switch strings.ToLower(op) {
	case "content-length-range":
		return p.addRange(parts[1], parts[2])
	case "eq", "starts-with":
		field, ok1 := parts[1].(string)
		value, ok2 := parts[2].(string)
		field, ok3 := strings.CutPrefix(field, "$")
		if !ok1 || !ok2 || !ok3 || field == "" {
			return badPolicy("a condition does not compare a $field with a text: %s", raw)
		}
		p.conditions = append(p.conditions, postCondition{strings.EqualFold(op, "starts-with"), strings.ToLower(field), value})
		return nil
	}
	return badPolicy("a condition is of no known kind: %s", raw)
}

// addRange narrows the bounds of the length.
func (p *PostPolicy) addRange(least, most any) error {
	a, err1 := strconv.ParseInt(fmt.Sprint(least), 10, 64)
	b, err2 := strconv.ParseInt(fmt.Sprint(most), 10, 64)
	if err1 != nil || err2 != nil || a < 0 || b < a {
		return badPolicy("the content-length-range is no range of bytes")
	}
	p.minLength = max(p.minLength, a)
	if p.maxLength < 0 || b < p.maxLength {
		p.maxLength = b
	}
	return nil
}

// check tells whether the policy allows the fields: all conditions hold, and
// each field has one. Errors: *Error, AccessDenied.
func (p *PostPolicy) check(form Form, bucket string) error {
	covered := make(map[string]bool, len(p.conditions))
	for _, c := range p.conditions {
		got := form[c.field]
		if c.field == "bucket" {
			got = bucket
		}
		// S3 compares the key as it will be; the SDK for Go signs it as it is sent.
		if !c.holds(got) && (c.field != "key" || !c.holds(form.Key())) {
			return refuse(CodeAccessDenied, "Invalid according to Policy: Policy Condition failed: "+c.String())
		}
		covered[c.field] = true
	}
	if !covered["bucket"] {
		return refuse(CodeAccessDenied, "Invalid according to Policy: Policy has no condition on the bucket")
	}
	for name := range form {
		if !covered[name] && !uncovered(name) {
			return refuse(CodeAccessDenied, "Invalid according to Policy: Extra input fields: "+name)
		}
	}
	return nil
}

// uncovered tells which fields need no condition (S3).
func uncovered(name string) bool {
	switch name {
	case "policy", "signature", "awsaccesskeyid", "x-amz-signature", "file", "bucket":
		return true
	}
	return strings.HasPrefix(name, "x-ignore-")
}

// holds compares. Of several content types, separated by commas, each has to
// begin so (S3).
func (c *postCondition) holds(got string) bool {
	if !c.prefix {
		return got == c.value
	}
	if c.field != "content-type" {
		return strings.HasPrefix(got, c.value)
	}
	for part := range strings.SplitSeq(got, ",") {
		if !strings.HasPrefix(strings.TrimSpace(part), c.value) {
			return false
		}
	}
	return true
}

// String is the condition in the form of a list.
func (c *postCondition) String() string {
	op := "eq"
	if c.prefix {
		op = "starts-with"
	}
	return fmt.Sprintf("[%q, %q, %q]", op, "$"+c.field, c.value)
}

// Bounds are those of the file's length in bytes; max is -1 when there is none.
func (p *PostPolicy) Bounds() (min, max int64) { return p.minLength, p.maxLength }
