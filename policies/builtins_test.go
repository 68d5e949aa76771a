package policies_test

import (
	"encoding/json"
	"math/rand"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// fallible are the built-ins of the library that can fail at run time, each
// with a question to a denial's path on which it does.
func fallible() map[string]string {
	return map[string]string{
		"time.weekday": `{"subject": {"properties": {"timezone": "Mars/Olympus_Mons"}}}`,
	}
}

// infallible are the others: those that have no failure, and those whose
// operands the library has checked or made itself (docs/policies.md).
func infallible() []string {
	return []string{
		"and", "array.concat", "array.flatten", "concat", "contains", "count", "div", "eq", "equal", "graph.reachable",
		"gt", "gte", "internal.member_2", "is_array", "is_boolean", "is_number", "is_object", "is_string", "lower", "lt",
		"lte", "max", "min", "minus", "mul", "neq", "net.cidr_contains", "net.cidr_is_valid", "object.filter", "object.get",
		"object.keys", "object.union", "or", "plus", "regex.match", "round", "sort", "split", "sprintf", "substring", "sum",
		"time.clock", "time.date", "time.now_ns", "time.parse_rfc3339_ns", "to_number", "type_name", "upper",
	}
}

func usedBuiltins(compiler *ast.Compiler) []string {
	seen := map[string]bool{}
	note := func(operator string) {
		if _, ok := ast.BuiltinMap[operator]; ok {
			seen[operator] = true
		}
	}
	for _, module := range compiler.Modules {
		ast.WalkExprs(module, func(e *ast.Expr) bool {
			if e.IsCall() {
				note(e.Operator().String())
			}
			return false
		})
		ast.WalkTerms(module, func(term *ast.Term) bool {
			if call, ok := term.Value.(ast.Call); ok {
				note(call[0].String())
			}
			return false
		})
	}
	var names []string
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestListOfBuiltins(t *testing.T) {
	listed := infallible()
	for name := range fallible() {
		listed = append(listed, name)
	}
	slices.Sort(listed)
	used := usedBuiltins(newEvaluator(t, standard(t)).compiler)
	if !slices.Equal(listed, used) {
		t.Errorf("used   %v\nlisted %v", used, listed)
	}
	page := document(t)
	for _, name := range used {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/policies.md does not list %s", name)
		}
	}
}

const good = `{
	"subject": {"type": "user", "id": "alice", "properties": {"roles": ["customer_service"], "tenant": "t1"}},
	"action": {"name": "read"},
	"resource": {"type": "customer", "id": "c1", "properties": {"tenant": "t1", "owner": "alice"}},
	"context": {
		"policy": "user",
		"time": "2026-11-23T10:00:00Z",
		"session": {"id": "s1", "mfa": true, "created_at": "2026-11-23T10:00:00Z", "last_verified_at": "2026-11-23T10:00:00Z",
			"last_activity_at": "2026-11-23T10:00:00Z", "anomaly": 0, "auth_failures": 0, "incidents": []},
		"device": {"id": "d1", "trusted": true, "reputation": 1},
		"location": {"country": "US", "verified": true},
		"network": {"ip": "10.1.2.3", "listener": "public"}
	}
}`

// Where a built-in fails, strict evaluation is an error, which the server
// answers with a denial (policy_error); and even without strict errors, as
// stock OPA evaluates by default, the answer is a denial.
func TestFailingBuiltinsDeny(t *testing.T) {
	for name, change := range fallible() {
		t.Run(name, func(t *testing.T) {
			set := standard(t)
			switchOn(set.Data, "business_hours_only")
			eval := newEvaluator(t, set)
			input := parse(t, []byte(good))
			if answer := eval.decide(t, input); answer["allow"] != true {
				t.Fatalf("the question is denied anyway: %v", reasonCodes(answer))
			}
			overlay(input, parse(t, []byte(change)))
			if answer, err := eval.ask(decision, input); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("strict evaluation gave %v, %v", answer, err)
			}
			eval.strict = false
			answer := eval.decide(t, input)
			if answer["allow"] != false || !slices.Contains(reasonCodes(answer), "timezone_invalid") {
				t.Errorf("without strict errors: %v", answer)
			}
		})
	}
}

// TestHostileFacts puts odd values in every place of the question and of the
// data. Nothing but a built-in listed as fallible may fail, and the decision is
// always an answer with a reason.
func TestHostileFacts(t *testing.T) {
	t.Parallel()
	odd := []any{nil, true, false, json.Number("-1"), json.Number("1e400"), "", "x", "10.0.0.0/8", []any{}, []any{nil, json.Number("7")}, map[string]any{}, map[string]any{"x": []any{"y"}}}
	set := standard(t)
	for id := range set.Data["verdict"].(map[string]any)["rules"].(map[string]any)["shipped"].(map[string]any) {
		switchOn(set.Data, id)
	}
	eval := newEvaluator(t, set)
	spots := append(places(parse(t, []byte(good)), nil), nil)
	for _, spot := range spots {
		for _, value := range odd {
			input := replace(t, parse(t, []byte(good)), spot, value)
			checkAnswer(t, eval, input, spot, value)
		}
	}
	// Places in the data are many: a sample in a fixed order.
	random := rand.New(rand.NewSource(1))
	spots = places(set.Data, nil)
	for range 120 {
		spot := spots[random.Intn(len(spots))]
		value := odd[random.Intn(len(odd))]
		changed, ok := replace(t, set.Data, spot, value).(map[string]any)
		if !ok || len(spot) < 2 {
			continue
		}
		checkAnswer(t, eval.over(changed), parse(t, []byte(good)), spot, value)
	}
}

func checkAnswer(t *testing.T, eval *evaluator, input any, spot []string, value any) {
	t.Helper()
	answer, err := eval.ask(decision, input)
	if err != nil {
		for name := range fallible() {
			if strings.Contains(err.Error(), name) {
				return
			}
		}
		t.Errorf("%v = %v: %v", spot, value, err)
		return
	}
	object, ok := answer.(map[string]any)
	if !ok {
		t.Errorf("%v = %v: the decision is %v", spot, value, answer)
		return
	}
	if object["allow"] != (object["decision"] == "permit") || len(reasonCodes(object)) == 0 {
		t.Errorf("%v = %v: %v", spot, value, object)
	}
}

// places lists the paths of all values inside an object.
func places(value any, at []string) [][]string {
	object, ok := value.(map[string]any)
	if !ok {
		return nil
	}
	var all [][]string
	for key, below := range object {
		here := append(at[:len(at):len(at)], key)
		all = append(all, here)
		all = append(all, places(below, here)...)
	}
	slices.SortFunc(all, slices.Compare)
	return all
}

// replace returns a copy of the document with another value at a path.
func replace(t *testing.T, document any, path []string, value any) any {
	t.Helper()
	if len(path) == 0 {
		return value
	}
	object, ok := document.(map[string]any)
	if !ok {
		t.Fatalf("no object at %v", path)
	}
	copied := map[string]any{}
	for key, below := range object {
		copied[key] = below
	}
	copied[path[0]] = replace(t, object[path[0]], path[1:], value)
	return copied
}

func overlay(dst, src map[string]any) {
	for key, value := range src {
		below, ok := value.(map[string]any)
		into, exists := dst[key].(map[string]any)
		if !ok || !exists {
			dst[key] = value
			continue
		}
		overlay(into, below)
	}
}

func switchOn(data map[string]any, rule string) {
	overlay(data, map[string]any{"verdict": map[string]any{"rules": map[string]any{
		"shipped": map[string]any{rule: map[string]any{"enabled": true}},
	}}})
}

// A built-in call under `not` is undefined when a reference in it is, so that
// `not f(input.absent)` does not hold. Such a call must name the value first.
func TestNoInputInsideNegatedCalls(t *testing.T) {
	for name, source := range standard(t).Modules {
		ast.WalkExprs(ast.MustParseModule(source), func(e *ast.Expr) bool {
			if !e.Negated || !e.IsCall() || e.IsEquality() || e.Operator().String() == "equal" {
				return false
			}
			ast.WalkRefs(e, func(ref ast.Ref) bool {
				if ref.HasPrefix(ast.InputRootRef) {
					t.Errorf("%s:%d: %s inside a negated call", name, e.Location.Row, ref)
				}
				return false
			})
			return false
		})
	}
}

// What the pattern for timestamps admits, the parser accepts.
func TestTimestampPatternAdmitsOnlyWhatParses(t *testing.T) {
	t.Parallel()
	eval := newEvaluator(t, standard(t))
	text, err := eval.ask("data.verdict.facts.timestamp", nil)
	if err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile(text.(string))
	random := rand.New(rand.NewSource(1))
	seeds := []string{"2024-02-29T23:59:59.123456789+23:59", "1970-01-01T00:00:00Z", "2199-12-31T23:59:59-23:59", "2100-02-28T10:20:30Z"}
	admitted := 0
	for range 100_000 {
		candidate := []byte(seeds[random.Intn(len(seeds))])
		for range random.Intn(4) {
			candidate[random.Intn(len(candidate))] = "0123456789-:TZ.+"[random.Intn(16)]
		}
		if !pattern.Match(candidate) {
			continue
		}
		admitted++
		if _, err := time.Parse(time.RFC3339, string(candidate)); err != nil {
			t.Fatalf("%s is admitted: %v", candidate, err)
		}
	}
	if admitted < 4_000 {
		t.Errorf("only %d timestamps were tried", admitted)
	}
	for day := time.Date(1970, 1, 1, 12, 0, 0, 0, time.UTC); day.Year() < 2200; day = day.AddDate(0, 0, 1) {
		if !pattern.MatchString(day.Format(time.RFC3339)) {
			t.Fatalf("%s is not admitted", day)
		}
	}
}

// The caller's policy reaches nothing but the caller, the class and data, so
// that its answer can be kept.
func TestCallerPolicyReach(t *testing.T) {
	source := standard(t).Modules["verdict/system/authz/authz.rego"]
	ast.WalkRefs(ast.MustParseModule(source), func(ref ast.Ref) bool {
		text := ref.String()
		if ref.HasPrefix(ast.InputRootRef) && text != "input.caller.name" && text != "input.class" {
			t.Errorf("it reads %s", text)
		}
		if ref.HasPrefix(ast.DefaultRootRef) && !strings.HasPrefix(text, "data.verdict.system.authz.refused") && text != "data.verdict.system.authz" {
			t.Errorf("it reads %s", text)
		}
		if builtin, ok := ast.BuiltinMap[text]; ok && builtin.IsNondeterministic() {
			t.Errorf("it calls %s", text)
		}
		return false
	})
}
