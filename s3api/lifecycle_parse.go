package s3api

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"herald/lifecycle"
)

// parseLifecycle reads a LifecycleConfiguration. Elements that S3 does not know
// are errors: one that was misspelt might have spared an object.
// Errors: MalformedXML, InvalidArgument, InvalidRequest.
func parseLifecycle(doc *node) ([]lifecycle.Rule, error) {
	var rules []lifecycle.Rule
	for i := range doc.children {
		c := &doc.children[i]
		if c.name != "Rule" {
			return nil, fail(codeMalformedXML, "There is no element %s in a LifecycleConfiguration.", c.name)
		}
		rule, err := parseLifecycleRule(c)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	err := lifecycle.Validate(rules)
	switch {
	case errors.Is(err, lifecycle.ErrArgument):
		return nil, fail(codeInvalidArgument, "%v.", err)
	case errors.Is(err, lifecycle.ErrRequest):
		return nil, fail(codeInvalidRequest, "%v.", err)
	case err != nil:
		return nil, fail(codeMalformedXML, "%v.", err)
	}
	return rules, nil
}

// onlyOnce refuses children with other names, and two with the same.
// Errors: MalformedXML.
func (n *node) onlyOnce(names ...string) error {
	if err := n.only(names...); err != nil {
		return err
	}
	for i := range n.children {
		if c := &n.children[i]; n.child(c.name) != c {
			return fail(codeMalformedXML, "There may be one element %s in %s.", c.name, n.name)
		}
	}
	return nil
}

func parseLifecycleRule(c *node) (rule lifecycle.Rule, err error) {
	for _, name := range [...]string{"Transition", "NoncurrentVersionTransition"} {
		if t := c.child(name); t != nil {
			return rule, fail(codeInvalidArgument, "There is no storage class %s to move objects to.", t.childText("StorageClass"))
		}
	}
	if err := c.onlyOnce("ID", "Prefix", "Filter", "Status", "Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"); err != nil {
		return rule, err
	}
	switch status := c.childText("Status"); status {
	case "Enabled", "Disabled":
		rule.Enabled = status == "Enabled"
	default:
		return rule, fail(codeMalformedXML, "A rule's Status is Enabled or Disabled.")
	}
	rule.ID = c.childText("ID")
	prefix, filter := c.child("Prefix"), c.child("Filter")
	switch {
	case prefix == nil && filter == nil, prefix != nil && filter != nil:
		return rule, fail(codeMalformedXML, "A rule needs a Filter, or a Prefix.")
	case prefix != nil:
		rule.Filter = lifecycle.Filter{Prefix: prefix.text, HasPrefix: true}
	default:
		if rule.Filter, err = parseLifecycleFilter(filter); err != nil {
			return rule, err
		}
	}
	return rule, parseLifecycleActions(&rule, c)
}

// parseLifecycleActions reads the actions of a rule.
func parseLifecycleActions(rule *lifecycle.Rule, c *node) (err error) {
	if e := c.child("Expiration"); e != nil {
		if err := parseExpiration(rule, e); err != nil {
			return err
		}
	}
	if e := c.child("NoncurrentVersionExpiration"); e != nil {
		if err := e.onlyOnce("NoncurrentDays", "NewerNoncurrentVersions"); err != nil {
			return err
		}
		if rule.NoncurrentDays, err = e.days("NoncurrentDays"); err != nil {
			return err
		}
		if e.child("NewerNoncurrentVersions") != nil {
			if rule.NewerVersions, err = e.days("NewerNoncurrentVersions"); err != nil {
				return err
			}
		}
	}
	if e := c.child("AbortIncompleteMultipartUpload"); e != nil {
		if err := e.onlyOnce("DaysAfterInitiation"); err != nil {
			return err
		}
		rule.AbortDays, err = e.days("DaysAfterInitiation")
	}
	return err
}

// parseExpiration reads an Expiration. ExpiredObjectDeleteMarker may stand
// beside the others when it is false, as some clients send it.
func parseExpiration(rule *lifecycle.Rule, c *node) (err error) {
	if err := c.onlyOnce("Days", "Date", "ExpiredObjectDeleteMarker"); err != nil {
		return err
	}
	switch marker := c.childText("ExpiredObjectDeleteMarker"); {
	case strings.EqualFold(marker, "true"):
		rule.DeleteMarker = true
	case c.child("ExpiredObjectDeleteMarker") != nil && !strings.EqualFold(marker, "false"):
		return fail(codeMalformedXML, "ExpiredObjectDeleteMarker is true or false.")
	}
	days, date := c.child("Days"), c.child("Date")
	switch {
	case len(c.children) == 0, days != nil && date != nil, rule.DeleteMarker && len(c.children) > 1:
		return fail(codeMalformedXML, "An Expiration has one of Days, Date and ExpiredObjectDeleteMarker.")
	case days != nil:
		rule.Days, err = c.days("Days")
	case date != nil:
		rule.Date, err = parseLifecycleDate(strings.TrimSpace(date.text))
	}
	return err
}

// parseLifecycleDate reads a date. Errors: MalformedXML.
func parseLifecycleDate(text string) (time.Time, error) {
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02T15:04:05Z0700", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fail(codeMalformedXML, "%q is no date as ISO 8601 writes it.", text)
}

// days reads a number that must be positive. Errors: MalformedXML,
// InvalidArgument.
func (n *node) days(name string) (int, error) {
	v, err := strconv.ParseInt(n.childText(name), 10, 32)
	switch {
	case err != nil:
		return 0, fail(codeMalformedXML, "%s must be a whole number.", name)
	case v < 1:
		return 0, fail(codeInvalidArgument, "%s must be a positive number.", name)
	}
	return int(v), nil
}

// parseLifecycleFilter reads a Filter. Several conditions need not stand in And
// (RGW); all have to hold, wherever they stand. Errors: MalformedXML.
func parseLifecycleFilter(c *node) (lifecycle.Filter, error) {
	f := lifecycle.Filter{Form: lifecycle.FormFilter}
	if len(c.children) > 1 {
		f.Form = lifecycle.FormAnd
	}
	and := c.child("And")
	for i := range c.children {
		n := &c.children[i]
		if n == and {
			continue
		}
		if err := parseCondition(&f, n); err != nil {
			return f, err
		}
	}
	if and == nil {
		return f, nil
	}
	f.Form = lifecycle.FormAnd
	for i := range and.children {
		if err := parseCondition(&f, &and.children[i]); err != nil {
			return f, err
		}
	}
	return f, nil
}

// parseCondition reads one condition of a Filter.
func parseCondition(f *lifecycle.Filter, n *node) (err error) {
	switch n.name {
	case "Prefix":
		longer, shorter := n.text, f.Prefix
		if len(longer) < len(shorter) {
			longer, shorter = shorter, longer
		}
		if !strings.HasPrefix(longer, shorter) {
			return fail(codeMalformedXML, "No key has both prefixes.")
		}
		f.Prefix, f.HasPrefix = longer, true
	case "Tag":
		key, value := n.child("Key"), n.child("Value")
		if key == nil || value == nil || len(n.children) != 2 {
			return fail(codeMalformedXML, "A Tag has a Key and a Value.")
		}
		f.Tags = append(f.Tags, lifecycle.Tag{Key: key.text, Value: value.text})
	case "ObjectSizeGreaterThan":
		f.Greater, err = n.size(f.Greater)
	case "ObjectSizeLessThan":
		f.Less, err = n.size(f.Less)
	default:
		return fail(codeMalformedXML, "There is no condition %s.", n.name)
	}
	return err
}

// size reads a number of bytes that was not given before. Errors: MalformedXML.
func (n *node) size(before *int64) (*int64, error) {
	v, err := strconv.ParseInt(strings.TrimSpace(n.text), 10, 64)
	switch {
	case err != nil:
		return nil, fail(codeMalformedXML, "%s must be a whole number.", n.name)
	case before != nil:
		return nil, fail(codeMalformedXML, "There may be one element %s in a Filter.", n.name)
	}
	return &v, nil
}
