package eval_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// shopSnapshot is a snapshot with rules for queries and filters, and much data.
func shopSnapshot(t testing.TB, timeout time.Duration) *eval.Snapshot {
	t.Helper()
	engine, err := eval.New(eval.Options{Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	var numbers []*ast.Term
	for i := range 200_000 {
		numbers = append(numbers, ast.IntNumberTerm(i))
	}
	_, err = engine.Write(func(d *eval.Draft) error {
		for id, text := range map[string]string{
			"shop": `package shop

# METADATA
# scope: document
# compile:
#   unknowns: [input.fruits]
#   mask_rule: masks
include if input.fruits.name == input.favorite

masks.fruits.price.replace.value := "***" if not input.admin

many if {
	input.a[i] == data.big[_]
	input.b[i] == data.big[_]
}

list if input.fruits.n in data.big
`,
			"verdict": "package verdict.x\n\nbroken if 1 / input.zero\n",
		} {
			m, err := eval.ParseModule(id, []byte(text))
			if err != nil {
				return err
			}
			if err := d.PutModule(m); err != nil {
				return err
			}
		}
		return d.Patch(storage.AddOp, storage.Path{"big"}, ast.NewArray(numbers...))
	})
	if err != nil {
		t.Fatal(err)
	}
	return engine.Active()
}

func ask(t *testing.T, s *eval.Snapshot, text string, most int) (eval.Result, error) {
	t.Helper()
	body, err := eval.ParseQuery(text)
	if err != nil {
		return eval.Result{}, err
	}
	input := ast.MustInterfaceToValue(map[string]any{"zero": 0, "favorite": "apple"})
	return s.Ask(context.Background(), &eval.Adhoc{Body: body, Input: input, Now: time.Now(), MaxBytes: most})
}

func TestAsk(t *testing.T) {
	s := shopSnapshot(t, time.Minute)
	for _, tt := range []struct{ text, want, failure string }{
		{"x = 1; y := x", `[{"x": 1, "y": 1}]`, ""},
		{"x = input.favorite", `[{"x": "apple"}]`, ""},
		{"data.big[i] = 2", `[{"i": 2}]`, ""},
		{"1 == 2", `[{}]`, ""},
		{"1 == 2; true", "", ""},
		{"x = 1 / input.zero", "", ""},
		{"data.shop.nosuch", "", ""},
		{"data.verdict.x.broken", "", "divide by zero"},
		{`data[p].x.broken`, "", "divide by zero"},
		{"", "", "cannot evaluate empty query"},
		{`http.send({}, x)`, "", "unsafe built-in function calls in expression: http.send"},
		{`x = bits.lsh(1, 4000000000)`, "", "unsafe built-in function calls in expression: bits.lsh"},
		{`x = count([]) with count as http.send`, "", "target must not be unsafe"},
		{"x = data", "", "answer exceeds limit of 65536 bytes"},
		{"data.big[_] = x", "", "answer exceeds limit of 65536 bytes"},
		{"x = y", "", "unsafe"},
		{"x = ", "", "rego_parse_error"},
		{strings.Repeat("1;", eval.MaxQueryText), "", "query exceeds limit of 16384 bytes"},
		{strings.Repeat("1;", 300) + "1", "", "query exceeds limit of 200 expressions"},
		{"x = " + strings.Repeat("[", 40) + strings.Repeat("]", 40), "", "nesting of the query exceeds limit of 16 levels"},
	} {
		res, err := ask(t, s, tt.text, 64<<10)
		got := ""
		if res.Value != nil {
			got = res.Value.String()
		}
		if got != tt.want || (err == nil) != (tt.failure == "") || err != nil && !strings.Contains(err.Error(), tt.failure) {
			t.Errorf("%.60s: %.200s, %.200v; want %s, %s", tt.text, got, err, tt.want, tt.failure)
		}
	}
	// Rows that bind nothing cost memory as well.
	var limit *eval.LimitError
	if _, err := ask(t, s, "data.big[_]", 0); !errors.As(err, &limit) || limit.Unit != "rows" {
		t.Errorf("too many rows: %v", err)
	}
}

// Whatever a caller thinks of, it ends soon after the deadline.
func TestAskEnds(t *testing.T) {
	s := shopSnapshot(t, 50*time.Millisecond)
	doubling := `x0 = "` + strings.Repeat("a", 64) + `"; `
	for i := range 30 {
		doubling += fmt.Sprintf(`x%d = concat("", [x%d, x%d]); `, i+1, i, i)
	}
	for _, text := range []string{
		"data.big[_]; data.big[_]; false", "x = [1 | data.big[_]; data.big[_]]", "x = numbers.range(1, 1000000000)",
		`x = net.cidr_expand("10.0.0.0/8")`, doubling + "false",
	} {
		started := time.Now()
		_, err := ask(t, s, text, 1<<20)
		if !eval.IsCancelled(err) {
			t.Errorf("%.60s: %v", text, err)
		}
		t.Logf("%.60s: took %v", text, time.Since(started))
	}
}

func TestPartial(t *testing.T) {
	s := shopSnapshot(t, time.Minute)
	partial := func(s *eval.Snapshot, text string, unknowns ...string) (eval.Residual, eval.Result, error) {
		body, err := eval.ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		var terms []*ast.Term
		for _, u := range unknowns {
			terms = append(terms, ast.MustParseTerm(u))
		}
		return s.Partial(context.Background(), &eval.Partial{
			Body: body, Unknowns: terms, Now: time.Now(), MaxBytes: 64 << 10,
			Input: ast.MustInterfaceToValue(map[string]any{"favorite": "apple", "zero": 0}),
		})
	}
	left, res, err := partial(s, "data.shop.include", "input.fruits")
	if err != nil || !strings.Contains(string(left.JSON), `"value":"apple"`) || res.Value == nil {
		t.Errorf("%s, %v", left.JSON, err)
	}
	if left, _, err = partial(s, "data.shop.include", "data.nosuch"); err != nil || string(left.JSON) != "{}" {
		t.Errorf("%s, %v", left.JSON, err)
	}
	var limit *eval.LimitError
	if _, _, err = partial(s, "input.x = data.big"); !errors.As(err, &limit) {
		t.Errorf("large document: %v", err)
	}
	if _, res, err = partial(s, "data.verdict.x.broken", "input.y"); !res.Strict || err == nil || !strings.Contains(err.Error(), "divide by zero") {
		t.Errorf("error below data.verdict: %v", err)
	}
	if _, _, err = partial(shopSnapshot(t, 50*time.Millisecond), "data.shop.many"); !eval.IsCancelled(err) {
		t.Errorf("blow-up: %v", err)
	}
}

func TestFilter(t *testing.T) {
	s := shopSnapshot(t, time.Minute)
	postgres := eval.FilterTarget{Target: "sql", Dialect: "postgresql"}
	q := eval.Filter{
		Ref: ast.MustParseRef("data.shop.include"), Now: time.Now(), Targets: []eval.FilterTarget{postgres},
		Input: ast.MustInterfaceToValue(map[string]any{"favorite": "pine'apple"}), MaxBytes: 64 << 10,
	}
	var err error
	if q.Unknowns, q.MaskRule, err = s.FilterHints(q.Ref); err != nil || len(q.Unknowns) != 1 || q.MaskRule.String() != "data.shop.masks" {
		t.Fatalf("%v, %v, %v", q.Unknowns, q.MaskRule, err)
	}
	f, res, err := s.Filter(context.Background(), &q)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(f.For(postgres)); got != `&{WHERE fruits.name = E'pine\'apple' map[fruits:map[price:map[replace:map[value:***]]]]}` {
		t.Error(got)
	}
	if got := res.Value.String(); !strings.HasPrefix(got, `{"sql": {"postgresql": {"masks": {"fruits": `) {
		t.Error(got)
	}
	var limit *eval.LimitError
	q.Ref = ast.MustParseRef("data.shop.list")
	if _, _, err = s.Filter(context.Background(), &q); !errors.As(err, &limit) {
		t.Errorf("a long list: %v", err)
	}
	q.Targets = []eval.FilterTarget{{Target: "sql", Dialect: "nosuch"}}
	var unprepared *eval.PrepareError
	if _, _, err = s.Filter(context.Background(), &q); !errors.As(err, &unprepared) {
		t.Errorf("unknown dialect: %v", err)
	}
}
