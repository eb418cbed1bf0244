package s3api

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
)

// Limits of documents that clients send. The largest that S3 knows are
// DeleteObjects with 1,000 keys and CompleteMultipartUpload with 10,000 parts.
const (
	maxXMLDepth = 16
	maxXMLNodes = 100_000
	// maxXMLToken bounds a tag, a comment or a run of text, in bytes: each
	// attribute of a tag takes many times its length in memory.
	maxXMLToken = 64 << 10
)

var (
	errXMLDirective = errors.New("document type declarations are not allowed")
	errXMLTooDeep   = errors.New("document is nested too deeply")
	errXMLTooMany   = errors.New("document has too many elements")
	errXMLLongToken = errors.New("document has a tag or text that is too long")
	errXMLRoot      = errors.New("document has no root element, or several")
)

// node is an element of a parsed document. Namespaces and attributes other
// than xsi:type are dropped.
type node struct {
	name     string
	text     string // of an element without children
	xsiType  string
	children []node
}

// child returns the first child of that name, or nil.
func (n *node) child(name string) *node {
	for i := range n.children {
		if n.children[i].name == name {
			return &n.children[i]
		}
	}
	return nil
}

// childText returns the text of the first child of that name, without white
// space around it; "" if there is none.
func (n *node) childText(name string) string {
	if c := n.child(name); c != nil {
		return strings.TrimSpace(c.text)
	}
	return ""
}

// only refuses children with other names. Errors: MalformedXML.
func (n *node) only(names ...string) error {
	for i := range n.children {
		if c := &n.children[i]; !slices.Contains(names, c.name) {
			return fail(codeMalformedXML, "There is no element %s in %s.", c.name, n.name)
		}
	}
	return nil
}

// repeats tells whether two children have the same name.
func (n *node) repeats() bool {
	seen := make(map[string]bool, len(n.children))
	for i := range n.children {
		seen[n.children[i].name] = true
	}
	return len(seen) < len(n.children)
}

// parseXML reads a document into a tree, within the limits and without
// document type declarations. Errors: MalformedXML.
func parseXML(data []byte) (*node, error) {
	src := &tokenReader{Reader: bytes.NewReader(data)}
	p := xmlParser{dec: xml.NewDecoder(src), src: src}
	root, err := p.document()
	if err != nil {
		return nil, failWith(codeMalformedXML, err)
	}
	return root, nil
}

type xmlParser struct {
	dec   *xml.Decoder
	src   *tokenReader
	nodes int
}

// tokenReader gives a decoder, which reads byte by byte, maxXMLToken bytes for
// each token.
type tokenReader struct {
	*bytes.Reader
	n int // bytes of this token
}

func (t *tokenReader) ReadByte() (byte, error) {
	if t.n++; t.n > maxXMLToken {
		return 0, errXMLLongToken
	}
	return t.Reader.ReadByte()
}

func (p *xmlParser) token() (xml.Token, error) {
	p.src.n = 0
	return p.dec.Token()
}

func (p *xmlParser) document() (*node, error) {
	var root *node
	for {
		tok, err := p.token()
		if err == io.EOF && root != nil {
			return root, nil
		}
		if err != nil {
			return nil, err
		}
		switch t := tok.(type) {
		case xml.Directive:
			return nil, errXMLDirective
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, errXMLRoot
			}
		case xml.StartElement:
			if root != nil {
				return nil, errXMLRoot
			}
			root = &node{}
			if err := p.element(root, t, 1); err != nil {
				return nil, err
			}
		}
	}
}

// element reads one element to its end tag.
func (p *xmlParser) element(n *node, start xml.StartElement, depth int) error {
	if depth > maxXMLDepth {
		return errXMLTooDeep
	}
	if p.nodes++; p.nodes > maxXMLNodes {
		return errXMLTooMany
	}
	n.name = start.Name.Local
	for _, a := range start.Attr {
		if a.Name.Local == "type" {
			n.xsiType = a.Value
		}
	}
	var text []byte
	for {
		tok, err := p.token()
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.Directive:
			return errXMLDirective
		case xml.CharData:
			text = append(text, t...)
		case xml.StartElement:
			n.children = append(n.children, node{})
			if err := p.element(&n.children[len(n.children)-1], t, depth+1); err != nil {
				return err
			}
		case xml.EndElement:
			if len(n.children) == 0 {
				n.text = string(text)
			}
			return nil
		}
	}
}
