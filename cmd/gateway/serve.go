package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"herald/auth"
	"herald/store"
)

// gcPercent lets the heap grow to three times what is live before it is
// collected: the gateway keeps little, and allocates much that is soon dead.
const gcPercent = 200

// serve runs the gateway until ctx ends, then drains it: no request is cut
// within shutdown_timeout, and the journal is closed clean.
func serve(ctx context.Context, args, environ []string, stdout, stderr io.Writer) (int, error) {
	c, rest, err := loadConfig("serve", args, environ, stderr)
	if err != nil {
		return 2, err
	}
	if len(rest) > 0 {
		return 2, fmt.Errorf("unexpected argument %q", rest[0])
	}
	// Listen first: a port in use should not leave a data directory behind.
	s3, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return 1, err
	}
	defer s3.Close()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	logs := &logBuffer{w: stderr}
	var flusher sync.WaitGroup
	logCtx, stopLog := context.WithCancel(context.Background())
	flusher.Go(func() { _ = logs.Run(logCtx) })
	defer flusher.Wait()
	defer stopLog()
	g, err := open(c, newLogger(c, logs), false)
	if err != nil {
		return 1, err
	}
	if c.Durability == "relaxed" {
		g.log.Warn("durability is relaxed: an acknowledged change may be lost with the power")
	}
	if err = g.startQueues(ctx); err == nil {
		err = g.serve(ctx, s3, stdout)
	}
	return 0, errors.Join(err, g.close())
}

func (g *gateway) serve(ctx context.Context, s3 net.Listener, stdout io.Writer) error {
	key, err := g.ensureRoot(ctx)
	if err != nil {
		return fmt.Errorf("user root: %w", err)
	}
	if g.config.Demo {
		err := g.store.CreateBucket(ctx, store.BucketInfo{Name: "demo", Owner: "root"})
		if err != nil && !errors.Is(err, store.ErrBucketAlreadyExists) {
			return fmt.Errorf("bucket demo: %w", err)
		}
	}
	control, err := listenControl(g.config.Data)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	defer control.Close()
	servers := []*endpoint{
		{g.s3.HTTPServer(), moreListener{s3}},
		{&http.Server{Handler: g.controlHandler()}, control},
	}
	if g.config.Ops != "" {
		ops, err := net.Listen("tcp", g.config.Ops)
		if err != nil {
			return fmt.Errorf("ops address: %w", err)
		}
		servers = append(servers, &endpoint{&http.Server{Handler: g.opsHandler(), ReadHeaderTimeout: 10 * time.Second}, ops})
	}
	// What works behind the requests outlives them, and the journal outlives
	// delivery: its last acks may have to wait for a checkpoint.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	journalCtx, stopJournal := context.WithCancel(context.WithoutCancel(ctx))
	work, background := errgroup.WithContext(background)
	notifyCtx, stopNotify := context.WithCancel(context.WithoutCancel(background))
	defer stopNotify()
	work.Go(func() error { return g.journal.Run(journalCtx) })
	work.Go(func() error {
		defer stopJournal()
		defer g.endOutbox()
		if g.outbox != nil {
			if err := g.outbox.Start(background); err != nil {
				return err
			}
		}
		return g.notify.Run(notifyCtx)
	})
	work.Go(func() error {
		defer stopNotify() // what is expired has its events
		g.lifecycle.Run(background)
		return nil
	})
	if !g.config.Demo {
		fmt.Fprintf(stdout, "herald: S3 on http://%s, data in %s\n", s3.Addr(), g.config.Data)
	}
	g.welcome(stdout, s3.Addr().String(), key)
	err = g.runServers(ctx, background, servers)
	stop()
	return errors.Join(err, ignoreCanceled(work.Wait()))
}

// endpoint is a server and where it listens.
type endpoint struct {
	*http.Server
	listener net.Listener
}

// runServers serves until ctx ends or something fails, then drains.
func (g *gateway) runServers(ctx, background context.Context, servers []*endpoint) error {
	failed := make(chan error, len(servers))
	for _, s := range servers {
		// Streams end when the drain begins, requests when they are done.
		streams, endStreams := context.WithCancel(context.Background())
		s.RegisterOnShutdown(endStreams)
		s.BaseContext = func(net.Listener) context.Context { return streams }
		if s.Handler == http.Handler(g.s3) {
			s.BaseContext = func(net.Listener) context.Context { return context.Background() }
			endStreams()
		}
		go func() { failed <- s.Serve(s.listener) }() // ends by Shutdown or Close below
	}
	var err error
	select {
	case <-ctx.Done():
		g.log.Info("draining", "timeout", g.config.ShutdownTimeout)
	case <-background.Done():
		err = context.Cause(background)
	case err = <-failed:
	}
	g.draining.Store(true)
	drain, cancel := context.WithTimeout(context.Background(), g.config.ShutdownTimeout)
	defer cancel()
	for _, s := range servers {
		if e := s.Shutdown(drain); e != nil {
			g.log.Warn("requests were cut", "address", s.listener.Addr().String(), "error", e)
			_ = s.Close()
		}
	}
	return ignoreCanceled(err)
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// welcome prints lines ready to paste.
func (g *gateway) welcome(w io.Writer, addr string, key auth.Key) {
	if key.AccessKey == "" {
		return
	}
	if !g.config.Demo {
		if g.config.RootSecretKey == "" {
			fmt.Fprintf(w, "herald: user root: access key %s, secret key %s\n", key.AccessKey, key.SecretKey)
		}
		return
	}
	secret := key.SecretKey
	if g.config.RootSecretKey != "" {
		secret = "$HERALD_ROOT_SECRET_KEY"
	}
	dataFlag := ""
	if g.config.Data != defaultConfig().Data {
		dataFlag = " --data " + g.config.Data
	}
	fmt.Fprintf(w, `
Herald serves S3 on http://%[1]s, data in %[5]s.
In a second terminal, watch what happens in the bucket demo:

    bin/gateway listen demo%[4]s

In a third, upload a file with any S3 client, for instance awscli:

    export AWS_ACCESS_KEY_ID=%[2]s AWS_SECRET_ACCESS_KEY=%[3]s
    export AWS_ENDPOINT_URL=http://%[1]s AWS_DEFAULT_REGION=us-east-1
    aws --endpoint-url $AWS_ENDPOINT_URL s3 cp README.md s3://demo/hello.md

The file is then %[5]s/demo/hello.md. Another bucket:

    aws --endpoint-url $AWS_ENDPOINT_URL s3 mb s3://my-bucket

`, addr, key.AccessKey, secret, dataFlag, g.config.Data)
}

func newLogger(c config, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // validated
	opts := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
