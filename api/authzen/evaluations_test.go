package authzen_test

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/authzen"
)

// TestBatch is facts 7 to 10: defaults, semantics, order and items that fail.
func TestBatch(t *testing.T) {
	s := onLab(t)
	const who = `"subject":{"type":"user","id":"ada"},"action":{"name":"read"}`
	items := func(ids ...string) string {
		var list []string
		for _, id := range ids {
			switch id {
			case "invalid":
				list = append(list, `{"resource":{"type":"thing"}}`)
			case "nothing":
				list = append(list, `7`)
			default:
				list = append(list, fmt.Sprintf(`{"resource":{"type":"thing","id":%q}}`, id))
			}
		}
		return `"evaluations":[` + strings.Join(list, ",") + `]`
	}
	semantic := func(name string) string { return `"options":{"evaluations_semantic":"` + name + `","other":[]},` }
	for _, tt := range []struct {
		name, body string
		want       string // a letter an item: y, n; i invalid, e error
	}{
		{"all by default", items("yes", "no", "yes"), "yny"},
		{"all", semantic("execute_all") + items("no", "yes", "no"), "nyn"},
		{"all with failures", items("yes", "invalid", "number", "conflict", "undefined", "nothing", "yes"), "yieeniy"},
		{"deny on first deny", semantic("deny_on_first_deny") + items("yes", "allow", "no", "yes"), "yyn"},
		{"deny on nothing", semantic("deny_on_first_deny") + items("yes", "yes"), "yy"},
		{"deny on undefined", semantic("deny_on_first_deny") + items("undefined", "yes"), "n"},
		{"deny on an error", semantic("deny_on_first_deny") + items("yes", "conflict", "yes"), "ye"},
		{"deny on no decision", semantic("deny_on_first_deny") + items("yes", "number", "yes"), "ye"},
		{"deny on an invalid item", semantic("deny_on_first_deny") + items("yes", "invalid", "yes"), "yi"},
		{"deny before an invalid item", semantic("deny_on_first_deny") + items("no", "invalid", "yes"), "n"},
		{"invalid first", semantic("deny_on_first_deny") + items("nothing", "no"), "i"},
		{"permit on first permit", semantic("permit_on_first_permit") + items("no", "yes", "yes"), "ny"},
		{"permit at the end", semantic("permit_on_first_permit") + items("no", "invalid", "conflict", "yes", "invalid"), "niey"},
		{"permit on nothing", semantic("permit_on_first_permit") + items("no", "number", "invalid"), "nei"},
		{"permit by invalid items only", semantic("permit_on_first_permit") + items("invalid", "nothing"), "ii"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(s.records(t))
			w := s.post(authzen.PathEvaluations, `{`+who+`,`+tt.body+`}`)
			got := decode(t, w)
			list, _ := got["evaluations"].([]any)
			if w.Code != http.StatusOK || len(got) != 1 || len(list) != len(tt.want) {
				t.Fatalf("%d %v, want %s", w.Code, got, tt.want)
			}
			batch := w.Header().Get("X-Decision-Id")
			recorded := 0
			for i, one := range list {
				id, _ := at(one, "context", "decision_id").(string)
				status, _ := at(one, "context", "error", "status").(float64)
				want := map[byte][2]any{'y': {true, 0.0}, 'n': {false, 0.0}, 'i': {false, 400.0}, 'e': {false, 500.0}}[tt.want[i]]
				if at(one, "decision") != want[0] || status != want[1] || (id == "") != (tt.want[i] == 'i') {
					t.Errorf("item %d: %v, want %c", i, one, tt.want[i])
				}
				if status != 0 && at(one, "context", "error", "message") == nil {
					t.Errorf("item %d: no message: %v", i, one)
				}
				if id != "" {
					recorded++
				}
			}
			records := s.records(t)[before:]
			if len(records) != recorded {
				t.Errorf("%d records of %d decisions", len(records), recorded)
			}
			for _, rec := range records {
				if rec["batch_decision_id"] != batch {
					t.Errorf("record of another batch: %v", rec["batch_decision_id"])
				}
			}
		})
	}
}

// TestBatchDefaults lays items over the defaults: whole members, nothing merged,
// and nothing else taken from the top.
func TestBatchDefaults(t *testing.T) {
	s := onLab(t)
	got := s.must(t, 200, authzen.PathEvaluations, `{
		"subject": {"type": "user", "id": "ada", "properties": {"a": 1}},
		"action": {"name": "read", "properties": {"b": 2}},
		"resource": {"type": "thing", "id": "echo", "properties": {"c": 3}},
		"context": {"d": 4},
		"future": true,
		"evaluations": [
			{},
			{"subject": {"type": "user", "id": "bo"}, "context": {}},
			{"action": {"name": "write"}, "resource": {"type": "thing", "id": "echo"}, "own": 5}
		]
	}`)
	for i, want := range []string{
		`map[action:map[name:read properties:map[b:2]] context:map[d:4] resource:map[id:echo properties:map[c:3] type:thing] subject:map[id:ada properties:map[a:1] type:user]]`,
		`map[action:map[name:read properties:map[b:2]] context:map[] resource:map[id:echo properties:map[c:3] type:thing] subject:map[id:bo type:user]]`,
		`map[action:map[name:write] context:map[d:4] own:5 resource:map[id:echo type:thing] subject:map[id:ada properties:map[a:1] type:user]]`,
	} {
		if input := fmt.Sprint(at(got, "evaluations", i, "context", "input")); input != want {
			t.Errorf("item %d: input %s\nwant %s", i, input, want)
		}
	}
}

// TestBatchRefused is the first kind of errors: those of the whole request.
func TestBatchRefused(t *testing.T) {
	s := onLab(t)
	one := `"evaluations":[` + asked("yes") + `]`
	for body, message := range map[string]string{
		`{"evaluations":{}}`:         "evaluations must be an array",
		`{"evaluations":null}`:       "evaluations must be an array",
		`{"evaluations":[]}`:         "subject is missing",
		`{}`:                         "subject is missing",
		`{"options":[],` + one + `}`: "options must be an object",
		`{"options":{"evaluations_semantic":1},` + one + `}`:  "options.evaluations_semantic must be a string",
		`{"options":{"evaluations_semantic":""},` + one + `}`: "options.evaluations_semantic must be execute_all, deny_on_first_deny or permit_on_first_permit",
		`{"subject":"ada",` + one + `}`:                       "subject must be an object",
		`{"subject":{"type":"user"},` + one + `}`:             "subject.id is missing",
		`{"action":{},` + one + `}`:                           "action.name is missing",
		`{"resource":{"id":"x"},` + one + `}`:                 "resource.type is missing",
		`{"context":1,` + one + `}`:                           "context must be an object",
	} {
		if got := s.must(t, 400, authzen.PathEvaluations, body); got["message"] != message {
			t.Errorf("%s: %v, want %s", body, got, message)
		}
	}
	large := `{"context":{"x":"` + strings.Repeat("x", 40_000) + `"},"evaluations":[` + strings.Repeat(`{},`, 999) + `{}]}`
	if got := s.must(t, 400, authzen.PathEvaluations, large); !strings.HasPrefix(fmt.Sprint(got["message"]), "defaults of 40008 bytes for 1000 evaluations exceed 16777216 bytes") {
		t.Errorf("%v", got)
	}
	if n := len(s.records(t)); n != 0 {
		t.Errorf("%d records", n)
	}
}

// TestBatchIsSingle asks a batch without evaluations, which is a single
// evaluation (fact 8), and the same question alone.
func TestBatchIsSingle(t *testing.T) {
	s := onLab(t)
	for _, id := range []string{"yes", "no", "deny", "step-up", "undefined", "number", "conflict"} {
		single, batch := s.post(authzen.PathEvaluation, asked(id)), s.post(authzen.PathEvaluations, asked(id))
		a, b := decode(t, single), decode(t, batch)
		for _, doc := range []map[string]any{a, b} {
			if context, ok := doc["context"].(map[string]any); ok {
				delete(context, "decision_id")
				delete(context, "receipt")
			}
		}
		if single.Code != batch.Code || !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %d %v, in a batch %d %v", id, single.Code, a, batch.Code, b)
		}
	}
}
