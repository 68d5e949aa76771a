package policies_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/verdict-pdp/verdict/policies"
)

// evaluator evaluates one document over modules and data.
type evaluator struct {
	compiler *ast.Compiler
	data     map[string]any
	strict   bool
	prepared map[string]rego.PreparedEvalQuery // by query and strictness
}

func newEvaluator(t testing.TB, set *policies.Set) *evaluator {
	t.Helper()
	compiler, err := ast.CompileModules(set.Modules)
	if err != nil {
		t.Fatal(err)
	}
	return &evaluator{compiler: compiler, data: set.Data, strict: true}
}

// over returns an evaluator of the same modules over other data.
func (e *evaluator) over(data map[string]any) *evaluator {
	return &evaluator{compiler: e.compiler, data: data, strict: e.strict}
}

// ask returns the value of the document at ref, nil when it is undefined.
func (e *evaluator) ask(ref string, input any) (any, error) {
	key := fmt.Sprint(ref, e.strict)
	query, ok := e.prepared[key]
	if !ok {
		var err error
		query, err = rego.New(
			rego.Query(ref),
			rego.Compiler(e.compiler),
			rego.Store(inmem.NewFromObjectWithOpts(e.data, inmem.OptRoundTripOnWrite(false))),
			rego.StrictBuiltinErrors(e.strict),
		).PrepareForEval(context.Background())
		if err != nil {
			return nil, err
		}
		if e.prepared == nil {
			e.prepared = map[string]rego.PreparedEvalQuery{}
		}
		e.prepared[key] = query
	}
	result, err := query.Eval(context.Background(), rego.EvalInput(input))
	if err != nil || len(result) == 0 {
		return nil, err
	}
	return result[0].Expressions[0].Value, nil
}

const decision = "data.verdict.authz.decision"

func (e *evaluator) decide(t testing.TB, input any) map[string]any {
	t.Helper()
	value, err := e.ask(decision, input)
	if err != nil {
		t.Fatal(err)
	}
	answer, ok := value.(map[string]any)
	if !ok {
		t.Fatalf("the decision is %v", value)
	}
	return answer
}

func reasonCodes(answer map[string]any) []string {
	var codes []string
	reasons, _ := answer["reasons"].([]any)
	for _, reason := range reasons {
		code, _ := reason.(map[string]any)["code"].(string)
		codes = append(codes, code)
	}
	return codes
}

func parse(t testing.TB, text []byte) map[string]any {
	t.Helper()
	var value map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return value
}

func standard(t testing.TB) *policies.Set {
	t.Helper()
	set, err := policies.Standard()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func example(t testing.TB) *policies.Set {
	t.Helper()
	set, err := policies.Example()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestSetHoldsEveryFileButTests(t *testing.T) {
	set := standard(t)
	var lines, modules []string
	err := filepath.WalkDir("verdict", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(name, "_test.rego") {
			return err
		}
		content, err := os.ReadFile(name)
		sum := sha256.Sum256(content)
		lines = append(lines, name+"\x00"+hex.EncodeToString(sum[:])+"\n")
		if strings.HasSuffix(name, ".rego") {
			modules = append(modules, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range modules {
		if set.Modules[name] == "" {
			t.Errorf("%s is not served", name)
		}
	}
	if len(set.Modules) != len(modules) {
		t.Errorf("%d modules are served, the folder has %d", len(set.Modules), len(modules))
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	if want := hex.EncodeToString(sum[:])[:12]; set.Revision != want {
		t.Errorf("revision %s, want %s", set.Revision, want)
	}
	if other := example(t); other.Revision == set.Revision {
		t.Error("the example's data does not change the revision")
	}
}

func TestNothingOutsideVerdict(t *testing.T) {
	set := example(t)
	for name, source := range set.Modules {
		module := ast.MustParseModule(source)
		if path := module.Package.Path.String(); !strings.HasPrefix(path, "data.verdict.") {
			t.Errorf("%s defines %s", name, path)
		}
	}
	for key := range set.Data {
		if key != "verdict" {
			t.Errorf("data at %q", key)
		}
	}
}

// The paths that are exported must be documents, and no rule may hide data.
func TestPathsAreDefined(t *testing.T) {
	set := example(t)
	eval := newEvaluator(t, set)
	eval.compiler = ast.NewCompiler().WithPathConflictsCheck(func(path []string) (bool, error) {
		var node any = set.Data
		for _, segment := range path {
			object, ok := node.(map[string]any)
			if !ok {
				return true, nil
			}
			if node, ok = object[segment]; !ok {
				return false, nil
			}
		}
		return true, nil
	})
	modules := map[string]*ast.Module{}
	for name, source := range set.Modules {
		modules[name] = ast.MustParseModule(source)
	}
	if eval.compiler.Compile(modules); eval.compiler.Failed() {
		t.Fatal(eval.compiler.Errors)
	}
	for _, path := range []string{policies.DecisionPath, policies.CallerPath, policies.ProblemsPath} {
		ref := "data." + strings.ReplaceAll(path, "/", ".")
		if value, err := eval.ask(ref, map[string]any{}); err != nil || value == nil {
			t.Errorf("%s is %v, %v", ref, value, err)
		}
	}
}

func TestExampleQuestions(t *testing.T) {
	set := example(t)
	eval := newEvaluator(t, set)
	allowed, denied, err := policies.ExampleInputs()
	if err != nil {
		t.Fatal(err)
	}
	if answer := eval.decide(t, parse(t, allowed)); answer["allow"] != true {
		t.Errorf("denied for %v", reasonCodes(answer))
	}
	want := []string{"device_untrusted", "mfa_required", "risk_too_high", "tenant_mismatch", "trust_too_low", "zone_not_allowed", "zone_unmapped"}
	got := reasonCodes(eval.decide(t, parse(t, denied)))
	if slices.Sort(got); !reflect.DeepEqual(got, want) {
		t.Errorf("denied for %v, want %v", got, want)
	}
	if problems, err := eval.ask("data.verdict.authz.problems", nil); err != nil || len(problems.([]any)) > 0 {
		t.Errorf("problems %v, %v", problems, err)
	}
}

// Every question about the example's own entities has an answer, and the
// organisation works: each of its people can do something and nobody everything.
func TestExampleOrganisation(t *testing.T) {
	t.Parallel()
	set := example(t)
	eval := newEvaluator(t, set)
	root := set.Data["verdict"].(map[string]any)
	entities := root["entities"].(map[string]any)
	may := map[string]int{}
	asked := 0
	for user, properties := range entities["user"].(map[string]any) {
		for kind, actions := range root["actions"].(map[string]any) {
			for id, resource := range entities[kind].(map[string]any) {
				for _, action := range actions.([]any) {
					asked++
					answer := eval.decide(t, map[string]any{
						"subject":  map[string]any{"type": "user", "id": user, "properties": properties},
						"action":   map[string]any{"name": action},
						"resource": map[string]any{"type": kind, "id": id, "properties": resource},
					})
					if answer["allow"] == true {
						may[user]++
					}
				}
			}
		}
	}
	for user := range entities["user"].(map[string]any) {
		if may[user] == 0 || may[user]*5 > asked*4 {
			t.Errorf("%s may do %d of %d", user, may[user], asked)
		}
	}
}
