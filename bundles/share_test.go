package bundles_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// active is the bundle that answers.
func (b *bench) active(name string) *eval.Bundle {
	b.Helper()
	for _, found := range b.engine.Active().Bundles() {
		if found.Name == name {
			return found
		}
	}
	b.Fatalf("bundle %s is not active", name)
	return nil
}

func (b *bench) module(name, id string) *ast.Module {
	b.Helper()
	for _, m := range b.active(name).Modules {
		if m.ID == id {
			return m.Parsed
		}
	}
	b.Fatalf("no module %s", id)
	return nil
}

// TestRevisionsShare: what two revisions have in common is read once, and the
// changes between them are what they are.
func TestRevisionsShare(t *testing.T) {
	revision := func(n int) content {
		return content{
			".manifest":      fmt.Sprintf(`{"revision": "r%d", "roots": ["app"]}`, n),
			"same.rego":      "package app\n\nallow if input.a\n\nkept := 1\n",
			"other.rego":     fmt.Sprintf("package app\n\nallow if input.b == %d\n\nadded%d := 1\n", n, n),
			"app/data.json":  `{"users": {"ada": {"roles": ["x", "y"]}, "bob": {"roles": []}}}`,
			"app/x/data.yml": fmt.Sprintf("number: %d\nlist: [a, b]\n", n),
		}
	}
	b := newBench(t)
	b.mustPush("app", files(t, revision(1)))
	same, other := b.module("app", "app/same.rego"), b.module("app", "app/other.rego")
	users := func() *ast.Term {
		v := b.active("app").Data.Get(ast.StringTerm("app")).Value.(ast.Object)
		return v.Get(ast.StringTerm("users"))
	}
	before := users()
	two := b.mustPush("app", files(t, revision(2)))
	if want := []string{"data.app.allow"}; !slices.Equal(two.Changes.Rules.Changed, want) {
		t.Errorf("changed rules %v, want %v", two.Changes.Rules.Changed, want)
	}
	if !slices.Equal(two.Changes.Rules.Added, []string{"data.app.added2"}) || !slices.Equal(two.Changes.Rules.Removed, []string{"data.app.added1"}) ||
		!slices.Equal(two.Changes.Data.Changed, []string{"/app/x/number"}) || two.Changes.Data.Count != 1 {
		t.Errorf("changes %+v", two.Changes)
	}
	if b.module("app", "app/same.rego") != same || b.module("app", "app/other.rego") == other || users() != before {
		t.Error("the revisions do not share what they have in common, or share more")
	}
	if b.says("app", "x", "number") != "2" {
		t.Errorf("number is %s", b.says("app", "x", "number"))
	}
	b.mustPush("app", files(t, revision(3)))
	if _, err := b.Rollback(t.Context(), bundles.RollbackRequest{Name: "app", Revision: "r1"}); err != nil { // it is built again
		t.Fatal(err)
	}
	if b.module("app", "app/same.rego") != same || users() != before || b.says("app", "x", "number") != "1" {
		t.Error("a revision that is read again shares nothing")
	}
	// The same text in another version of the language is another module.
	older := revision(4)
	older[".manifest"] = `{"revision": "r4", "roots": ["app"], "rego_version": 1, "file_rego_versions": {"/same.rego": 0}}`
	older["same.rego"] = "package app\n\nkept = 1 { true }\n"
	b.mustPush("app", files(t, older))
	older[".manifest"] = `{"revision": "r5", "roots": ["app"], "rego_version": 1}`
	_, err := b.push("app", files(t, older))
	wantRefusal(t, err, bundles.CodeGate, bundles.GateCompile, "if")
}
