package s3api

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"herald/notify"
)

// attrTagging is the attribute of a bucket ("tagging") and of an object
// (notify.AttrTags) that holds its tags in the form of the x-amz-tagging
// header: escaped "key=value" pairs joined by "&".
const (
	attrBucketTagging = "tagging"
	attrObjectTagging = notify.AttrTags // rules filter by it
)

// Limits on tags, as S3 has them; lengths are in characters.
const (
	maxObjectTags = 10
	maxBucketTags = 50
	maxTagKey     = 128
	maxTagValue   = 256
)

type tag struct{ key, value string }

// tagSet holds tags in the order in which they were given.
type tagSet []tag

// parseTagging reads the form of the x-amz-tagging header, and of the
// attributes. A key may be there with several values: S3 refuses that, RGW
// filters by them. Errors: InvalidArgument, InvalidTag.
func parseTagging(s string, limit int) (tagSet, error) {
	var set tagSet
	for part := range strings.SplitSeq(s, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		key, err := url.QueryUnescape(k)
		if err != nil {
			return nil, invalidArgument("x-amz-tagging", s, "The tags are not well escaped.")
		}
		value, err := url.QueryUnescape(v)
		if err != nil {
			return nil, invalidArgument("x-amz-tagging", s, "The tags are not well escaped.")
		}
		set = append(set, tag{key, value})
	}
	return set, set.check(limit)
}

// encode is the inverse of parseTagging.
func (t tagSet) encode() string {
	var b strings.Builder
	for i, tg := range t {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(tg.key))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(tg.value))
	}
	return b.String()
}

// check tells whether S3 takes the set. Errors: InvalidTag.
func (t tagSet) check(limit int) error {
	if len(t) > limit {
		return fail(codeInvalidTag, "There may be %d tags at most.", limit)
	}
	for _, tg := range t {
		switch {
		case tg.key == "" || utf8.RuneCountInString(tg.key) > maxTagKey || !validTagText(tg.key):
			return fail(codeInvalidTag, "A tag's key is not valid.").with("TagKey", tg.key)
		case strings.HasPrefix(tg.key, "aws:"):
			return fail(codeInvalidTag, "Keys that begin with aws: are reserved.").with("TagKey", tg.key)
		case utf8.RuneCountInString(tg.value) > maxTagValue || !validTagText(tg.value):
			return fail(codeInvalidTag, "A tag's value is not valid.").with("TagKey", tg.key).with("TagValue", tg.value)
		}
	}
	return nil
}

// checkKeys refuses a key that is there twice. Errors: InvalidTag.
func (t tagSet) checkKeys() error {
	seen := make(map[string]bool, len(t))
	for _, tg := range t {
		if seen[tg.key] {
			return fail(codeInvalidTag, "A tag's key occurs twice.").with("TagKey", tg.key)
		}
		seen[tg.key] = true
	}
	return nil
}

// validTagText: letters, digits, spaces and "_.:/=+-@".
func validTagText(s string) bool {
	for _, c := range s {
		if !unicode.In(c, unicode.L, unicode.M, unicode.N, unicode.Zs) && !strings.ContainsRune("_.:/=+-@", c) {
			return false // U+FFFD of bad UTF-8 too
		}
	}
	return true
}

// parseTaggingDocument reads a Tagging document. Errors: MalformedXML,
// InvalidTag.
func parseTaggingDocument(doc *node, limit int) (tagSet, error) {
	if len(doc.children) != 1 || doc.children[0].name != "TagSet" {
		return nil, codeMalformedXML
	}
	set := tagSet{}
	for i := range doc.children[0].children {
		t := &doc.children[0].children[i]
		k, v := t.child("Key"), t.child("Value")
		if t.name != "Tag" || k == nil || v == nil || len(t.children) != 2 {
			return nil, codeMalformedXML
		}
		set = append(set, tag{k.text, v.text})
	}
	return set, cmp.Or(set.checkKeys(), set.check(limit))
}

// taggingDocument writes a Tagging document, with the tags in order of their
// keys as S3 shows them.
func taggingDocument(set tagSet) *xmlWriter {
	slices.SortStableFunc(set, func(a, b tag) int { return strings.Compare(a.key, b.key) })
	x := newXML("Tagging", nsS3)
	x.open("TagSet")
	for _, t := range set {
		x.open("Tag")
		x.elem("Key", t.key)
		x.elem("Value", t.value)
		x.end("Tag")
	}
	x.end("TagSet")
	x.end("Tagging")
	return x
}
