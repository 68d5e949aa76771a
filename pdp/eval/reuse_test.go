package eval_test

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

func TestShareData(t *testing.T) {
	deep := strings.Repeat(`{"a": `, 100) + "1" + strings.Repeat("}", 100)
	for name, tt := range map[string]struct {
		old, next string
		same      bool
		kept      string // a member whose value is the old one
		others    string // a member whose value is not
	}{
		"equal":      {`{"a": {"b": [1, {"c": 2}]}, "d": null}`, `{"d": null, "a": {"b": [1, {"c": 2}]}}`, true, "a", ""},
		"changed":    {`{"a": {"b": 1}, "c": {"d": 1}}`, `{"a": {"b": 1}, "c": {"d": 2}}`, false, "a", "c"},
		"added":      {`{"a": {"b": 1}}`, `{"a": {"b": 1}, "c": 1}`, false, "a", ""},
		"removed":    {`{"a": {"b": 1}, "c": 1}`, `{"a": {"b": 1}}`, false, "a", ""},
		"other kind": {`{"a": {"b": 1}, "c": [1]}`, `{"a": [1], "c": {"b": 1}}`, false, "", "a"},
		"array":      {`{"a": [1, 2], "b": [1]}`, `{"a": [1, 2], "b": [2]}`, false, "a", "b"},
		"numbers":    {`{"a": 1, "b": 1}`, `{"a": 1.0, "b": 1}`, false, "b", "a"},
		"in arrays":  {`{"a": [1, [{"c": 1e2}]], "b": 1}`, `{"a": [1, [{"c": 100}]], "b": 1}`, false, "b", "a"},
		"empty":      {`{}`, `{}`, true, "", ""},
		"deep":       {`{"a": ` + deep + `}`, `{"a": ` + deep + `}`, true, "a", ""},
	} {
		t.Run(name, func(t *testing.T) {
			old, next := ast.MustParseTerm(tt.old).Value.(ast.Object), ast.MustParseTerm(tt.next).Value.(ast.Object)
			got := eval.ShareData(old, next)
			if got.String() != next.String() || (got == old) != tt.same {
				t.Fatalf("got %v, want %v; the old one itself: %v", got, next, got == old)
			}
			if old.Compare(ast.MustParseTerm(tt.old).Value) != 0 || next.Compare(ast.MustParseTerm(tt.next).Value) != 0 {
				t.Error("an argument was changed")
			}
			if tt.kept != "" && got.Get(ast.StringTerm(tt.kept)) != old.Get(ast.StringTerm(tt.kept)) {
				t.Errorf("%s is not shared", tt.kept)
			}
			if tt.others != "" && got.Get(ast.StringTerm(tt.others)) == old.Get(ast.StringTerm(tt.others)) {
				t.Errorf("%s is shared", tt.others)
			}
		})
	}
	if next := ast.NewObject(); eval.ShareData(nil, next) != next {
		t.Error("without an old one")
	}
}
