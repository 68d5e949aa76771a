package bundles

import "github.com/prometheus/client_golang/prometheus"

// Collectors returns the metrics of the service.
func (s *Service) Collectors() []prometheus.Collector {
	return append(s.trials.Collectors(), ageCollector{s})
}

// ageCollector tells the age of each active bundle when it is asked.
type ageCollector struct{ service *Service }

// Describe implements prometheus.Collector.
func (c ageCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.age()
	out <- c.stale()
}

// Collect implements prometheus.Collector.
func (c ageCollector) Collect(out chan<- prometheus.Metric) {
	for _, a := range c.service.Ages() {
		stale := 0.0
		if a.Stale {
			stale = 1
		}
		out <- prometheus.MustNewConstMetric(c.age(), prometheus.GaugeValue, a.Age.Seconds(), a.Name)
		out <- prometheus.MustNewConstMetric(c.stale(), prometheus.GaugeValue, stale, a.Name)
	}
}

func (ageCollector) age() *prometheus.Desc {
	return prometheus.NewDesc("verdict_bundle_age_seconds", "Time since the active revision was made active or confirmed to be current.", []string{"bundle"}, nil)
}

func (ageCollector) stale() *prometheus.Desc {
	return prometheus.NewDesc("verdict_bundle_stale", "1 when the active revision is older than bundles.max_age.", []string{"bundle"}, nil)
}
