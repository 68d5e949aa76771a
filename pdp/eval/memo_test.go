package eval_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// policy is what an evaluation needs beside its input.
type policy struct {
	tb       testing.TB
	compiler *ast.Compiler
	reaches  *eval.Reaches
	store    storage.Store
	txn      storage.Transaction
	prepared map[string]question
}

type question struct {
	body     ast.Body
	compiler ast.QueryCompiler
	entry    *eval.Entry
}

func newPolicy(tb testing.TB, data string, modules ...string) *policy {
	tb.Helper()
	p := &policy{tb: tb, compiler: compiled(tb, modules...), prepared: map[string]question{}}
	p.reaches = eval.Analyze(p.compiler)
	doc := util.MustUnmarshalJSON([]byte(data)).(map[string]any)
	p.store = inmem.NewFromObjectWithOpts(doc, inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))
	p.txn = storage.NewTransactionOrDie(context.Background(), p.store)
	return p
}

// prepare compiles the query for ref, once.
func (p *policy) prepare(ref ast.Ref) question {
	name := ref.String()
	q, ok := p.prepared[name]
	if !ok {
		var err error
		q.compiler = p.compiler.QueryCompiler()
		q.body, err = q.compiler.Compile(ast.NewBody(ast.Equality.Expr(ast.VarTerm("x"), ast.NewTerm(ref))))
		if err != nil {
			p.tb.Fatal(err)
		}
		q.entry = p.reaches.Entry(ref)
		p.prepared[name] = q
	}
	return q
}

// run evaluates q; cache may be nil.
func (p *policy) run(q question, input *ast.Term, cache topdown.VirtualCache, strict bool) (v ast.Value, err error) {
	run := topdown.NewQuery(q.body).WithQueryCompiler(q.compiler).WithCompiler(p.compiler).
		WithStore(p.store).WithTransaction(p.txn).WithMetrics(metrics.NoOp()).WithCancel(topdown.NewCancel()).
		WithStrictBuiltinErrors(strict)
	if input != nil {
		run.WithInput(input)
	}
	if cache != nil {
		run.WithVirtualCache(cache)
	}
	err = run.Iter(context.Background(), func(qr topdown.QueryResult) error {
		v = qr["x"].Value
		return nil
	})
	return v, err
}

func (p *policy) eval(ref ast.Ref, input *ast.Term) (ast.Value, error) {
	return p.run(p.prepare(ref), input, nil, false)
}

// evalMemo evaluates as a server would: the whole answer from the memo, or else
// an evaluation that uses and feeds it. Rules tells to use it for rules only.
func (p *policy) evalMemo(m *eval.Memo, q question, input *ast.Term, strict, rules bool) (v ast.Value, hit bool, err error) {
	var value ast.Value
	if input != nil {
		value = input.Value
	}
	r := m.Begin(q.entry, value, strict)
	if v, ok := r.Answer(); ok && !rules {
		r.End(nil, false)
		return v, true, nil
	}
	v, err = p.run(q, input, r, strict)
	r.End(v, err == nil)
	return v, false, err
}

func input(tb testing.TB, text string) *ast.Term {
	tb.Helper()
	if text == "" {
		return nil
	}
	v, _, err := eval.ParseInput([]byte(text), eval.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	return ast.NewTerm(v)
}

func TestMemoAnswers(t *testing.T) {
	p := newPolicy(t, `{}`, `package p
		r := input.a
		set contains x if some x in input.a
		obj := {"v": input.a, "s": {input.b}}
		clock if time.now_ns() > 0
		conflict := input.a
		conflict := input.b
		broken := to_number(input.a)
		whole := count(input)`)
	type step struct {
		ref, input string
		hit        bool
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"same value", []step{{"r", `{"a":1}`, false}, {"r", `{"a":1,"b":2}`, true}}},
		{"other value", []step{{"r", `{"a":1}`, false}, {"r", `{"a":2}`, false}, {"r", `{"a":1}`, true}}},
		{"number's text", []step{{"r", `{"a":1}`, false}, {"r", `{"a":1.0}`, false}}},
		{"null is not absent", []step{{"r", `{"a":null}`, false}, {"r", `{}`, false}, {"r", ``, true}}},
		{"no input", []step{{"r", ``, false}, {"r", `{"a":null}`, false}, {"r", `{"b":1}`, true}}},
		{"string is not number", []step{{"r", `{"a":"1"}`, false}, {"r", `{"a":1}`, false}, {"r", `{"a":["1"]}`, false}}},
		{"array is not object", []step{{"r", `{"a":[]}`, false}, {"r", `{"a":{}}`, false}, {"r", `{"a":[[],[]]}`, false}, {"r", `{"a":[[[]]]}`, false}}},
		{"order of members", []step{{"r", `{"a":{"x":1,"y":2}}`, false}, {"r", `{"a":{"y":2,"x":1}}`, true}}},
		{"set", []step{{"set", `{"a":[3,1,2,"x"]}`, false}, {"set", `{"a":[3,1,2,"x"],"c":1}`, true}}},
		{"object", []step{{"obj", `{"a":{"k":[1.5]},"b":"y"}`, false}, {"obj", `{"a":{"k":[1.5]},"b":"y"}`, true}}},
		{"rule of another's query", []step{{"obj", `{"a":1,"b":2}`, false}, {"r", `{"a":1}`, false}}},
		{"package", []step{{".set", `{"a":[1]}`, false}, {".set", `{"a":[1]}`, true}}},
		{"inside a rule", []step{{"obj.v", `{"a":1,"b":2}`, false}, {"obj.v", `{"a":1,"b":2}`, true}}},
		{"clock", []step{{"clock", `{}`, false}, {"clock", `{}`, false}}},
		{"conflict", []step{{"conflict", `{"a":1,"b":2}`, false}, {"conflict", `{"a":1,"b":2}`, false}, {"conflict", `{"a":1,"b":1}`, false}, {"conflict", `{"a":1,"b":1}`, true}}},
		{"built-in error", []step{{"broken", `{"a":"x"}`, false}, {"broken", `{"a":"x"}`, true}}},
		{"large value", []step{{"r", `{"a":"` + strings.Repeat("x", 5000) + `"}`, false}, {"r", `{"a":"` + strings.Repeat("x", 5000) + `"}`, false}}},
		{"large input", []step{{"whole", `{"a":"` + strings.Repeat("x", 2000) + `"}`, false}, {"whole", `{"a":"` + strings.Repeat("x", 2000) + `"}`, false}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := eval.NewMemo(p.reaches, 0)
			for i, s := range tt.steps {
				ref := ast.MustParseRef("data.p." + strings.TrimPrefix(s.ref, "."))
				in := input(t, s.input)
				want, wantErr := p.eval(ref, in)
				got, hit, err := p.evalMemo(m, p.prepare(ref), in, false, false)
				if fmt.Sprint(err) != fmt.Sprint(wantErr) || ast.Compare(got, want) != 0 {
					t.Fatalf("step %d: got %v %v, want %v %v", i, got, err, want, wantErr)
				}
				if hit != s.hit {
					t.Errorf("step %d: hit %v", i, hit)
				}
			}
		})
	}
}

func TestMemoStrict(t *testing.T) {
	p := newPolicy(t, `{}`, "package p\nr if not q\nq if to_number(input.a)")
	q := p.prepare(ast.MustParseRef("data.p.r"))
	m := eval.NewMemo(p.reaches, 0)
	in := input(t, `{"a":"x"}`)
	for range 2 {
		if v, _, err := p.evalMemo(m, q, in, false, false); err != nil || v == nil {
			t.Fatalf("lenient: %v, %v", v, err)
		}
		if v, _, err := p.evalMemo(m, q, in, true, false); err == nil {
			t.Fatalf("strict: %v", v)
		}
	}
}

func TestMemoWith(t *testing.T) {
	p := newPolicy(t, `{"d": 1}`, `package p
		r := [q, w, q, v, f(1)]
		q := [input.a, data.d]
		w := x if x := q with input.a as 9
		v := x if x := q with data.d as 8
		f(x) := [x, q, y] if y := q with input as {"a": 7}`)
	q := p.prepare(ast.MustParseRef("data.p.r"))
	want := `[[1, 1], [9, 1], [1, 1], [1, 8], [1, [1, 1], [7, 1]]]`
	m := eval.NewMemo(p.reaches, 0)
	for range 3 {
		v, _, err := p.evalMemo(m, q, input(t, `{"a":1}`), false, true)
		if err != nil || v.String() != want {
			t.Fatalf("got %v, %v\nwant %v", v, err, want)
		}
	}
}

func TestMemoKeepsNothingOfFailures(t *testing.T) {
	p := newPolicy(t, `{}`, "package p\nr := [q, s]\nq := input.a\ns := input.b\ns := input.c")
	m := eval.NewMemo(p.reaches, 0)
	_, _, err := p.evalMemo(m, p.prepare(ast.MustParseRef("data.p.r")), input(t, `{"a":1,"b":2,"c":3}`), false, false)
	if err == nil || m.Bytes() != 0 {
		t.Fatalf("error %v, %d bytes kept", err, m.Bytes())
	}
}

func TestMemoIsBounded(t *testing.T) {
	p := newPolicy(t, `{}`, "package p\nr := [input.a, input.a, input.a, input.a]")
	q := p.prepare(ast.MustParseRef("data.p.r"))
	const limit = 64 << 10
	m := eval.NewMemo(p.reaches, limit)
	for i := range 3000 {
		in := input(t, fmt.Sprintf(`{"a":"%d%s"}`, i, strings.Repeat("x", i%800)))
		if _, _, err := p.evalMemo(m, q, in, false, false); err != nil {
			t.Fatal(err)
		}
		if m.Bytes() > limit {
			t.Fatalf("after %d: %d bytes", i, m.Bytes())
		}
	}
	if m.Bytes() < limit/4 {
		t.Errorf("only %d bytes used", m.Bytes())
	}
}

// FuzzMemoKey stores a result for one input and looks for another: what is found
// must have been stored for the same parts.
func FuzzMemoKey(f *testing.F) {
	f.Add([]byte(`{"a":1}`), []byte(`{"a":{"b":null},"c":[[]]}`))
	f.Add([]byte(`{"a":["x","y"]}`), []byte(`{"a":["xy"],"b":""}`))
	p := newPolicy(f, `{}`, "package p\nwhole := input\nparts := [input.a.b, input.a.c[0], input.b]")
	whole, parts := p.prepare(ast.MustParseRef("data.p.whole")).entry, p.prepare(ast.MustParseRef("data.p.parts")).entry
	project := func(v ast.Value) string {
		var s []string
		for _, ref := range parts.Reach().Inputs {
			part, err := v.Find(ref[1:])
			s = append(s, fmt.Sprint(part, err))
		}
		return strings.Join(s, "\x00")
	}
	m := eval.NewMemo(p.reaches, 1<<20)
	found := func(e *eval.Entry, v ast.Value) ast.Value {
		r := m.Begin(e, v, false)
		defer r.End(nil, false)
		kept, _ := r.Answer()
		return kept
	}
	f.Fuzz(func(t *testing.T, b1, b2 []byte) {
		v1, _, err1 := eval.ParseInput(b1, eval.Limits{})
		v2, _, err2 := eval.ParseInput(b2, eval.Limits{})
		if err1 != nil || err2 != nil {
			return
		}
		m.Begin(whole, v1, false).End(v1, true)
		m.Begin(parts, v1, false).End(ast.String(project(v1)), true)
		if kept := found(whole, v2); kept != nil {
			checkEncode(t, kept)
			if kept.String() != v2.String() {
				t.Fatalf("%v found for %v", kept, v2)
			}
		}
		if kept := found(parts, v2); kept != nil && string(kept.(ast.String)) != project(v2) {
			t.Fatalf("%v found for %v", kept, v2)
		}
	})
}

// TestMemoSound evaluates random policies with and without a memo.
func TestMemoSound(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 60 {
		text := compilingPolicy(t, rnd)
		p := newPolicy(t, `{"x": {"a": 1, "b": [1, 2]}, "y": ["a", "b", "c"]}`, text)
		m := eval.NewMemo(p.reaches, 0)
		for range 60 {
			in := randomInput(rnd, 1)
			ref := ast.MustParseRef(fmt.Sprintf("data.t.r%d", rnd.IntN(policyRules)))
			if rnd.IntN(8) == 0 {
				ref = ref[:2]
			}
			strict := rnd.IntN(4) == 0
			q := p.prepare(ref)
			want, wantErr := p.run(q, in, nil, strict)
			got, _, err := p.evalMemo(m, q, in, strict, rnd.IntN(2) == 0)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) || err == nil && ast.Compare(got, want) != 0 {
				t.Fatalf("%v of %v\n%s\ngot  %v %v\nwant %v %v", ref, in, text, got, err, want, wantErr)
			}
		}
	}
}

func TestMemoConcurrent(t *testing.T) {
	w := newWorkload(t, 200)
	m := eval.NewMemo(w.policy.reaches, 256<<10)
	obj := w.policy.prepare(ast.MustParseRef("data.authz"))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 400 {
				r := w.requests[(i*7+g)%len(w.requests)]
				in := input(t, r.text)
				v, _, err := w.policy.evalMemo(m, w.allow, in, false, i%3 == 0)
				if err != nil || v.Compare(ast.Boolean(r.allow)) != 0 {
					t.Errorf("%s: %v %v", r.text, v, err)
					return
				}
				if v, _, err = w.policy.evalMemo(m, obj, in, false, i%3 == 0); err != nil {
					t.Error(err)
					return
				}
				if _, err := eval.AppendJSON(nil, v); err != nil {
					t.Error(err)
					return
				}
				_ = ast.CopyValue(v)
			}
		})
	}
	wg.Wait()
}

// workload is the benchmark's policy and data, with requests and their answers.
type workload struct {
	policy   *policy
	allow    question
	requests []request
}

type request struct {
	text  string
	allow bool
}

const workloadPolicy = `package authz

default allow := false

allow if {
	within_hours
	not blocked
	permitted
}

within_hours if {
	input.environment.hour >= data.rbac.hours.from
	input.environment.hour < data.rbac.hours.to
	input.environment.weekday >= 1
	input.environment.weekday <= 5
}

blocked if data.rbac.blocked[input.environment.country]

roles contains role if some role in data.rbac.users[input.subject.id]

roles contains role if {
	some own in data.rbac.users[input.subject.id]
	some role in data.rbac.inherits[own]
}

permitted if {
	some role in roles
	input.action in data.rbac.grants[role][input.resource.type]
}
`

func newWorkload(tb testing.TB, requests int) *workload {
	tb.Helper()
	rnd := rand.New(rand.NewPCG(42, 7))
	actions := []string{"read", "create", "update", "delete", "approve"}
	countries := []string{"DE", "SE", "FR", "NL", "K0", "K1", "K2", "K3", "K4", "K5", "K6", "K7"}
	grants, inherits, users, blocked := map[string]any{}, map[string]any{}, map[string]any{}, map[string]any{}
	for i := range 10 {
		role := map[string]any{}
		for range 20 {
			kind := fmt.Sprintf("type%02d", rnd.IntN(40))
			list, _ := role[kind].([]any)
			role[kind] = append(list, actions[rnd.IntN(len(actions))])
		}
		grants[fmt.Sprintf("role%02d", i)] = role
		if i < 5 {
			inherits[fmt.Sprintf("role%02d", i)] = []any{fmt.Sprintf("role%02d", 5+rnd.IntN(5))}
		}
	}
	for i := range 1000 {
		var roles []any
		for range 1 + rnd.IntN(3) {
			roles = append(roles, fmt.Sprintf("role%02d", rnd.IntN(10)))
		}
		users[fmt.Sprintf("user%04d", i)] = roles
	}
	for _, c := range countries[4:] {
		blocked[c] = true
	}
	data := util.MustMarshalJSON(map[string]any{"rbac": map[string]any{
		"grants": grants, "inherits": inherits, "users": users, "blocked": blocked, "hours": map[string]any{"from": 9, "to": 17},
	}})
	w := &workload{policy: newPolicy(tb, string(data), workloadPolicy)}
	w.allow = w.policy.prepare(ast.MustParseRef("data.authz.allow"))
	wanted := map[bool]int{}
	for len(w.requests) < requests {
		text := fmt.Sprintf(`{"subject": {"id": "user%04d"}, "action": %q, "resource": {"type": "type%02d", "id": "res-%08d"}, "environment": {"hour": %d, "weekday": %d, "country": %q}}`,
			rnd.IntN(1000), actions[rnd.IntN(5)], rnd.IntN(40), rnd.IntN(1e8), 7+rnd.IntN(12), 1+rnd.IntN(6), countries[rnd.IntN(5)])
		v, err := w.policy.run(w.allow, input(tb, text), nil, false)
		if err != nil {
			tb.Fatal(err)
		}
		allow := v.Compare(ast.Boolean(true)) == 0
		if wanted[allow]++; wanted[allow] <= requests/2 {
			w.requests = append(w.requests, request{text, allow})
		}
	}
	rnd.Shuffle(len(w.requests), func(i, j int) { w.requests[i], w.requests[j] = w.requests[j], w.requests[i] })
	return w
}

func BenchmarkMemo(b *testing.B) {
	w := newWorkload(b, 4000)
	inputs := make([]*ast.Term, len(w.requests))
	for i, r := range w.requests {
		inputs[i] = input(b, r.text)
	}
	check := func(b *testing.B, i int, v ast.Value, err error) {
		if err != nil || bool(v.(ast.Boolean)) != w.requests[i].allow {
			b.Fatal(v, err)
		}
	}
	b.Run("none", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			i := n % len(inputs)
			v, err := w.policy.run(w.allow, inputs[i], nil, false)
			check(b, i, v, err)
		}
	})
	// The answer is new, parts of it are known.
	b.Run("rules", func(b *testing.B) {
		var m *eval.Memo
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			i := n % len(inputs)
			if i == 0 {
				m = eval.NewMemo(w.policy.reaches, 0)
			}
			v, _, err := w.policy.evalMemo(m, w.allow, inputs[i], false, true)
			check(b, i, v, err)
		}
	})
	// Nobody is known: each subject comes once.
	b.Run("strangers", func(b *testing.B) {
		m := eval.NewMemo(w.policy.reaches, 0)
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			b.StopTimer()
			in := input(b, strings.Replace(w.requests[n%len(inputs)].text, `"id": "user`, fmt.Sprintf(`"id": "u%d-`, n), 1))
			b.StartTimer()
			if _, _, err := w.policy.evalMemo(m, w.allow, in, false, false); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("strangers without", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			b.StopTimer()
			in := input(b, strings.Replace(w.requests[n%len(inputs)].text, `"id": "user`, fmt.Sprintf(`"id": "u%d-`, n), 1))
			b.StartTimer()
			if _, err := w.policy.run(w.allow, in, nil, false); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("answers", func(b *testing.B) {
		m := eval.NewMemo(w.policy.reaches, 0)
		// Few enough to stay in the processor's cache, as an input does that was
		// decoded just before.
		inputs := inputs[:64]
		for i := range inputs {
			_, _, _ = w.policy.evalMemo(m, w.allow, inputs[i], false, false)
		}
		hits := 0
		b.ReportAllocs()
		b.ResetTimer()
		for n := 0; b.Loop(); n++ {
			i := n % len(inputs)
			v, hit, err := w.policy.evalMemo(m, w.allow, inputs[i], false, false)
			check(b, i, v, err)
			if hit {
				hits++
			}
		}
		b.ReportMetric(float64(hits)/float64(b.N), "hits/op")
	})
}
