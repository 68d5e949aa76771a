package state

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/storage"
)

// metrics are the collectors of one Store.
type metrics struct {
	commitSeconds prometheus.Histogram
	commitOps     prometheus.Histogram
	conflicts     prometheus.Counter
	failures      prometheus.Counter
	expired       prometheus.Counter
	lagged        prometheus.Counter
	watchers      prometheus.Gauge
	read          []prometheus.Collector // what is read when it is asked for
}

func newMetrics(s *Store) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	histogram := func(name, help string, from float64, n int) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(from, 2, n),
		})
	}
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read)
	}
	return &metrics{
		commitSeconds: histogram("verdict_state_commit_seconds", "Time of one commit, syncing included.", 0.0001, 16),
		commitOps:     histogram("verdict_state_commit_operations", "Operations in one commit.", 1, 13),
		conflicts:     counter("verdict_state_conflicts_total", "Batches refused because a revision was not the expected one."),
		failures:      counter("verdict_state_failures_total", "Commits that failed."),
		expired:       counter("verdict_state_expired_total", "Entries removed after they expired."),
		lagged:        counter("verdict_state_watches_compacted_total", "Watches ended because changes were no longer held."),
		watchers:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "verdict_state_watchers", Help: "Watches in progress."}),
		read: []prometheus.Collector{
			gauge("verdict_state_size_bytes", "Size of the state store's file.", s.size),
			gauge("verdict_state_failed", "1 when the state store is of no use until it is opened again.", func() float64 {
				if s.usable() != nil {
					return 1
				}
				return 0
			}),
		},
	}
}

func (m *metrics) committed(ops int, took time.Duration) {
	m.commitOps.Observe(float64(ops))
	m.commitSeconds.Observe(took.Seconds())
}

func (m *metrics) watchEnded(err error) {
	if errors.Is(err, storage.ErrCompacted) {
		m.lagged.Inc()
	}
}

// size is that of the file, 0 when it cannot be read.
func (s *Store) size() float64 {
	var n int64
	err := s.view(func(tx *bolt.Tx) error {
		n = tx.Size()
		return nil
	})
	if err != nil {
		return 0
	}
	return float64(n)
}

// Collectors are the metrics of the store, for the caller to register.
func (s *Store) Collectors() []prometheus.Collector {
	m := s.metrics
	return append([]prometheus.Collector{
		m.commitSeconds, m.commitOps, m.conflicts, m.failures, m.expired, m.lagged, m.watchers,
	}, m.read...)
}
