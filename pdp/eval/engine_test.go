package eval_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

func newEngine(t testing.TB) *eval.Engine {
	t.Helper()
	engine, err := eval.New(eval.Options{Version: "1.2.3", Commit: "abc", Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func parse(t testing.TB, text string) ast.Value {
	t.Helper()
	v, _, err := eval.ParseInput([]byte(text), eval.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func object2(t testing.TB, text string) ast.Object {
	t.Helper()
	obj, ok := parse(t, text).(ast.Object)
	if !ok {
		t.Fatalf("%s is no object", text)
	}
	return obj
}

func object(t testing.TB, text string) map[string]any {
	t.Helper()
	v, err := ast.JSON(parse(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

func module(t testing.TB, id, text string) *eval.Module {
	t.Helper()
	m, err := eval.ParseModule(id, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func putModule(t testing.TB, engine *eval.Engine, id, text string) {
	t.Helper()
	m := module(t, id, text)
	if _, err := engine.Write(func(d *eval.Draft) error { return d.PutModule(m) }); err != nil {
		t.Fatal(err)
	}
}

func writeData(t testing.TB, engine *eval.Engine, path storage.Path, text string) {
	t.Helper()
	v := parse(t, text)
	if _, err := engine.Write(func(d *eval.Draft) error { return d.Patch(storage.AddOp, path, v) }); err != nil {
		t.Fatal(err)
	}
}

const appPolicy = `package app

default allow := false
allow if {
	input.user == "alice"
	input.action in data.grants[input.user]
}
twice(x) := x * 2
conflict := 1 if input.a
conflict := 2 if input.b
broken := to_number(input.text)
now := time.now_ns()
runtime := opa.runtime()
fetched := http.send({"method": "get", "url": "http://127.0.0.1:1/"})
address := net.lookup_ip_addr("localhost")
slow := count([1 | some i in numbers.range(1, 3000); some j in numbers.range(1, 3000); i == j])
some_of := count([1 | some i in numbers.range(1, 60); i > 1])
list := [1, {"x": "<&>"}]
s contains x if some x in ["b", "a"]
`

func TestEval(t *testing.T) {
	engine := newEngine(t)
	putModule(t, engine, "app.rego", appPolicy)
	putModule(t, engine, "std.rego", "package verdict.x\n\nbroken := to_number(input.text)")
	writeData(t, engine, storage.Path{"grants"}, `{"alice": ["read"], "odd key/": {"1": [10, 20]}}`)
	for _, tt := range []struct {
		name, path, input string
		strict            bool
		want, err         string // want "" : undefined
	}{
		{name: "allowed", path: "app/allow", input: `{"user": "alice", "action": "read"}`, want: `true`},
		{name: "denied", path: "app/allow", input: `{"user": "alice", "action": "write"}`, want: `false`},
		{name: "no input", path: "app/allow", want: `false`},
		{name: "undefined rule", path: "app/nothing"},
		{name: "undefined package", path: "no/such/thing"},
		{name: "base document", path: "grants/alice", want: `["read"]`},
		{name: "array element", path: "grants/alice/0", want: `"read"`},
		{name: "array element out of range", path: "grants/alice/1"},
		{name: "percent-encoded segment", path: "grants/odd%20key%2F/1/1", want: `20`},
		{name: "set as array", path: "app/s", want: `["a","b"]`},
		{name: "escaped text", path: "app/list", want: `[1,{"x":"\u003c\u0026\u003e"}]`},
		{name: "built-in error is undefined", path: "app/broken", input: `{"text": "x"}`},
		{name: "built-in error when strict", path: "app/broken", input: `{"text": "x"}`, strict: true, err: "eval_builtin_error"},
		{name: "standard policies are strict", path: "verdict/x/broken", input: `{"text": "x"}`, err: "eval_builtin_error"},
		{name: "conflict", path: "app/conflict", input: `{"a": 1, "b": 1}`, err: "eval_conflict_error"},
		{name: "function", path: "app/twice", err: "rego_type_error"},
		{name: "quote in path", path: `a"b`, err: "invalid path"},
		{name: "no host can be asked", path: "app/fetched", strict: true, err: "disallowed host"},
		{name: "no name can be looked up", path: "app/address", strict: true, err: "disallowed host"},
		{name: "runtime tells the version only", path: "app/runtime", want: `{"commit":"abc","version":"1.2.3"}`},
		{name: "clock", path: "app/now", want: `1790000000000000000`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := &eval.Query{Path: tt.path, Strict: tt.strict, Now: time.Unix(1790000000, 0)}
			if tt.input != "" {
				q.Input = parse(t, tt.input)
			}
			res, err := engine.Active().Eval(t.Context(), q)
			wantError(t, err, tt.err)
			if got := encode(t, res.Value); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if err != nil && tt.err != "invalid path" && tt.err != "rego_type_error" && eval.ErrorCode(err) == "" {
				t.Errorf("no code in %v", err)
			}
		})
	}
}

func encode(t testing.TB, v ast.Value) string {
	t.Helper()
	if v == nil {
		return ""
	}
	b, err := eval.AppendJSON(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEvalEnds(t *testing.T) {
	engine, err := eval.New(eval.Options{Timeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	putModule(t, engine, "app.rego", appPolicy)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, ctx := range map[string]context.Context{"at the deadline": t.Context(), "with its caller": cancelled} {
		t.Run(name, func(t *testing.T) {
			_, err := engine.Active().Eval(ctx, &eval.Query{Path: "app/slow", Now: time.Now()})
			if !eval.IsCancelled(err) {
				t.Fatalf("got %v, want a cancelled evaluation", err)
			}
		})
	}
}

// TestDeadlineIsNotForTheLoad lets an evaluation wait for an hour until others
// make room: it is not cancelled, since its deadline begins with its turn. One
// whose caller gives up meanwhile is.
func TestDeadlineIsNotForTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := newEngine(t)
		putModule(t, engine, "app.rego", appPolicy)
		free := engine.Occupy()
		impatient, cancel := context.WithCancel(t.Context())
		ends := make(chan error, 2)
		go func() {
			_, err := engine.Active().Eval(impatient, &eval.Query{Path: "app/list", Now: time.Now()})
			ends <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-ends; !eval.IsCancelled(err) {
			t.Errorf("the caller gave up: got %v", err)
		}
		go func() {
			_, err := engine.Active().Eval(t.Context(), &eval.Query{Path: "app/list", Now: time.Now()})
			ends <- err
		}()
		synctest.Wait()
		time.Sleep(time.Hour)
		free()
		if err := <-ends; err != nil {
			t.Errorf("after an hour of waiting: %v", err)
		}
	})
}

// starved is a context under which the processor is away for a while each time
// the evaluation looks up.
type starved struct {
	context.Context
	away time.Duration
}

func (s starved) Err() error {
	time.Sleep(s.away)
	return nil
}

// TestDeadlineIsForWork takes the processor away from evaluations for longer
// than their deadline. The one that does little work is not cancelled for it;
// the one without end is, and so is one that is away for ten deadlines.
func TestDeadlineIsForWork(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		away       time.Duration
		cancelled  bool
	}{
		{name: "little work, away for twice the deadline", path: "app/some_of", away: 200 * time.Millisecond},
		{name: "little work, away for ten deadlines", path: "app/some_of", away: time.Second + time.Millisecond, cancelled: true},
		{name: "work without end, away now and then", path: "app/slow", away: time.Millisecond, cancelled: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				engine, err := eval.New(eval.Options{Timeout: 100 * time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				putModule(t, engine, "app.rego", appPolicy)
				_, err = engine.Active().Eval(starved{t.Context(), tt.away}, &eval.Query{Path: tt.path, Now: time.Now()})
				if got := eval.IsCancelled(err); got != tt.cancelled {
					t.Errorf("cancelled is %t, want %t; error %v", got, tt.cancelled, err)
				}
			})
		})
	}
}

func TestNonDeterministicResults(t *testing.T) {
	engine := newEngine(t)
	putModule(t, engine, "app.rego", appPolicy)
	for path, want := range map[string]string{
		"app/now":  `{"time.now_ns":{"[]":1790000000000000000}}`,
		"app/list": ``,
	} {
		res, err := engine.Active().Eval(t.Context(), &eval.Query{Path: path, Now: time.Unix(1790000000, 0)})
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if res.ND != nil {
			got = encode(t, res.ND)
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

func TestObserve(t *testing.T) {
	engine := newEngine(t)
	putModule(t, engine, "app.rego", "package app\n\n# METADATA\n# labels:\n#   id: one\nallow if {\n\ttrace(\"seen\")\n\tinput.x == 1\n}")
	m := metrics.New()
	q := &eval.Query{Path: "app/allow", Input: parse(t, `{"x": 1}`), Now: time.Now(), Metrics: m, Instrument: true, Trace: true, RuleLabels: true}
	for i := range 2 {
		res, err := engine.Active().Eval(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Trace.Full()) == 0 || len(res.Trace.Notes()) == 0 {
			t.Errorf("round %d: no trace", i)
		}
		if len(res.RuleLabels) != 1 {
			t.Errorf("round %d: got labels %v", i, res.RuleLabels)
		}
	}
	all := m.All()
	for _, key := range []string{"counter_server_query_cache_hit", "timer_rego_query_eval_ns", "timer_rego_query_compile_ns"} {
		if _, ok := all[key]; !ok {
			t.Errorf("no metric %s in %v", key, all)
		}
	}
}

func TestModuleErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "empty module",
		"package a\n\nx = {":          "rego_parse_error",
		"package a\n\nallow { true }": "rego_parse_error",
	} {
		_, err := eval.ParseModule("m.rego", []byte(text))
		wantError(t, err, want)
	}
	engine := newEngine(t)
	_, err := engine.Write(put(t, "m.rego", "package a\n\np if q\n\nq if p"))
	var compile *eval.CompileError
	if !errors.As(err, &compile) || compile.Errors[0].Code != "rego_recursion_error" {
		t.Errorf("got %v", err)
	}
}

// TestReadersAndWriter queries while a writer replaces appPolicy and data: every
// answer belongs to one snapshot.
func TestReadersAndWriter(t *testing.T) {
	engine := newEngine(t)
	set := func(n string) {
		m := module(t, "p.rego", "package p\n\nx := [data.n, "+n+"]")
		_, err := engine.Write(func(d *eval.Draft) error {
			if err := d.Patch(storage.AddOp, storage.Path{"n"}, parse(t, n)); err != nil {
				return err
			}
			return d.PutModule(m)
		})
		if err != nil {
			t.Error(err)
		}
	}
	set("0")
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				res, err := engine.Active().Eval(t.Context(), &eval.Query{Path: "p/x", Now: time.Now()})
				if err != nil {
					t.Error(err)
					return
				}
				arr := res.Value.(*ast.Array)
				if arr.Elem(0).Value.Compare(arr.Elem(1).Value) != 0 {
					t.Errorf("two snapshots in one answer: %v", arr)
					return
				}
			}
		})
	}
	for i := range 50 {
		set(strings.Repeat("1", i%5+1))
	}
	close(done)
	readers.Wait()
}
