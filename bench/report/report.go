// Package report turns measurements into a text table, a page and a plot.
package report

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Run is one measurement of one target.
type Run struct {
	// PerSecond is the right answers per second.
	PerSecond float64
	// P50 to P999 are quantiles of the latency.
	P50, P90, P99, P999 time.Duration
	// CPU is the server's CPU seconds per 1,000 answers, Generator the load
	// generator's.
	CPU, Generator float64
	// RSS is the server's resident memory at the end, PeakRSS its highest.
	RSS, PeakRSS int64
	// Wrong and Errors count bad answers, those of the warm-up included.
	Wrong, Errors int
	// FirstError tells the first of them.
	FirstError string
}

// Target is one way to run a server and its measurements, one a round.
type Target struct {
	// Name is verdict, opa, opa-log, opa-gogc, opa-log-gogc or verdict-check.
	Name string
	// Runs are in the order of the rounds.
	Runs []Run
}

// Scene is one condition and all targets measured under it.
type Scene struct {
	// Set and Title name the requests.
	Set, Title string
	// Connections is the number of connections.
	Connections int
	// Rate is the open loop's rate; zero: closed loop.
	Rate int
	// Targets are in the order of the table.
	Targets []Target
}

// Report is everything that one call has measured.
type Report struct {
	// Full says that all of the workload was measured.
	Full bool
	// Rounds is how often each target was measured in each scene.
	Rounds int
	// Measure is the length of one measurement.
	Measure time.Duration
	// GOGC is the GC percent at which the GOGCs are equal.
	GOGC int
	// Machine describes where it was measured.
	Machine Machine
	// Scenes are in the order in which they were measured.
	Scenes []Scene
}

// Wrong returns the number of wrong answers in the scene.
func (s *Scene) Wrong() int {
	n := 0
	for _, t := range s.Targets {
		for _, r := range t.Runs {
			n += r.Wrong
		}
	}
	return n
}

// title returns the heading of the scene's table.
func (s *Scene) title() string {
	loop := "closed loop"
	if s.Rate > 0 {
		loop = fmt.Sprintf("open loop at %d/s", s.Rate)
	}
	return fmt.Sprintf("%s, %d connections, %s", s.Set, s.Connections, loop)
}

// target returns the named target, nil when it was not measured.
func (s *Scene) target(name string) *Target {
	i := slices.IndexFunc(s.Targets, func(t Target) bool { return t.Name == name && len(t.Runs) > 0 })
	if i < 0 {
		return nil
	}
	return &s.Targets[i]
}

// label returns how a target is called in the report.
func label(name string, gogc int) string {
	switch name {
	case "verdict":
		return "verdict, durable log"
	case "verdict-check":
		return "verdict, ext_authz, durable log"
	case "opa":
		return "OPA, log off"
	case "opa-log":
		return "OPA, log on"
	case "opa-gogc":
		return fmt.Sprintf("OPA, log off, GOGC=%d", gogc)
	case "opa-log-gogc":
		return fmt.Sprintf("OPA, log on, GOGC=%d", gogc)
	default:
		return name
	}
}

// figure picks one number out of a run.
type figure func(Run) float64

func rate(r Run) float64 { return r.PerSecond }
func cpu(r Run) float64  { return r.CPU }
func p99(r Run) float64  { return ms(r.P99) }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// median returns the middle of a figure over the rounds.
func (t *Target) median(f figure) float64 { return Median(t.values(f)) }

// spread returns the distance between the largest and the smallest value of a
// figure, as a share of the median.
func (t *Target) spread(f figure) float64 {
	values := t.values(f)
	middle := Median(values)
	if middle == 0 {
		return 0
	}
	return (slices.Max(values) - slices.Min(values)) / middle
}

func (t *Target) values(f figure) []float64 {
	values := make([]float64, len(t.Runs))
	for i, r := range t.Runs {
		values[i] = f(r)
	}
	return values
}

// ratio returns the median of the rounds' ratios between two targets, which
// were measured shortly after each other in each round.
func (s *Scene) ratio(name, other string, f figure) (float64, bool) {
	a, b := s.target(name), s.target(other)
	if a == nil || b == nil || len(a.Runs) != len(b.Runs) {
		return 0, false
	}
	values := make([]float64, len(a.Runs))
	for i := range a.Runs {
		base := f(b.Runs[i])
		if base == 0 {
			return 0, false
		}
		values[i] = f(a.Runs[i]) / base
	}
	return Median(values), true
}

// Median returns the middle value, the mean of the two middle ones when their
// number is even, and zero when there are none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.SortedFunc(slices.Values(values), cmp.Compare[float64])
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
