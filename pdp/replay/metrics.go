package replay

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	replays   *prometheus.CounterVec
	decisions *prometheus.CounterVec
	seconds   prometheus.Histogram
}

func newMetrics() *metrics {
	return &metrics{
		replays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_replays_total",
			Help: "Replays of recorded decisions, by outcome.",
		}, []string{"outcome"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_replay_decisions_total",
			Help: "Recorded decisions of replays that came to their end, by what became of them.",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "verdict_replay_seconds",
			Help:    "Time of a replay.",
			Buckets: prometheus.ExponentialBuckets(1e-3, 4, 10),
		}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.replays, m.decisions, m.seconds}
}

func (m *metrics) observe(r *Report, err error, took time.Duration) {
	m.seconds.Observe(took.Seconds())
	if err != nil {
		m.replays.WithLabelValues("error").Inc()
		return
	}
	m.replays.WithLabelValues("success").Inc()
	m.decisions.WithLabelValues("same").Add(float64(r.Replayed - r.Flips.Count))
	m.decisions.WithLabelValues("flip").Add(float64(r.Flips.Count))
	m.decisions.WithLabelValues("not_replayable").Add(float64(r.NotReplayable.Count))
	m.decisions.WithLabelValues("skipped").Add(float64(r.Skipped.Count + r.OtherPaths))
}
