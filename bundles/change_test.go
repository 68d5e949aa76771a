package bundles_test

import (
	"reflect"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

func TestCompare(t *testing.T) {
	parse := func(data string, modules ...string) *eval.Bundle {
		b := &eval.Bundle{Revision: "old", Data: ast.MustParseTerm(data).Value.(ast.Object)}
		for i, text := range modules {
			m, err := eval.ParseModule(string(rune('a'+i)), []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			b.Modules = append(b.Modules, m)
		}
		return b
	}
	none := bundles.Difference{Added: []string{}, Removed: []string{}, Changed: []string{}}
	for _, tt := range []struct {
		name        string
		a, b        *eval.Bundle
		rules, data bundles.Difference
	}{
		{"layout, comments, order and files do not count", parse(`{}`, "package a\n\nx := 1\n\ny if { input.a; input.b }\n"), parse(`{}`, "# new\npackage a\n\nimport rego.v1\n\ny if {\n\tinput.a\n\tinput.b\n}\n", "package a\n\nx := 1"), none, none},
		{
			"rules", parse(`{}`, "package a\n\nx := 1\n\ny if input.a\n\nz := 3"), parse(`{}`, "package a\n\nx := 2\n\ny if input.a\n\ny if input.b\n\nw.v := 1"),
			bundles.Difference{Added: []string{"data.a.w.v"}, Removed: []string{"data.a.z"}, Changed: []string{"data.a.x", "data.a.y"}, Count: 4},
			none,
		},
		{
			"an import", parse(`{}`, "package a\n\nimport data.b\n\nx := b.c"), parse(`{}`, "package a\n\nimport data.d as b\n\nx := b.c"),
			bundles.Difference{Added: []string{}, Removed: []string{}, Changed: []string{"data.a.x"}, Count: 1},
			none,
		},
		{
			"data", parse(`{"a": {"b": 1, "c": [1, 2], "d/e": 1}, "f": {}}`), parse(`{"a": {"b": 2, "c": [1, 2], "g": {"h": 1}}, "f": 1}`), none,
			bundles.Difference{Added: []string{"/a/g"}, Removed: []string{"/a/d~1e"}, Changed: []string{"/a/b", "/f"}, Count: 4},
		},
		{
			"nothing before", nil, parse(`{"a": 1}`, "package a\n\nx := 1"),
			bundles.Difference{Added: []string{"data.a.x"}, Removed: []string{}, Changed: []string{}, Count: 1},
			bundles.Difference{Added: []string{"/a"}, Removed: []string{}, Changed: []string{}, Count: 1},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := bundles.Compare(tt.a, tt.b)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Rules, tt.rules) || !reflect.DeepEqual(got.Data, tt.data) {
				t.Errorf("rules %+v, data %+v", got.Rules, got.Data)
			}
		})
	}
}
