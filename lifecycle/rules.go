// Package lifecycle ends what buckets no longer want: objects, old versions,
// delete markers that hide nothing, and uploads that nobody finished.
//
// A bucket's rules are its attribute "lifecycle". They are data (rules.go) and
// pure decisions (due.go); a Worker carries them out (worker.go).
package lifecycle

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"herald/notify"
	"herald/store"
)

// Attr is the bucket's attribute that holds its rules, as JSON.
const Attr = "lifecycle"

// Limits of S3.
const (
	MaxRules  = 1000
	maxID     = 255
	maxPrefix = 1024
	maxNewer  = 100

	maxTagKey   = 128
	maxTagValue = 256
)

// The errors of Validate. ErrArgument is a value that cannot be, ErrRequest a
// combination that cannot be, ErrMalformed a rule that is none.
var (
	ErrArgument  = errors.New("invalid argument")
	ErrRequest   = errors.New("invalid request")
	ErrMalformed = errors.New("malformed rule")
)

// Rule is one rule of a bucket.
type Rule struct {
	ID      string `json:"id"`
	Enabled bool   `json:"enabled"`
	Filter  Filter `json:"filter"`

	// Expiration of current versions; at most one of the three is set.
	Days         int       `json:"days,omitempty"`
	Date         time.Time `json:"date,omitzero"`
	DeleteMarker bool      `json:"marker,omitempty"` // ExpiredObjectDeleteMarker

	NoncurrentDays int `json:"noncurrent,omitempty"`
	NewerVersions  int `json:"newer,omitempty"` // noncurrent ones that stay
	AbortDays      int `json:"abort,omitempty"` // AbortIncompleteMultipartUpload
}

// Form is how a filter was written, so that it is shown alike.
type Form string

// The forms of filters.
const (
	FormPrefix Form = ""       // the rule's own Prefix, as it once was
	FormFilter Form = "filter" // Filter with one condition, or none
	FormAnd    Form = "and"    // Filter with And
)

// Filter selects objects: all conditions have to hold.
type Filter struct {
	Form      Form   `json:"form,omitempty"`
	Prefix    string `json:"prefix,omitempty"`
	HasPrefix bool   `json:"has_prefix,omitempty"` // also when it is empty
	Tags      []Tag  `json:"tags,omitempty"`
	Greater   *int64 `json:"gt,omitempty"` // ObjectSizeGreaterThan
	Less      *int64 `json:"lt,omitempty"` // ObjectSizeLessThan
}

// Tag is a tag that an object must have.
type Tag struct {
	Key   string `json:"k"`
	Value string `json:"v"`
}

// Parse reads a bucket's attribute.
func Parse(attr string) ([]Rule, error) {
	if attr == "" {
		return nil, nil
	}
	var rules []Rule
	if err := json.Unmarshal([]byte(attr), &rules); err != nil {
		return nil, fmt.Errorf("lifecycle rules: %w", err)
	}
	return rules, nil
}

// Format is the inverse of Parse.
func Format(rules []Rule) (string, error) {
	b, err := json.Marshal(rules)
	return string(b), err
}

// Validate tells whether S3 takes the rules; those without an ID get one.
// Errors: ErrArgument, ErrRequest, ErrMalformed.
func Validate(rules []Rule) error {
	if len(rules) == 0 || len(rules) > MaxRules {
		return fmt.Errorf("%w: there must be 1 to %d rules", ErrMalformed, MaxRules)
	}
	seen := make(map[string]bool, len(rules))
	for i := range rules {
		r := &rules[i]
		if r.ID == "" {
			r.ID = store.NewOpID().String()
		}
		if utf8.RuneCountInString(r.ID) > maxID {
			return fmt.Errorf("%w: an ID has at most %d characters", ErrArgument, maxID)
		}
		if seen[r.ID] {
			return fmt.Errorf("%w: two rules have the ID %s", ErrArgument, r.ID)
		}
		seen[r.ID] = true
		if err := r.validate(); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rule) validate() error {
	f := &r.Filter
	selective := len(f.Tags) > 0 || f.Greater != nil || f.Less != nil
	switch {
	case r.Days < 0 || r.NoncurrentDays < 0 || r.AbortDays < 0:
		return fmt.Errorf("%w: days must be positive", ErrArgument)
	case r.NewerVersions < 0 || r.NewerVersions > maxNewer:
		return fmt.Errorf("%w: NewerNoncurrentVersions must be 1 to %d", ErrArgument, maxNewer)
	case !r.Date.IsZero() && !r.Date.Equal(r.Date.Truncate(24*time.Hour)):
		return fmt.Errorf("%w: Date must be at midnight UTC", ErrArgument)
	case r.Days == 0 && r.Date.IsZero() && !r.DeleteMarker && r.NoncurrentDays == 0 && r.AbortDays == 0:
		return fmt.Errorf("%w: a rule needs an action", ErrRequest)
	case r.AbortDays > 0 && selective:
		return fmt.Errorf("%w: AbortIncompleteMultipartUpload knows neither tags nor sizes", ErrRequest)
	case r.DeleteMarker && selective:
		return fmt.Errorf("%w: ExpiredObjectDeleteMarker knows neither tags nor sizes", ErrRequest)
	}
	return f.validate()
}

func (f *Filter) validate() error {
	seen := make(map[string]bool, len(f.Tags))
	for _, t := range f.Tags {
		if t.Key == "" || utf8.RuneCountInString(t.Key) > maxTagKey || utf8.RuneCountInString(t.Value) > maxTagValue {
			return fmt.Errorf("%w: a tag's key or value is not valid", ErrRequest)
		}
		if seen[t.Key] {
			return fmt.Errorf("%w: the tag %s occurs twice", ErrRequest, t.Key)
		}
		seen[t.Key] = true
	}
	switch {
	case len(f.Prefix) > maxPrefix:
		return fmt.Errorf("%w: a prefix has at most %d bytes", ErrRequest, maxPrefix)
	case f.Greater != nil && *f.Greater < 0, f.Less != nil && *f.Less < 1:
		return fmt.Errorf("%w: a size is not valid", ErrRequest)
	case f.Greater != nil && f.Less != nil && *f.Greater >= *f.Less:
		return fmt.Errorf("%w: ObjectSizeGreaterThan must be below ObjectSizeLessThan", ErrRequest)
	}
	return nil
}

// Match tells whether an object of that key, size and tags is selected.
func (f *Filter) Match(key string, size int64, attrs store.Attrs) bool {
	switch {
	case !strings.HasPrefix(key, f.Prefix),
		f.Greater != nil && size <= *f.Greater,
		f.Less != nil && size >= *f.Less:
		return false
	}
	if len(f.Tags) == 0 {
		return true
	}
	tags := attrs[notify.AttrTags]
	if tags == "" {
		return false // as of most objects
	}
	has, err := url.ParseQuery(tags)
	if err != nil {
		return false
	}
	for _, t := range f.Tags {
		if v, ok := has[t.Key]; !ok || len(v) == 0 || v[0] != t.Value {
			return false
		}
	}
	return true
}
