package eval_test

import (
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// TestND gives the recorded results of one evaluation to another, whose clock and
// chance are different.
func TestND(t *testing.T) {
	s := withModule(t, `package p
r := [time.now_ns(), rand.intn("a", 1000000000), uuid.rfc4122("<x>"), sum([x | some x in input.l])]`)
	in := ast.MustParseTerm(`{"l": [1, 2]}`).Value
	first, err := s.Eval(t.Context(), &eval.Query{Path: "p/r", Input: in, Now: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	text, err := eval.AppendJSON(nil, first.ND)
	if err != nil {
		t.Fatal(err)
	}
	nd, err := eval.ParseND(text, eval.Limits{})
	if err != nil || nd.Compare(first.ND) != 0 {
		t.Fatalf("%v of %s: %v", nd, text, err)
	}
	for range 2 {
		again, err := s.Eval(t.Context(), &eval.Query{Path: "p/r", Input: in, Now: time.Unix(2, 0), ND: nd, Background: true})
		if err != nil || again.Value.Compare(first.Value) != 0 || again.ND.Compare(first.ND) != 0 {
			t.Errorf("%v, %v; first it was %v", again.Value, err, first.Value)
		}
	}
	other, err := s.Eval(t.Context(), &eval.Query{Path: "p/r", Input: in, Now: time.Unix(2, 0)})
	if err != nil || other.Value.Compare(first.Value) == 0 {
		t.Errorf("without recorded results: %v, %v", other.Value, err)
	}
	if nd.Len() != 3 {
		t.Errorf("the recorded results were changed: %v", nd)
	}
}

func withModule(t testing.TB, module string) *eval.Snapshot {
	t.Helper()
	engine, err := eval.New(eval.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	m, err := eval.ParseModule("m.rego", []byte(module))
	if err != nil {
		t.Fatal(err)
	}
	s, err := engine.Write(func(d *eval.Draft) error { return d.PutModule(m) })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func FuzzParseND(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"time.now_ns":{"[]":1}}`, `{"rand.intn":{"[\"a\",10]":7}}`, `[]`, `{"a":1}`, `{"a":{"":1}}`, `{"a":{"[":1}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		nd, err := eval.ParseND(b, eval.Limits{})
		if err != nil {
			if nd != nil {
				t.Error("a value beside an error")
			}
			return
		}
		text, err := eval.AppendJSON(nil, nd)
		if err != nil {
			t.Fatal(err)
		}
		again, err := eval.ParseND(text, eval.Limits{})
		if err != nil || again.Compare(nd) != 0 {
			t.Errorf("%v, %v; first it was %v", again, err, nd)
		}
	})
}

func TestReads(t *testing.T) {
	s := withModule(t, `package p
r if { input.a.b == 1; input["x/y"]; input.l[0]; input.a.c }
all := input
none := 1
clock := time.now_ns()
cert := crypto.x509.parse_and_verify_certificates(input.c)`)
	for _, tc := range []struct {
		path, pointer string
		want          bool
	}{
		{"p/r", "/a/b", true},
		{"p/r", "/a", true},
		{"p/r", "", true},
		{"p/r", "/a/b/deep", true},
		{"p/r", "/a/d", false},
		{"p/r", "/ab", false},
		{"p/r", "/x~1y", true},
		{"p/r", "/x%2Fy", true},
		{"p/r", "/x", false},
		{"p/r", "/l/0", true},
		{"p/r", "/l/1", false},
		{"p/all", "/anything", true},
		{"p/none", "", false},
		{"q", "/a", false},
	} {
		reach, err := s.Reach(tc.path)
		if err != nil {
			t.Fatal(err)
		}
		if got := reach.Reads(tc.pointer); got != tc.want {
			t.Errorf("%s reads %q: %v", tc.path, tc.pointer, got)
		}
	}
	for path, want := range map[string]bool{"p/r": false, "p/clock": false, "p/cert": true, "p": true} {
		if reach, err := s.Reach(path); err != nil || reach.Unrecorded != want {
			t.Errorf("%s: unrecorded is %v, %v", path, reach.Unrecorded, err)
		}
	}
}
