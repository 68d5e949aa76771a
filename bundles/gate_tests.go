package bundles

import (
	"context"
	"errors"
	"fmt"
	"runtime/metrics"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"
)

const (
	// maxFailures is how many failing tests are told of.
	maxFailures = 20
	// memoryLook is the time between two looks at the heap while tests run.
	memoryLook = 20 * time.Millisecond
	heapMetric = "/memory/classes/heap/objects:bytes"
	// testsGrace is what an evaluation may take to notice that it is cancelled.
	testsGrace = 5 * time.Second
)

// testReport is what the gate "tests" tells.
type testReport struct {
	Count    int           `json:"count"`
	Passed   int           `json:"passed"`
	Failed   int           `json:"failed"`
	Skipped  int           `json:"skipped"`
	Failures []testFailure `json:"failures,omitempty"`
}

type testFailure struct {
	Name     string `json:"name"`
	Location string `json:"location"`
	Error    string `json:"error,omitempty"`
	Output   string `json:"output,omitempty"`
}

// errMemory ends tests that fill the memory.
var errMemory = errors.New("the tests take too much memory")

// checkTests runs the bundle's own tests over all policies and data that would
// answer, one after the other, so that a core is left for decisions.
func (s *Service) checkTests(ctx context.Context, c *Candidate) (Finding, error) {
	report := &testReport{}
	if len(c.Tests) == 0 {
		return Finding{Message: "the bundle has no tests", Details: report}, nil
	}
	modules := make(map[string]*ast.Module)
	for _, id := range c.Snapshot.ModuleIDs() {
		m, err := c.Snapshot.Module(id)
		if err != nil {
			return Finding{}, fmt.Errorf("list modules: %w", err)
		}
		modules[id] = m.Parsed
	}
	own := map[string]*ast.Module{}
	for _, m := range c.Bundle.Modules {
		own[m.ID] = m.Parsed
	}
	for _, m := range c.Tests {
		modules[m.ID] = m.Parsed
	}
	runner := tester.NewRunner().
		SetCompiler(ast.NewCompiler().WithCapabilities(s.o.Engine.Capabilities()).WithEnablePrintStatements(true)).
		SetStore(c.Snapshot.Store()).SetModules(modules).
		SetParallel(1).SetTimeout(s.o.GateOptions.TestsTimeout + testsGrace) // runTests ends them before
	var covered *cover.Cover
	if s.o.GateOptions.Coverage > 0 {
		covered = cover.New()
		runner.SetCoverageQueryTracer(covered).SetCoverageRuns(nil)
	}
	if err := s.runTests(ctx, runner, report); err != nil {
		return Finding{Details: report}, err
	}
	if covered != nil {
		found := covered.Report(own)
		c.coverage = &found.Coverage
		if found.CoveredLines+found.NotCoveredLines == 0 {
			*c.coverage = 100 // nothing to cover
		}
	}
	return Finding{Message: fmt.Sprintf("%d tests passed", report.Passed), Details: report}, nil
}

// runTests runs them within the limits of time and memory.
func (s *Service) runTests(ctx context.Context, runner *tester.Runner, report *testReport) error {
	limit := s.o.GateOptions.TestsTimeout
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	timer := time.AfterFunc(limit, func() { stop(context.DeadlineExceeded) })
	defer timer.Stop()
	results, err := runner.RunTests(ctx, nil)
	if err != nil {
		return refuse(CodeGate, GateTests, "the tests do not compile: %s", bounded(err.Error()))
	}
	look := time.NewTicker(memoryLook)
	defer look.Stop()
	before := heapBytes()
	var grace <-chan time.Time
	for ended := ctx.Done(); ; {
		select {
		case r, ok := <-results:
			if !ok {
				return report.verdict(ctx, limit)
			}
			report.add(r)
		case <-look.C:
			if now := heapBytes(); now > before+s.o.GateOptions.TestsMemory {
				stop(errMemory)
			}
		case <-ended:
			ended, grace = nil, time.After(testsGrace)
		case <-grace:
			go func() { // ends when the evaluation that does not notice its end does
				for range results {
				}
			}()
			return report.verdict(ctx, limit)
		}
	}
}

func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: heapMetric}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func (t *testReport) add(r *tester.Result) {
	t.Count++
	switch {
	case r.Skip:
		t.Skipped++
		return
	case r.Pass():
		t.Passed++
		return
	}
	t.Failed++
	if len(t.Failures) >= maxFailures {
		return
	}
	f := testFailure{Name: r.Package + "." + r.Name, Output: bounded(string(r.Output))}
	if r.Location != nil {
		f.Location = fmt.Sprintf("%s:%d", r.Location.File, r.Location.Row)
	}
	if r.Error != nil {
		f.Error = bounded(r.Error.Error())
	}
	t.Failures = append(t.Failures, f)
}

// verdict refuses unless all tests ran and passed.
func (t *testReport) verdict(ctx context.Context, limit time.Duration) error {
	slices.SortFunc(t.Failures, func(x, y testFailure) int { return strings.Compare(x.Name, y.Name) })
	names := make([]string, 0, len(t.Failures))
	for _, f := range t.Failures {
		names = append(names, f.Name+" ("+f.Location+")")
	}
	failing := ""
	if len(names) > 0 {
		failing = ": " + strings.Join(names, ", ")
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.DeadlineExceeded):
		return refuse(CodeGate, GateTests, "the tests did not end within %v%s", limit, bounded(failing))
	case errors.Is(cause, errMemory):
		return refuse(CodeGate, GateTests, "%v%s", cause, bounded(failing))
	case cause != nil:
		return fmt.Errorf("run tests: %w", cause)
	case t.Failed > 0:
		return refuse(CodeGate, GateTests, "%d of %d tests failed%s", t.Failed, t.Count, bounded(failing))
	}
	return nil
}

// checkCoverage compares what the tests covered with the floor.
func (s *Service) checkCoverage(_ context.Context, c *Candidate) (Finding, error) {
	floor := s.o.GateOptions.Coverage
	switch {
	case floor <= 0:
		return Finding{Off: true}, nil
	case len(c.Bundle.Modules) == 0:
		return Finding{Message: "there is nothing to cover"}, nil
	}
	if c.coverage == nil {
		return Finding{}, refuse(CodeGate, GateCoverage, "the bundle has no tests, and %v %% of its lines must be covered", floor)
	}
	if *c.coverage < floor {
		return Finding{}, refuse(CodeGate, GateCoverage, "the tests cover %.1f %% of the lines, %v %% is the least", *c.coverage, floor)
	}
	return Finding{Message: fmt.Sprintf("%.1f %% of the lines are covered", *c.coverage)}, nil
}
