package issuer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of tokens that are taken; those that are not have a Reason.
const (
	resultVerified = "verified"
	resultCached   = "cached"
)

type metrics struct {
	tokens    *prometheus.CounterVec
	refreshes *prometheus.CounterVec
	keys      *prometheus.GaugeVec
	read      *prometheus.GaugeVec
}

func newMetrics() *metrics {
	return &metrics{
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_issuer_tokens_total", Help: "Tokens of configured issuers: verified, cached, or why they were refused.",
		}, []string{"issuer", "result"}),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_issuer_refreshes_total", Help: "Attempts to read an issuer's keys, by whether they could be.",
		}, []string{"issuer", "outcome"}),
		keys: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "verdict_issuer_keys", Help: "Keys of an issuer that are used.",
		}, []string{"issuer"}),
		read: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "verdict_issuer_keys_read_timestamp_seconds", Help: "When an issuer's keys were last read.",
		}, []string{"issuer"}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.tokens, m.refreshes, m.keys, m.read}
}

func (m *metrics) count(issuer, result string) { m.tokens.WithLabelValues(issuer, result).Inc() }

func (m *metrics) failed(issuer string) { m.refreshes.WithLabelValues(issuer, "failed").Inc() }

// keep tells of keys that were read.
func (m *metrics) keep(issuer string, keys *keySet, now time.Time) {
	m.refreshes.WithLabelValues(issuer, "ok").Inc()
	m.keys.WithLabelValues(issuer).Set(float64(len(keys.keys)))
	m.read.WithLabelValues(issuer).Set(float64(now.UnixNano()) / 1e9)
}

// forget drops the series of an issuer that is no longer configured.
func (m *metrics) forget(issuer string) {
	labels := prometheus.Labels{"issuer": issuer}
	m.tokens.DeletePartialMatch(labels)
	m.refreshes.DeletePartialMatch(labels)
	m.keys.DeletePartialMatch(labels)
	m.read.DeletePartialMatch(labels)
}
