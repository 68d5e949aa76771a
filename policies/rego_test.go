package policies_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

// TestRego runs the library's Rego tests, as `opa test` does, and demands that
// they reach every line of it.
func TestRego(t *testing.T) {
	set := standard(t)
	modules := map[string]*ast.Module{}
	for name, source := range set.Modules {
		modules[name] = parseModule(t, name, source)
	}
	tests, err := filepath.Glob("verdict/*_test.rego")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"verdict/*/*_test.rego", "verdict/*/*/*_test.rego"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		tests = append(tests, more...)
	}
	for _, name := range tests {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		modules[name] = parseModule(t, name, string(source))
	}
	coverage := cover.New()
	results, err := tester.NewRunner().
		SetStore(inmem.NewFromObject(set.Data)).
		SetModules(modules).
		SetCoverageQueryTracer(coverage).
		SetCoverageRuns(nil).
		RaiseBuiltinErrors(true).
		SetTimeout(time.Minute).
		RunTests(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	passed := 0
	for result := range results {
		if !result.Pass() {
			t.Errorf("%s", result)
			continue
		}
		passed++
	}
	if passed < 100 {
		t.Errorf("only %d tests ran", passed)
	}
	for name, file := range coverage.Report(modules).Files {
		if strings.HasSuffix(name, "_test.rego") {
			continue
		}
		for _, lines := range file.NotCovered {
			t.Errorf("%s: lines %d-%d are not covered", name, lines.Start.Row, lines.End.Row)
		}
	}
}

func parseModule(t *testing.T, name, source string) *ast.Module {
	t.Helper()
	module, err := ast.ParseModuleWithOpts(name, source, ast.ParserOptions{ProcessAnnotation: true})
	if err != nil {
		t.Fatal(err)
	}
	return module
}
