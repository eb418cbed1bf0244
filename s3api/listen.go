package s3api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"herald/notify"
)

const (
	// listenPing is how often a quiet stream shows that it lives.
	listenPing = 5 * time.Second
	// listenPatience is how long a listener may leave the stream unread.
	listenPatience = 30 * time.Second
	maxPingSeconds = 3600
)

// foreignEvents begin the names of events that MinIO's clients ask for and that
// never happen here.
var foreignEvents = [...]string{
	"s3:ObjectAccessed:", "s3:ObjectRestore:", "s3:ObjectTransition:", "s3:ObjectTagging:", "s3:ObjectAcl:", "s3:ObjectCreated:",
	"s3:ObjectRemoved:", "s3:BucketCreated:", "s3:BucketRemoved:", "s3:Replication:", "s3:Scanner:", "s3:IntelligentTiering",
}

// neverHappens is an event type that no event has.
const neverHappens notify.EventType = 1 << 63

// listenBucketNotification streams a bucket's events from now on, as MinIO
// does: GET /bucket?events=NAME...&prefix=&suffix=[&ping=SECONDS]. Each line is
// {"Records":[...]}; spaces between them, or with ping lines without records,
// keep the connection alive. Of our own are the Id in each line, and the
// parameters resume=ID and dialect=ceph; the header Accept: text/event-stream
// gives server-sent events.
func (s *Server) listenBucketNotification(ctx context.Context, r *request) (*response, error) {
	b := r.bucket.Info
	return s.listen(ctx, r, notify.ListenRequest{Tenant: b.Tenant, Bucket: b.Name, BucketID: b.ID})
}

// listenNotification streams the events of all buckets of the caller, and to
// administrators those of all there are.
func (s *Server) listenNotification(ctx context.Context, r *request) (*response, error) {
	var req notify.ListenRequest
	if !r.user.Privileged() {
		req.Owners = []string{r.user.UID(), r.user.Owner()}
	}
	return s.listen(ctx, r, req)
}

func (s *Server) listen(ctx context.Context, r *request, req notify.ListenRequest) (*response, error) {
	if !r.user.Privileged() {
		req.By = r.user.UID()
	}
	l := listener{server: s, every: listenPing}
	if err := l.decode(r, &req); err != nil {
		return nil, err
	}
	// Subscribed before the header goes out: who has seen it misses nothing.
	ctx, l.cancel = context.WithCancel(ctx)
	l.allowed = func() bool { return s.mayListen(ctx, r) }
	var err error
	if l.events, err = s.notify.Listen(ctx, req); err != nil {
		l.cancel()
		return nil, err
	}
	r.setHeader(hContentType, "text/event-stream")
	r.setHeader("Cache-Control", "no-cache")
	return &response{stream: l.run}, nil
}

// decode reads what the request asks for. Errors: InvalidArgument.
func (l *listener) decode(r *request, req *notify.ListenRequest) error {
	req.Prefix, req.Suffix = r.query.get("prefix"), r.query.get("suffix")
	for _, name := range r.query.all("events") {
		t, err := notify.ParseEventType(name)
		switch {
		case name == "":
			continue
		case err != nil && slices.ContainsFunc(foreignEvents[:], func(p string) bool { return strings.HasPrefix(name, p) }):
			t = neverHappens
		case err != nil:
			return invalidArgument("events", name, "There is no such event.")
		}
		req.Events |= t
	}
	req.Resume = r.query.get("resume")
	if req.Resume == "" {
		req.Resume = r.header("Last-Event-Id")
	}
	if req.Resume != "" && !notify.ParseStreamID(req.Resume) {
		return invalidArgument("resume", req.Resume, "This is no ID of an event of a stream.")
	}
	ping, err := r.query.number("ping", 0)
	if err != nil {
		return err
	}
	if ping > 0 {
		l.every, l.pings = time.Duration(min(ping, maxPingSeconds))*time.Second, true
	}
	switch d := r.query.get("dialect"); d {
	case "", "minio":
	case "ceph":
		l.ceph = true
	default:
		return invalidArgument("dialect", d, "The dialects of streams are minio and ceph.")
	}
	l.sse = strings.Contains(r.header("Accept"), "text/event-stream")
	return nil
}

// mayListen tells whether the listener may still see what happens: its key may
// be gone meanwhile, or the bucket another's.
func (s *Server) mayListen(ctx context.Context, r *request) bool {
	u, _, err := s.users.ByAccessKey(ctx, r.verified.AccessKey)
	if err != nil || u.Suspended {
		return false
	}
	if r.route.level == levelService {
		return true // they were the user's when they happened
	}
	b, err := s.store.BucketInfo(ctx, r.tenant, r.bucketName)
	return err == nil && mayUse(u, b)
}

// listener writes one stream.
type listener struct {
	server *Server
	events <-chan notify.LiveEvent
	cancel context.CancelFunc
	// allowed is asked before each event and each ping.
	allowed func() bool
	every   time.Duration
	pings   bool // as lines
	ceph    bool // records as RGW has them
	sse     bool // server-sent events

	w       http.ResponseWriter
	control *http.ResponseController
	sent    int64
	place   string // ID of what was last sent
}

// streamLine is a line of a stream. Records are always there.
type streamLine struct {
	Records []json.RawMessage
	ID      string       `json:"Id,omitempty"`
	Notice  string       `json:",omitempty"`
	Error   *streamError `json:",omitempty"`
}

// streamError is why a stream ended.
type streamError struct{ Code, Message string }

// run writes until the client is gone, the listener is dropped for being too
// slow, or the server stops.
func (l listener) run(w http.ResponseWriter) (int64, error) {
	defer l.cancel()
	l.w, l.control = w, http.NewResponseController(w)
	if err := l.control.Flush(); err != nil {
		return 0, err
	}
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		var err error
		more := true
		select {
		case <-l.server.stopped:
			return l.sent, l.end("ServiceUnavailable", "The gateway stops. Go on from the Id with resume.")
		case <-tick.C:
			if !l.allowed() {
				return l.sent, l.end("AccessDenied", "You may not see these events any more.")
			}
			err = l.ping()
		case e, ok := <-l.events:
			if !ok {
				return l.sent, nil
			}
			more, err = l.event(&e)
		}
		if err != nil || !more {
			return l.sent, err
		}
		if len(l.events) > 0 {
			continue // and flush with those
		}
		if err := l.control.Flush(); err != nil {
			return l.sent, err
		}
	}
}

// event writes what came. more is false when the stream has ended.
func (l *listener) event(e *notify.LiveEvent) (more bool, err error) {
	if e.ID != "" {
		l.place = e.ID
	}
	switch {
	case errors.Is(e.Err, notify.ErrListenerSlow):
		return false, l.end("SlowDown", "You read too slowly: events which you had not seen were removed.")
	case e.Err != nil:
		return false, l.end("InternalError", "The stream cannot go on.")
	case e.Notice != "":
		return true, l.line(streamLine{Notice: e.Notice})
	case e.Record == nil:
		return true, nil // a place only, for the next ping
	case !l.allowed():
		return false, l.end("AccessDenied", "You may not see these events any more.")
	}
	record := e.Record
	if !l.ceph {
		if record, err = e.MinIO(); err != nil {
			return false, err
		}
	}
	return true, l.line(streamLine{Records: []json.RawMessage{record}})
}

func (l *listener) ping() error {
	switch {
	case l.sse:
		return l.write(": alive\n\n")
	case l.pings:
		return l.line(streamLine{})
	}
	return l.write(" ")
}

// end writes the last line.
func (l *listener) end(code, message string) error {
	if err := l.line(streamLine{Error: &streamError{code, message}}); err != nil {
		return err
	}
	return l.control.Flush()
}

func (l *listener) line(line streamLine) error {
	if line.Records == nil {
		line.Records = []json.RawMessage{}
	}
	line.ID = l.place
	data, err := json.Marshal(&line)
	if err != nil {
		return err
	}
	if !l.sse {
		return l.write(string(data) + "\n")
	}
	id := ""
	if line.ID != "" {
		id = "id: " + line.ID + "\n"
	}
	return l.write(id + "data: " + string(data) + "\n\n")
}

func (l *listener) write(s string) error {
	_ = l.control.SetWriteDeadline(time.Now().Add(listenPatience)) // not every writer has one
	n, err := l.w.Write([]byte(s))
	l.sent += int64(n)
	return err
}
