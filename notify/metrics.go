package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics; the pubsub_* names are RGW's.
type metrics struct {
	triggered, lost, pushOK, pushFailed prometheus.Counter
	pending                             prometheus.Gauge
	stored, storeFailed, missingConf    prometheus.Counter
	inflight                            *prometheus.GaugeVec // topic

	pushes       *prometheus.CounterVec // topic, result
	pushSeconds  *prometheus.HistogramVec
	delivery     *prometheus.HistogramVec
	retries      *prometheus.CounterVec
	dead         *prometheus.CounterVec // topic, reason
	deadDropped  *prometheus.CounterVec
	full         *prometheus.CounterVec
	dropped      *prometheus.CounterVec // topic, how
	skipped      *prometheus.CounterVec // reason
	resolved     *prometheus.CounterVec // decision
	deferred     prometheus.Counter
	workerPanics prometheus.Counter
	leasesLost   prometheus.Counter
	badTopics    prometheus.Counter
	foreign      prometheus.Gauge
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"topic"})
	}
	return &metrics{
		triggered:  counter("pubsub_event_triggered", "Events that matched a notification."),
		lost:       counter("pubsub_event_lost", "Events that were lost: neither delivered nor kept as dead letters: of those there were too many, or the topic has events dropped when its queue is full."),
		pushOK:     counter("pubsub_push_ok", "Pushes that the endpoint acked."),
		pushFailed: counter("pubsub_push_failed", "Pushes that failed."),
		pending:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "pubsub_push_pending", Help: "Pushes in flight (not the backlog)."}),

		stored:      counter("pubsub_store_ok", "Events that were put into queues."),
		storeFailed: counter("pubsub_store_fail", "Events that could not be put into their queues at once; they are later."),
		missingConf: counter("pubsub_missing_conf", "Events that matched a notification whose topic is gone."),
		inflight:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "herald_topic_in_flight", Help: "Events on their way to the endpoint."}, []string{"topic"}),

		pushes:       vec("herald_notify_pushes_total", "Pushes by result.", "topic", "result"),
		pushSeconds:  histogram("herald_notify_push_seconds", "Time that a push took."),
		delivery:     histogram("herald_notify_delivery_seconds", "Time from the change to the ack of its event."),
		retries:      vec("herald_notify_retries_total", "Pushes of events that had failed before.", "topic"),
		dead:         vec("herald_notify_dead_letters_total", "Events given up, by reason.", "topic", "reason"),
		deadDropped:  vec("herald_notify_dead_letters_dropped_total", "Dead letters dropped because there were too many.", "topic"),
		full:         vec("herald_notify_queue_full_total", "Requests refused because a queue was full.", "topic"),
		dropped:      vec("herald_notify_dropped_total", "Events dropped because a queue was full, as the topic's when-full has it.", "topic", "how"),
		skipped:      vec("herald_notify_skipped_total", "Notifications that were skipped, by reason.", "reason"),
		resolved:     vec("herald_notify_resolved_total", "Reservations that the resolver ended, by decision.", "decision"),
		deferred:     counter("herald_notify_deferred_total", "Commits of entries that were left to the resolver."),
		workerPanics: counter("herald_notify_worker_panics_total", "Panics of queue workers that were recovered."),
		leasesLost:   counter("herald_notify_leases_lost_total", "Leases of queues that ended while they were used: what was sent then may be sent again by another gateway."),
		badTopics:    counter("herald_notify_bad_topics_total", "Records of topics that cannot be read; they are skipped."),
		foreign:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "herald_notify_foreign_reservations", Help: "Reservations of other stores, which the last pass of the resolver left alone."}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.stored, m.storeFailed, m.missingConf, m.inflight, m.triggered, m.lost, m.pushOK, m.pushFailed, m.pending, m.pushes, m.pushSeconds, m.delivery,
		m.retries, m.dead, m.deadDropped, m.full, m.dropped, m.skipped, m.resolved, m.deferred, m.workerPanics, m.leasesLost, m.badTopics, m.foreign,
	}
}

// forget drops the figures of a topic that is gone: whoever makes topics would
// else leave something behind with each.
func (m *metrics) forget(topic string) {
	label := prometheus.Labels{"topic": topic}
	m.inflight.DeletePartialMatch(label)
	for _, c := range [...]*prometheus.CounterVec{m.pushes, m.retries, m.dead, m.deadDropped, m.full, m.dropped} {
		c.DeletePartialMatch(label)
	}
	for _, h := range [...]*prometheus.HistogramVec{m.pushSeconds, m.delivery} {
		h.DeletePartialMatch(label)
	}
}

// register adds everything to a registry. The resolver's decisions and the
// like are there from the start, with 0.
func (m *metrics) register(r prometheus.Registerer, s *Service) error {
	for _, decision := range decisions {
		m.resolved.WithLabelValues(decision)
	}
	for _, c := range append(m.collectors(), &topicCollector{s}) {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// topicLabel names a topic in metrics: "name" or "tenant:name".
func topicLabel(t *Topic) string {
	if tenant := t.Tenant(); tenant != "" {
		return tenant + ":" + t.Name
	}
	return t.Name
}

// scrapeTimeout bounds the reading of queue figures.
const scrapeTimeout = 5 * time.Second

// The descriptions of what is read at scrape time. They are never written.
var (
	descEntries      = prometheus.NewDesc("herald_topic_entries", "Events that wait.", []string{"topic"}, nil)
	descBytes        = prometheus.NewDesc("herald_topic_bytes", "Bytes of events that wait.", []string{"topic"}, nil)
	descReservations = prometheus.NewDesc("herald_topic_reservations", "Open reservations.", []string{"topic"}, nil)
	descOldest       = prometheus.NewDesc("herald_topic_oldest_age_seconds", "Age of the oldest event that waits; 0 when none does.", []string{"topic"}, nil)
	descDead         = prometheus.NewDesc("herald_topic_dead_letters", "Dead letters that are kept.", []string{"topic"}, nil)
	descQueueLen     = prometheus.NewDesc("persistent_topic_len", "Events that wait in a queue.", []string{"queue"}, nil)
	descUp           = prometheus.NewDesc("herald_topic_endpoint_up", "1, or 0 while the endpoint fails again and again, of topics that this gateway delivers.", []string{"topic"}, nil)
	descStalled      = prometheus.NewDesc("herald_topic_stalled_seconds", "For how long events have waited without any being delivered; 0 when some are, or none waits.", []string{"topic"}, nil)
	descShards       = prometheus.NewDesc("herald_notification_shards_owned", "Queues of topics that this gateway delivers.", nil, nil)
	descBackground   = prometheus.NewDesc("herald_notify_commits_behind_requests", "Changes that were answered and whose events are on their way to a queue on a server.", nil, nil)
	descLate         = prometheus.NewDesc("herald_notify_late_changes", "Changes whose events are not in their queues yet, as earlier ones of the key are to come first, or there is no room.", nil, nil)
	descQueueSize    = prometheus.NewDesc("persistent_topic_size", "Bytes of events that wait in a queue.", []string{"queue"}, nil)
)

// topicCollector reads the queues' figures when it is asked.
type topicCollector struct{ s *Service }

// Describe implements prometheus.Collector.
func (c *topicCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{descEntries, descBytes, descReservations, descOldest, descDead, descUp, descStalled, descQueueLen, descQueueSize, descShards, descBackground, descLate} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. What cannot be read is left out. Of
// queues on a server those are read that this gateway delivers: the sum over
// the gateways is that of all.
func (c *topicCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	ch <- prometheus.MustNewConstMetric(descShards, prometheus.GaugeValue, float64(c.s.working.len()))
	ch <- prometheus.MustNewConstMetric(descBackground, prometheus.GaugeValue, float64(c.s.background.len()))
	ch <- prometheus.MustNewConstMetric(descLate, prometheus.GaugeValue, float64(c.s.late.len()))
	topics, err := c.s.topics.All(ctx)
	if err != nil {
		return
	}
	parallel(len(topics), c.s.atOnce(), func(i int) { c.topic(ctx, ch, topics[i]) })
}

// topic reads one topic's figures.
func (c *topicCollector) topic(ctx context.Context, ch chan<- prometheus.Metric, t *Topic) {
	gauge := func(d *prometheus.Desc, v float64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, label)
	}
	if target := c.s.targets.peek(t.ARN); target != nil {
		up := 1.0
		if target.health() != nil {
			up = 0
		}
		gauge(descUp, up, topicLabel(t))
	}
	if t.Dest.Queue == "" {
		return
	}
	gauge(descStalled, c.s.stalled.topic(t, time.Now()).Seconds(), topicLabel(t))
	ours := func(i int) bool { return !c.s.remote || c.s.working.has(ShardName(t.Dest.Queue, i)) }
	var sum TopicStats
	any := false
	for i := range t.Dest.Shards {
		if !ours(i) {
			continue
		}
		any = true
		name := ShardName(t.Dest.Queue, i)
		st, err := c.s.queueStats(ctx, name)
		if err != nil {
			continue
		}
		gauge(descQueueLen, float64(st.Entries), name)
		gauge(descQueueSize, float64(st.Bytes), name)
		sum.add(st)
	}
	if !any {
		return
	}
	label := topicLabel(t)
	gauge(descEntries, float64(sum.Entries), label)
	gauge(descBytes, float64(sum.Size), label)
	gauge(descReservations, float64(sum.Reservations), label)
	gauge(descOldest, sum.age().Seconds(), label)
	if !ours(0) {
		return
	}
	if st, err := c.s.queueStats(ctx, deadQueue(t.Dest.Queue)); err == nil {
		gauge(descDead, float64(st.Entries), label)
	}
}
