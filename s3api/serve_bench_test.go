package s3api

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// nullWriter takes an answer and forgets it.
type nullWriter struct {
	header http.Header
	status int
}

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) WriteHeader(status int)      { w.status = status }
func (w *nullWriter) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkServe_GetObject is a GET of 4 KiB through the whole pipeline
// without the network: what Herald adds to net/http.
func BenchmarkServe_GetObject(b *testing.B) {
	f := newFixture(b, func(c *Config) {
		c.Logger = slog.New(slog.NewJSONHandler(io.Discard, nil))
		c.Registerer = prometheus.NewRegistry()
	})
	f.bucket("bkt")
	f.put("", "bkt", "dir/key", strings.Repeat("x", 4096), nil)
	req := f.request(call{method: "GET", path: "/bkt/dir/key"})
	req.RequestURI, req.Body, req.ContentLength = "/bkt/dir/key", http.NoBody, 0
	req.Host = req.URL.Host
	b.ReportAllocs()
	for b.Loop() {
		w := &nullWriter{header: http.Header{}}
		f.server.ServeHTTP(w, req)
		if w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
}
