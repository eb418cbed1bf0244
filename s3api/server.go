// Package s3api is Herald's S3 front end.
//
// A request takes one line (serve.go): it is matched against the table of
// routes (routes.go), authenticated, its bucket opened, authorized - all before
// a byte of its body is read - then its handler runs and answers with a value
// or an error, and only the pipeline writes to the client. Handlers live in one
// file per family of operations; errors come from one table (errortable.go).
//
// Nothing here knows a driver: objects are reached through store.Service, and
// events through notify.
package s3api

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"herald/auth"
	"herald/lifecycle"
	"herald/notify"
	"herald/store"
)

// Config is what a Server needs. Store, Users, Verifier and Notify must be
// set.
type Config struct {
	Store    *store.Service
	Users    *auth.Users
	Verifier *auth.Verifier
	Notify   *notify.Service

	// Region is this endpoint's region, and that of topics' ARNs; "default"
	// when empty.
	Region string
	// HostID is sent as x-amz-id-2 and stands in event records.
	HostID string
	// Domains are those below which a host name's first part is a bucket.
	// Path style always works.
	Domains []string
	// AllowCleartextSecrets takes and shows topics with secrets over plain
	// HTTP too (RGW: rgw_allow_notification_secrets_in_cleartext).
	AllowCleartextSecrets bool
	// TrustForwardedHTTPS takes a proxy's word that the client came by HTTPS
	// (RGW: rgw_trust_forwarded_https).
	TrustForwardedHTTPS bool
	// RequirePublishPolicy: only a topic's policy lets others than its owner
	// publish to it (RGW: rgw_topic_require_publish_policy).
	RequirePublishPolicy bool
	// ReplaceNotifications: a PUT of a bucket's notifications replaces those
	// that are there, as in S3; RGW adds to them.
	ReplaceNotifications bool
	// RelaxedTopicNames drops most rules on topics' names (RGW:
	// rgw_relaxed_topic_names).
	RelaxedTopicNames bool
	// Logger gets a line per request at level info; slog.Default when nil.
	Logger *slog.Logger
	// Registerer gets the metrics; nil for none.
	Registerer prometheus.Registerer
	// BodyIdle is how long a client may stall while it sends a body; a minute
	// when zero.
	BodyIdle time.Duration
	// Now is the clock for what clients see; time.Now when nil.
	Now func() time.Time
}

// Server answers S3 requests. It is safe for concurrent use.
type Server struct {
	store    *store.Service
	users    *auth.Users
	verifier *auth.Verifier
	notify   *notify.Service

	// lifecycle has the buckets' decoded rules.
	lifecycle lifecycle.Cache

	region   string
	hostID   string
	domains  []string
	topics   topicRules
	log      *slog.Logger
	now      func() time.Time
	bodyIdle time.Duration

	mux     *chi.Mux
	index   *routeIndex
	metrics *metrics

	anonymous *auth.User // who sends requests that nobody signed

	// Values of headers that every answer has.
	serverHeader, hostIDHeader, xmlType []string

	idSeed uint64
	lastID atomic.Uint64

	// stopped is closed when streams that have no end of their own must end.
	stopped  chan struct{}
	stopOnce sync.Once
}

// New returns a Server.
func New(c Config) (*Server, error) {
	if c.Store == nil || c.Users == nil || c.Verifier == nil || c.Notify == nil {
		return nil, errors.New("s3api: Store, Users, Verifier and Notify are required")
	}
	if c.Region == "" {
		c.Region = "default"
	}
	if c.HostID == "" {
		c.HostID = "herald"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.BodyIdle == 0 {
		c.BodyIdle = bodyIdle
	}
	s := &Server{
		store: c.Store, users: c.Users, verifier: c.Verifier, notify: c.Notify,
		region: c.Region, hostID: c.HostID,
		log: c.Logger, now: c.Now, bodyIdle: c.BodyIdle,
		topics: topicRules{
			cleartext: c.AllowCleartextSecrets, forwarded: c.TrustForwardedHTTPS,
			publishPolicy: c.RequirePublishPolicy, relaxedNames: c.RelaxedTopicNames,
			replaceRules: c.ReplaceNotifications,
		},
		index:        newRouteIndex(routes),
		anonymous:    auth.AnonymousUser(),
		serverHeader: []string{"Herald"},
		hostIDHeader: []string{c.HostID},
		xmlType:      []string{typeXML},
		stopped:      make(chan struct{}),
	}
	for _, d := range c.Domains {
		s.domains = append(s.domains, strings.ToLower(strings.Trim(d, ".")))
	}
	var err error
	if s.metrics, err = newMetrics(c.Registerer, routes); err != nil {
		return nil, err
	}
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails since Go 1.24
	s.idSeed = binary.BigEndian.Uint64(seed[:])
	s.mux = chi.NewMux()
	s.mux.HandleFunc("/", s.serve)
	s.mux.HandleFunc("/{bucket}", s.serve)
	s.mux.HandleFunc("/{bucket}/*", s.serve)
	s.mux.NotFound(s.serve)
	s.mux.MethodNotAllowed(s.serve)
	return s, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Timeouts and limits of HTTPServer. Bodies are watched by progress, not by a
// deadline for the whole: an upload may take hours.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	writeTimeout  = 5 * time.Minute // counted anew when an answer begins
	// maxHeaderBytes is what net/http takes at all; see maxHeaderSection for
	// what is answered with an S3 error.
	maxHeaderBytes = 1<<20 + 1<<17
)

// HTTPServer returns an http.Server for s that holds out against slow and
// greedy clients. The caller serves and shuts it down; Shutdown also ends the
// streams of listeners.
func (s *Server) HTTPServer() *http.Server {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		WriteTimeout:      writeTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	srv.RegisterOnShutdown(s.StopListeners)
	return srv
}

// StopListeners ends all streams of live events, now and in future, so that a
// server can shut down.
func (s *Server) StopListeners() { s.stopOnce.Do(func() { close(s.stopped) }) }

// newRequestID returns 16 hexadecimal digits that no other request of this
// process has, and hardly one of another.
func (s *Server) newRequestID() string {
	const odd = 0x9E3779B97F4A7C15 // multiplying by it permutes 64 bits
	n := s.lastID.Add(1)*odd ^ s.idSeed
	var b [16]byte
	for i := range b {
		b[i] = hexDigits[n>>60]
		n <<= 4
	}
	return string(b[:])
}
