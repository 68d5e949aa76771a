package search

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	searches   *prometheus.CounterVec
	seconds    prometheus.Histogram
	candidates prometheus.Histogram
}

func newMetrics() *metrics {
	return &metrics{
		searches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_searches_total",
			Help: "Searches, by what was looked for and by outcome.",
		}, []string{"kind", "outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "verdict_search_seconds",
			Help:    "Time of a search, without recording.",
			Buckets: prometheus.ExponentialBuckets(1e-5, 4, 10),
		}),
		candidates: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "verdict_search_candidates",
			Help:    "Candidates that a search has decided.",
			Buckets: prometheus.ExponentialBuckets(1, 8, 7),
		}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.searches, m.seconds, m.candidates}
}

func (m *metrics) observe(kind Kind, a *Answer, err error, took time.Duration) {
	outcome := "success"
	switch {
	case err != nil:
		outcome = "error"
	case a.More:
		outcome = "part"
	}
	m.searches.WithLabelValues(kind.String(), outcome).Inc()
	m.seconds.Observe(took.Seconds())
	if a != nil {
		m.candidates.Observe(float64(a.Candidates))
	}
}
