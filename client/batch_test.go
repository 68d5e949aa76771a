package client_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/client"
)

func TestAuthorizeAll(t *testing.T) {
	yes, no, failed := `{"decision": true}`, `{"decision": false}`, `{"decision": false, "context": {"error": {"status": 400, "message": "resource.id is missing"}}}`
	for _, tt := range []struct {
		name     string
		semantic client.Semantic
		answer   []string
		want     []bool
		good     bool
	}{
		{"all", "", []string{yes, no, yes}, []bool{true, false, true}, true},
		{"all, in full", client.ExecuteAll, []string{yes, no, failed}, []bool{true, false, false}, true},
		{"too few", client.ExecuteAll, []string{yes, yes}, nil, false},
		{"too many", client.ExecuteAll, []string{yes, yes, yes, yes}, nil, false},
		{"none", client.ExecuteAll, nil, nil, false},
		{"ended by a denial", client.DenyOnFirstDeny, []string{yes, no}, []bool{true, false}, true},
		{"ended by a failure", client.DenyOnFirstDeny, []string{failed}, []bool{false}, true},
		{"not ended", client.DenyOnFirstDeny, []string{yes, yes}, nil, false},
		{"nothing denied", client.DenyOnFirstDeny, []string{yes, yes, yes}, []bool{true, true, true}, true},
		{"empty", client.DenyOnFirstDeny, []string{}, nil, false},
		{"ended by a permission", client.PermitOnFirstPermit, []string{no, yes}, []bool{false, true}, true},
		{"not ended either", client.PermitOnFirstPermit, []string{no, no}, nil, false},
		{"no decision among them", client.ExecuteAll, []string{yes, `{}`, yes}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, client.Options{}, func(w http.ResponseWriter, r *http.Request) {
				var asked struct {
					Evaluations []client.Request
					Options     map[string]string
				}
				raw, _ := io.ReadAll(r.Body)
				want := tt.semantic
				if want == "" {
					want = client.ExecuteAll
				}
				if err := json.Unmarshal(raw, &asked); err != nil || len(asked.Evaluations) != 3 || asked.Options["evaluations_semantic"] != string(want) {
					t.Errorf("asked %s", raw)
				}
				body := `{"evaluations": [` + strings.Join(tt.answer, ",") + `]}`
				if tt.answer == nil {
					body = `{"decision": true}`
				}
				reply(w, 200, body)
			})
			decisions, err := c.AuthorizeAll(t.Context(), tt.semantic, question, question, question)
			if (err == nil) != tt.good || err != nil && !errors.Is(err, client.ErrAnswer) {
				t.Fatalf("got %v, %v", decisions, err)
			}
			var got []bool
			for i, d := range decisions {
				got = append(got, d.Allowed)
				if isFailure := tt.answer[i] == failed; isFailure != errors.Is(d.Err, client.ErrInvalid) {
					t.Errorf("%d: %v", i, d.Err)
				}
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	c := serve(t, client.Options{}, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") })
	if decisions, err := c.AuthorizeAll(t.Context(), client.DenyOnFirstDeny); err != nil || decisions != nil {
		t.Errorf("nothing: got %v, %v", decisions, err)
	}
}

func TestQuery(t *testing.T) {
	c := serve(t, client.Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Decision-Id", "7")
		switch r.URL.EscapedPath() {
		case "/v1/data/app/a%2Fb%3Fc":
			reply(w, 200, `{"result": {"n": 12}}`)
		case "/v1/data/app/undefined":
			reply(w, 200, `{}`)
		case "/v1/data/app/null":
			reply(w, 200, `{"result": null}`)
		default:
			reply(w, 500, `{"code": "internal_error", "message": "eval"}`)
		}
	})
	var out struct{ N int }
	if id, err := c.Query(t.Context(), "app/a%2Fb%3Fc", nil, &out); err == nil || id != "7" {
		t.Errorf("an escape is taken for what it stands for: %v", err)
	}
	if id, err := c.Query(t.Context(), "app/undefined", nil, &out); !errors.Is(err, client.ErrUndefined) || id != "7" || out.N != 0 {
		t.Errorf("got %q %v %v", id, out, err)
	}
	if _, err := c.Query(t.Context(), "app/null", nil, &out); err != nil || out.N != 0 {
		t.Errorf("got %v %v", out, err)
	}
	failed := &client.Error{}
	if id, err := c.Query(t.Context(), "app/x", nil, &out); !errors.As(err, &failed) || failed.Code != "internal_error" || id != "7" {
		t.Errorf("got %v", err)
	}
	var wrong []string
	if _, err := c.Query(t.Context(), "app/null", nil, &wrong); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestQueryAll(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   error
	}{
		{"mixed", 207, `{"responses": {"a": {"decision_id": "1", "result": true}, "b": {"decision_id": "2"}, "c": {"decision_id": "3", "code": "internal_error", "message": "m"}}}`, nil},
		{"all failed", 500, `{"responses": {"a": {"decision_id": "1", "result": true}, "b": {"decision_id": "2"}, "c": {"decision_id": "3", "code": "internal_error", "message": "m"}}}`, nil},
		{"one is missing", 200, `{"responses": {"a": {}, "b": {}}}`, client.ErrAnswer},
		{"unavailable", 503, `{"code": "audit_unavailable", "message": "m"}`, client.ErrUnavailable},
		{"another shape", 200, `{"responses": []}`, client.ErrAnswer},
	} {
		c := serve(t, client.Options{}, func(w http.ResponseWriter, r *http.Request) { reply(w, tt.status, tt.body) })
		results, err := c.QueryAll(t.Context(), "app/allow", map[string]any{"a": 1, "b": 2, "c": 3})
		if tt.want != nil {
			if !errors.Is(err, tt.want) || results != nil {
				t.Errorf("%s: got %v, %v", tt.name, results, err)
			}
			continue
		}
		var a bool
		ra, rb, rc := results["a"], results["b"], results["c"]
		if err != nil || ra.Decode(&a) != nil || !a || !errors.Is(rb.Decode(&a), client.ErrUndefined) || rc.Err == nil || rc.ID != "3" {
			t.Errorf("%s: got %+v, %v", tt.name, results, err)
		}
		var text string
		if err := ra.Decode(&text); !errors.Is(err, client.ErrAnswer) {
			t.Errorf("got %v", err)
		}
	}
	c := serve(t, client.Options{}, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 500, `{"code": "internal_error", "message": "m"}`)
	})
	if _, err := c.QueryAll(t.Context(), "app/allow", map[string]any{"a": 1}); err == nil {
		t.Error("a failed batch is no error")
	}
}

func TestSearch(t *testing.T) {
	var bodies []map[string]any
	answers := []string{
		`{"page": {"next_token": "t1", "count": 1}, "results": [{"type": "user", "id": "a", "properties": {"x": 1}, "obligations": [{"id": "o", "type": "field-filter", "properties": {}}]}]}`,
		`{"page": {"next_token": "t2", "count": 0}, "results": []}`,
		`{"page": {"next_token": "", "count": 1}, "results": [{"type": "user", "id": "b"}]}`,
	}
	at := 0
	c := serve(t, client.Options{}, func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		bodies = append(bodies, body)
		if r.URL.Path != "/access/v1/search/subject" {
			t.Errorf("asked %s", r.URL)
		}
		at++
		reply(w, 200, answers[at-1])
	})
	var ids []string
	for found, err := range c.SearchSubjects(t.Context(), question, client.Search{Page: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, found.ID)
		if found.ID == "a" && len(found.Obligations) != 1 {
			t.Errorf("obligations %v", found.Obligations)
		}
	}
	if !reflect.DeepEqual(ids, []string{"a", "b"}) {
		t.Errorf("found %q", ids)
	}
	for i, token := range []any{nil, "t1", "t2"} {
		page := bodies[i]["page"].(map[string]any)
		subject := bodies[i]["subject"].(map[string]any)
		if page["limit"] != 1.0 || page["token"] != token || subject["id"] != "" || bodies[i]["context"] == nil {
			t.Errorf("%d: asked %v", i, bodies[i])
		}
	}
}

func TestSearchThatFails(t *testing.T) {
	for body, want := range map[string]error{
		`{"page": {"next_token": "t"}, "results": [{"name": "read"}]}`: client.ErrAnswer, // for ever the same page
		`{"decision": true}`: client.ErrAnswer,
		`{"results": {}}`:    client.ErrAnswer,
	} {
		c := serve(t, client.Options{}, func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, body) })
		var last error
		n := 0
		for found, err := range c.SearchActions(t.Context(), question, client.Search{}) {
			if last = err; err == nil && found.Name != "read" {
				t.Errorf("found %v", found)
			}
			n++
		}
		if !errors.Is(last, want) || n > 3 {
			t.Errorf("%s: got %v after %d", body, last, n)
		}
		for range c.SearchResources(t.Context(), question, client.Search{}) {
			break
		}
	}
	c := serve(t, client.Options{}, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") })
	for _, err := range c.SearchResources(t.Context(), question, client.Search{Page: -1}) {
		if !errors.Is(err, client.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	}
}
