package pull

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// State is how a source is.
type State string

// The states of a source.
const (
	StateStarting State = "starting" // nothing has come back yet
	StateOK       State = "ok"       // the last look found what is active, or made it so
	StateRefused  State = "refused"  // it has a bundle that the gates refuse, or would refuse now
	StateFailing  State = "failing"  // it could not be asked, or its answer is none
)

// Status is how one source is.
type Status struct {
	Name  string `json:"name"`
	URL   string `json:"url"` // without a query
	State State  `json:"state"`
	// Revision and Digest are of what came from it last and passed the gates;
	// Current says that this is what is active.
	Revision string `json:"revision,omitempty"`
	Digest   string `json:"digest,omitempty"`
	Current  bool   `json:"current"`
	ETag     string `json:"etag,omitempty"`
	// Bytes is the size of the archive that came last.
	Bytes       int64      `json:"bytes"`
	LongPolling bool       `json:"long_polling"` // the server waits
	LastRequest *time.Time `json:"last_request,omitempty"`
	LastSuccess *time.Time `json:"last_success,omitempty"`
	LastError   string     `json:"last_error,omitempty"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
	// Failures is how many looks in a row failed.
	Failures int `json:"failures"`
	// NextRequest is when it is asked again; absent while it is being asked.
	NextRequest *time.Time `json:"next_request,omitempty"`

	counts counts
}

// counts are since the source was begun.
type counts struct {
	bytes   int64
	results [results]uint64
}

// result is how a look ended.
type result int

const (
	resultActivated result = iota
	resultUnchanged
	resultRefused
	resultFailed
	resultUnconfirmed // it has what is active, which nobody vouches for any more
	results
)

func (r result) String() string {
	return [results]string{"activated", "unchanged", "refused", "failed", "unconfirmed"}[r]
}

// collector reads the metrics of sources from their status.
type collector struct {
	puller                                            *Puller
	requests, bytes, success, failures, size, current *prometheus.Desc
}

// Collectors are the metrics of all sources, by the bundle's name, which the
// configuration bounds.
func (p *Puller) Collectors() []prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("verdict_bundle_source_"+name, help, append([]string{"bundle"}, labels...), nil)
	}
	return []prometheus.Collector{&collector{
		puller:   p,
		requests: desc("requests_total", "Looks at a source by their result.", "result"),
		bytes:    desc("received_bytes_total", "Bytes of archives that came from a source."),
		success:  desc("last_success_timestamp_seconds", "When a source last had what is active; 0: never."),
		failures: desc("failures", "Looks in a row that failed."),
		size:     desc("archive_bytes", "Size of the archive that came last."),
		current:  desc("current", "1 when what came from the source is active."),
	}}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.requests, c.bytes, c.success, c.failures, c.size, c.current} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.puller.Status() {
		gauge := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, s.Name)
		}
		count := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, append([]string{s.Name}, labels...)...)
		}
		for r, n := range s.counts.results {
			count(c.requests, float64(n), result(r).String())
		}
		count(c.bytes, float64(s.counts.bytes))
		last := 0.0
		if s.LastSuccess != nil {
			last = float64(s.LastSuccess.UnixMilli()) / 1000
		}
		gauge(c.success, last)
		gauge(c.failures, float64(s.Failures))
		gauge(c.size, float64(s.Bytes))
		current := 0.0
		if s.Current {
			current = 1
		}
		gauge(c.current, current)
	}
}
