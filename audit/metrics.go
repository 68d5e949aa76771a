package audit

import "github.com/prometheus/client_golang/prometheus"

// metrics are the collectors of one Log. What others hold already is read when
// it is asked for.
type metrics struct {
	appended      prometheus.Counter
	errors        prometheus.Counter
	unavailable   *prometheus.CounterVec
	queueWait     prometheus.Histogram
	commitRecords prometheus.Histogram
	commitSeconds prometheus.Histogram
	gauges        []prometheus.Collector
}

func newMetrics(l *Log) *metrics {
	m := &metrics{
		appended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "verdict_audit_appended_total", Help: "Records made durable.",
		}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "verdict_audit_errors_total", Help: "Errors of the log's store and of its monitor.",
		}),
		unavailable: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_audit_unavailable_total", Help: "Records refused, by reason.",
		}, []string{"reason"}),
		queueWait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "verdict_audit_queue_wait_seconds", Help: "Time from handing a record in to the start of its commit.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		commitRecords: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "verdict_audit_commit_records", Help: "Records in one commit.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "verdict_audit_commit_seconds", Help: "Time of one commit, syncing included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
	}
	for _, r := range []Reason{ReasonQueueFull, ReasonTimeout, ReasonPoisoned, ReasonDiskFull, ReasonClosed} {
		m.unavailable.WithLabelValues(string(r))
	}
	gauge := func(name, help string, read func() float64) {
		m.gauges = append(m.gauges, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
	}
	gauge("verdict_audit_queue_records", "Records in the queue.", func() float64 {
		n, _, _ := l.queue.load()
		return float64(n)
	})
	gauge("verdict_audit_queue_bytes", "Bytes in the queue.", func() float64 {
		_, n, _ := l.queue.load()
		return float64(n)
	})
	watched := func(read func() float64) func() float64 {
		return func() float64 {
			l.mu.Lock()
			defer l.mu.Unlock()
			return read()
		}
	}
	gauge("verdict_audit_next_seq", "Sequence number of the next record.", watched(func() float64 { return float64(l.next) }))
	gauge("verdict_audit_size_bytes", "Bytes that the log uses.", watched(func() float64 { return float64(l.watch.used) }))
	gauge("verdict_audit_free_bytes", "Free bytes of the file system that holds the log.",
		watched(func() float64 { return float64(l.watch.free) }))
	gauge("verdict_audit_growth_bytes_per_day", "Growth of the log over the last day, or since the start.",
		watched(func() float64 { return l.watch.growth(l.opts.Now()) }))
	gauge("verdict_audit_poisoned", "1 when the log is poisoned.", watched(func() float64 {
		if l.poison != nil {
			return 1
		}
		return 0
	}))
	return m
}

// Collectors returns the metrics of the log, all named verdict_audit_*.
func (l *Log) Collectors() []prometheus.Collector {
	m := l.metrics
	return append([]prometheus.Collector{
		m.appended, m.errors, m.unavailable, m.queueWait, m.commitRecords, m.commitSeconds,
	}, m.gauges...)
}

func (m *metrics) refused(err error) {
	if u, ok := asUnavailable(err); ok {
		m.unavailable.WithLabelValues(string(u.Reason)).Inc()
	}
}
