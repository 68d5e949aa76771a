package extauthz

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is how a check ended, a label of the metrics.
type outcome int

const (
	outcomeAllowed     outcome = iota
	outcomeDenied              // by the policy
	outcomeInvalid             // denied: the request could not be read
	outcomeUndefined           // an error: the decision is undefined
	outcomeError               // an error: of evaluation, or a result of the wrong shape
	outcomeCancelled           // an error: the caller's deadline, or it went away
	outcomeUnavailable         // an error: not recorded, or too many in flight
	outcomeRefused             // an error: the peer may not ask
	outcomes
)

type metrics struct {
	checks  *prometheus.CounterVec
	seconds prometheus.Histogram
	series  [outcomes]prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_extauthz_checks_total", Help: "Checks by Envoy, by how they ended. What a dry run let through counts as it was decided.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "verdict_extauthz_check_seconds", Help: "Time from a check's message to its answer.",
			Buckets: prometheus.ExponentialBuckets(1e-5, 4, 9),
		}),
	}
	for i, name := range [outcomes]string{"allowed", "denied", "invalid", "undefined", "error", "cancelled", "unavailable", "refused"} {
		m.series[i] = m.checks.WithLabelValues(name)
	}
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.checks, m.seconds}
}

func (m *metrics) count(o outcome) { m.series[o].Inc() }

func (m *metrics) observe(o outcome, start time.Time) {
	m.count(o)
	m.seconds.Observe(time.Since(start).Seconds())
}
