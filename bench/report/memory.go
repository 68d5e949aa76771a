package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// Bounds of verdict's memory in multiples of the raw JSON.
const (
	liveBound = 10
	liveAim   = 6
	peakBound = 2 * liveBound
)

// Memory is what the servers need for a large data document.
type Memory struct {
	// Raw is the size of the document as JSON, Title what is in it.
	Raw   int
	Title string
	// Machine describes where it was measured.
	Machine Machine
	// Rows are the servers.
	Rows []MemoryRow
}

// MemoryRow is one server. All sizes are bytes.
type MemoryRow struct {
	// Name is the target's name.
	Name string
	// Baseline is the live heap with the small document, Live with the large.
	Baseline, Live int64
	// Peak is the highest resident memory until the server was ready, RSS
	// the resident memory then; both as shipped.
	Peak, RSS int64
	// Load is the time from start to ready.
	Load time.Duration
}

var memoryColumns = []string{"target", "baseline MiB", "live MiB", "live over baseline / raw", "peak MiB", "peak / raw", "RSS MiB", "ready after"}

func (m *Memory) rows() [][]string {
	var all [][]string
	mib := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }
	for _, r := range m.Rows {
		all = append(all, []string{
			label(r.Name, 0), mib(r.Baseline), mib(r.Live), fmt.Sprintf("%.1f", m.live(r)),
			mib(r.Peak), fmt.Sprintf("%.1f", m.peak(r)), mib(r.RSS), fmt.Sprintf("%.1f s", r.Load.Seconds()),
		})
	}
	return all
}

func (m *Memory) live(r MemoryRow) float64 { return float64(r.Live-r.Baseline) / float64(m.Raw) }
func (m *Memory) peak(r MemoryRow) float64 { return float64(r.Peak) / float64(m.Raw) }

// verdicts holds verdict's figures against their bounds.
func (m *Memory) verdicts() [][]string {
	var all [][]string
	for _, r := range m.Rows {
		if r.Name != "verdict" {
			continue
		}
		live := goal{text: "live heap over baseline / raw JSON", bound: liveBound, aim: liveAim}
		peak := goal{text: "peak resident memory while loading / raw JSON", bound: peakBound}
		for _, v := range []Verdict{live.judge(m.live(r)), peak.judge(m.peak(r))} {
			all = append(all, []string{v.Text, fmt.Sprintf("%.1f", v.Ratio), v.Target, v.Outcome})
		}
	}
	return all
}

var boundColumns = []string{"verdict", "measured", "target", "outcome"}

func (m *Memory) title() string {
	return fmt.Sprintf("Memory with %.1f MB of JSON (%s)", float64(m.Raw)/1e6, m.Title)
}

// WriteText writes the tables for a terminal.
func (m *Memory) WriteText(w io.Writer) {
	fmt.Fprintln(w, m.title())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{memoryColumns}, m.rows()...) {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	fmt.Fprintln(t)
	if rows := m.verdicts(); len(rows) > 0 {
		for _, row := range append([][]string{boundColumns}, rows...) {
			fmt.Fprintln(t, strings.Join(row, "\t"))
		}
	}
	t.Flush()
}

// WriteFile writes the tables as a page.
func (m *Memory) WriteFile(name string) error {
	var page bytes.Buffer
	fmt.Fprintf(&page, "# %s\n\nWritten by `bench memory`; [README.md](README.md) says how it is measured. %s.\n\n", m.title(), m.Machine)
	markdown(&page, memoryColumns, m.rows())
	if rows := m.verdicts(); len(rows) > 0 {
		markdown(&page, boundColumns, rows)
	}
	if err := os.WriteFile(name, page.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
