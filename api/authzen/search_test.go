package authzen_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/api/authzen"
	"github.com/verdict-pdp/verdict/pdp/search"
)

// TestSearchFixture is the searches of the certification fixture, whole: each
// must give these and no others (facts 11 to 13), and each result must hold when
// it is asked for alone.
func TestSearchFixture(t *testing.T) {
	s := newStand(t, setup{})
	for _, tt := range []struct{ kind, body, want string }{
		{"subject", `{"subject":{"type":"user"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}`, "alice bob"},
		{"subject", `{"subject":{"type":"user","id":"nobody","x":[]},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}`, "alice bob"},
		{"subject", `{"subject":{"type":"user"},"action":{"name":"write"},"resource":{"type":"record","id":"record-2"}}`, "bob"},
		{"subject", `{"subject":{"type":"user","id":7},"action":{"name":"write"},"resource":{"type":"record","id":"record-2","properties":{"status":"archived"}}}`, "bob"},
		{"subject", `{"subject":{"type":"spaceship"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}`, ""},
		{"resource", `{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"resource":{"type":"record"}}`, "record-1"},
		{"resource", `{"subject":{"type":"user","id":"bob","properties":{"role":"admin"}},"action":{"name":"write"},"resource":{"type":"record"}}`, "record-2"},
		{"resource", `{"subject":{"type":"user","id":"nobody"},"action":{"name":"read"},"resource":{"type":"record"}}`, ""},
		{"action", `{"subject":{"type":"user","id":"alice"},"resource":{"type":"record","id":"record-1"}}`, "read write"},
		{"action", `{"subject":{"type":"user","id":"alice"},"action":"ignored","resource":{"type":"record","id":"record-1"}}`, "read write"},
		{"action", `{"subject":{"type":"user","id":"bob","properties":{"role":"admin"}},"resource":{"type":"record","id":"record-2"}}`, "write"},
	} {
		t.Run(tt.kind+" "+tt.want, func(t *testing.T) {
			before := len(s.records(t))
			w := s.post("/access/v1/search/"+tt.kind, tt.body)
			got := decode(t, w)
			results, ok := got["results"].([]any)
			if w.Code != 200 || !ok || got["page"] != nil {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			var names []string
			for _, one := range results {
				id, _ := at(one, "id").(string)
				action, _ := at(one, "name").(string)
				names = append(names, id+action)
				question := object(t, []byte(tt.body))
				question[tt.kind] = one
				if alone := s.must(t, 200, authzen.PathEvaluation, string(encode(t, question))); alone["decision"] != true {
					t.Errorf("%v is a result, and alone %v", one, alone)
				}
			}
			if strings.Join(names, " ") != tt.want {
				t.Errorf("results %q, want %q", names, tt.want)
			}
			records := s.records(t)[before:]
			if len(records) != 1+len(results) || records[0]["decision_id"] != w.Header().Get("X-Decision-Id") ||
				records[0]["decision_id"] != at(got, "context", "decision_id") || at(records[0], "details", "search") != tt.kind ||
				at(records[0], "result", "results") != float64(len(results)) || records[0]["edge"] != "authzen" ||
				at(records[0], "input", tt.kind, "id") != nil || at(got, "context", "receipt", "seq") != records[0]["seq"] {
				t.Errorf("answer %v\nrecords %v", got, records)
			}
		})
	}
}

// TestSearchRefused is the bad requests of searches (facts 12 and 14).
func TestSearchRefused(t *testing.T) {
	s := newStand(t, setup{})
	subject, action, resource := `"subject":{"type":"user","id":"alice"}`, `"action":{"name":"read"}`, `"resource":{"type":"record","id":"record-1"}`
	all := subject + `,` + action + `,` + resource
	for _, tt := range []struct{ kinds, body, message string }{
		{"subject resource action", `{}`, "subject is missing"},
		{"subject resource", `{` + subject + `,` + resource + `}`, "action is missing"},
		{"subject resource action", `{` + subject + `,` + action + `}`, "resource is missing"},
		{"subject resource action", `{"subject":{"id":"x"},` + action + `,` + resource + `}`, "subject.type is missing"},
		{"resource action", `{"subject":{"type":"x"},` + action + `,` + resource + `}`, "subject.id is missing"},
		{"subject action", `{` + subject + `,` + action + `,"resource":{"type":"record"}}`, "resource.id is missing"},
		{"subject resource action", `{` + subject + `,` + action + `,"resource":{"id":"record"}}`, "resource.type is missing"},
		{"subject resource action", `{` + all + `,"context":[]}`, "context must be an object"},
		{"subject resource action", `{` + all + `,"page":[]}`, "page must be an object"},
		{"subject resource action", `{` + all + `,"page":{"limit":-1}}`, "page.limit must be a non-negative integer"},
		{"subject resource action", `{` + all + `,"page":{"limit":1.5}}`, "page.limit must be a non-negative integer"},
		{"subject resource action", `{` + all + `,"page":{"limit":"1"}}`, "page.limit must be a non-negative integer"},
		{"subject resource action", `{` + all + `,"page":{"token":1}}`, "page.token must be a string"},
		{"subject resource action", `{` + all + `,"page":{"properties":1}}`, "page.properties must be an object"},
		{"subject resource action", `{` + all + `,"page":{"token":"x"}}`, "page.token was not given for this search: all else must be as in the request before"},
		{"subject resource action", `{` + all + `,"page":{"token":"` + strings.Repeat("A", 40) + `"}}`, "page.token was not given for this search: all else must be as in the request before"},
	} {
		for kind := range strings.FieldsSeq(tt.kinds) {
			if got := s.must(t, 400, "/access/v1/search/"+kind, tt.body); got["message"] != tt.message {
				t.Errorf("%s %s: %v, want %s", kind, tt.body, got, tt.message)
			}
		}
	}
	for _, limit := range []string{"0", "1", "1.0", "1e2", "99999999999999999999", "1e300"} {
		s.must(t, 200, authzen.PathSearchSubject, `{`+all+`,"page":{"limit":`+limit+`,"properties":{}}}`)
	}
}

// TestSearchPages is fact 14.
func TestSearchPages(t *testing.T) {
	s := newStand(t, setup{})
	body := func(limit, token, more string) string {
		return `{"subject":{"type":"user"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}` + more + `,"page":{"limit":` + limit + `,"token":"` + token + `"}}`
	}
	w := s.post(authzen.PathSearchSubject, body("1", "", ""))
	first := decode(t, w)
	token, _ := at(first, "page", "next_token").(string)
	if token == "" || at(first, "results", 0, "id") != "alice" || at(first, "page", "count") != 1.0 || at(first, "page", "total") != nil ||
		!strings.HasPrefix(w.Body.String(), `{"page":{"next_token":"`) {
		t.Fatalf("first page %s", w.Body)
	}
	second := s.must(t, 200, authzen.PathSearchSubject, body("1", token, ""))
	if at(second, "page", "next_token") != "" || at(second, "results", 0, "id") != "bob" || at(second, "results", 1) != nil {
		t.Errorf("second page %v", second)
	}
	whole := s.must(t, 200, authzen.PathSearchSubject, body("2", "", ""))
	if at(whole, "page", "next_token") != "" || at(whole, "page", "total") != 2.0 {
		t.Errorf("whole %v", whole)
	}
	// The same request, however it is written.
	spaced := strings.ReplaceAll(body("1", token, ""), ",", " ,\n")
	if again := s.must(t, 200, authzen.PathSearchSubject, spaced); at(again, "results", 0, "id") != "bob" {
		t.Errorf("%v", again)
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	forged := base64.RawURLEncoding.EncodeToString(append(raw[:len(raw)-1], 'z'))
	for name, changed := range map[string]string{
		"limit": body("2", token, ""), "context": body("1", token, `,"context":{}`), "member": body("1", token, `,"x":1`),
		"action":     strings.Replace(body("1", token, ""), "read", "write", 1),
		"properties": strings.Replace(body("1", token, ""), `"limit"`, `"properties":{},"limit"`, 1),
		"token":      body("1", forged, ""), "cut": body("1", token[:20], ""), "padded": body("1", token+"=", ""),
	} {
		if got := s.must(t, 400, authzen.PathSearchSubject, changed); !strings.HasPrefix(fmt.Sprint(got["message"]), "page.token was not given for this search") {
			t.Errorf("%s changed: %v", name, got)
		}
	}
	complete := strings.Replace(body("1", token, ""), `{"type":"user"}`, `{"type":"user","id":"alice"}`, 1)
	s.must(t, 400, authzen.PathSearchResource, complete)
	nothing := s.must(t, 200, authzen.PathSearchSubject, body("0", "", ""))
	start, _ := at(nothing, "page", "next_token").(string)
	if start == "" || at(nothing, "results", 0) != nil {
		t.Fatalf("a page of nothing: %v", nothing)
	}
	if again := s.must(t, 200, authzen.PathSearchSubject, body("0", start, "")); at(again, "page", "next_token") != start {
		t.Errorf("%v", again)
	}
}

// TestSearchBounds gives an error, not a part called the whole.
func TestSearchBounds(t *testing.T) {
	const question = `{"subject":{"type":"user"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}`
	s := newStand(t, setup{search: search.Options{Limit: 1}})
	got := s.must(t, 400, authzen.PathSearchSubject, question)
	if got["message"] != "the search has 2 candidates, more than the limit of 1 (authzen.search_limit); ask for pages with page.limit" {
		t.Errorf("%v", got)
	}
	page := s.must(t, 200, authzen.PathSearchSubject, `{"page":{},`+question[1:])
	if at(page, "results", 0, "id") != "alice" || at(page, "page", "next_token") == "" {
		t.Errorf("%v", page)
	}
	s = newStand(t, setup{search: search.Options{Timeout: time.Nanosecond}})
	w := s.post(authzen.PathSearchSubject, question)
	if got := decode(t, w); w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(fmt.Sprint(got["message"]), "(authzen.search_timeout)") {
		t.Errorf("%d %v", w.Code, got)
	}
	if records := s.records(t); len(records) != 1 || at(records[0], "error", "code") != "search_timeout" {
		t.Errorf("records %v", records)
	}
	s = newStand(t, setup{Options: authzen.Options{Path: "lab/decision"}})
	for id, message := range map[string]string{
		"number": `candidate "alice": the policy's result is neither`, "conflict": `candidate "alice": the policy could not be evaluated: eval_conflict_error`,
	} {
		got := s.must(t, 500, authzen.PathSearchSubject, strings.Replace(question, "record-1", id, 1))
		if !strings.HasPrefix(fmt.Sprint(got["message"]), message) {
			t.Errorf("%s: %v", id, got)
		}
	}
	found := s.must(t, 200, authzen.PathSearchSubject, strings.Replace(question, "record-1", "step-up permitted", 1))
	if fmt.Sprint(at(found, "results", 1, "obligations")) != "[map[id:s properties:map[acr_values:[urn:a]] type:step-up]]" || at(found, "results", 1, "id") != "bob" {
		t.Errorf("%v", found)
	}
	denied := s.must(t, 200, authzen.PathSearchSubject, strings.Replace(question, "record-1", "deny", 1))
	if fmt.Sprint(at(denied, "context", "denied")) != "map[r:2]" || at(denied, "context", "candidates") != 2.0 {
		t.Errorf("%v", denied)
	}
}
