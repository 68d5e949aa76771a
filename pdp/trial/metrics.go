package trial

import "github.com/prometheus/client_golang/prometheus"

// Metrics count over all trials of a process.
type Metrics struct {
	answered, compared, errors prometheus.Counter
	dropped, differences       *prometheus.CounterVec
}

// NewMetrics returns metrics that are registered nowhere.
func NewMetrics() *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	return &Metrics{
		answered:    counter("verdict_staged_answered_total", "Decisions that a canary answered."),
		compared:    counter("verdict_staged_compared_total", "Decisions that were evaluated on the active and on the staged revision."),
		errors:      counter("verdict_staged_errors_total", "Evaluations that only the staged revision failed."),
		dropped:     vector("verdict_staged_dropped_total", "Decisions that were not compared: the queue was full, or the processors were busy.", "reason"),
		differences: vector("verdict_staged_differences_total", "Decisions that the staged revision makes otherwise, by kind.", "kind"),
	}
}

// Collectors returns them for registration.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.answered, m.compared, m.errors, m.dropped, m.differences}
}
