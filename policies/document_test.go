package policies_test

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func document(t testing.TB) string {
	t.Helper()
	page, err := os.ReadFile("../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// Every example of the page is a block of JSON with the members `question` (laid
// over the page's first one), `data` (laid over the shipped data) and `answer`
// (members that the decision must have); `ask` is http for that entry point.
func TestDocumentedExamples(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(document(t), -1)
	if len(blocks) < 6 {
		t.Fatalf("%d examples", len(blocks))
	}
	for _, block := range blocks {
		shown := parse(t, []byte(block[1]))
		input := parse(t, []byte(blocks[0][1]))["question"].(map[string]any)
		if change, ok := shown["question"].(map[string]any); ok {
			overlay(input, change)
		}
		set := standard(t)
		if change, ok := shown["data"].(map[string]any); ok {
			overlay(set.Data, change)
		}
		answer := newEvaluator(t, set).decide(t, input)
		if shown["ask"] == "http" {
			value, err := newEvaluator(t, set).ask("data.verdict.authz.http", input)
			if err != nil {
				t.Fatal(err)
			}
			answer, _ = value.(map[string]any)
		}
		want, ok := shown["answer"].(map[string]any)
		if !ok {
			t.Fatalf("an example without answer: %s", block[1])
		}
		for member, value := range want {
			if !reflect.DeepEqual(answer[member], value) {
				t.Errorf("%s\nthe answer's %s is %v", block[1], member, answer[member])
			}
		}
	}
}

// Every key of the configuration and every reason code stands on the page.
func TestDocumentIsComplete(t *testing.T) {
	page := document(t)
	verdict := standard(t).Data["verdict"].(map[string]any)
	for name, section := range verdict {
		for key := range section.(map[string]any) {
			if path := name + "." + key; !strings.Contains(page, "`"+path) {
				t.Errorf("data.verdict.%s is not described", path)
			}
		}
	}
	var codes []string
	literal := regexp.MustCompile(`"([a-z]+(?:_[a-z]+)+)"`)
	about := regexp.MustCompile(`_(?:unknown|invalid|missing|required|untrusted|unverified|restricted|mismatch|denied|granted|expired|idle|stale|unmapped|open|low|high|allowed|hours|scope|duty|cycle|duplicate|incomplete|suspended|inactive|revoked|unsatisfiable|shadowed)$`)
	for _, source := range standard(t).Modules {
		for _, found := range literal.FindAllStringSubmatch(source, -1) {
			if about.MatchString(found[1]) && !slices.Contains(codes, found[1]) {
				codes = append(codes, found[1])
			}
		}
	}
	if len(codes) < 40 {
		t.Errorf("only %d codes found", len(codes))
	}
	for _, code := range append(codes, "separation_of_duty") {
		if !strings.Contains(page, "`"+code+"`") {
			t.Errorf("the code %s is not described", code)
		}
	}
}
