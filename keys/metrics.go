package keys

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a ring.
type metrics struct {
	values  *prometheus.CounterVec
	calls   *prometheus.HistogramVec
	cached  *prometheus.CounterVec
	entries prometheus.Collector
	up      prometheus.Collector
	changes *prometheus.CounterVec
	// rotations by cause; age, next and bare are brought up to date by Run.
	rotations *prometheus.CounterVec
	age, next *prometheus.GaugeVec
	bare      prometheus.Gauge
	keys      *prometheus.GaugeVec
	overdue   prometheus.Gauge
}

func newMetrics(r *Ring) *metrics {
	return &metrics{
		values: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_keys_values_total",
			Help: "Values that were encrypted, decrypted or wrapped anew, by outcome.",
		}, []string{"operation", "outcome"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "verdict_keys_call_duration_seconds",
			Help:    "Time of a call to the key ring, whatever the number of its values.",
			Buckets: prometheus.ExponentialBuckets(1e-5, 4, 10),
		}, []string{"operation"}),
		cached: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_keys_data_key_cache_total",
			Help: "Data keys that were found in memory (hit) or had to be fetched (miss).",
		}, []string{"operation", "result"}),
		entries: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "verdict_keys_data_keys_cached",
			Help: "Data keys in memory.",
		}, func() float64 { return float64(r.sealing.len() + r.opening.len()) }),
		up: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "verdict_keys_backend_up",
			Help: "1 when the holder of the keys can be used, by what it answered last.",
		}, func() float64 {
			if r.backend.State().Reason == "" {
				return 1
			}
			return 0
		}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_keys_changes_total",
			Help: "Changes of keys, by kind.",
		}, []string{"kind"}),
		rotations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_keys_rotations_total",
			Help: "Rotations of keys, by cause.",
		}, []string{"cause"}),
		age: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "verdict_keys_age_seconds",
			Help: "Age of the latest version of a key.",
		}, []string{"key"}),
		next: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "verdict_keys_next_rotation_timestamp_seconds",
			Help: "When a key is rotated next, as Unix time.",
		}, []string{"key"}),
		bare: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "verdict_keys_not_escrowed",
			Help: "Keys that must be escrowed and whose latest version is not.",
		}),
		keys: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "verdict_keys",
			Help: "Keys of the ring, by type.",
		}, []string{"type"}),
		overdue: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "verdict_keys_overdue",
			Help: "Keys that should have been rotated by now.",
		}),
	}
}

// Collectors gives the ring's metrics.
func (r *Ring) Collectors() []prometheus.Collector {
	m := r.metrics
	return []prometheus.Collector{m.values, m.calls, m.cached, m.entries, m.up, m.changes, m.rotations, m.age, m.next, m.bare, m.keys, m.overdue}
}

func (m *metrics) hit(operation string)  { m.cached.WithLabelValues(operation, "hit").Inc() }
func (m *metrics) miss(operation string) { m.cached.WithLabelValues(operation, "miss").Inc() }

// done counts the values of a call by how it went with each.
func (m *metrics) done(operation string, started time.Time, n int, at func(int) error) {
	m.calls.WithLabelValues(operation).Observe(time.Since(started).Seconds())
	counts := map[string]int{}
	good := 0
	for i := range n {
		if err := at(i); err != nil {
			counts[outcome(err)]++
		} else {
			good++
		}
	}
	m.values.WithLabelValues(operation, "ok").Add(float64(good))
	for outcome, n := range counts {
		m.values.WithLabelValues(operation, outcome).Add(float64(n))
	}
}

// outcome is the code of an error, of a bounded set.
func outcome(err error) string {
	for _, known := range []error{
		ErrMalformed, ErrKeyUnknown, ErrVersionDisallowed, ErrInvalid, ErrNotEncrypted, ErrTooLarge, ErrUnavailable, ErrNoEscrow,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "other"
}
