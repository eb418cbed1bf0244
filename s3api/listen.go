package s3api

import (
	"context"
	"net/http"
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

// listenBucketNotification streams a bucket's events from now on, as MinIO
// does: GET /bucket?events=NAME...&prefix=&suffix=[&ping=SECONDS]. Each line is
// {"Records":[...]}; spaces between them, or with ping empty lines of records,
// keep the connection alive.
func (s *Server) listenBucketNotification(ctx context.Context, r *request) (*response, error) {
	req := notify.ListenRequest{
		Tenant: r.tenant, Bucket: r.bucketName,
		Prefix: r.query.get("prefix"), Suffix: r.query.get("suffix"),
	}
	for _, name := range r.query.all("events") {
		if name == "" {
			continue
		}
		t, err := notify.ParseEventType(name)
		if err != nil {
			return nil, invalidArgument("events", name, "There is no such event.")
		}
		req.Events |= t
	}
	ping, err := r.query.number("ping", 0)
	if err != nil {
		return nil, err
	}
	l := listener{server: s, every: listenPing, ping: " "}
	if ping > 0 {
		l.every, l.ping = time.Duration(min(ping, maxPingSeconds))*time.Second, "{\"Records\":[]}\n"
	}
	// Subscribed before the header goes out: who has seen it misses nothing.
	ctx, l.cancel = context.WithCancel(ctx)
	l.allowed = func() bool { return s.mayListen(ctx, r) }
	l.events = s.notify.Listen(ctx, req)
	r.setHeader(hContentType, "text/event-stream")
	r.setHeader("Cache-Control", "no-cache")
	return &response{stream: l.run}, nil
}

// mayListen tells whether the listener may still see what happens: its key may
// be gone meanwhile, or the bucket another's.
func (s *Server) mayListen(ctx context.Context, r *request) bool {
	u, _, err := s.users.ByAccessKey(ctx, r.verified.AccessKey)
	if err != nil || u.Suspended {
		return false
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
	ping    string

	w       http.ResponseWriter
	control *http.ResponseController
	sent    int64
}

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
		select {
		case <-l.server.stopped:
			return l.sent, nil
		case <-tick.C:
			if !l.allowed() {
				return l.sent, nil
			}
			err = l.write(l.ping)
		case e, more := <-l.events:
			if !more || e.Dropped || !l.allowed() {
				return l.sent, nil
			}
			err = l.record(e.Record)
		}
		if err != nil {
			return l.sent, err
		}
		if err := l.control.Flush(); err != nil {
			return l.sent, err
		}
	}
}

func (l *listener) record(record []byte) error {
	line := make([]byte, 0, len(record)+len("{\"Records\":[]}\n"))
	line = append(line, `{"Records":[`...)
	line = append(line, record...)
	line = append(line, "]}\n"...)
	return l.write(string(line))
}

func (l *listener) write(s string) error {
	_ = l.control.SetWriteDeadline(time.Now().Add(listenPatience)) // not every writer has one
	n, err := l.w.Write([]byte(s))
	l.sent += int64(n)
	return err
}
