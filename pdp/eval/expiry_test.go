package eval_test

import (
	"errors"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// layeredEngine has a base layer with rules below verdict, a bundle that owns
// app and shared/limits, one that owns everything else but for what it leaves to
// others, and rules written through the API.
func layeredEngine(t testing.TB, bundles ...*eval.Bundle) *eval.Engine {
	t.Helper()
	e, err := eval.New(eval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Write(func(d *eval.Draft) error { return d.SetBundles(bundles) }); err != nil {
		t.Fatal(err)
	}
	return e
}

func newBundle(t testing.TB, name string, roots []string, data string, modules ...string) *eval.Bundle {
	t.Helper()
	b := &eval.Bundle{Name: name, Revision: name + "-1", Roots: roots, Data: ast.MustParseTerm(data).Value.(ast.Object)}
	for i, text := range modules {
		m, err := eval.ParseModule(name+string(rune('a'+i))+".rego", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		b.Modules = append(b.Modules, m)
	}
	return b
}

func TestStale(t *testing.T) {
	confirmed := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	standard := newBundle(t, "standard", nil, `{"verdict": {"rbac": {"roles": {}}, "trust": {"levels": {}}}}`,
		"package verdict.authz\n\ndecision if data.verdict.rbac.permitted",
		"package verdict.rbac\n\npermitted if data.verdict.rbac.roles[input.role]",
		"package verdict.trust\n\nscore := data.verdict.trust.levels[input.level]")
	standard.Base = true
	app := newBundle(t, "app", []string{"app", "shared/limits"}, `{"shared": {"limits": {"a": 1}}}`, "package app.inner\n\nallow if input.ok")
	other := newBundle(t, "other", []string{"other", "shared/names"}, `{"other": {"data": 1}, "shared": {"names": {}}}`,
		`package other
plain := 1
rule if data.app.inner.allow
twice if rule
called if f(1)
f(x) if data.shared.limits[x]
otherwise := 1 if input.x
else := data.app.inner.allow
dynamic if data.shared[input.x]
everything := count(data.shared)
comprehension := [x | x := data.app[_]]
mocked if plain with data.app.inner as 1
names := data.shared.names
unused if { x := data.shared.names; x.app }`)
	all := newBundle(t, "all", nil, `{"verdict": {"rbac": {"roles": {"r": true}}}}`, "package x\n\ny := 1")
	all.Roots = []string{""}
	tests := []struct {
		engine *eval.Engine
		stale  string
		path   string
		want   bool
	}{
		{stale: "app", path: "app", want: true},
		{stale: "app", path: "app/inner/allow", want: true},
		{stale: "app", path: "app/nothing/3", want: true},
		{stale: "app", path: "", want: true},
		{stale: "app", path: "shared", want: true},
		{stale: "app", path: "shared/limits/a", want: true},
		{stale: "app", path: "shared/names", want: false},
		{stale: "app", path: "apple", want: false},
		{stale: "app", path: "other/data", want: false},
		{stale: "app", path: "other/plain", want: false},
		{stale: "app", path: "other/rule", want: true},
		{stale: "app", path: "other/twice", want: true},
		{stale: "app", path: "other/called", want: true},
		{stale: "app", path: "other/otherwise", want: true},
		{stale: "app", path: "other/dynamic", want: true},
		{stale: "app", path: "other/everything", want: true},
		{stale: "app", path: "other/comprehension", want: true},
		{stale: "app", path: "other/mocked", want: true},
		{stale: "app", path: "other/names", want: false},
		{stale: "app", path: "other/unused", want: false},
		{stale: "app", path: "other", want: true},
		{stale: "app", path: "verdict/authz/decision", want: false},
		{stale: "app", path: `a"b`, want: false},
		{stale: "gone", path: "app", want: false},
		{stale: "all", path: "x/y", want: true},
		{stale: "all", path: "", want: true},
		{stale: "all", path: "verdict/authz/decision", want: true},
		{stale: "all", path: "verdict/rbac/roles/r/deep", want: true},
		{stale: "all", path: "verdict/trust/score", want: false},
	}
	engines := map[string]*eval.Engine{"all": layeredEngine(t, standard, all)}
	engines["app"] = layeredEngine(t, standard, app, other)
	engines["gone"] = engines["app"]
	for _, tt := range tests {
		e := engines[tt.stale]
		e.SetExpiry([]eval.Expiring{
			{Name: "other", Confirmed: confirmed, MaxAge: 24 * time.Hour},
			{Name: tt.stale, Revision: tt.stale + "-1", Confirmed: confirmed, MaxAge: time.Hour},
		})
		if err := e.Active().Stale(tt.path, confirmed.Add(time.Hour-1)); err != nil {
			t.Errorf("%s is stale too early: %v", tt.path, err)
		}
		for range 2 {
			err := e.Active().Stale(tt.path, confirmed.Add(time.Hour))
			stale, is := errors.AsType[*eval.StaleError](err)
			if is != tt.want || (err != nil) != tt.want {
				t.Errorf("%s with %s too old: %v, want %v", tt.path, tt.stale, err, tt.want)
			}
			if is && (stale.Bundle != tt.stale || stale.Revision != tt.stale+"-1" || stale.Age != time.Hour || stale.MaxAge != time.Hour) {
				t.Errorf("%+v", stale)
			}
		}
	}
	e := engines["app"]
	e.SetExpiry(nil)
	if err := e.Active().Stale("app", confirmed.AddDate(1, 0, 0)); err != nil {
		t.Errorf("without expiry: %v", err)
	}
}

func BenchmarkStale(b *testing.B) {
	e := layeredEngine(b, newBundle(b, "app", []string{"app"}, `{}`, "package app\n\nallow if input.ok"))
	now := time.Now()
	e.SetExpiry([]eval.Expiring{{Name: "app", Confirmed: now, MaxAge: time.Hour}})
	s := e.Active()
	b.ReportAllocs()
	for b.Loop() {
		if s.Stale("app/allow", now) != nil {
			b.Fatal("stale")
		}
	}
}
