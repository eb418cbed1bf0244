package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// opsHandler serves health and numbers, on an address of its own that only
// the machine itself reaches by default.
func (g *gateway) opsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", g.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.registry, promhttp.HandlerOpts{}))
	if g.config.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// readiness is the answer of /readyz.
type readiness struct {
	Ready  bool              `json:"ready"`
	Store  string            `json:"store"`  // "ok" or what is wrong
	Queue  string            `json:"queue"`  // likewise
	Topics map[string]string `json:"topics"` // per topic: "ok", or why its events wait
}

// readyz answers 200 while the store and the queue work. A topic whose
// endpoint is down is named, but does not make the gateway unready: its events
// wait, nothing is lost, and taking the gateway out of service would not help.
func (g *gateway) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	answer := readiness{Ready: true, Store: "ok", Queue: "ok", Topics: map[string]string{}}
	if g.draining.Load() {
		answer.Ready, answer.Store = false, "shutting down"
	}
	if err := g.store.Check(ctx); err != nil {
		answer.Ready, answer.Store = false, err.Error()
	}
	if _, err := g.queues.List(ctx, ""); err != nil {
		answer.Ready, answer.Queue = false, err.Error()
	}
	topics, err := g.notify.Health(ctx)
	if err != nil {
		answer.Ready, answer.Queue = false, err.Error()
	}
	for _, t := range topics {
		answer.Topics[t.Topic] = "ok"
		if !t.Ready {
			answer.Topics[t.Topic] = t.Detail
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(answer) // the client may be gone
}
