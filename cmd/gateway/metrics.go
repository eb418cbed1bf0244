package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// journalMetrics observe the journal's flushes.
type journalMetrics struct {
	seconds, records, bytes prometheus.Histogram
}

func newJournalMetrics(r prometheus.Registerer) *journalMetrics {
	m := &journalMetrics{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "herald_journal_flush_seconds", Help: "Time of a flush of the journal.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15),
		}),
		records: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "herald_journal_flush_records", Help: "Records made durable by one flush.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}),
		bytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "herald_journal_flush_bytes", Help: "Bytes written by one flush.",
			Buckets: prometheus.ExponentialBuckets(4096, 2, 14),
		}),
	}
	r.MustRegister(m.seconds, m.records, m.bytes)
	return m
}

func (m *journalMetrics) flushed(d time.Duration, records, bytes int) {
	m.seconds.Observe(d.Seconds())
	m.records.Observe(float64(records))
	m.bytes.Observe(float64(bytes))
}
