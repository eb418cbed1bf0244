package s3api

import (
	"io"
	"net/http"
	"time"
)

// bodyIdle is how long a client may send nothing of a body that it owes.
const bodyIdle = 60 * time.Second

// countedBody is the raw body of a request: it counts, and fails with
// os.ErrDeadlineExceeded when the client stalls. It is not used concurrently.
type countedBody struct {
	io.ReadCloser
	control *http.ResponseController
	idle    time.Duration
	once    bool // idle is the time for the whole body
	n       int64
	eof     bool
	failed  bool      // nothing more will come
	armed   time.Time // when the deadline was last set; zero: none is
}

// Read reads the body and moves the deadline as bytes come.
func (b *countedBody) Read(p []byte) (int, error) {
	if b.eof {
		return 0, io.EOF
	}
	if now := time.Now(); b.armed.IsZero() || !b.once && now.Sub(b.armed) > b.idle/4 {
		b.armed = now
		_ = b.control.SetReadDeadline(now.Add(b.idle)) // not every writer has one
	}
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	if err != nil {
		b.eof = err == io.EOF
		b.failed = !b.eof
		b.disarm()
	}
	return n, err
}

// disarm takes the deadline away; else it would end what the server does after
// the body.
func (b *countedBody) disarm() {
	if !b.armed.IsZero() {
		b.armed = time.Time{}
		_ = b.control.SetReadDeadline(time.Time{})
	}
}

// drainPatience is how long an answer waits for a body that nobody wants, so
// that the connection can be used again.
const drainPatience = 2 * time.Second

// finish prepares the answer to a request whose body was perhaps not read: the
// server drains a short rest, and must not wait for it for ever.
func (b *countedBody) finish() {
	switch {
	case b.failed:
		_ = b.control.SetReadDeadline(time.Unix(1, 0)) // do not wait at all
	case !b.eof:
		_ = b.control.SetReadDeadline(time.Now().Add(drainPatience))
	}
}
