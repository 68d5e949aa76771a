package vault

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the collectors of one Client.
type metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	retries prometheus.Counter
	logins  *prometheus.CounterVec
	lost    prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_vault_calls_total", Help: "Calls to Vault, by operation and what became of them.",
		}, []string{"operation", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "verdict_vault_call_seconds", Help: "Time of one call to Vault.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 15),
		}, []string{"operation"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "verdict_vault_retries_total", Help: "Calls to Vault that were made again.",
		}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_vault_logins_total", Help: "Logins to Vault, by what became of them.",
		}, []string{"outcome"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "verdict_vault_tokens_lost_total", Help: "Tokens that Vault refused before their time.",
		}),
	}
}

// observe counts one call.
func (m *metrics) observe(operation string, outcome Kind, took time.Duration) {
	if outcome == Healthy {
		outcome = "success"
	}
	m.calls.WithLabelValues(operation, string(outcome)).Inc()
	m.seconds.WithLabelValues(operation).Observe(took.Seconds())
}

func (m *metrics) collectors(c *Client) []prometheus.Collector {
	all := []prometheus.Collector{m.calls, m.seconds, m.retries, m.logins, m.lost}
	for _, kind := range []Kind{Healthy, Sealed, Standby, Unreachable, Timeout, RateLimited, Denied, Failed} {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "verdict_vault_state", Help: "1 for the state that Vault is in.",
			ConstLabels: prometheus.Labels{"state": string(kind)},
		}, func() float64 {
			if c.health.snapshot().state == kind {
				return 1
			}
			return 0
		}))
	}
	return append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "verdict_vault_token_ttl_seconds", Help: "Time that the token has left; -1 without a token, +Inf for one that does not end.",
	}, func() float64 { return c.session.Load().left(c.o.Now()) }))
}
