package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

var columns = []string{
	"target", "decisions/s", "spread", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms",
	"CPU s/1,000", "spread", "generator", "RSS MiB", "wrong", "errors",
}

// cells returns a target's row, in the order of columns.
func (t *Target) cells(gogc int) []string {
	var wrong, errs int
	for _, r := range t.Runs {
		wrong += r.Wrong
		errs += r.Errors
	}
	number := func(format string, f figure) string { return fmt.Sprintf(format, t.median(f)) }
	percent := func(f figure) string { return fmt.Sprintf("%.1f %%", 100*t.spread(f)) }
	return []string{
		label(t.Name, gogc),
		number("%.0f", rate), percent(rate),
		number("%.2f", func(r Run) float64 { return ms(r.P50) }),
		number("%.2f", func(r Run) float64 { return ms(r.P90) }),
		number("%.2f", p99),
		number("%.2f", func(r Run) float64 { return ms(r.P999) }),
		number("%.4f", cpu), percent(cpu),
		number("%.4f", func(r Run) float64 { return r.Generator }),
		number("%.0f", func(r Run) float64 { return float64(r.RSS) / (1 << 20) }),
		fmt.Sprint(wrong), fmt.Sprint(errs),
	}
}

// ratios returns rows of verdict's figures over each other target's.
func (s *Scene) ratios(gogc int) [][]string {
	var rows [][]string
	for _, t := range s.Targets {
		r, ok := s.ratio("verdict", t.Name, rate)
		if !ok || t.Name == "verdict" || t.Name == "verdict-check" {
			continue
		}
		c, _ := s.ratio("verdict", t.Name, cpu)
		l, _ := s.ratio("verdict", t.Name, p99)
		rows = append(rows, []string{label(t.Name, gogc), fmt.Sprintf("%.2f", r), fmt.Sprintf("%.2f", c), fmt.Sprintf("%.2f", l)})
	}
	return rows
}

var (
	ratioColumns   = []string{"verdict against", "rate", "CPU", "p99"}
	verdictColumns = []string{"verdict / OPA", "connections", "ratio", "target", "outcome"}
)

func (v *Verdict) cells() []string {
	return []string{v.Text, fmt.Sprint(v.Connections), fmt.Sprintf("%.2f", v.Ratio), v.Target, v.Outcome}
}

// each calls table with every table of the report.
func (r *Report) each(table func(title string, columns []string, rows [][]string)) {
	for i := range r.Scenes {
		s := &r.Scenes[i]
		var rows [][]string
		for _, t := range s.Targets {
			rows = append(rows, t.cells(r.GOGC))
		}
		table(s.title(), columns, rows)
		if rows := s.ratios(r.GOGC); len(rows) > 0 {
			table("", ratioColumns, rows)
		}
	}
	var rows [][]string
	for _, v := range r.Verdicts() {
		rows = append(rows, v.cells())
	}
	if len(rows) > 0 {
		table("Targets", verdictColumns, rows)
	}
}

// WriteText writes the tables for a terminal.
func (r *Report) WriteText(w io.Writer) {
	r.each(func(title string, columns []string, rows [][]string) {
		fmt.Fprintf(w, "\n%s", title)
		if title != "" {
			fmt.Fprintln(w)
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, row := range append([][]string{columns}, rows...) {
			fmt.Fprintln(t, strings.Join(row, "\t"))
		}
		t.Flush()
	})
}

// markdown writes one table of a page.
func markdown(w io.Writer, columns []string, rows [][]string) {
	fmt.Fprintf(w, "| %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---:|", len(columns)-1))
	for _, row := range rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
	fmt.Fprintln(w)
}

// WriteFiles writes the page to base.md and the plot to base.svg.
func (r *Report) WriteFiles(base string) error {
	var page bytes.Buffer
	command := "make bench"
	if r.Full {
		command = "make bench-full"
	}
	fmt.Fprintf(&page, "# %s\n\nWritten by `%s`; [README.md](README.md) says how it is measured. %s.\n\n", heading(r.Full), command, r.Machine)
	fmt.Fprintf(&page, "Medians of %d rounds of %s each; spread is (largest - smallest) / median. CPU is the server's, in seconds per 1,000 decisions; generator is the load generator's, in the same unit. Ratios are medians of the rounds' own ratios.\n\n", r.Rounds, r.Measure)
	fmt.Fprintf(&page, "![decisions per second and CPU per decision](%s.svg)\n\n", filepath.Base(base))
	seen := ""
	for _, s := range r.Scenes {
		if s.Set != seen {
			fmt.Fprintf(&page, "- set `%s`: %s\n", s.Set, s.Title)
		}
		seen = s.Set
	}
	fmt.Fprintln(&page)
	r.each(func(title string, columns []string, rows [][]string) {
		if title != "" {
			fmt.Fprintf(&page, "## %s\n\n", title)
		}
		markdown(&page, columns, rows)
	})
	if err := os.WriteFile(base+".md", page.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.WriteFile(base+".svg", r.plot(), 0o644); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	return nil
}

func heading(full bool) string {
	if full {
		return "Benchmark, whole workload"
	}
	return "Benchmark, first request set"
}
