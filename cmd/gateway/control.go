package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"herald/notify"
	"herald/store"
)

// The control socket: how `gateway admin`, `gateway listen` and `gateway fsck`
// reach the gateway that has the directory open. Whoever may open the socket
// (mode 0600) may do everything, as whoever can read the directory could.

const controlSocket = "control.sock"

// controlDir returns a path of <data>/.herald short enough for a socket's
// address (108 bytes on Linux), and what to call when done with it.
func controlDir(data string) (string, func(), error) {
	dir := filepath.Join(data, ".herald")
	if len(filepath.Join(dir, controlSocket)) < 100 {
		return dir, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), func() { _ = f.Close() }, nil
}

// listenControl opens the socket; a stale one of a gateway that was killed is
// replaced, which is safe under the directory's lock.
func listenControl(data string) (net.Listener, error) {
	dir, done, err := controlDir(data)
	if err != nil {
		return nil, err
	}
	defer done()
	path := filepath.Join(dir, controlSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // its path may be gone by then
	return l, os.Chmod(path, 0o600)
}

// controlClient speaks HTTP over the socket.
func controlClient(data string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dir, done, err := controlDir(data)
			if err != nil {
				return nil, err
			}
			defer done()
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, controlSocket))
		},
	}}
}

// controlAnswer is what a command printed and returned.
type controlAnswer struct {
	Stdout, Stderr string
	Code           int
}

func (g *gateway) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /admin", func(w http.ResponseWriter, r *http.Request) {
		var args []string
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&args); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var stdout, stderr bytes.Buffer
		code := g.admin.Run(r.Context(), args, &stdout, &stderr)
		_ = json.NewEncoder(w).Encode(controlAnswer{stdout.String(), stderr.String(), code})
	})
	mux.HandleFunc("POST /fsck", func(w http.ResponseWriter, r *http.Request) {
		var stdout bytes.Buffer
		answer := controlAnswer{Code: g.fsck(r.Context(), r.URL.Query().Has("repair"), r.URL.Query().Has("deep"), &stdout)}
		answer.Stdout = stdout.String()
		_ = json.NewEncoder(w).Encode(answer)
	})
	mux.HandleFunc("GET /listen", g.listenStream)
	return mux
}

// listenStream writes a line per event until the client goes. Lines without
// records now and then tell that the stream is alive, and where it is.
func (g *gateway) listenStream(w http.ResponseWriter, r *http.Request) {
	req, err := listenRequest(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if req.Bucket != "" {
		if _, err := g.store.BucketInfo(r.Context(), req.Tenant, req.Bucket); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
	}
	events, err := g.notify.Listen(r.Context(), req)
	if err != nil {
		status := http.StatusServiceUnavailable
		if errors.Is(err, notify.ErrEventGone) {
			status = http.StatusGone
		}
		http.Error(w, err.Error(), status)
		return
	}
	s := streamWriter{w: w, control: http.NewResponseController(w)}
	if s.control.Flush() != nil {
		return
	}
	tick := time.NewTicker(listenAlive)
	defer tick.Stop()
	for err == nil {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			err = s.event(&e)
		case <-tick.C:
			err = s.line(streamLine{})
		case <-r.Context().Done():
			_ = s.line(streamLine{Error: "the gateway stops"})
			return
		}
	}
}

const (
	listenAlive = 5 * time.Second
	// listenPatience is how long a listener may leave the stream unread.
	listenPatience = 30 * time.Second
)

// streamLine is a line of the stream behind gateway listen.
type streamLine struct {
	ID      string `json:"Id,omitempty"`
	Records []json.RawMessage
	Notice  string `json:",omitempty"`
	Error   string `json:",omitempty"` // the last line
	Missed  bool   `json:",omitempty"` // with Error: events were missed
}

// streamWriter writes one stream.
type streamWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	place   string
}

func (s *streamWriter) event(e *notify.LiveEvent) error {
	if e.ID != "" {
		s.place = e.ID
	}
	switch {
	case e.Err != nil:
		return s.line(streamLine{Error: e.Err.Error(), Missed: errors.Is(e.Err, notify.ErrListenerSlow)})
	case e.Record != nil:
		return s.line(streamLine{Records: []json.RawMessage{e.Record}})
	case e.Notice != "":
		return s.line(streamLine{Notice: e.Notice})
	}
	return s.line(streamLine{})
}

func (s *streamWriter) line(l streamLine) error {
	l.ID = s.place
	if l.Records == nil {
		l.Records = []json.RawMessage{}
	}
	data, err := json.Marshal(&l)
	if err != nil {
		return err
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(listenPatience)) // a socket has one
	if _, err := s.w.Write(append(data, '\n')); err != nil {
		return err
	}
	return s.control.Flush()
}

// listenRequest reads what `gateway listen` asks for. The bucket may be that
// of a tenant: "tenant:bucket"; none: all.
func listenRequest(q url.Values) (notify.ListenRequest, error) {
	req := notify.ListenRequest{Prefix: q.Get("prefix"), Suffix: q.Get("suffix"), Resume: q.Get("resume")}
	if b := q.Get("bucket"); b != "" {
		req.Tenant, req.Bucket = store.SplitStoreName(b)
	}
	for _, name := range q["event"] {
		t, err := notify.ParseEventType(name)
		if err != nil {
			return req, err
		}
		req.Events |= t
	}
	return req, nil
}

// callControl runs a command in the gateway that serves the directory.
// errNoGateway: there is none.
func callControl(ctx context.Context, data, path string, args []string, stdout, stderr io.Writer) (int, error) {
	body, err := json.Marshal(args)
	if err != nil {
		return 1, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://gateway"+path, bytes.NewReader(body))
	if err != nil {
		return 1, err
	}
	resp, err := controlClient(data).Do(req)
	if err != nil {
		return 1, errors.Join(errNoGateway, err)
	}
	defer resp.Body.Close()
	var answer controlAnswer
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 1, fmt.Errorf("the gateway's answer: %w", err)
	}
	_, _ = io.WriteString(stdout, answer.Stdout)
	_, _ = io.WriteString(stderr, answer.Stderr)
	return answer.Code, nil
}

var errNoGateway = errors.New("no gateway is running on this directory")

// openListen opens the stream of a bucket's events.
func openListen(ctx context.Context, data string, q url.Values) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gateway/listen?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := controlClient(data).Do(req)
	if err != nil {
		return nil, errors.Join(errNoGateway, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		msg, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		err := errors.New(string(bytes.TrimSpace(msg)))
		if resp.StatusCode == http.StatusGone {
			err = fmt.Errorf("%w: %w", errMissed, err)
		}
		return nil, err
	}
	return resp.Body, nil
}
