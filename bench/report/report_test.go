package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/bench/report"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{3, 1}, 2}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := report.Median(c.values); got != c.want {
			t.Errorf("median of %v = %v, want %v", c.values, got, c.want)
		}
	}
}

// runs returns rounds with the given rates, and CPU and p99 inversely so.
func runs(rates ...float64) []report.Run {
	var all []report.Run
	for _, r := range rates {
		all = append(all, report.Run{PerSecond: r, CPU: 1000 / r, P99: time.Duration(1e12 / r)})
	}
	return all
}

func example() *report.Report {
	targets := func(verdict ...float64) []report.Target {
		return []report.Target{
			{Name: "verdict", Runs: runs(verdict...)},
			{Name: "opa", Runs: runs(10_000, 5_000, 10_000)},
			{Name: "opa-log", Runs: runs(6_000, 6_000, 6_000)},
			{Name: "opa-gogc", Runs: runs(15_000, 15_000, 15_000)},
		}
	}
	return &report.Report{
		Rounds: 3, Measure: 3 * time.Second, GOGC: 800, Machine: report.ThisMachine("ext4"),
		Scenes: []report.Scene{
			{Set: "rbac", Title: "the first set", Connections: 64, Targets: targets(20_000, 10_000, 30_000)},
			{Set: "rbac", Title: "the first set", Connections: 256, Targets: targets(9_000, 9_000, 9_000)},
			{Set: "rbac", Title: "the first set", Connections: 256, Rate: 8_000, Targets: targets(8_000, 8_000, 8_000)},
		},
	}
}

func TestVerdicts(t *testing.T) {
	want := map[string]struct {
		ratio   float64
		outcome string
	}{
		// Ratios of the rounds are 2, 2 and 3, though the medians' is 2.
		"rate, as shipped, OPA's log off":             {2, "met"},
		"CPU per decision, as shipped, OPA's log off": {.5, "met"},
		"CPU per decision, as shipped, OPA's log on":  {.3, "met"},
		"rate, equal GOGC, OPA's log off":             {1.3333, "met, goal too"},
		"CPU per decision, equal GOGC, OPA's log off": {.75, "met, goal too"},
		"p99, as shipped, OPA's log on":               {.6667, "missed"},
	}
	got := example().Verdicts()
	if len(got) != len(want) {
		t.Errorf("%d verdicts, want %d", len(got), len(want))
	}
	for _, v := range got {
		w := want[v.Text]
		if math.Abs(v.Ratio-w.ratio) > .001 || v.Outcome != w.outcome || v.Met == (w.outcome == "missed") {
			t.Errorf("%s: %.3f %s, want %.3f %s", v.Text, v.Ratio, v.Outcome, w.ratio, w.outcome)
		}
	}
}

func TestWriteFiles(t *testing.T) {
	base := filepath.Join(t.TempDir(), "bench")
	r := example()
	r.Scenes[0].Title = `with "quotes" & <angles>`
	if err := r.WriteFiles(base); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(base + ".md")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"| OPA, log off, GOGC=800 | 15000 |", "open loop at 8000/s", "## Targets", "(bench.svg)", "ext4"} {
		if !bytes.Contains(page, []byte(text)) {
			t.Errorf("%q is missing in\n%s", text, page)
		}
	}
	plot, err := os.Open(base + ".svg")
	if err != nil {
		t.Fatal(err)
	}
	defer plot.Close()
	decoder := xml.NewDecoder(plot)
	bars := 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if want := 1 + 2*2*4; bars != want {
		t.Errorf("%d rectangles, want %d", bars, want)
	}
	if err := r.WriteFiles(filepath.Join(base, "nothing", "x")); err == nil {
		t.Error("no error where there is no folder")
	}
}

func TestMemory(t *testing.T) {
	m := &report.Memory{Raw: 1 << 20, Title: "users", Rows: []report.MemoryRow{
		{Name: "verdict", Baseline: 4 << 20, Live: 11 << 20, Peak: 30 << 20, RSS: 20 << 20, Load: time.Second},
		{Name: "opa", Baseline: 4 << 20, Live: 10 << 20, Peak: 10 << 20, RSS: 10 << 20, Load: time.Second},
	}}
	var out bytes.Buffer
	m.WriteText(&out)
	for _, text := range []string{"7.0", "at most 10.00 (goal 6.00)", "met", "at most 20.00", "missed"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("%q is missing in\n%s", text, out.String())
		}
	}
	name := filepath.Join(t.TempDir(), "memory.md")
	if err := m.WriteFile(name); err != nil {
		t.Error(err)
	}
	if err := m.WriteFile(filepath.Join(name, "x")); err == nil {
		t.Error("no error where there is no folder")
	}
}
