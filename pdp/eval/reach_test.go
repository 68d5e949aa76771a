package eval_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// compiled compiles one module per text.
func compiled(tb testing.TB, modules ...string) *ast.Compiler {
	tb.Helper()
	parsed := map[string]*ast.Module{}
	for i, text := range modules {
		name := fmt.Sprintf("m%d.rego", i)
		m, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			tb.Fatal(err)
		}
		parsed[name] = m
	}
	c := ast.NewCompiler()
	if c.Compile(parsed); c.Failed() {
		tb.Fatal(c.Errors)
	}
	return c
}

func TestReach(t *testing.T) {
	tests := []struct {
		name   string
		policy string
		ref    string // default data.p.r
		inputs string // what Reach.Inputs holds, in order
		chance bool   // not deterministic
	}{
		{"constant", `r := 1`, "", "", false},
		{"ref", `r := input.a.b`, "", "input.a.b", false},
		{"two", `r if { input.b; input.a.c == 1 }`, "", "input.a.c input.b", false},
		{"prefix swallows", `r if { input.a.b; input.a }`, "", "input.a", false},
		{"whole", `r := count(input)`, "", "input", false},
		{"whole by local", `r if { x := input; x.a }`, "", "input", false},
		{"variable", `r if { some x; input.a[x].b == 1 }`, "", "input.a", false},
		{"variable bound by input", `r if input.a[input.k]`, "", "input.a input.k", false},
		{"variable at root", `r if { some x; input[x] == 1 }`, "", "input", false},
		{"nested ref", `r if data.d[input.a][input.b]`, "", "input.a input.b", false},
		{"array index", `r := input.a[0].b`, "", "input.a[0].b", false},
		{"null and boolean keys", `r if { input.a[null]; input.a[true] }`, "", "input.a[null] input.a[true]", false},
		{"composite key", `r if input.a[[1]]`, "", "input.a", false},
		{"input as an alias", "import input.a as x\nr := x.b", "", "input.a.b", false},
		{"rule", "r if q\nq if input.a", "", "input.a", false},
		{"rule twice removed", "r if q\nq if s\ns if input.a", "", "input.a", false},
		{"several definitions", "r if input.a\nr if input.b", "", "input.a input.b", false},
		{"else", "r := 1 if input.a\nelse := input.b if input.c", "", "input.a input.b input.c", false},
		{"default", "default r := false\nr if input.a", "", "input.a", false},
		{"head value", `r := {"x": input.a, "y": [input.b]}`, "", "input.a input.b", false},
		{"partial set", "r if count(q) > 0\nq contains x if some x in input.a", "", "input.a", false},
		{"partial object", "r := q.k\nq[x] := y if { x := input.a; y := input.b }", "", "input.a input.b", false},
		{"ref head", "r := q.x.y\nq[input.a].y := input.b", "", "input.a input.b", false},
		{"one member of a package", "r := 1\ns := input.a", "", "", false},
		{"package", "r := 1\ns := input.a", "data.p", "input.a", false},
		{"all data", "r := 1\ns := input.a", "data", "input.a", false},
		{"inside a rule", "r := input.a", "data.p.r.x.y", "input.a", false},
		{"base data", "r := input.a", "data.elsewhere.x", "", false},
		{"comprehensions", `r := [[x | x := input.a], {x | x := input.b}, {"k": x | x := input.c}]`, "", "input.a input.b input.c", false},
		{"every", "r if every x in input.a { x > input.b }", "", "input.a input.b", false},
		{"negation", "r if not input.a.b", "", "input.a.b", false},
		{"function", "r if f(input.a)\nf(x) if x == input.b", "", "input.a input.b", false},
		{"function's argument", "r if f(input.a)\nf(x) := x.y.z", "", "input.a", false},
		{"function gets the input", "r if f(input)\nf(x) := x.y.z", "", "input", false},
		{"template string", `r := $"{input.a} and {input.b}"`, "", "input.a input.b", false},
		{"dynamic data", "r := input.a\nq := input.b", "data.o.r", "input.a input.b", false},
		{"with input", "r if q with input as {}\nq if input.a", "", "input", false},
		{"with data", "r if q with data.x as input.k\nq if data.x", "", "input", false},
		{"with below", "r if q\nq if s with input.a as 1\ns if input.a", "", "input", false},
		{"function mocked by chance", "r if f(1) with f as uuid.rfc4122\nf(x) := x", "", "input", true},
		{"clock", "r if time.now_ns() > 1", "", "", true},
		{"clock below", "r if q\nq if s(1)\ns(x) if time.now_ns() > x", "", "", true},
		{"date of a fixed time", "r := time.weekday(input.t)", "", "input.t", false},
		{"chance", "r := rand.intn(input.s, 10)", "", "input.s", true},
		{"uuid", "r := uuid.rfc4122(input.s)", "", "input.s", true},
		{"network", `r := http.send({"method": "get", "url": input.u})`, "", "input.u", true},
		{"lookup", `r := net.lookup_ip_addr(input.h)`, "", "input.h", true},
		{"process", "r := opa.runtime().env", "", "", true},
		{"trace", `r if trace("x")`, "", "", true},
		{"certificates", "r := crypto.x509.parse_and_verify_certificates(input.c)", "", "input.c", true},
		{"token", "r := io.jwt.decode_verify(input.t, {})", "", "input.t", true},
		{"chance in a comprehension", "r := [x | x := time.now_ns()]", "", "", true},
		{"chance beside", "r := input.a\nq := time.now_ns()", "", "input.a", false},
		{"many", "r if { " + manyInputs(80) + " }", "", "input", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := compiled(t, "package p\n"+tt.policy, "package o\nr if { some x; data.p[x].y == 1 }")
			if tt.ref == "" {
				tt.ref = "data.p.r"
			}
			got := eval.Analyze(c).Of(ast.MustParseRef(tt.ref))
			var names []string
			for _, ref := range got.Inputs {
				names = append(names, ref.String())
			}
			if strings.Join(names, " ") != tt.inputs || got.Deterministic == tt.chance {
				t.Errorf("got %v, deterministic %v", names, got.Deterministic)
			}
		})
	}
}

func manyInputs(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf("input.k%d", i)
	}
	return strings.Join(parts, "; ")
}

// TestReachSound changes inputs outside a rule's reach and expects the same
// result, for policies put together at random.
func TestReachSound(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for round := range 25 {
		text := compilingPolicy(t, rnd)
		p := newPolicy(t, `{"x": {"a": 1, "b": [1, 2]}, "y": ["a", "b", "c"]}`, text)
		for range 25 {
			a := randomInput(rnd, 3)
			for i := range policyRules {
				ref := ast.MustParseRef(fmt.Sprintf("data.t.r%d", i))
				reach := p.reaches.Of(ref)
				if !reach.Deterministic {
					t.Fatalf("not deterministic: %s", text)
				}
				b := transplant(a, randomInput(rnd, 3), reach.Inputs)
				va, erra := p.eval(ref, a)
				vb, errb := p.eval(ref, b)
				if (erra == nil) != (errb == nil) || erra == nil && ast.Compare(va, vb) != 0 {
					t.Fatalf("round %d: %v reaches %v\n%s\n%v gives %v %v\n%v gives %v %v", round, ref, reach.Inputs, text, a, va, erra, b, vb, errb)
				}
			}
		}
	}
}

// policyRules is the number of rules in a random policy; rule i refers only to
// those before it.
const policyRules = 8

// compilingPolicy returns the first random policy that the compiler takes; some
// have errors in types that it can see.
func compilingPolicy(tb testing.TB, rnd *rand.Rand) string {
	for range 1000 {
		text := randomPolicy(rnd)
		m, err := ast.ParseModule("t.rego", text)
		if err != nil {
			tb.Fatalf("%v\n%s", err, text)
		}
		c := ast.NewCompiler()
		if c.Compile(map[string]*ast.Module{"t.rego": m}); !c.Failed() {
			return text
		}
	}
	tb.Fatal("no policy compiles")
	return ""
}

// randomPolicy puts a policy together from pieces of different shapes.
func randomPolicy(rnd *rand.Rand) string {
	var sb strings.Builder
	sb.WriteString("package t\n")
	keys := []string{"a", "b", "c"}
	pick := func() string { return keys[rnd.IntN(len(keys))] }
	operand := func(i int) string {
		switch n := rnd.IntN(10); {
		case n < 3:
			return "input." + pick()
		case n < 5:
			return "input." + pick() + "." + pick()
		case n == 5:
			return "input." + pick() + "[input." + pick() + "]"
		case n == 6:
			return "data.x[input." + pick() + "]"
		case n == 7 && i > 0:
			return fmt.Sprintf("f%d(input.%s)", rnd.IntN(i), pick())
		case i > 0:
			return fmt.Sprintf("data.t.r%d", rnd.IntN(i))
		}
		return "data.y[0]"
	}
	for i := range policyRules {
		fmt.Fprintf(&sb, "f%d(x) := [x, %s]\n", i, operand(i))
		switch rnd.IntN(9) {
		case 0:
			fmt.Fprintf(&sb, "default r%d := false\nr%d if %s == %s\n", i, i, operand(i), operand(i))
		case 1:
			fmt.Fprintf(&sb, "r%d := [%s, %s]\n", i, operand(i), operand(i))
		case 2:
			fmt.Fprintf(&sb, "r%d := 1 if %s\nelse := %s if not %s\n", i, operand(i), operand(i), operand(i))
		case 3:
			fmt.Fprintf(&sb, "r%d contains v if some v in %s\nr%d contains %s\n", i, operand(i), i, operand(i))
		case 4:
			fmt.Fprintf(&sb, "r%d[k] := v if some k, v in %s\n", i, operand(i))
		case 5:
			fmt.Fprintf(&sb, "r%d := {k: v | some k, v in %s; v != %s}\n", i, operand(i), operand(i))
		case 6:
			fmt.Fprintf(&sb, "r%d := v if { v := %s with input.%s as %s }\n", i, operand(i), pick(), operand(i))
		case 7:
			fmt.Fprintf(&sb, "r%d := $\"{%s}\"\n", i, operand(i))
		case 8:
			fmt.Fprintf(&sb, "r%d if { every v in %s { v == %s } }\n", i, operand(i), operand(i))
		}
	}
	return sb.String()
}

// randomInput makes an object with the keys that random policies read.
func randomInput(rnd *rand.Rand, depth int) *ast.Term {
	o := ast.NewObject()
	for _, key := range []string{"a", "b", "c", "d"} {
		var v *ast.Term
		switch n := rnd.IntN(8); {
		case n < 3 && depth > 0:
			v = randomInput(rnd, depth-1)
		case n < 3:
			v = ast.NullTerm()
		case n == 3:
			continue
		case n == 4:
			v = ast.ArrayTerm(ast.IntNumberTerm(1), ast.StringTerm("b"))
		case n == 5:
			v = ast.BooleanTerm(rnd.IntN(2) == 0)
		default:
			v = ast.StringTerm([]string{"a", "b", "c"}[rnd.IntN(3)])
		}
		o.Insert(ast.StringTerm(key), v)
	}
	return ast.NewTerm(o)
}

// transplant returns to with the parts at refs as they are in from.
func transplant(from, to *ast.Term, refs []ast.Ref) *ast.Term {
	for _, ref := range refs {
		to = graft(from, to, ref[1:])
	}
	return to
}

// graft makes the part of to at path what it is in from. Where from ends on the
// way, the path is made to end in to as well.
func graft(from, to *ast.Term, path ast.Ref) *ast.Term {
	if len(path) == 0 || from == nil {
		return from
	}
	if _, ok := from.Value.(ast.Object); !ok {
		if sub := from.Get(path[0]); sub != nil {
			return from // a part of an array: take the array
		}
	}
	obj, ok := to, to != nil
	if ok {
		_, ok = to.Value.(ast.Object)
	}
	if !ok {
		obj = ast.ObjectTerm()
	}
	out := ast.NewObject()
	obj.Value.(ast.Object).Foreach(func(k, v *ast.Term) {
		if k.Value.Compare(path[0].Value) != 0 {
			out.Insert(k, v)
		}
	})
	if sub := graft(from.Get(path[0]), obj.Get(path[0]), path[1:]); sub != nil {
		out.Insert(path[0], sub)
	}
	return ast.NewTerm(out)
}

// BenchmarkAnalyze takes a policy of 20,000 rules in 200 packages, in which
// rules refer to others of their package and to shared ones.
func BenchmarkAnalyze(b *testing.B) {
	modules := []string{"package lib\nadmin if input.subject.role == \"admin\"\nowner(x) if x == input.subject.id"}
	for p := range 200 {
		var sb strings.Builder
		fmt.Fprintf(&sb, "package p%d\nimport data.lib\nr0 if lib.admin\n", p)
		for i := 1; i < 100; i++ {
			fmt.Fprintf(&sb, "r%d if { r%d; input.k%d == %d; lib.owner(input.resource.owner) }\n", i, i/2, i%10, i)
		}
		modules = append(modules, sb.String())
	}
	c := compiled(b, modules...)
	b.ReportAllocs()
	for b.Loop() {
		eval.Analyze(c)
	}
}
