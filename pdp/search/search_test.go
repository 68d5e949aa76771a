package search_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/internal/pointtest"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/search"
)

func parse(t testing.TB, text string) ast.Value {
	t.Helper()
	v, _, err := eval.ParseInput([]byte(text), eval.Limits{Members: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newEngine(t testing.TB, o eval.Options, data string, modules ...string) *eval.Engine {
	t.Helper()
	engine, err := eval.New(o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = engine.Write(func(d *eval.Draft) error {
		if err := d.Patch(storage.AddOp, nil, parse(t, data)); err != nil {
			return err
		}
		for i, text := range modules {
			m, err := eval.ParseModule(fmt.Sprintf("m%d.rego", i), []byte(text))
			if err != nil {
				return err
			}
			if err := d.PutModule(m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// recordOf reads the record of a search.
func recordOf(t testing.TB, log *audit.Log, d *pdp.Decision) map[string]any {
	t.Helper()
	_, raw, err := log.Find(t.Context(), d.ID)
	if err != nil {
		t.Fatal(err)
	}
	var rec map[string]any
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&rec); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return rec
}

const staff = `package app

import rego.v1

default allow := false

# Membership counts through any number of groups.
member contains group if {
	some group in object.get(data.groups.of, input.subject.id, [])
}

member contains parent if {
	some group in object.get(data.groups.of, input.subject.id, [])
	some parent in graph.reachable(data.groups.parents, {group})
}

allow if {
	input.action.name in {"read", "list"}
	data.documents[input.resource.id].viewer in member
}

allow if input.subject.properties.root == true

allow if {
	input.action.name == "delete"
	input.action.properties.soft == true
}

explained := {"allow": allow, "reasons": reasons, "obligations": obligations}

reasons := [] if allow
reasons := [{"code": "not_a_viewer", "policy": "app"}] if not allow

obligations := [{"id": "o1", "type": "step-up", "properties": {}}] if input.subject.id == "ada"
obligations := [] if input.subject.id != "ada"

number := 7

undefined_for_most := true if input.subject.id == "ada"

conflict := 1 if input.subject.id
conflict := 2 if input.subject.id == "cyd"

slow if count([1 | some a in numbers.range(1, 2000); some b in numbers.range(1, 2000); a * b == -1]) == 0
`

const staffData = `{
	"groups": {
		"of": {"ada": ["core"], "bo": ["guests"], "cyd": ["interns"]},
		"parents": {"core": ["staff"], "staff": ["everyone"], "interns": ["staff"], "guests": []}
	},
	"documents": {"d1": {"viewer": "staff"}, "d2": {"viewer": "core"}, "d3": {"viewer": "nobody"}},
	"verdict": {
		"entities": {
			"user": {"ada": {"root": false}, "bo": null, "cyd": {}, "zed": {"root": true}},
			"document": {"d1": {}, "d2": {}, "d3": {}},
			"broken": {"x": 7},
			"list": ["a"]
		},
		"actions": {
			"document": ["read", "list", "write", "read", {"name": "delete", "properties": {"soft": true}}, {"name": "delete", "properties": {"soft": false}}],
			"object": {"read": {}, "delete": {"soft": true}, "write": null},
			"broken": [7],
			"worse": "read"
		}
	}
}`

func keysOf(a *search.Answer) []string {
	var keys []string
	for _, m := range a.Matches {
		keys = append(keys, m.Key)
	}
	return keys
}

// TestSearch looks for each kind of entity.
func TestSearch(t *testing.T) {
	p := pdp.New(newEngine(t, eval.Options{Timeout: 20 * time.Second}, staffData, staff), nowhere{}, pdp.Options{})
	soft := "delete\x00" + `{"soft": true}`
	for _, tt := range []struct {
		name       string
		kind       search.Kind
		typ        string
		path       string // empty: app/allow
		question   string
		want       []string
		candidates int
	}{
		{"transitive members", search.Subjects, "user", "", `{"subject":{"type":"user"},"action":{"name":"read"},"resource":{"type":"document","id":"d1"}}`, []string{"ada", "cyd", "zed"}, 4},
		{"of a group itself", search.Subjects, "user", "", `{"subject":{"type":"user"},"action":{"name":"read"},"resource":{"type":"document","id":"d2"}}`, []string{"ada", "zed"}, 4},
		{"properties for those without", search.Subjects, "user", "", `{"subject":{"type":"user","properties":{"root":true}},"action":{"name":"x"},"resource":{"type":"document","id":"d2"}}`, []string{"bo", "cyd", "zed"}, 4},
		{"resources", search.Resources, "document", "", `{"subject":{"type":"user","id":"ada"},"action":{"name":"read"},"resource":{"type":"document"}}`, []string{"d1", "d2"}, 3},
		{"resources for properties", search.Resources, "document", "", `{"subject":{"type":"user","id":"new","properties":{"root":true}},"action":{"name":"read"},"resource":{"type":"document"}}`, []string{"d1", "d2", "d3"}, 3},
		{"resources for nobody", search.Resources, "document", "", `{"subject":{"type":"user","id":"new"},"action":{"name":"read"},"resource":{"type":"document"}}`, nil, 3},
		{"actions", search.Actions, "document", "", `{"subject":{"type":"user","id":"ada"},"resource":{"type":"document","id":"d1"}}`, []string{soft, "list", "read"}, 5},
		{"actions by name", search.Actions, "object", "", `{"subject":{"type":"user","id":"zed"},"resource":{"type":"object","id":"d1"}}`, []string{soft}, 3},
		{"unknown type", search.Subjects, "spaceship", "", `{"subject":{"type":"spaceship"}}`, nil, 0},
		{"unknown type of actions", search.Actions, "spaceship", "", `{}`, nil, 0},
		{"undefined denies", search.Subjects, "user", "app/undefined_for_most", `{"subject":{"type":"user"}}`, []string{"ada"}, 4},
		{"undefined path", search.Subjects, "user", "no/such", `{"subject":{"type":"user"}}`, nil, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := tt.path
			if path == "" {
				path = "app/allow"
			}
			s := search.New(p, search.Options{Path: path})
			a, err := s.Search(t.Context(), &search.Request{Kind: tt.kind, Type: tt.typ, Question: parse(t, tt.question).(ast.Object), Most: -1})
			if err != nil {
				t.Fatal(err)
			}
			if got := keysOf(a); !slices.Equal(got, tt.want) || a.Candidates != tt.candidates || a.More {
				t.Errorf("found %q of %d (more: %v), want %q of %d", got, a.Candidates, a.More, tt.want, tt.candidates)
			}
		})
	}
}

// TestSearchErrors names what keeps a search from an answer. Each failure is
// recorded.
func TestSearchErrors(t *testing.T) {
	log := pointtest.Log(t, audit.Options{})
	p := pdp.New(newEngine(t, eval.Options{Timeout: 20 * time.Second}, staffData, staff), log, pdp.Options{})
	users := `{"subject":{"type":"user"},"action":{"name":"read"},"resource":{"type":"document","id":"d1"}}`
	for _, tt := range []struct {
		name, path, question, typ string
		kind                      search.Kind
		limit                     int
		timeout                   time.Duration
		want, code                string
	}{
		{name: "too many", path: "app/allow", typ: "user", question: users, limit: 3, want: "the search has 4 candidates, more than the limit of 3", code: "search_limit"},
		{name: "too slow", path: "app/slow", typ: "user", question: users, timeout: time.Millisecond, want: "the search took longer than 1ms", code: "search_timeout"},
		{name: "no decision", path: "app/number", typ: "user", question: users, want: `candidate "ada": the result is neither a boolean`, code: "result_error"},
		{name: "policy fails", path: "app/conflict", typ: "user", question: users, want: `candidate "ada": the result is neither`, code: "result_error"},
		{name: "entity without properties", path: "app/allow", typ: "broken", question: users, want: `malformed search data: the properties of "x" are no object`, code: "search_data"},
		{name: "entities in a list", path: "app/allow", typ: "list", question: users, want: `data.verdict.entities["list"]: malformed search data`, code: "search_data"},
		{name: "action without a name", kind: search.Actions, path: "app/allow", typ: "broken", question: users, want: `data.verdict.actions["broken"]: malformed search data: the name 7 is no string`, code: "search_data"},
		{name: "actions of the wrong form", kind: search.Actions, path: "app/allow", typ: "worse", question: users, want: `data.verdict.actions["worse"]: malformed search data`, code: "search_data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := search.New(p, search.Options{Path: tt.path, Limit: tt.limit, Timeout: tt.timeout})
			a, err := s.Search(t.Context(), &search.Request{Kind: tt.kind, Type: tt.typ, Question: parse(t, tt.question).(ast.Object), Most: -1})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want %s", err, tt.want)
			}
			rec := recordOf(t, log, a.Decision)
			problem, _ := rec["error"].(map[string]any)
			if rec["event"] != "decision_error" || problem["code"] != tt.code || rec["result"] != nil {
				t.Errorf("record %v", rec)
			}
		})
	}
}

// TestSearchRecord checks that a search is one record: the question, how many
// candidates there were and what came of them.
func TestSearchRecord(t *testing.T) {
	log := pointtest.Log(t, audit.Options{})
	p := pdp.New(newEngine(t, eval.Options{Timeout: 20 * time.Second}, staffData, staff), log, pdp.Options{})
	s := search.New(p, search.Options{Path: "app/explained"})
	before := log.Status().Next
	a, err := s.Search(t.Context(), &search.Request{
		Kind: search.Subjects, Type: "user", Most: -1,
		Question: parse(t, `{"subject":{"type":"user"},"action":{"name":"read"},"resource":{"type":"document","id":"d2"}}`).(ast.Object),
		Query:    pdp.Query{Edge: "test", Caller: "gateway"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := log.Status().Next; got != before+1 || a.Decision.Receipt.Seq != before {
		t.Errorf("%d records at %d, receipt %+v", got-before, before, a.Decision.Receipt)
	}
	if a.Matches[0].Obligations == nil || a.Matches[1].Obligations != nil || a.Denied["not_a_viewer"] != 2 {
		t.Errorf("answer %+v", a)
	}
	rec := recordOf(t, log, a.Decision)
	if fmt.Sprint(rec["result"]) != "map[candidates:4 complete:true denied:map[not_a_viewer:2] results:2]" ||
		fmt.Sprint(rec["details"]) != "map[search:subject]" || rec["edge"] != "test" || rec["requested_by"] != "gateway" ||
		rec["path"] != "app/explained" || rec["event"] != "decision_evaluated" || rec["outcome"] != "success" ||
		rec["resource"] != "document:d2" || rec["action"] != "read" {
		t.Errorf("record %v", rec)
	}
}

// TestSearchPages puts parts together to the whole answer, whatever ends a part.
func TestSearchPages(t *testing.T) {
	const n = 1000
	engine := newEngine(t, eval.Options{Timeout: 20 * time.Second}, benchData(n), benchPolicy)
	p := pdp.New(engine, nowhere{}, pdp.Options{})
	question := parse(t, `{"subject":{"type":"user"},"action":{"name":"read"},"resource":{"type":"type06","id":"1"},"context":{"hour":10,"weekday":3,"country":"SE"}}`).(ast.Object)
	whole, err := search.New(p, search.Options{Path: "authz/allow"}).Search(t.Context(), &search.Request{Type: "user", Question: question, Most: -1})
	if err != nil {
		t.Fatal(err)
	}
	want := keysOf(whole)
	if len(want) < 100 || len(want) > 900 {
		t.Fatalf("%d results", len(want))
	}
	for _, tt := range []struct {
		name        string
		most, limit int
		parts       int // at most
	}{
		{"by results", 7, 0, len(want)/7 + 1},
		{"by all", len(want), 0, 1},
		{"by the limit", -1, 300, 4},
		{"by both", 100, 30, 40},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := search.New(p, search.Options{Path: "authz/allow", Limit: tt.limit})
			var got []string
			r := &search.Request{Type: "user", Question: question, Paged: true, Most: tt.most}
			decided := 0
			for parts := 1; ; parts++ {
				a, err := s.Search(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, keysOf(a)...)
				decided += a.Candidates
				if !a.More {
					break
				}
				if parts == tt.parts {
					t.Fatalf("more than %d parts", parts)
				}
				r.After = a.Next
			}
			if !slices.Equal(got, want) || decided != n {
				t.Errorf("%d results of %d candidates, want %d of %d", len(got), decided, len(want), n)
			}
		})
	}
	none, err := search.New(p, search.Options{Path: "authz/allow"}).Search(t.Context(), &search.Request{Type: "user", Question: question, Paged: true})
	if err != nil || len(none.Matches) != 0 || !none.More {
		t.Errorf("a part of nothing: %+v, %v", none, err)
	}
}

// TestSearchRules lets rules say who the candidates are, knowing the question.
func TestSearchRules(t *testing.T) {
	const rules = `package verdict.entities

import rego.v1

user[id] := {"asked": input.action.name} if {
	input.resource.id == "d1"
	some id in ["one", "two"]
}
`
	const actions = `package verdict.actions

thing contains "go"
`
	const app = `package app

allow if input.subject.properties.asked == "read"
allow if input.action.name == "go"
`
	p := pdp.New(newEngine(t, eval.Options{Timeout: 20 * time.Second}, `{}`, rules, actions, app), nowhere{}, pdp.Options{})
	s := search.New(p, search.Options{Path: "app/allow"})
	for question, want := range map[string]int{
		`{"subject":{"type":"user"},"action":{"name":"read"},"resource":{"type":"document","id":"d1"}}`:  2,
		`{"subject":{"type":"user"},"action":{"name":"write"},"resource":{"type":"document","id":"d1"}}`: 0,
		`{"subject":{"type":"user"},"action":{"name":"read"},"resource":{"type":"document","id":"d2"}}`:  0,
	} {
		a, err := s.Search(t.Context(), &search.Request{Type: "user", Question: parse(t, question).(ast.Object), Most: -1})
		if err != nil || len(a.Matches) != want {
			t.Errorf("%s: %+v, %v", question, a, err)
		}
	}
	a, err := s.Search(t.Context(), &search.Request{Kind: search.Actions, Type: "thing", Question: parse(t, `{"resource":{"type":"thing"}}`).(ast.Object), Most: -1})
	if err != nil || len(a.Matches) != 1 {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestSearchIsDecide checks each answer of a search by asking for it alone, also
// for those who are not in it.
func TestSearchIsDecide(t *testing.T) {
	const n = 200
	engine := newEngine(t, eval.Options{Timeout: 20 * time.Second}, benchData(n), benchPolicy)
	p := pdp.New(engine, nowhere{}, pdp.Options{})
	s := search.New(p, search.Options{Path: "authz/allow"})
	for typ := range 40 {
		question := fmt.Sprintf(`{"subject":{"type":"user"},"action":{"name":"update"},"resource":{"type":"type%02d","id":"1"},"context":{"hour":10,"weekday":3,"country":"SE"}}`, typ)
		a, err := s.Search(t.Context(), &search.Request{Type: "user", Question: parse(t, question).(ast.Object), Most: -1})
		if err != nil {
			t.Fatal(err)
		}
		found := keysOf(a)
		for i := range n {
			id := fmt.Sprintf("user%05d", i)
			d, err := p.Decide(t.Context(), &pdp.Query{Path: "authz/allow", Input: parse(t, strings.Replace(question, `{"type":"user"}`, `{"type":"user","id":"`+id+`"}`, 1))})
			if err != nil {
				t.Fatal(err)
			}
			if d.Allowed != slices.Contains(found, id) {
				t.Errorf("%s: alone %v, among the results %v", id, d.Allowed, slices.Contains(found, id))
			}
		}
	}
}

// refusing cannot record.
type refusing struct{ nowhere }

func (refusing) Append(context.Context, *audit.Record) (audit.Receipt, error) {
	return audit.Receipt{}, &audit.UnavailableError{Reason: "disk_full"}
}

func TestSearchUnrecorded(t *testing.T) {
	p := pdp.New(newEngine(t, eval.Options{}, staffData, staff), refusing{}, pdp.Options{})
	r := &search.Request{Type: "user", Question: parse(t, `{"subject":{"type":"user"}}`).(ast.Object), Most: -1}
	s := search.New(p, search.Options{Path: "app/allow"})
	if a, err := s.Search(t.Context(), r); a != nil || !errors.Is(err, pdp.ErrUnrecorded) || !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("%+v, %v", a, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if a, err := s.Search(gone, r); a != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", a, err)
	}
}
