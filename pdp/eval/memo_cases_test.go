package eval_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// TestMemoCases runs OPA's own conformance cases without a memo, and twice
// with one, and expects the same bindings and errors each time.
func TestMemoCases(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/open-policy-agent/opa").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "v1", "test", "cases", "testdata", "v1")
	set := cases.MustLoad(dir).Sorted()
	if len(set.Cases) < 1000 {
		t.Fatalf("only %d cases in %s", len(set.Cases), dir)
	}
	kept := 0
	for _, tc := range set.Cases {
		t.Run(tc.Note, func(t *testing.T) {
			c := newConformance(t, tc)
			if c == nil {
				return
			}
			want := c.outcome(nil)
			m := eval.NewMemo(c.reaches, 0)
			for round := range 2 {
				r := m.Begin(c.none, c.value, tc.StrictError)
				got := c.outcome(r)
				r.End(nil, !strings.HasPrefix(got, "error"))
				if got != want {
					t.Fatalf("round %d\ngot  %s\nwant %s", round, got, want)
				}
			}
			if m.Bytes() > 0 {
				kept++
			}
		})
	}
	if kept < len(set.Cases)/4 {
		t.Errorf("results were kept in only %d of %d cases", kept, len(set.Cases))
	}
}

// conformance is one case, ready to run.
type conformance struct {
	tc       cases.TestCase
	compiler *ast.Compiler
	query    ast.QueryCompiler
	body     ast.Body
	store    storage.Store
	value    ast.Value
	reaches  *eval.Reaches
	none     *eval.Entry // stands for the query, which need not be a single ref
}

// newConformance returns nil for cases that need the network, or a built-in that
// only OPA's own tests have.
func newConformance(t *testing.T, tc cases.TestCase) *conformance {
	t.Helper()
	for _, text := range tc.Modules {
		for _, name := range []string{"http.send", "net.lookup_ip_addr", "test.sleep"} {
			if strings.Contains(text, name) {
				return nil
			}
		}
	}
	for k, v := range tc.Env {
		t.Setenv(k, v)
	}
	c := &conformance{tc: tc, store: inmem.New()}
	opts := ast.ParserOptions{RegoVersion: ast.RegoV1}
	if tc.ExperimentalKeywords {
		opts.Capabilities = ast.CapabilitiesForThisVersion(ast.CapabilitiesExperimentalKeywords(true))
	}
	modules := map[string]string{}
	for i, text := range tc.Modules {
		modules[fmt.Sprintf("m%d.rego", i)] = text
	}
	var err error
	if c.compiler, err = ast.CompileModulesWithOpt(modules, ast.CompileOpts{ParserOptions: opts}); err != nil {
		t.Fatal(err)
	}
	c.query = c.compiler.QueryCompiler()
	if c.body, err = c.query.Compile(ast.MustParseBody(tc.Query)); err != nil {
		t.Fatal(err)
	}
	if tc.Data != nil {
		c.store = inmem.NewFromObject(*tc.Data)
	}
	switch {
	case tc.InputTerm != nil:
		c.value = ast.MustParseTerm(*tc.InputTerm).Value
	case tc.Input != nil:
		c.value = ast.MustInterfaceToValue(*tc.Input)
	}
	c.reaches = eval.Analyze(c.compiler)
	c.none = c.reaches.Entry(ast.MustParseRef("data.no.such.document"))
	return c
}

// outcome evaluates the case and spells out its bindings, or its error.
func (c *conformance) outcome(cache topdown.VirtualCache) string {
	ctx := context.Background()
	txn := storage.NewTransactionOrDie(ctx, c.store)
	defer c.store.Abort(ctx, txn)
	run := topdown.NewQuery(c.body).WithQueryCompiler(c.query).WithCompiler(c.compiler).
		WithStore(c.store).WithTransaction(txn).WithMetrics(metrics.NoOp()).
		WithTime(time.Unix(1_700_000_000, 0)).WithSeed(zeros{}).
		WithStrictBuiltinErrors(c.tc.StrictError)
	if c.value != nil {
		run.WithInput(ast.NewTerm(c.value))
	}
	if cache != nil {
		run.WithVirtualCache(cache)
	}
	var rows []string
	err := run.Iter(ctx, func(qr topdown.QueryResult) error {
		var row []string
		for name, v := range qr {
			if !name.IsGenerated() && !name.IsWildcard() {
				row = append(row, fmt.Sprintf("%s=%v", name, v))
			}
		}
		slices.Sort(row)
		rows = append(rows, strings.Join(row, " "))
		return nil
	})
	if err != nil {
		var te *topdown.Error
		if errors.As(err, &te) {
			return "error " + te.Code + " " + te.Message
		}
		return "error " + err.Error()
	}
	return fmt.Sprint(len(rows), rows)
}

// zeros is a source of chance without any.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
