package s3api

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what Prometheus sees of requests. Children are looked up once,
// so that a request costs no label hashing.
type metrics struct {
	inFlight  prometheus.Gauge
	received  prometheus.Counter
	sent      prometheus.Counter
	byOp      map[string]*opMetrics
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
}

// opMetrics are those of one operation.
type opMetrics struct {
	requests [6]prometheus.Counter // by first digit of the status
	duration prometheus.Observer
}

func newMetrics(reg prometheus.Registerer, table []route) (*metrics, error) {
	m := &metrics{
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "herald_s3_requests_in_flight", Help: "Requests being served.",
		}),
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_s3_received_bytes_total", Help: "Bytes of request bodies.",
		}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "herald_s3_sent_bytes_total", Help: "Bytes of response bodies.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_s3_requests_total", Help: "Requests by operation and class of status.",
		}, []string{"operation", "status"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "herald_s3_request_duration_seconds", Help: "Time from the header to the end of the answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"operation"}),
		byOp: map[string]*opMetrics{},
	}
	for i := range table {
		m.addOp(table[i].op)
	}
	m.addOp(noRoute)
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.inFlight, m.received, m.sent, m.requests, m.durations} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("s3api: metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) addOp(op string) {
	if m.byOp[op] != nil {
		return
	}
	o := &opMetrics{duration: m.durations.WithLabelValues(op)}
	for i := range o.requests {
		o.requests[i] = m.requests.WithLabelValues(op, fmt.Sprintf("%dxx", i))
	}
	m.byOp[op] = o
}

// observe counts one request. Operations that are in no table (topic actions)
// count as the row that carried them.
func (m *metrics) observe(op, row string, status int, took time.Duration, in, out int64) {
	o := m.byOp[op]
	if o == nil {
		o = m.byOp[row]
	}
	o.requests[min(status/100, 5)].Inc()
	o.duration.Observe(took.Seconds())
	if in > 0 {
		m.received.Add(float64(in))
	}
	if out > 0 {
		m.sent.Add(float64(out))
	}
}
