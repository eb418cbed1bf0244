package s3api

import (
	"encoding/xml"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestXMLWriter(t *testing.T) {
	x := newXML("R", nsS3)
	x.elem("A", `<&>"'`)
	x.elem("B", "a\x01\n\x7f\xffü")
	x.optional("C", "")
	x.number("D", -7)
	x.bool("E", true)
	x.time("F", time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC))
	x.etag("abc-2")
	x.end("R")
	want := xmlHeader + `<R xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` +
		`<A>&lt;&amp;&gt;&#34;&#39;</A>` + "<B>a&#x1;&#xA;&#x7F;\uFFFDü</B>" +
		`<D>-7</D><E>true</E><F>2026-01-02T03:04:05.678Z</F><ETag>&#34;abc-2&#34;</ETag></R>`
	if diff := cmp.Diff(want, string(x.buf)); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
	x.release()
}

func TestURLEncoded(t *testing.T) {
	for in, want := range map[string]string{
		"plain/key-1_2.3~*": "plain/key-1_2.3~*",
		"foo+1/bar":         "foo%2B1/bar",
		"quux ab/thud":      "quux%20ab/thud",
		"ü\n":               "%C3%BC%0A",
	} {
		if got := urlEncoded(in); got != want {
			t.Errorf("urlEncoded(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestParseXML(t *testing.T) {
	doc, err := parseXML([]byte(`<?xml version="1.0" encoding="UTF-8"?>
<!-- c --><Delete xmlns="x"><Quiet> true </Quiet><Object><Key> k&lt; </Key></Object><Object/></Delete>
`))
	if err != nil {
		t.Fatal(err)
	}
	if doc.name != "Delete" || doc.childText("Quiet") != "true" || doc.child("Object").child("Key").text != " k< " || len(doc.children) != 3 {
		t.Errorf("parseXML = %+v", doc)
	}
	bad := map[string]string{
		"empty":       "",
		"no root":     "<?xml version='1.0'?>",
		"text":        "hello",
		"unclosed":    "<a><b></b>",
		"crossed":     "<a><b></a></b>",
		"two roots":   "<a/><b/>",
		"text after":  "<a/>x",
		"doctype":     `<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>`,
		"entity":      "<a>&x;</a>",
		"deep":        strings.Repeat("<a>", 17) + strings.Repeat("</a>", 17),
		"many":        "<a>" + strings.Repeat("<b/>", maxXMLNodes) + "</a>",
		"attributes":  "<a" + strings.Repeat(` b=""`, 20_000) + "/>",
		"comment":     "<a><!--" + strings.Repeat("b", maxXMLToken) + "--></a>",
		"not UTF-8":   "<a>\xff</a>",
		"latin1":      `<?xml version="1.0" encoding="ISO-8859-1"?><a/>`,
		"control":     "<a>\x01</a>",
		"bad name":    "<1/>",
		"unquoted":    "<a b=c/>",
		"doctype mid": "<a><!DOCTYPE b></a>",
	}
	for name, in := range bad {
		if _, err := parseXML([]byte(in)); err == nil {
			t.Errorf("parseXML(%s) succeeded", name)
		} else if e, _ := describe(err); e.code != codeMalformedXML {
			t.Errorf("parseXML(%s) = %s, want MalformedXML", name, e.code)
		}
	}
}

func FuzzParseXML(f *testing.F) {
	f.Add([]byte(`<Delete><Object><Key>k</Key></Object></Delete>`))
	f.Add([]byte(`<Tagging xmlns="x"><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>`))
	f.Add([]byte(`<!DOCTYPE a><a>&lt;</a>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := parseXML(data)
		if err != nil {
			return
		}
		if list, _, err := parseDelete(doc); err == nil && (len(list) == 0 || len(list) > maxDeleteKeys) {
			t.Errorf("parseDelete gave %d keys", len(list))
		}
		_, _ = parseTaggingDocument(doc, maxObjectTags)
		// What was read can be written, and is read back the same.
		x := newXML("R", "")
		x.text(doc.text)
		x.end("R")
		defer x.release()
		if again, err := parseXML(x.buf); err == nil {
			if again.text != strings.ReplaceAll(doc.text, "\r\n", "\n") && again.text != doc.text {
				t.Errorf("text %q became %q", doc.text, again.text)
			}
		} else if printable(doc.text) {
			t.Errorf("text %q was written as %q: %v", doc.text, x.buf, err)
		}
	})
}

func printable(s string) bool {
	for _, c := range s {
		if c < 0x20 || c == 0x7f || c == 0xFFFE || c == 0xFFFF {
			return false
		}
	}
	return true
}

func FuzzTagging(f *testing.F) {
	f.Add("a=b&c=d")
	f.Add("a=%2B+&%zz")
	f.Fuzz(func(t *testing.T, s string) {
		set, err := parseTagging(s, maxObjectTags)
		if err != nil {
			return
		}
		again, err := parseTagging(set.encode(), maxObjectTags)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(set, again, cmp.AllowUnexported(tag{})); diff != "" {
			t.Errorf("parseTagging(encode()) (-want +got):\n%s", diff)
		}
		x := taggingDocument(set)
		defer x.release()
		if err := xml.Unmarshal(x.buf, new(struct{})); err != nil {
			t.Errorf("taggingDocument is not XML: %v", err)
		}
	})
}

func TestTagSet_Check(t *testing.T) {
	long := strings.Repeat("ü", 128)
	tests := []struct {
		name string
		in   string
		ok   bool
	}{
		{"empty", "", true},
		{"ten", "a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9&j=10", true},
		{"eleven", "a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9&j=10&k=11", false},
		{"longest", long + "=" + long + long, true},
		{"long key", long + "x=", false},
		{"long value", "k=" + long + long + "x", false},
		{"twice", "a=1&a=2", true},
		{"no key", "=v", false},
		{"reserved", "aws:x=v", false},
		{"punctuation", "a%2B-%3D._%3A%2F%40+b=v", true},
		{"other punctuation", "a%3C=v", false},
		{"control", "a=%01", false},
		{"not UTF-8", "a=%ff", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseTagging(tt.in, maxObjectTags); (err == nil) != tt.ok {
				t.Errorf("parseTagging(%q) error = %v, want ok %v", tt.in, err, tt.ok)
			}
		})
	}
}
