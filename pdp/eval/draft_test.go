package eval_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// TestPatchAsOPA applies the same random operations to a draft and to OPA's own
// store and wants the same document and the same errors from both.
func TestPatchAsOPA(t *testing.T) {
	ctx := t.Context()
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		engine := newEngine(t)
		start := `{"a": {"b": {"c": 1}, "l": [1, [2, {"x": 3}], "z"]}, "n": null, "s": "text", "7": {"8": 9}}`
		peer := inmem.NewFromObjectWithOpts(object(t, start), inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))
		writeData(t, engine, storage.RootPath, start)
		for step := range 60 {
			op := []storage.PatchOp{storage.AddOp, storage.RemoveOp, storage.ReplaceOp}[rng.IntN(3)]
			path := randomPath(rng)
			value := []string{`1`, `"v"`, `{}`, `{"k": [1, 2]}`, `[1, 2, 3]`, `null`}[rng.IntN(6)]
			_, got := engine.Write(func(d *eval.Draft) error { return d.Patch(op, path, parse(t, value)) })
			want := patchPeer(ctx, peer, op, path, own(parse(t, value)))
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("seed %d step %d: %v %v %s: got error %v, want %v", seed, step, op, path, value, got, want)
			}
			have, err := engine.Active().Read(storage.RootPath)
			if err != nil {
				t.Fatal(err)
			}
			if peerHas := readPeer(ctx, t, peer); have.Compare(peerHas) != 0 {
				t.Fatalf("seed %d step %d: %v %v %s:\ngot  %v\nwant %v", seed, step, op, path, value, have, peerHas)
			}
		}
	}
}

func patchPeer(ctx context.Context, s storage.Store, op storage.PatchOp, path storage.Path, v ast.Value) error {
	return storage.Txn(ctx, s, storage.WriteParams, func(txn storage.Transaction) error {
		return s.Write(ctx, txn, op, path, v)
	})
}

// own returns a value that OPA's store, which writes in place, may keep: the
// empty object of a parsed document is shared by all.
func own(v ast.Value) ast.Value {
	if obj, ok := v.(ast.Object); ok && obj.Len() == 0 {
		return ast.NewObject()
	}
	return v
}

func readPeer(ctx context.Context, t *testing.T, s storage.Store) (v ast.Value) {
	t.Helper()
	err := storage.Txn(ctx, s, storage.TransactionParams{}, func(txn storage.Transaction) error {
		doc, err := s.Read(ctx, txn, storage.RootPath)
		v, _ = doc.(ast.Value)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func randomPath(rng *rand.Rand) storage.Path {
	segments := []string{"a", "b", "c", "l", "n", "s", "7", "8", "0", "1", "2", "-", "x", "k", "-1", "01"}
	path := make(storage.Path, 1+rng.IntN(4))
	for i := range path {
		path[i] = segments[rng.IntN(len(segments))]
	}
	return path
}

func TestPatchRoot(t *testing.T) {
	engine := newEngine(t)
	for _, tt := range []struct {
		name  string
		op    storage.PatchOp
		value string
		want  string
	}{
		{"replaced by an object", storage.AddOp, `{"a": 1}`, ""},
		{"replaced by an array", storage.AddOp, `[1]`, "root must be object"},
		{"removed", storage.RemoveOp, `null`, "root cannot be removed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := engine.Write(func(d *eval.Draft) error { return d.Patch(tt.op, nil, parse(t, tt.value)) })
			wantError(t, err, tt.want)
		})
	}
}

func TestMakeFolder(t *testing.T) {
	for _, tt := range []struct {
		name, data, want, err string
		path                  storage.Path
	}{
		{"nothing there", `{}`, `{"a": {"b": {}}}`, "", storage.Path{"a", "b"}},
		{"half there", `{"a": {"c": 1}}`, `{"a": {"c": 1, "b": {}}}`, "", storage.Path{"a", "b"}},
		{"all there", `{"a": {"b": {"x": 1}}}`, `{"a": {"b": {"x": 1}}}`, "", storage.Path{"a", "b"}},
		{"a string in the way", `{"a": "s"}`, `{"a": "s"}`, "storage_write_conflict_error: /a", storage.Path{"a", "b"}},
		{"root", `{}`, `{}`, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			engine := newEngine(t)
			writeData(t, engine, storage.RootPath, tt.data)
			_, err := engine.Write(func(d *eval.Draft) error { return d.MakeFolder(tt.path) })
			wantError(t, err, tt.err)
			got, err := engine.Active().Read(storage.RootPath)
			if err != nil {
				t.Fatal(err)
			}
			if want := parse(t, tt.want); got.Compare(want) != 0 {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestSnapshotStays(t *testing.T) {
	engine := newEngine(t)
	writeData(t, engine, storage.RootPath, `{"a": {"b": [1, 2]}}`)
	before := engine.Active()
	writeData(t, engine, storage.Path{"a", "b", "0"}, `"changed"`)
	writeData(t, engine, storage.Path{"a", "c"}, `"new"`)
	got, err := before.Read(storage.RootPath)
	if err != nil {
		t.Fatal(err)
	}
	if want := parse(t, `{"a": {"b": [1, 2]}}`); got.Compare(want) != 0 {
		t.Errorf("the old snapshot changed: %v", got)
	}
}

func TestFailedWriteChangesNothing(t *testing.T) {
	engine := newEngine(t)
	putModule(t, engine, "p.rego", "package p\n\nx := 1")
	before := engine.Active()
	fail := errors.New("caller's own")
	for name, fn := range map[string]func(*eval.Draft) error{
		"error of the caller": func(d *eval.Draft) error {
			_ = d.Patch(storage.AddOp, storage.Path{"y"}, parse(t, `1`))
			return fail
		},
		"data where a rule is":    func(d *eval.Draft) error { return d.Patch(storage.AddOp, storage.Path{"p"}, parse(t, `{"x": 2}`)) },
		"module does not compile": func(d *eval.Draft) error { return d.PutModule(module(t, "q.rego", "package q\n\ny := nothing")) },
		"module missing":          func(d *eval.Draft) error { return d.DeleteModule("none.rego") },
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := engine.Write(fn); err == nil {
				t.Fatal("no error")
			}
			if engine.Active() != before {
				t.Error("the active snapshot changed")
			}
		})
	}
}

func TestUnchangedWriteKeepsSnapshot(t *testing.T) {
	engine := newEngine(t)
	before := engine.Active()
	after, err := engine.Write(func(*eval.Draft) error { return nil })
	if err != nil || after != before {
		t.Errorf("got snapshot %p and error %v, want %p", after, err, before)
	}
}

func TestOwners(t *testing.T) {
	owned := &eval.Bundle{
		Name: "app", Revision: "1", Roots: []string{"app", "roles/eu"},
		Modules: []*eval.Module{module(t, "app/app.rego", "package app\n\nallow := true")},
		Data:    object2(t, `{"roles": {"eu": {"a": 1}}}`),
	}
	base := &eval.Bundle{
		Name: "standard", Revision: "2", Base: true,
		Modules: []*eval.Module{module(t, "standard/authz.rego", "package verdict.authz\n\nallow := false")},
	}
	everything := &eval.Bundle{Name: "all", Revision: "3", Roots: []string{""}}
	for _, tt := range []struct {
		name    string
		bundles []*eval.Bundle
		write   func(*eval.Draft) error
		want    string
	}{
		{"data below a root", []*eval.Bundle{owned}, patch(t, "roles/eu/b"), `path roles/eu/b is owned by bundle "app"`},
		{"data above a root", []*eval.Bundle{owned}, patch(t, "roles"), `path roles is owned by bundle "app"`},
		{"data beside a root", []*eval.Bundle{owned}, patch(t, "roles/us"), ""},
		{"the whole document", []*eval.Bundle{owned}, patch(t, ""), "can't write to document root with bundle roots configured"},
		{"below a bundle that owns everything", []*eval.Bundle{everything}, patch(t, "x"), `all paths owned by bundle "all"`},
		{"module below a root", []*eval.Bundle{owned}, put(t, "q", "package app.sub"), `path app/sub is owned by bundle "app"`},
		{"module over a bundle's", []*eval.Bundle{owned}, put(t, "app/app.rego", "package other"), `path app is owned by bundle "app"`},
		{"module removed from a bundle", []*eval.Bundle{owned}, func(d *eval.Draft) error { return d.DeleteModule("app/app.rego") }, `path app is owned by bundle "app"`},
		{"module in a standard package", []*eval.Bundle{base}, put(t, "q", "package verdict.authz"), `path verdict/authz is owned by bundle "standard"`},
		{"rule that reaches into a standard package", []*eval.Bundle{base}, put(t, "q", "package verdict\n\nauthz.allow := true"), `path verdict/authz/allow is owned by bundle "standard"`},
		{"rule that stands for a standard package", []*eval.Bundle{base}, put(t, "q", "package verdict\n\nauthz[x] := true if some x in [\"allow\"]"), `path verdict/authz is owned by bundle "standard"`},
		{"module beside the standard packages", []*eval.Bundle{base}, put(t, "q", "package verdict.mine\n\nx := 1"), ""},
		{"data beside the standard rules", []*eval.Bundle{base}, patch(t, "verdict/rbac"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			engine := newEngine(t)
			if _, err := engine.Write(func(d *eval.Draft) error { return d.SetBundles(tt.bundles) }); err != nil {
				t.Fatal(err)
			}
			_, err := engine.Write(tt.write)
			wantError(t, err, tt.want)
			if owner := (*eval.OwnedError)(nil); tt.want != "" && !errors.As(err, &owner) {
				t.Errorf("got %T, want an *OwnedError", err)
			}
		})
	}
}

func TestRootWriteKeepsBundles(t *testing.T) {
	engine := newEngine(t)
	b := &eval.Bundle{Name: "free", Revision: "1", Data: object2(t, `{"kept": 1}`)}
	if _, err := engine.Write(func(d *eval.Draft) error { return d.SetBundles([]*eval.Bundle{b}) }); err != nil {
		t.Fatal(err)
	}
	writeData(t, engine, storage.Path{"gone"}, `1`)
	writeData(t, engine, storage.RootPath, `{"new": 2}`)
	got, err := engine.Active().Read(storage.RootPath)
	if err != nil {
		t.Fatal(err)
	}
	if want := parse(t, `{"kept": 1, "new": 2}`); got.Compare(want) != 0 {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestBundlesThatClash(t *testing.T) {
	a := &eval.Bundle{Name: "a", Revision: "1", Data: object2(t, `{"x": {"y": 1}}`), Modules: []*eval.Module{module(t, "m", "package a")}}
	for name, b := range map[string]*eval.Bundle{
		"data at /x/y is defined twice": {Name: "b", Revision: "1", Data: object2(t, `{"x": {"y": 2}}`)},
		"module m exists already":       {Name: "b", Revision: "1", Modules: []*eval.Module{module(t, "m", "package b")}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newEngine(t).Write(func(d *eval.Draft) error { return d.SetBundles([]*eval.Bundle{a, b}) })
			wantError(t, err, name)
		})
	}
}

func patch(t *testing.T, path string) func(*eval.Draft) error {
	p := storage.Path{}
	if path != "" {
		p = strings.Split(path, "/")
	}
	return func(d *eval.Draft) error {
		if len(p) > 0 {
			if err := d.MakeFolder(p[:len(p)-1]); err != nil {
				return err
			}
		}
		return d.Patch(storage.AddOp, p, ast.NewObject())
	}
}

func put(t *testing.T, id, text string) func(*eval.Draft) error {
	m := module(t, id, text)
	return func(d *eval.Draft) error { return d.PutModule(m) }
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("got error %v, want none", err)
	case want != "" && err == nil:
		t.Errorf("got no error, want %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("got error %q, want %q in it", err, want)
	}
}
