package mask_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/audit/mask"
)

func TestKeys(t *testing.T) {
	keys := mask.NewKeys([]string{"Password", "x-api-key", "straße", "", strings.Repeat("long", 40)})
	for key, want := range map[string]bool{
		"password": true, "PASSWORD": true, "PaSsWoRd": true, "X-API-Key": true, "STRAßE": true,
		"pa\u017f\u017fword": true, "x-api-\u212aey": true, strings.Repeat("LONG", 40): true,
		"": false, "passwor": false, "password2": false, "x_api_key": false, "straeße": false,
		strings.Repeat("a", 100): false,
	} {
		if got := keys.Match(key); got != want {
			t.Errorf("Match(%q) = %v", key, got)
		}
	}
	if (mask.Keys{}).Match("password") || (mask.Keys{}).Match("") {
		t.Error("the zero value matches")
	}
	if n := testing.AllocsPerRun(100, func() { keys.Match("Authorization"); keys.Match("PASSWORD") }); n != 0 {
		t.Errorf("Match allocates %v times", n)
	}
}

func rules(t *testing.T, text string) []mask.Rule {
	t.Helper()
	r, err := mask.ParseRules(ast.MustParseTerm(text).Value)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestApply(t *testing.T) {
	for _, tc := range []struct {
		name, rules, event, want string
		erased, masked           []string
	}{
		{
			"remove", `{"/input/password"}`, `{"input": {"password": "x", "user": "u"}}`, `{"input": {"user": "u"}}`,
			[]string{"/input/password"},
			nil,
		},
		{
			"remove by object", `{{"op": "remove", "path": "/input/a/b"}}`, `{"input": {"a": {"b": 1, "c": 2}}}`, `{"input": {"a": {"c": 2}}}`,
			[]string{"/input/a/b"},
			nil,
		},
		{"remove all of input", `["/input"]`, `{"input": {"a": 1}, "result": true}`, `{"result": true}`, []string{"/input"}, nil},
		{"remove what is not there", `["/input/a/b", "/result/x", "/input/c"]`, `{"input": {"a": 1}}`, `{"input": {"a": 1}}`, nil, nil},
		{"remove from an array", `["/input/a/1"]`, `{"input": {"a": [1, 2, 3]}}`, `{"input": {"a": [1, 3]}}`, []string{"/input/a/1"}, nil},
		{"remove from a root array", `["/input/0"]`, `{"input": [1, 2]}`, `{"input": [2]}`, []string{"/input/0"}, nil},
		{"remove from nested arrays", `["/input/0/1"]`, `{"input": [[1, 2], 3]}`, `{"input": [[1], 3]}`, []string{"/input/0/1"}, nil},
		{"remove in a set", `["/result/1"]`, `{"result": {"a", "b"}}`, `{"result": ["a"]}`, []string{"/result/1"}, nil},
		{"array index out of range", `["/input/a/3", "/input/a/-1", "/input/a/x"]`, `{"input": {"a": [1]}}`, `{"input": {"a": [1]}}`, nil, nil},
		{
			"upsert", `[{"op": "upsert", "path": "/input/password", "value": "***"}]`, `{"input": {"password": "x"}}`, `{"input": {"password": "***"}}`,
			nil,
			[]string{"/input/password"},
		},
		{
			"upsert makes objects", `[{"op": "upsert", "path": "/input/a/b/c", "value": {"d": [1]}}]`, `{"input": {}}`, `{"input": {"a": {"b": {"c": {"d": [1]}}}}}`,
			nil,
			[]string{"/input/a/b/c"},
		},
		{"upsert without value", `[{"op": "upsert", "path": "/input/a"}]`, `{"input": {"a": 1}}`, `{"input": {"a": null}}`, nil, []string{"/input/a"}},
		{"upsert the whole", `[{"op": "upsert", "path": "/result", "value": 7}]`, `{"result": {"a": 1}}`, `{"result": 7}`, nil, []string{"/result"}},
		{"upsert into nothing", `[{"op": "upsert", "path": "/result/a", "value": 7}]`, `{"input": 1}`, `{"input": 1}`, nil, nil},
		{"upsert into a scalar", `[{"op": "upsert", "path": "/input/a/b", "value": 7}]`, `{"input": {"a": 1}}`, `{"input": {"a": 1}}`, nil, nil},
		{"upsert in an array", `[{"op": "upsert", "path": "/input/a/0/b", "value": 7}]`, `{"input": {"a": [{}]}}`, `{"input": {"a": [{"b": 7}]}}`, nil, []string{"/input/a/0/b"}},
		{"upsert behind an array", `[{"op": "upsert", "path": "/input/a/1", "value": 7}]`, `{"input": {"a": [1]}}`, `{"input": {"a": [1]}}`, nil, nil},
		{"rules in order", `["/input/a/0", "/input/a/0"]`, `{"input": {"a": [1, 2, 3]}}`, `{"input": {"a": [3]}}`, []string{"/input/a/0", "/input/a/0"}, nil},
		{
			"nd cache", `["/nd_builtin_cache/http.send"]`, `{"nd_builtin_cache": {"http.send": 1, "rand.intn": 2}}`, `{"nd_builtin_cache": {"rand.intn": 2}}`,
			[]string{"/nd_builtin_cache/http.send"},
			nil,
		},
		{
			"keys with odd characters", `["/input/a b", "/input/c~1d", "/input/e%2Ff", "/input/7"]`,
			`{"input": {"a b": 1, "c/d": 2, "e/f": 3, 7: 4, "g": 5}}`, `{"input": {"g": 5}}`,
			[]string{"/input/a%20b", "/input/c~1d", "/input/e%252Ff", "/input/7"},
			nil,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			event := ast.MustParseTerm(tc.event).Value
			before := event.String()
			got, erased, masked, err := mask.Apply(rules(t, tc.rules), event)
			if err != nil {
				t.Fatal(err)
			}
			if want := ast.MustParseTerm(tc.want).Value; got.Compare(want) != 0 {
				t.Errorf("got %v, want %v", got, want)
			}
			slices.Sort(tc.erased)
			slices.Sort(erased)
			if !slices.Equal(erased, tc.erased) || !slices.Equal(masked, tc.masked) {
				t.Errorf("erased %q, masked %q, want %q and %q", erased, masked, tc.erased, tc.masked)
			}
			if event.String() != before {
				t.Errorf("the event was changed to %v", event)
			}
		})
	}
	if _, _, _, err := mask.Apply(nil, ast.String("x")); err == nil {
		t.Error("an event that is no object is accepted")
	}
}

func TestParseRulesRefuses(t *testing.T) {
	for _, text := range []string{
		`"x"`, `{"a": 1}`, `[1]`, `["input/a"]`, `[""]`, `["/"]`, `["/other"]`, `["/inputs/a"]`, `["/input/%zz"]`,
		`[{"path": "/input/a"}]`, `[{"op": "drop", "path": "/input/a"}]`, `[{"op": "remove"}]`, `[{"op": "", "path": "/input"}]`,
		`[{"op": "remove", "path": 7}]`, `["/input/a", "bad"]`,
	} {
		if r, err := mask.ParseRules(ast.MustParseTerm(text).Value); !errors.Is(err, mask.ErrRule) || r != nil {
			t.Errorf("ParseRules(%s) = %v, %v", text, r, err)
		}
	}
}

func FuzzApply(f *testing.F) {
	f.Add("/input/a/0", true, `{"input": {"a": [1, {"b": 2}]}}`)
	f.Add("/result", false, `{"result": [[]]}`)
	f.Add("/input/~01%2F", true, `{"input": {"~1/": 1}}`)
	f.Fuzz(func(t *testing.T, path string, upsert bool, event string) {
		doc, err := ast.ValueFromReader(strings.NewReader(event))
		if err != nil {
			return
		}
		op := "remove"
		if upsert {
			op = "upsert"
		}
		rule := ast.NewObject(ast.Item(ast.StringTerm("op"), ast.StringTerm(op)), ast.Item(ast.StringTerm("path"), ast.StringTerm(path)),
			ast.Item(ast.StringTerm("value"), ast.StringTerm("masked")))
		parsed, err := mask.ParseRules(ast.NewArray(ast.NewTerm(rule)))
		if err != nil {
			return
		}
		before := doc.String()
		_, erased, masked, err := mask.Apply(parsed, doc)
		if doc.String() != before {
			t.Fatal("the event was changed")
		}
		if _, isObject := doc.(ast.Object); isObject != (err == nil) || len(erased)+len(masked) > 1 {
			t.Fatalf("erased %q, masked %q, %v", erased, masked, err)
		}
	})
}
