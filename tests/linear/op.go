package linear

import (
	"fmt"
	"strings"
	"time"
)

// kind of an op.
type kind int

const (
	put kind = iota
	copyObject
	multipart
	remove        // without a version id
	removeVersion // by version id
	read          // GET or HEAD
	source        // what a copy, whose target is another key, read of this one
	entry         // what a listing of the bucket tells
	list          // of all versions
	end           // nothing more happened (events only)
)

func (k kind) String() string {
	return [...]string{"put", "copy", "multipart", "delete", "delete version", "read", "source", "entry", "list", "end"}[k]
}

// writes tells whether ops of this kind make an object.
func (k kind) writes() bool { return k <= multipart }

// event is the name of the event that ops of this kind cause.
func (k kind) event(versioned bool) string {
	switch {
	case k == put:
		return "ObjectCreated:Put"
	case k == copyObject:
		return "ObjectCreated:Copy"
	case k == multipart:
		return "ObjectCreated:CompleteMultipartUpload"
	case k == remove && versioned:
		return "ObjectRemoved:DeleteMarkerCreated"
	case k == remove || k == removeVersion:
		return "ObjectRemoved:Delete"
	}
	return ""
}

// The codes that decide about an op.
const (
	codeNoSuchKey          = "NoSuchKey"
	codePreconditionFailed = "PreconditionFailed"
)

// result is what the answer to an op says.
type result int

const (
	done  result = iota
	unmet        // a condition did not hold: nothing was changed
	maybe        // nothing: it happened or not, then or later
)

func (r result) String() string { return [...]string{"", "unmet", "maybe"}[r] }

// keyID names a key.
type keyID struct {
	bucket, name string
	versioned    bool
}

func (k keyID) String() string { return k.bucket + "/" + k.name }

// version is a version of a key, or a delete marker. In a bucket without
// versioning it has no id.
type version struct {
	op     int64 // which wrote it; 0: not known
	id     string
	etag   string // "": not known
	marker bool
}

func (v version) String() string {
	if v.marker {
		return "marker " + v.id
	}
	return strings.TrimSpace(fmt.Sprintf("#%d %s %s", v.op, short(v.etag), v.id))
}

// op is something that a client asked for, and what it was told.
type op struct {
	id        int64 // unique; metadata of what the op writes tells it
	kind      kind
	key       keyID
	client    int
	gateway   int
	call, ret int64 // ns since the world began
	result    result
	code      string // of the answer, unless it was success

	ifNoneMatch bool   // only if there is no object
	ifMatch     string // only if there is one of that ETag
	etag        string // of what is written; "": not known
	version     string // of the version written or removed; "": not known, or none
	request     string // id of the request, if there was an answer; not of multipart
	// got is what reads found: the object, unless there is none; of a source
	// only its ETag; of a list everything, newest first.
	got []version
}

func (o *op) String() string {
	s := fmt.Sprintf("%10.4f %10.4f client %02d gateway %d %s", seconds(o.call), seconds(o.ret), o.client, o.gateway, o.kind)
	switch {
	case o.kind.writes():
		s += fmt.Sprintf(" #%d %s %s", o.id, short(o.etag), o.version)
	case o.kind == remove || o.kind == removeVersion:
		s += fmt.Sprintf(" #%d %s", o.id, o.version)
	case o.kind != end:
		s += fmt.Sprintf(" -> %v", o.got)
	}
	if o.ifNoneMatch {
		s += " if-none-match"
	}
	if o.ifMatch != "" {
		s += " if-match " + short(o.ifMatch)
	}
	return strings.TrimRight(s+" "+o.result.String()+" "+o.code, " ")
}

func seconds(ns int64) float64 { return time.Duration(ns).Seconds() }

// short is enough of an ETag for a person.
func short(etag string) string {
	sum, parts, ok := strings.Cut(etag, "-")
	sum = sum[:min(8, len(sum))]
	if ok {
		sum += "-" + parts
	}
	return sum
}
