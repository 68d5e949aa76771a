package eval_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

func newShare(t testing.TB, name, pointer string, percent float64) *eval.Share {
	t.Helper()
	s, err := eval.NewShare(name, pointer, percent)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func subject(id string) ast.Value {
	return ast.NewObject(ast.Item(ast.StringTerm("subject"), ast.ObjectTerm(ast.Item(ast.StringTerm("id"), ast.StringTerm(id)))))
}

// TestShareIsStable wants a share to be close to its percentage, the same for
// the same subject, and a part of each larger one.
func TestShareIsStable(t *testing.T) {
	const subjects = 20_000
	var before *eval.Share
	for _, percent := range []float64{0.5, 5, 20, 50, 99, 100} {
		share, again := newShare(t, "app@r2", "/subject/id", percent), newShare(t, "app@r2", "/subject/id", percent)
		other := newShare(t, "app@r3", "/subject/id", percent)
		in, both := 0, 0
		for i := range subjects {
			v := subject(fmt.Sprintf("user-%d", i))
			has := share.Has(v)
			if has {
				in++
			}
			if again.Has(v) != has {
				t.Fatalf("%v percent: subject %d is in and is not", percent, i)
			}
			if before != nil && before.Has(v) && !has {
				t.Fatalf("subject %d is in less than %v percent and not in that", i, percent)
			}
			if has && other.Has(v) {
				both++
			}
		}
		want := subjects * percent / 100
		if bound := 4*math.Sqrt(want*(1-percent/100)) + 1; math.Abs(float64(in)-want) > bound {
			t.Errorf("%v percent: %d of %d", percent, in, subjects)
		}
		if percent == 50 && math.Abs(float64(both)-subjects/4) > 500 {
			t.Errorf("two revisions have %d subjects in common", both)
		}
		before = share
	}
}

func TestShareSubject(t *testing.T) {
	for _, tt := range []struct {
		pointer, input string
		want           bool
	}{
		{"/subject/id", `{"subject": {"id": "a"}}`, true},
		{"/subject/id", `{"subject": {"id": 7}}`, true},
		{"/subject/id", `{"subject": {"id": false}}`, true},
		{"/subject/id", `{"subject": {"id": null}}`, false},
		{"/subject/id", `{"subject": {"id": {}}}`, false},
		{"/subject/id", `{"subject": {"id": ["a"]}}`, false},
		{"/subject/id", `{"subject": "a"}`, false},
		{"/subject/id", `{}`, false},
		{"/subject/id", `"a"`, false},
		{"/a~1b/~0/1", `{"a/b": {"~": ["x", "y"]}}`, true},
		{"/a/2", `{"a": ["x", "y"]}`, false},
		{"/a/01", `{"a": ["x", "y"]}`, false},
		{"/a/-1", `{"a": ["x", "y"]}`, false},
		{"/a/1", `{"a": {"1": "x"}}`, true},
		{"", `"whole"`, true},
		{"/", `{"": 1}`, true},
	} {
		if got := newShare(t, "n", tt.pointer, 100).Has(ast.MustParseTerm(tt.input).Value); got != tt.want {
			t.Errorf("%s in %s: %v", tt.pointer, tt.input, got)
		}
	}
	if newShare(t, "n", "/a", 100).Has(nil) {
		t.Error("no input has a subject")
	}
	for pointer, percent := range map[string]float64{"subject": 5, "/a": 0, "/b": -1, "/c": 100.1, "/d": math.NaN(), "/" + string(make([]byte, 100)): 200} {
		if _, err := eval.NewShare("n", pointer, percent); err == nil {
			t.Errorf("%q with %v percent is taken", pointer, percent)
		}
	}
}

func FuzzShare(f *testing.F) {
	f.Add("/subject/id", `{"subject": {"id": "a"}}`, 50.0)
	f.Add("/a~1b/0", `{"a/b": [1]}`, 100.0)
	f.Fuzz(func(t *testing.T, pointer, input string, percent float64) {
		share, err := eval.NewShare("n", pointer, percent)
		if err != nil {
			if share != nil {
				t.Error("a share and an error")
			}
			return
		}
		v, _, err := eval.ParseInput([]byte(input), eval.Limits{})
		if err != nil {
			return
		}
		if before := share.Has(v); before != share.Has(v) {
			t.Error("not stable")
		}
	})
}

func BenchmarkShare(b *testing.B) {
	share, v := newShare(b, "app@r2", "/subject/id", 5), subject("user-1")
	b.ReportAllocs()
	for b.Loop() {
		share.Has(v)
	}
}
