package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// testFlags are the flags of bundle test.
type testFlags struct {
	run              string
	timeout          time.Duration
	coverage         bool
	floor            float64
	verbose          bool
	standardPolicies bool
}

func newBundleTestCmd(p *process) *cobra.Command {
	var f testFlags
	output := outputFlag("text")
	cmd := &cobra.Command{
		Use:   "test PATH...",
		Short: "Run the tests in bundles",
		Long: `Run the tests in bundles, folders or tarballs with OPA's tester: rules whose names
begin with test_, in files whose names end in _test.rego. A bundle without tests
passes, as it does when it is pushed.`,
		Example: `  verdict bundle test ./policy
  verdict bundle test ./policy --coverage-floor 80 --timeout 30s --output json`,
		Annotations: map[string]string{exitCodesKey: `0  all tests passed
1  a test failed or did not end in time, or the tests cover too little
2  the command line is wrong, or a bundle could not be read or does not compile`},
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return testBundles(cmd.Context(), p, args, &f, output) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.run, "run", "", "run the tests whose name, such as data.app_test.test_allow, matches the `expression`")
	f.timeout = 30 * time.Second
	fs.Var((*durationFlag)(&f.timeout), "timeout", "maximum `duration` of all tests together")
	fs.BoolVar(&f.coverage, "coverage", false, "measure how much of the bundles the tests cover")
	fs.Float64Var(&f.floor, "coverage-floor", 0, "minimum coverage in `percent`; implies --coverage")
	fs.BoolVarP(&f.verbose, "verbose", "v", false, "also show the tests that passed, and what they print")
	fs.BoolVar(&f.standardPolicies, "standard-policies", true, "load the standard policies beside the bundles")
	output.add(cmd)
	return cmd
}

// testReport is what bundle test shows.
type testReport struct {
	Passed   int            `json:"passed"`
	Failed   int            `json:"failed"`
	Skipped  int            `json:"skipped"`
	TimedOut bool           `json:"timed_out,omitempty"`
	Tests    []testOutcome  `json:"tests"`
	Coverage *coverageShown `json:"coverage,omitempty"`
}

type testOutcome struct {
	Name     string  `json:"name"`
	Location string  `json:"location,omitempty"`
	Result   string  `json:"result"` // passed, failed or skipped
	Millis   float64 `json:"duration_ms"`
	Error    string  `json:"error,omitempty"`
	Output   string  `json:"output,omitempty"`
}

type coverageShown struct {
	Percent float64 `json:"percent"`
	Floor   float64 `json:"floor,omitempty"`
	// Files names, where not all lines are covered, those that are not.
	Files map[string][]int `json:"not_covered,omitempty"`
}

func testBundles(ctx context.Context, p *process, paths []string, f *testFlags, output outputFlag) error {
	if f.floor < 0 || f.floor > 100 {
		return withExit(exitUsage, fmt.Errorf("--coverage-floor %v: write a percentage from 0 to 100", f.floor))
	}
	if f.timeout <= 0 {
		return withExit(exitUsage, fmt.Errorf("--timeout %v: write a duration above 0", f.timeout))
	}
	if _, err := regexp.Compile(f.run); err != nil {
		return withExit(exitUsage, fmt.Errorf("--run: %w", err))
	}
	t := &testRun{flags: f, own: map[string]*ast.Module{}, covered: cover.New()}
	if err := t.load(paths); err != nil {
		return withExit(exitUsage, err)
	}
	report, err := t.run(ctx)
	if err != nil {
		return err
	}
	if output == "json" {
		err = json.NewEncoder(p.stdout).Encode(report)
	} else {
		err = report.print(p, f.verbose)
	}
	if err != nil {
		return err
	}
	return report.failure(f)
}

// testRun is one run of the tests of some bundles.
type testRun struct {
	flags   *testFlags
	engine  *eval.Engine
	own     map[string]*ast.Module // of the bundles, without their tests
	tests   []*eval.Module
	covered *cover.Cover
}

func (t *testRun) load(paths []string) error {
	var list []*eval.Bundle
	for _, path := range paths {
		b, tests, err := readBundle(path)
		if err != nil {
			return fmt.Errorf("read bundle %s: %w", path, err)
		}
		for _, m := range b.Modules {
			t.own[m.ID] = m.Parsed
		}
		t.tests = append(t.tests, tests...)
		list = append(list, b)
	}
	var err error
	t.engine, err = compileBundles(t.flags.standardPolicies, list...)
	return err
}

// run runs the tests one after the other, as the gate of a push does.
func (t *testRun) run(ctx context.Context) (*testReport, error) {
	snapshot := t.engine.Active()
	modules := map[string]*ast.Module{}
	for _, id := range snapshot.ModuleIDs() {
		m, err := snapshot.Module(id)
		if err != nil {
			return nil, err
		}
		modules[id] = m.Parsed
	}
	for _, m := range t.tests {
		modules[m.ID] = m.Parsed
	}
	runner := tester.NewRunner().
		SetCompiler(ast.NewCompiler().WithCapabilities(t.engine.Capabilities()).WithEnablePrintStatements(true)).
		SetStore(snapshot.Store()).SetModules(modules).CapturePrintOutput(true).
		SetParallel(1).SetTimeout(t.flags.timeout).Filter(t.flags.run)
	measure := t.flags.coverage || t.flags.floor > 0
	if measure {
		runner.SetCoverageQueryTracer(t.covered)
	}
	ctx, stop := context.WithTimeout(ctx, t.flags.timeout)
	defer stop()
	results, err := runner.RunTests(ctx, nil)
	if err != nil {
		return nil, withExit(exitUsage, fmt.Errorf("compile tests: %w", err))
	}
	report := &testReport{Tests: []testOutcome{}}
	report.collect(ctx, results)
	slices.SortFunc(report.Tests, func(x, y testOutcome) int { return strings.Compare(x.Name, y.Name) })
	report.TimedOut = errors.Is(ctx.Err(), context.DeadlineExceeded)
	if measure {
		report.Coverage = t.coverage()
	}
	return report, ctxError(ctx)
}

// testGrace is what an evaluation may take to notice that its time is over.
const testGrace = 5 * time.Second

// collect takes the results until there are no more, or until a test does not
// notice that its time is over; the process ends soon, and that test with it.
func (r *testReport) collect(ctx context.Context, results <-chan *tester.Result) {
	var grace <-chan time.Time
	for ended := ctx.Done(); ; {
		select {
		case result, ok := <-results:
			if !ok {
				return
			}
			r.add(result)
		case <-ended:
			ended, grace = nil, time.After(testGrace)
		case <-grace:
			return
		}
	}
}

// ctxError is the end by a signal; a time that has run out is a result.
func ctxError(ctx context.Context) error {
	if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// coverage is measured over the bundles without their tests.
func (t *testRun) coverage() *coverageShown {
	found := t.covered.Report(t.own)
	shown := &coverageShown{Percent: found.Coverage, Floor: t.flags.floor, Files: map[string][]int{}}
	if found.CoveredLines+found.NotCoveredLines == 0 {
		shown.Percent = 100 // nothing to cover
	}
	for name, file := range found.Files {
		for _, r := range file.NotCovered {
			for row := r.Start.Row; row <= r.End.Row; row++ {
				shown.Files[name] = append(shown.Files[name], row)
			}
		}
	}
	return shown
}

func (r *testReport) add(result *tester.Result) {
	o := testOutcome{Name: result.Package + "." + result.Name, Result: "passed", Millis: float64(result.Duration.Microseconds()) / 1000, Output: string(result.Output)}
	if result.Location != nil {
		o.Location = fmt.Sprintf("%s:%d", result.Location.File, result.Location.Row)
	}
	switch {
	case result.Skip:
		o.Result = "skipped"
		r.Skipped++
	case result.Pass():
		r.Passed++
	default:
		o.Result = "failed"
		r.Failed++
	}
	if result.Error != nil {
		o.Error = result.Error.Error()
	}
	r.Tests = append(r.Tests, o)
}

// print prints it for people.
func (r *testReport) print(p *process, verbose bool) error {
	for _, t := range r.Tests {
		if t.Result == "passed" && !verbose {
			continue
		}
		fmt.Fprintf(p.stdout, "%s  %s  %s  %.1f ms\n", t.Result, t.Name, t.Location, t.Millis)
		for _, text := range []string{t.Error, t.Output} {
			if text = strings.TrimRight(text, "\n"); text != "" {
				fmt.Fprintln(p.stdout, indent(text))
			}
		}
	}
	if r.Coverage != nil {
		for _, name := range slices.Sorted(maps.Keys(r.Coverage.Files)) {
			fmt.Fprintf(p.stdout, "not covered  %s  lines %s\n", name, strings.Trim(fmt.Sprint(r.Coverage.Files[name]), "[]"))
		}
		fmt.Fprintf(p.stdout, "coverage %.1f %%\n", r.Coverage.Percent)
	}
	_, err := fmt.Fprintf(p.stdout, "%d passed, %d failed, %d skipped\n", r.Passed, r.Failed, r.Skipped)
	return err
}

// failure is why the command fails, nil when it does not.
func (r *testReport) failure(f *testFlags) error {
	switch {
	case r.TimedOut:
		return fmt.Errorf("the tests did not end within %v", f.timeout)
	case r.Failed > 0:
		return fmt.Errorf("%d of %d tests failed", r.Failed, len(r.Tests))
	case f.floor > 0 && r.Coverage.Percent < f.floor:
		return fmt.Errorf("the tests cover %.1f %% of the lines, %v %% is the least", r.Coverage.Percent, f.floor)
	}
	return nil
}
