package eval_test

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

func TestParseData(t *testing.T) {
	deep := strings.Repeat("[", 200) + strings.Repeat("]", 200)
	for _, tt := range []struct{ name, text, err string }{
		{"shares equal values", `{"a": ["r1", "r2"], "b": ["r1", "r2"], "c": {"x": "r1"}, "d": {"x": "r1"}, "e": "r1"}`, ""},
		{"the same value written differently", `{"a": ["r", 1.0], "b": ["\u0072", 1.0], "c": ["r",1.0], "d": ["r", 1]}`, ""},
		{"the last member of a name counts", `{"a": 1, "a": {"b": 2, "b": 3}}`, ""},
		{"deeper than an input may be", deep, ""},
		{"scalar", `"x"`, ""},
		{"nothing", ` `, "EOF"},
		{"more than one value", `{} {}`, "after top-level value"},
		{"cut off", `{"a": [1, `, "unexpected EOF"},
		{"deeper than can be", strings.Repeat("[", 10_001), "deeper"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := eval.ParseData([]byte(tt.text))
			wantError(t, err, tt.err)
			if tt.err != "" {
				return
			}
			want, _, err := eval.ParseInput([]byte(tt.text), eval.Limits{Depth: 1000})
			if err != nil {
				t.Fatal(err)
			}
			if got.Compare(want) != 0 || encode(t, got) != encode(t, want) {
				t.Errorf("got %s, want %s", encode(t, got), encode(t, want))
			}
		})
	}
}

// FuzzParseData wants of a data document what ParseInput makes of it.
func FuzzParseData(f *testing.F) {
	for _, text := range documents() {
		f.Add([]byte(text))
	}
	f.Add([]byte(`[["a","b"],["a","b"],{"k":["a","b"]},{"k":["a","b"]}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := eval.ParseData(b)
		if err != nil {
			if got != nil {
				t.Fatal("a value beside an error")
			}
			return
		}
		want, _, err := eval.ParseInput(b, eval.Limits{Depth: 10_000, Members: 1 << 30})
		if err != nil {
			t.Fatalf("an input refuses it: %v", err)
		}
		if got.Compare(want) != 0 {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// TestSharedValuesStay writes below one of two values that share memory.
func TestSharedValuesStay(t *testing.T) {
	v, err := eval.ParseData([]byte(`{"a": {"l": [1, 2]}, "b": {"l": [1, 2]}}`))
	if err != nil {
		t.Fatal(err)
	}
	engine := newEngine(t)
	b := &eval.Bundle{Name: "data", Revision: "1", Data: v.(ast.Object)}
	if _, err := engine.Write(func(d *eval.Draft) error { return d.SetBundles([]*eval.Bundle{b}) }); err != nil {
		t.Fatal(err)
	}
	writeData(t, engine, []string{"a", "l", "0"}, `"new"`)
	got, err := engine.Active().Read(nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := parse(t, `{"a": {"l": ["new", 1, 2]}, "b": {"l": [1, 2]}}`); got.Compare(want) != 0 {
		t.Errorf("got %v, want %v", got, want)
	}
}
