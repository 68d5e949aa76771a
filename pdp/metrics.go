package pdp

import (
	"time"

	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/audit"
)

// Metrics is OPA's collection of timers and counters for one request.
type Metrics = metrics.Metrics

type decisionMetrics struct {
	decisions  *prometheus.CounterVec
	seconds    prometheus.Histogram
	unrecorded prometheus.Counter
	maskFailed prometheus.Counter
	stale      prometheus.Counter
}

func newDecisionMetrics() *decisionMetrics {
	return &decisionMetrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_decisions_total",
			Help: "Decisions made, by the protocol that asked and by outcome.",
		}, []string{"edge", "outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "verdict_decision_evaluation_seconds",
			Help:    "Time from the start of an evaluation to its result, without recording.",
			Buckets: prometheus.ExponentialBuckets(1e-6, 4, 10),
		}),
		unrecorded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "verdict_decisions_unrecorded_total",
			Help: "Decisions that were not answered because they could not be recorded.",
		}),
		maskFailed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "verdict_decision_mask_failures_total",
			Help: "Decisions recorded without their content because the masking policy failed.",
		}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "verdict_decisions_stale_total",
			Help: "Decisions that were not made because a bundle that they depend on is older than bundles.max_age.",
		}),
	}
}

func (m *decisionMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.decisions, m.seconds, m.unrecorded, m.maskFailed, m.stale}
}

func (m *decisionMetrics) observe(edge string, outcome audit.Outcome, took time.Duration) {
	m.decisions.WithLabelValues(edge, string(outcome)).Inc()
	m.seconds.Observe(took.Seconds())
}
