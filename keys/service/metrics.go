package service

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/keys"
)

type metrics struct {
	values *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{values: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "verdict_encryption_values_total",
		Help: "Values that callers had encrypted, decrypted or encrypted anew, by classification and outcome.",
	}, []string{"operation", "classification", "outcome"})}
}

// Collectors gives the service's metrics.
func (s *Service) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.metrics.values}
}

// count counts the values of a call.
func (m *metrics) count(operation string, n int, at func(int) (keys.Class, error)) {
	type row struct{ class, outcome string }
	counts := map[row]float64{}
	for i := range n {
		class, err := at(i)
		name := "unknown"
		if class >= keys.Public && class <= keys.TopSecret {
			name = class.String()
		}
		counts[row{name, Code(err)}]++
	}
	for r, n := range counts {
		m.values.WithLabelValues(operation, r.class, r.outcome).Add(n)
	}
}

// Code is the word for an error of one value, of a bounded set: "ok" for none,
// "internal_error" for one that is not known.
func Code(err error) string {
	if err == nil {
		return "ok"
	}
	for _, known := range []error{
		ErrSealed, ErrNotJSON, ErrClass, ErrOverlap, ErrTooMany, ErrOtherKey, ErrUnverified,
		keys.ErrMalformed, keys.ErrKeyUnknown, keys.ErrVersionDisallowed, keys.ErrInvalid, keys.ErrNotEncrypted,
		keys.ErrTooLarge, keys.ErrUnavailable, keys.ErrNoEscrow,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "internal_error"
}
