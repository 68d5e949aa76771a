package policies_test

import (
	"context"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/verdict-pdp/verdict/policies"
)

// BenchmarkDecision evaluates the decision as a server does: a compiled query
// on a held transaction.
func BenchmarkDecision(b *testing.B) {
	set, err := policies.Example()
	if err != nil {
		b.Fatal(err)
	}
	compiler, err := ast.CompileModules(set.Modules)
	if err != nil {
		b.Fatal(err)
	}
	store := inmem.NewFromObjectWithOpts(set.Data, inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))
	allowed, denied, err := policies.ExampleInputs()
	if err != nil {
		b.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"permit": allowed,
		"deny":   denied,
		"bare":   []byte(`{"subject":{"type":"user","id":"a","properties":{"roles":["org_admin"]}},"action":{"name":"read"},"resource":{"type":"user","id":"b"}}`),
	} {
		b.Run(name, func(b *testing.B) {
			txn := storage.NewTransactionOrDie(context.Background(), store)
			defer store.Abort(context.Background(), txn)
			query := compiler.QueryCompiler()
			body, err := query.Compile(ast.MustParseBody("x = data.verdict.authz.decision"))
			if err != nil {
				b.Fatal(err)
			}
			input := ast.NewTerm(ast.MustParseTerm(string(raw)).Value)
			b.ReportAllocs()
			for b.Loop() {
				q := topdown.NewQuery(body).WithCompiler(compiler).WithQueryCompiler(query).WithStore(store).
					WithTransaction(txn).WithInput(input).WithStrictBuiltinErrors(true)
				n := 0
				if err := q.Iter(context.Background(), func(topdown.QueryResult) error { n++; return nil }); err != nil || n != 1 {
					b.Fatal(n, err)
				}
			}
		})
	}
}
