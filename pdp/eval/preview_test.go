package eval_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

const lamp = `package lamp

default on := false
on if input.user in data.users
`

// newLamp is an engine with one bundle that owns the package lamp.
func newLamp(t testing.TB) *eval.Engine {
	t.Helper()
	e := newEngine(t)
	_, err := e.Write(func(d *eval.Draft) error {
		return d.SetBundles([]*eval.Bundle{{
			Name: "b", Revision: "r1", Roots: []string{"lamp", "users"},
			Modules: []*eval.Module{module(t, "b/rules/lamp.rego", lamp), module(t, "b/other.rego", "package lamp.other\nx := 1")},
			Data:    object2(t, `{"users": ["ada"]}`),
		}})
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func overlayOf(t testing.TB, data string, modules map[string]string) *eval.Overlay {
	t.Helper()
	o := &eval.Overlay{Modules: map[string][]byte{}}
	for id, text := range modules {
		o.Modules[id] = []byte(text)
		if text == "-" {
			o.Modules[id] = nil
		}
	}
	if data != "" {
		o.Data = object2(t, data)
	}
	return o
}

func TestPreview(t *testing.T) {
	const all = "package lamp\n\non := true\n"
	for _, tt := range []struct {
		name, data string
		modules    map[string]string
		path, want string // of eve
		changes    string
	}{
		{name: "nothing", path: "lamp/on", want: "false", changes: "[] [] []"},
		{name: "data merged", data: `{"users": ["ada", "eve"]}`, path: "lamp/on", want: "true", changes: "[] [] []"},
		{name: "data removed", data: `{"users": null}`, path: "lamp/on", want: "false", changes: "[] [] []"},
		{name: "data added", data: `{"a": {"b": 1}}`, path: "a/b", want: "1", changes: "[] [] []"},
		{name: "by id", modules: map[string]string{"b/rules/lamp.rego": all}, path: "lamp/on", want: "true", changes: "[] [b/rules/lamp.rego] []"},
		{name: "by name and package", modules: map[string]string{"lamp.rego": all}, path: "lamp/on", want: "true", changes: "[] [b/rules/lamp.rego] []"},
		{name: "same name elsewhere", modules: map[string]string{"lamp.rego": "package torch\non := 3"}, path: "torch/on", want: "3", changes: "[lamp.rego] [] []"},
		{name: "added", modules: map[string]string{"more.rego": "package lamp\non if input.user == \"eve\""}, path: "lamp/on", want: "true", changes: "[more.rego] [] []"},
		{name: "removed", modules: map[string]string{"b/rules/lamp.rego": "-"}, path: "lamp/on", want: "", changes: "[] [] [b/rules/lamp.rego]"},
		{name: "both", data: `{"q": 7}`, modules: map[string]string{"n.rego": "package n\nx := data.q"}, path: "n/x", want: "7", changes: "[n.rego] [] []"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newLamp(t)
			active := e.Active()
			s, changes, err := active.Preview(overlayOf(t, tt.data, tt.modules))
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(changes.Added, changes.Replaced, changes.Removed); got != tt.changes {
				t.Errorf("changes %s, want %s", got, tt.changes)
			}
			eve := &eval.Query{Path: tt.path, Input: parse(t, `{"user": "eve"}`), Now: time.Unix(0, 0)}
			res, err := s.Eval(t.Context(), eve)
			got := ""
			if res.Value != nil {
				got = res.Value.String()
			}
			if err != nil || got != tt.want {
				t.Errorf("got %s, %v; want %s", got, err, tt.want)
			}
			if !strings.Contains(string(s.RevisionsJSON()), `"(preview)":"`) || s.Revisions()["b"] != "r1" {
				t.Errorf("revisions %s", s.RevisionsJSON())
			}
			if e.Active() != active || !slices.Equal(active.ModuleIDs(), []string{"b/other.rego", "b/rules/lamp.rego"}) {
				t.Error("the active snapshot changed")
			}
			res, err = active.Eval(t.Context(), &eval.Query{Path: "lamp/on", Input: parse(t, `{"user": "eve"}`), Now: time.Unix(0, 0)})
			if err != nil || res.Value.Compare(ast.Boolean(false)) != 0 {
				t.Errorf("the active snapshot answers %v, %v", res.Value, err)
			}
			if users, err := active.Read(storage.Path{"users"}); err != nil || users.String() != `["ada"]` {
				t.Errorf("active data %v, %v", users, err)
			}
			if err := e.Swap(s, func() error { return nil }); !errors.Is(err, eval.ErrStale) {
				t.Errorf("a preview could be made active: %v", err)
			}
		})
	}
}

func TestPreviewRefuses(t *testing.T) {
	many := map[string]string{}
	for i := range eval.MaxOverlayModules + 1 {
		many[fmt.Sprintf("m%d.rego", i)] = "package m"
	}
	chain := "p if {\n" + strings.Repeat("input.a + 1 == input.b\n", 95) + "}\n"
	for _, tt := range []struct {
		name, data string
		modules    map[string]string
		want       string
	}{
		{name: "syntax", modules: map[string]string{"a.rego": "package a\np if {"}, want: "a.rego:2: rego_parse_error"},
		{name: "unsafe", modules: map[string]string{"a.rego": "package a\np if x"}, want: "a.rego:2: rego_unsafe_var_error"},
		{name: "strict", modules: map[string]string{"a.rego": "package a\np if { x := 1; input.y }"}, want: "a.rego:2: rego_compile_error: assigned var x unused"},
		{name: "type", modules: map[string]string{"a.rego": "package a\np if count(1) == 1"}, want: "rego_type_error"},
		{name: "conflict", modules: map[string]string{"a.rego": "package lamp\ndefault on := true"}, want: "multiple default rules"},
		{name: "net", modules: map[string]string{"a.rego": "package a\np := http.send({})"}, want: "a.rego:2: rego_compile_error: the built-in http.send is refused in a preview"},
		{name: "mocked", modules: map[string]string{"a.rego": "package a\np if { abs(1) == 2 with abs as bits.lsh }"}, want: "the built-in bits.lsh is refused"},
		{name: "data under a rule", data: `{"lamp": {"on": 1}}`, want: "conflict"},
		{name: "no package", modules: map[string]string{"a.rego": ""}, want: `a.rego:0: rego_parse_error: empty module`},
		{name: "no id", modules: map[string]string{"": "package a"}, want: "an id has 1 to 256 bytes"},
		{name: "nothing to remove", modules: map[string]string{"none.rego": "-"}, want: `module "none.rego": there is no such module to remove`},
		{name: "twice", modules: map[string]string{"x/lamp.rego": lamp, "y/lamp.rego": lamp}, want: "two modules of the overlay would take its place"},
		{name: "many", modules: many, want: "overlay exceeds limit of 32 modules"},
		{name: "large", modules: map[string]string{"a.rego": "package a\n#" + strings.Repeat("x", eval.MaxOverlayBytes)}, want: "overlay exceeds limit of 262144 bytes of modules"},
		{name: "rules", modules: map[string]string{"a.rego": "package a\n" + strings.Repeat("p := 1\n", eval.MaxOverlayRules+1)}, want: "overlay exceeds limit of 2000 rules"},
		{name: "one rule", modules: map[string]string{"a.rego": "package a\np if {\n" + strings.Repeat("input.x\n", 201) + "}"}, want: "more than 200 expressions"},
		{name: "nested", modules: map[string]string{"a.rego": "package a\np := " + strings.Repeat("[", 20) + strings.Repeat("]", 20)}, want: "nested deeper than 16 levels"},
		{name: "work", modules: map[string]string{"a.rego": "package a\n" + strings.Repeat(chain, 20)}, want: "overlay exceeds limit of 100000000 steps"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newLamp(t)
			_, _, err := e.Active().Preview(overlayOf(t, tt.data, tt.modules))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestPreviewAmbiguous(t *testing.T) {
	e := newEngine(t)
	for _, id := range []string{"a/x.rego", "b/x.rego"} {
		if _, err := e.Write(func(d *eval.Draft) error { return d.PutModule(module(t, id, "package x")) }); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := e.Active().Preview(overlayOf(t, "", map[string]string{"x.rego": "package x"}))
	if err == nil || err.Error() != `module "x.rego": it could replace a/x.rego or b/x.rego; name one by its id` {
		t.Errorf("got %v", err)
	}
}

// TestMergePatch has the examples of RFC 7396, appendix A, whose target and
// patch are objects.
func TestMergePatch(t *testing.T) {
	for _, tt := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		target := object2(t, tt[0])
		got, err := eval.AppendJSON(nil, eval.MergePatch(target, object2(t, tt[1])))
		if err != nil || string(got) != tt[2] {
			t.Errorf("%s with %s: got %s, %v; want %s", tt[0], tt[1], got, err, tt[2])
		}
		if before := object2(t, tt[0]); target.Compare(before) != 0 {
			t.Errorf("%s was changed to %v", tt[0], target)
		}
	}
}

func TestTraceLines(t *testing.T) {
	s := newLamp(t).Active()
	res, err := s.Eval(t.Context(), &eval.Query{Path: "lamp/on", Input: parse(t, `{"user": "eve"}`), Now: time.Unix(0, 0), Trace: true})
	if err != nil {
		t.Fatal(err)
	}
	lines := res.Trace.Full().Lines(1 << 20)
	if len(lines) < 5 || !strings.Contains(strings.Join(lines, "\n"), "Enter data.lamp.on") {
		t.Errorf("lines %q", lines)
	}
	if short := res.Trace.Full().Lines(10); len(strings.Join(short, "\n")) > 10 {
		t.Errorf("lines %q", short)
	}
	if none := (eval.Trace{}).Lines(10); len(none) != 0 {
		t.Errorf("lines %q", none)
	}
}
