package s3api

import (
	"io"
	"net/http"

	"herald/store"
)

// response is a handler's answer. Headers are set in request.outHeader; the
// pipeline adds Content-Length for body, xml and object.
//
// At most one of body, xml, object and stream is set.
type response struct {
	status int // 0: 200
	// body is sent as it is.
	body []byte
	// xml is sent as application/xml, and given back to its pool.
	xml *xmlWriter
	// object is sent from off, length bytes, unless the method is HEAD; the
	// pipeline closes it. The handler sets Content-Type and the like.
	object      store.Reader
	off, length int64
	// stream writes a body of unknown length until it returns.
	stream func(w http.ResponseWriter) (int64, error)
}

// ok is an empty answer with status 200.
func ok() *response { return &response{} }

// noContent is an empty answer with status 204.
func noContent() *response { return &response{status: http.StatusNoContent} }

// drainAll reads r to its end, so that what verifies itself at the end does.
func drainAll(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }
