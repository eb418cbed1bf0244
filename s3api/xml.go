package s3api

import (
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// Namespaces of documents.
const (
	nsS3  = "http://s3.amazonaws.com/doc/2006-03-01/"
	nsSNS = "https://sns.amazonaws.com/doc/2010-03-31/"
)

const xmlHeader = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// timeFormat is that of times in S3's documents.
const timeFormat = "2006-01-02T15:04:05.000Z"

// xmlWriter writes a document into memory, without reflection. Element names
// are trusted, texts are escaped.
type xmlWriter struct{ buf []byte }

// xmlPool keeps buffers; a page of a listing takes some hundred KiB.
var xmlPool = sync.Pool{New: func() any { return &xmlWriter{buf: make([]byte, 0, 4096)} }}

// maxPooledXML bounds the buffers that are kept, in bytes.
const maxPooledXML = 1 << 20

// newXML begins a document with its root element; namespace may be empty.
func newXML(root, namespace string) *xmlWriter {
	x := xmlPool.Get().(*xmlWriter)
	x.buf = append(x.buf[:0], xmlHeader...)
	x.buf = append(x.buf, '<')
	x.buf = append(x.buf, root...)
	if namespace != "" {
		x.buf = append(x.buf, ` xmlns="`...)
		x.buf = append(x.buf, namespace...)
		x.buf = append(x.buf, '"')
	}
	x.buf = append(x.buf, '>')
	return x
}

func (x *xmlWriter) release() {
	if cap(x.buf) <= maxPooledXML {
		xmlPool.Put(x)
	}
}

// response makes the document the answer, with status 200.
func (x *xmlWriter) response() *response { return &response{xml: x} }

// open writes a start tag.
func (x *xmlWriter) open(name string) {
	x.buf = append(x.buf, '<')
	x.buf = append(x.buf, name...)
	x.buf = append(x.buf, '>')
}

// end writes an end tag.
func (x *xmlWriter) end(name string) {
	x.buf = append(x.buf, '<', '/')
	x.buf = append(x.buf, name...)
	x.buf = append(x.buf, '>')
}

// elem writes an element with text.
func (x *xmlWriter) elem(name, text string) {
	x.open(name)
	x.text(text)
	x.end(name)
}

// optional writes an element unless its text is empty.
func (x *xmlWriter) optional(name, text string) {
	if text != "" {
		x.elem(name, text)
	}
}

// number writes an element with a number.
func (x *xmlWriter) number(name string, n int64) {
	x.open(name)
	x.buf = strconv.AppendInt(x.buf, n, 10)
	x.end(name)
}

// bool writes an element with "true" or "false".
func (x *xmlWriter) bool(name string, b bool) {
	x.open(name)
	x.buf = strconv.AppendBool(x.buf, b)
	x.end(name)
}

// time writes an element with a time of millisecond precision.
func (x *xmlWriter) time(name string, t time.Time) {
	x.open(name)
	x.buf = t.UTC().AppendFormat(x.buf, timeFormat)
	x.end(name)
}

// etag writes an ETag element: the value in quotes.
func (x *xmlWriter) etag(etag string) {
	x.buf = append(x.buf, "<ETag>&#34;"...)
	x.text(etag)
	x.buf = append(x.buf, "&#34;</ETag>"...)
}

const hexDigits = "0123456789ABCDEF"

// text writes escaped text. Control characters become character references,
// as S3 writes them, although XML 1.0 knows no such characters; bytes that are
// not UTF-8 become U+FFFD.
func (x *xmlWriter) text(s string) {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '<' && c != '>' && c != '&' && c != '"' && c != '\'' && c != 0x7f {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			x.buf = append(x.buf, s[start:i]...)
			x.buf = append(x.buf, "\uFFFD"...)
		} else {
			x.buf = append(x.buf, s[start:i]...)
			x.escape(c)
		}
		i++
		start = i
	}
	x.buf = append(x.buf, s[start:]...)
}

func (x *xmlWriter) escape(c byte) {
	switch c {
	case '<':
		x.buf = append(x.buf, "&lt;"...)
	case '>':
		x.buf = append(x.buf, "&gt;"...)
	case '&':
		x.buf = append(x.buf, "&amp;"...)
	case '"':
		x.buf = append(x.buf, "&#34;"...)
	case '\'':
		x.buf = append(x.buf, "&#39;"...)
	default:
		x.buf = append(x.buf, "&#x"...)
		if c >= 0x10 {
			x.buf = append(x.buf, hexDigits[c>>4])
		}
		x.buf = append(x.buf, hexDigits[c&15], ';')
	}
}

// urlEncoded returns s as encoding-type=url shows keys: all but letters,
// digits and "-_.~/*" escaped.
func urlEncoded(s string) string {
	plain := true
	for i := range len(s) {
		if !listSafe(s[i]) {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	b := make([]byte, 0, len(s)+16)
	for i := range len(s) {
		if c := s[i]; listSafe(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(b)
}

func listSafe(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	switch c {
	case '-', '_', '.', '~', '/', '*':
		return true
	}
	return false
}
