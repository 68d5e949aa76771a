package eval_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// baseLayer stands in for the standard policies.
func baseLayer(t *testing.T) *eval.Bundle {
	return &eval.Bundle{
		Name: "standard", Revision: "s1", Base: true,
		Modules: []*eval.Module{
			module(t, "standard/authz.rego", "package verdict.authz\n\ndecision := {\"allow\": data.verdict.rbac.permitted}"),
			module(t, "standard/rbac.rego", "package verdict.rbac\n\npermitted if data.verdict.rbac.roles.admin\n\ndefault permitted := false\n\nnames contains n if some n, _ in data.verdict.rbac.roles"),
		},
		Data: object2(t, `{"verdict": {"rbac": {"roles": {"admin": true, "guest": false}, "limits": {"depth": 4}}}}`),
	}
}

func TestOwnership(t *testing.T) {
	bundle := func(name string, roots []string, data string, modules ...string) *eval.Bundle {
		b := &eval.Bundle{Name: name, Revision: "1", Roots: roots}
		if data != "" {
			b.Data = object2(t, data)
		}
		for i, text := range modules {
			b.Modules = append(b.Modules, module(t, name+"/"+string(rune('a'+i))+".rego", text))
		}
		return b
	}
	everything := []string{""}
	for _, tt := range []struct {
		name    string
		bundles []*eval.Bundle
		data    string // wanted below data.verdict.rbac, "" for any
		err     string
	}{
		{"outside of verdict", []*eval.Bundle{bundle("a", everything, `{"x": 1}`, "package app")}, `{"limits":{"depth":4},"roles":{"admin":true,"guest":false}}`, ""},
		{"data beside base rules", []*eval.Bundle{bundle("a", everything, `{"verdict": {"rbac": {"roles": {"guest": true}}}}`)}, `{"limits":{"depth":4},"roles":{"admin":true,"guest":true}}`, ""},
		{"data at a base rule", []*eval.Bundle{bundle("a", everything, `{"verdict": {"rbac": {"permitted": true}}}`)}, "", "the base layer has the rule data.verdict.rbac.permitted"},
		{"data below a base rule", []*eval.Bundle{bundle("a", everything, `{"verdict": {"rbac": {"names": {"x": 1}}}}`)}, "", "data.verdict.rbac.names"},
		{"a value above base rules", []*eval.Bundle{bundle("a", everything, `{"verdict": {"rbac": 1}}`)}, "", "the base layer has the rule"},
		{"rules below verdict without a root", []*eval.Bundle{bundle("a", everything, "", "package verdict.mine")}, "", "brings no rules below verdict"},
		{"rules below verdict with a root", []*eval.Bundle{bundle("a", []string{"verdict/mine"}, "", "package verdict.mine\n\nx := 1")}, "", ""},
		{"a data path of the base", []*eval.Bundle{bundle("a", []string{"verdict/rbac/roles"}, `{"verdict": {"rbac": {"roles": {"boss": true}}}}`)}, `{"limits":{"depth":4},"roles":{"boss":true}}`, ""},
		{"the root is a base rule", []*eval.Bundle{bundle("a", []string{"verdict/rbac/permitted"}, "")}, "", "names its whole package"},
		{"the root lies below a base rule", []*eval.Bundle{bundle("a", []string{"verdict/rbac/names/x"}, "")}, "", "names its whole package"},
		{"a whole package of the base", []*eval.Bundle{bundle("a", []string{"verdict/rbac"}, "", "package verdict.rbac\n\npermitted := true")}, `{"permitted":true}`, ""},
		{"a package of the base without its root", []*eval.Bundle{bundle("a", nil, "", "package verdict.rbac\n\npermitted := true")}, "", "the base layer has rules in this package"},
		{"two that own everything", []*eval.Bundle{bundle("a", everything, ""), bundle("b", everything, "")}, "", "overlap"},
		{"everything and a root", []*eval.Bundle{bundle("a", everything, ""), bundle("b", []string{"app"}, "")}, "", "overlap"},
		{"a root below a root", []*eval.Bundle{bundle("a", []string{"app"}, ""), bundle("b", []string{"app/x"}, "")}, "", `root "app/x" and root "app"`},
		{"roots with a common start", []*eval.Bundle{bundle("a", []string{"app"}, ""), bundle("b", []string{"apple"}, "")}, "", ""},
		{"a root over a bundle without roots", []*eval.Bundle{bundle("free", nil, `{"app": {"x": 1}}`), bundle("b", []string{"app"}, "")}, "", `bundle "free" has something there`},
		{"a root over modules without roots", []*eval.Bundle{bundle("free", nil, "", "package app.sub"), bundle("b", []string{"app"}, "")}, "", `bundle "free" has something there`},
		{"one name twice", []*eval.Bundle{bundle("a", []string{"x"}, ""), bundle("a", []string{"y"}, "")}, "", "both have this name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			engine := newEngine(t)
			set := append([]*eval.Bundle{baseLayer(t)}, tt.bundles...)
			_, err := engine.Write(func(d *eval.Draft) error { return d.SetBundles(set) })
			wantError(t, err, tt.err)
			if clash := (*eval.ClashError)(nil); tt.err != "" && !errors.As(err, &clash) {
				t.Errorf("got %T, want a *ClashError", err)
			}
			if tt.err != "" || tt.data == "" {
				return
			}
			got := []byte("{}")
			if v, err := engine.Active().Read([]string{"verdict", "rbac"}); err == nil {
				if got, err = eval.AppendJSON(nil, v); err != nil {
					t.Fatal(err)
				}
			}
			if strings.Contains(tt.data, "permitted") {
				if replaced, err := eval.ReplacedRules(set, tt.bundles[0]); err != nil || !slices.Equal(replaced, []string{"data.verdict.rbac.names", "data.verdict.rbac.permitted"}) {
					t.Errorf("replaced %v, %v", replaced, err)
				}
				if ids := engine.Active().ModuleIDs(); slices.Contains(ids, "standard/rbac.rego") || string(got) != "{}" {
					t.Errorf("the base package is still there: %v, %s", ids, got)
				}
			} else if string(got) != tt.data {
				t.Errorf("got %s, want %s", got, tt.data)
			}
		})
	}
}

// TestAPIWritesSurvive wants what the API wrote to stay when bundles change,
// except below their roots.
func TestAPIWritesSurvive(t *testing.T) {
	app := func(revision string, roots ...string) *eval.Bundle {
		return &eval.Bundle{
			Name: "app", Revision: revision, Roots: roots,
			Modules: []*eval.Module{module(t, "app/app.rego", "package app\n\nallow := true")},
			Data:    object2(t, `{"roles": {"eu": {"a": 1}}}`),
		}
	}
	set := func(engine *eval.Engine, bundles ...*eval.Bundle) (dropped []string, err error) {
		_, err = engine.Write(func(d *eval.Draft) error {
			defer func() { dropped = d.Dropped() }()
			return d.SetBundles(append([]*eval.Bundle{baseLayer(t)}, bundles...))
		})
		return dropped, err
	}
	start := func(t *testing.T) *eval.Engine {
		engine := newEngine(t)
		if _, err := set(engine); err != nil {
			t.Fatal(err)
		}
		putModule(t, engine, "mine.rego", "package mine\n\nx := data.verdict.rbac.limits.depth")
		putModule(t, engine, "app.rego", "package app.old\n\nf(x) := x")
		writeData(t, engine, []string{"roles"}, `{"eu": {"b": 2}, "us": {"c": 3}}`)
		writeData(t, engine, []string{"verdict", "rbac", "roles", "guest"}, `"api"`)
		return engine
	}
	t.Run("beside the roots", func(t *testing.T) {
		engine := start(t)
		dropped, err := set(engine, app("1", "app", "roles/eu"))
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"data:/roles/eu", "policy:app.rego"}; !slices.Equal(dropped, want) {
			t.Errorf("dropped %v, want %v", dropped, want)
		}
		wantDoc(t, engine, `{"roles": {"eu": {"a": 1}, "us": {"c": 3}}, "verdict": {"rbac": {"roles": {"admin": true, "guest": "api"}, "limits": {"depth": 4}}}}`)
		if got := engine.Active().ModuleIDs(); !slices.Contains(got, "mine.rego") || slices.Contains(got, "app.rego") {
			t.Errorf("modules %v", got)
		}
		if engine.Active().APIWrites() == 0 {
			t.Error("the writes that stay are not counted")
		}
		if _, err := set(engine); err != nil { // the bundle goes
			t.Fatal(err)
		}
		wantDoc(t, engine, `{"roles": {"us": {"c": 3}}, "verdict": {"rbac": {"roles": {"admin": true, "guest": "api"}, "limits": {"depth": 4}}}}`)
	})
	t.Run("everything is owned", func(t *testing.T) {
		engine := start(t)
		if _, err := set(engine, app("1", "")); err != nil {
			t.Fatal(err)
		}
		wantDoc(t, engine, `{"roles": {"eu": {"a": 1}}, "verdict": {"rbac": {"roles": {"admin": true, "guest": false}, "limits": {"depth": 4}}}}`)
		if n := engine.Active().APIWrites(); n != 0 {
			t.Errorf("%d writes counted, want 0", n)
		}
	})
	t.Run("a value above a root", func(t *testing.T) {
		engine := start(t)
		writeData(t, engine, []string{"roles"}, `7`)
		before := engine.Active()
		_, err := set(engine, app("1", "app", "roles/eu"))
		wantError(t, err, "the API wrote a value above a root")
		if engine.Active() != before {
			t.Error("the snapshot changed")
		}
	})
	t.Run("a module that no longer compiles", func(t *testing.T) {
		engine := start(t)
		putModule(t, engine, "uses.rego", "package uses\n\nx := data.app.old.f(1)\n")
		_, err := set(engine, app("1", "app", "roles/eu"))
		wantError(t, err, "uses.rego")
	})
}

func wantDoc(t *testing.T, engine *eval.Engine, want string) {
	t.Helper()
	got, err := engine.Active().Read(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Compare(parse(t, want)) != 0 {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestStageAndSwap(t *testing.T) {
	engine := newEngine(t)
	set := func(revision string) func(*eval.Draft) error {
		return func(d *eval.Draft) error {
			return d.SetBundles([]*eval.Bundle{{Name: "a", Revision: revision, Roots: []string{"a"}}})
		}
	}
	one, err := engine.Stage(set("1"))
	if err != nil {
		t.Fatal(err)
	}
	if engine.Active() == one || one.Generation() != engine.Active().Generation()+1 {
		t.Fatalf("generation %d staged beside %d", one.Generation(), engine.Active().Generation())
	}
	late, err := engine.Stage(set("2"))
	if err != nil {
		t.Fatal(err)
	}
	fail := errors.New("no")
	if err := engine.Swap(one, func() error { return fail }); err != fail || engine.Active() == one {
		t.Fatalf("a swap that fails: %v", err)
	}
	if err := engine.Swap(one, func() error { return nil }); err != nil || engine.Active() != one {
		t.Fatalf("swap: %v", err)
	}
	if err := engine.Swap(late, func() error { t.Error("asked"); return nil }); !errors.Is(err, eval.ErrStale) {
		t.Fatalf("a stale swap: %v", err)
	}
	putModule(t, engine, "m", "package m")
	again := engine.Revive(one)
	if err := engine.Swap(again, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if got := engine.Active(); got.Generation() != 3 || got.Revisions()["a"] != "1" || len(got.ModuleIDs()) != 0 {
		t.Errorf("generation %d, revisions %v, modules %v", got.Generation(), got.Revisions(), got.ModuleIDs())
	}
}

func TestStrict(t *testing.T) {
	loose := &eval.Bundle{Name: "loose", Revision: "1", Roots: []string{"loose"}, Modules: []*eval.Module{module(t, "loose/a.rego", "package loose\n\nx if { y := 1 }")}}
	neat := &eval.Bundle{Name: "neat", Revision: "1", Roots: []string{"neat"}, Modules: []*eval.Module{module(t, "neat/a.rego", "package neat\n\nx := 1")}}
	for name, want := range map[string]string{"neat": "", "loose": "assigned var y unused"} {
		t.Run(name, func(t *testing.T) {
			_, err := newEngine(t).Stage(func(d *eval.Draft) error {
				d.RequireStrict(name)
				return d.SetBundles([]*eval.Bundle{neat, loose})
			})
			wantError(t, err, want)
		})
	}
}
