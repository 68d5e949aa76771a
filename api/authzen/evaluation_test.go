package authzen_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/authzen"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp"
)

// asked is an evaluation object about a resource of the lab.
func asked(id string) string {
	return fmt.Sprintf(`{"subject":{"type":"user","id":"ada"},"action":{"name":"read"},"resource":{"type":"thing","id":%q}}`, id)
}

// onLab is a stand whose decisions are the lab's.
func onLab(t testing.TB) *stand {
	return newStand(t, setup{Options: authzen.Options{Path: "lab/decision", Log: "verdict/test"}})
}

// TestResults maps results of a policy to decisions (fact 2): the answer is the
// decision and a context of what the policy said besides.
func TestResults(t *testing.T) {
	s := onLab(t)
	const wrong = "the policy's result is neither a boolean nor an object whose allow or decision is one"
	for _, tt := range []struct {
		id       string
		decision bool
		context  string // without decision_id and receipt
		message  string // of a 500
	}{
		{id: "yes", decision: true, context: `{}`},
		{id: "no", context: `{}`},
		{id: "undefined", context: `{}`},
		{id: "allow", decision: true, context: `{"note":"n"}`},
		{id: "deny", context: `{"decision":"deny","reasons":[{"code":"r"}],"trust":{"level":"low"}}`},
		{id: "decision", decision: true, context: `{"a \"quoted\" {name}":[{"x":"}]"}]}`},
		{id: "authzen", context: `{"reason_user":{"403":"no"},"reason_admin":1}`},
		{id: "both", decision: true, context: `{}`},
		{id: "forged", decision: true, context: `{"context":5}`},
		{id: "step-up", context: `{"acr_values":"urn:a urn:b","amr_values":"mfa","obligations":[{"id":"log","type":"notification","properties":{}},{"id":"s","type":"step-up","properties":{"acr_values":["urn:a","urn:b"],"amr_values":["mfa"],"max_age":300}}]}`},
		{id: "number", message: wrong},
		{id: "text", message: wrong},
		{id: "null", message: wrong},
		{id: "list", message: wrong},
		{id: "empty", message: wrong},
		{id: "contradiction", message: wrong},
		{id: "allowed only", message: wrong},
		{id: "allow text", message: wrong},
		{id: "conflict", message: "the policy could not be evaluated: eval_conflict_error"},
	} {
		t.Run(tt.id, func(t *testing.T) {
			w := s.post(authzen.PathEvaluation, asked(tt.id))
			got := decode(t, w)
			id := w.Header().Get("X-Decision-Id")
			if id == "" {
				t.Error("no X-Decision-Id")
			}
			if tt.message != "" {
				if w.Code != http.StatusInternalServerError || got["message"] != tt.message {
					t.Errorf("%d %v", w.Code, got)
				}
				return
			}
			context, _ := got["context"].(map[string]any)
			if context["decision_id"] != id {
				t.Errorf("decision_id %v, header %s", context["decision_id"], id)
			}
			seq, err := context["receipt"].(map[string]any)["seq"].(float64), error(nil)
			_, rec, err2 := s.log.Find(t.Context(), id)
			if err != nil || err2 != nil || !strings.HasPrefix(string(rec), fmt.Sprintf(`{"seq":%d,`, int(seq))) ||
				at(context, "receipt", "log") != "verdict/test" || len(at(context, "receipt", "leaf_hash").(string)) != 64 {
				t.Errorf("receipt %v of %s", context["receipt"], rec)
			}
			delete(context, "decision_id")
			delete(context, "receipt")
			var want map[string]any
			if err := json.Unmarshal([]byte(tt.context), &want); err != nil {
				t.Fatal(err)
			}
			if got["decision"] != tt.decision || !reflect.DeepEqual(context, want) || len(got) != 2 {
				t.Errorf("answer %v, want %v and %v", got, tt.decision, want)
			}
		})
	}
}

// TestInputUnchanged passes the evaluation object on as it came, with what
// nobody knows (fact 1), and records it.
func TestInputUnchanged(t *testing.T) {
	s := onLab(t)
	body := `{"subject":{"type":"user","id":"ada","properties":{"n":1.50,"deep":[{"a":null}]},"x":1},"action":{"name":"read","properties":{}},"resource":{"type":"thing","id":"echo","y":[]},"context":{"time":"now"},"future":{"a":true}}`
	var want any
	if err := json.Unmarshal([]byte(body), &want); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{authzen.PathEvaluation, authzen.PathEvaluations} {
		got := s.must(t, 200, path, body, "X-Request-ID", "req 1/ä", "User-Agent", "pep/1")
		if !reflect.DeepEqual(at(got, "context", "input"), want) {
			t.Errorf("%s: input %v", path, at(got, "context", "input"))
		}
	}
	got := s.must(t, 200, authzen.PathEvaluations, `{"options":{"o":1},"evaluations":[],`+body[1:])
	if !reflect.DeepEqual(at(got, "context", "input"), want) {
		t.Errorf("of an empty batch: input %v", at(got, "context", "input"))
	}
	rec := s.records(t)[0]
	if !reflect.DeepEqual(rec["input"], want) || rec["edge"] != "authzen" || rec["path"] != "lab/decision" ||
		rec["subject"] != "user:ada" || rec["resource"] != "thing:echo" || rec["action"] != "read" ||
		rec["correlation_id"] != "req 1/ä" || rec["user_agent"] != "pep/1" || rec["event"] != "permission_granted" {
		t.Errorf("record %v", rec)
	}
}

// TestBadRequests is fact 4: what is no evaluation object is refused, and says
// why.
func TestBadRequests(t *testing.T) {
	s := onLab(t)
	good := asked("yes")
	for _, tt := range []struct{ body, message string }{
		{``, "the body is empty"},
		{`  `, "the body is not JSON that can be read: EOF"},
		{`{`, "the body is not JSON that can be read: unexpected EOF"},
		{`{"subject":`, "the body is not JSON that can be read: unexpected EOF"},
		{`null`, "the body must be a JSON object"},
		{`[]`, "the body must be a JSON object"},
		{`"x"`, "the body must be a JSON object"},
		{`1`, "the body must be a JSON object"},
		{good + good, "the body goes on behind its JSON object"},
		{good + "\x00", "the body goes on behind its JSON object"},
		{`{}`, "subject is missing"},
		{`{"subject":null}`, "subject must be an object"},
		{`{"subject":[]}`, "subject must be an object"},
		{strings.Replace(good, `"type":"user",`, ``, 1), "subject.type is missing"},
		{strings.Replace(good, `"type":"user"`, `"type":7`, 1), "subject.type must be a string"},
		{strings.Replace(good, `"type":"user"`, `"Type":"user"`, 1), "subject.type is missing"},
		{strings.Replace(good, `"id":"ada"`, `"id":null`, 1), "subject.id must be a string"},
		{strings.Replace(good, `"id":"ada"`, `"id":"ada","properties":[]`, 1), "subject.properties must be an object"},
		{strings.Replace(good, `"id":"ada"`, `"id":"ada","properties":null`, 1), "subject.properties must be an object"},
		{strings.Replace(good, `"action":{"name":"read"},`, ``, 1), "action is missing"},
		{strings.Replace(good, `{"name":"read"}`, `"read"`, 1), "action must be an object"},
		{strings.Replace(good, `{"name":"read"}`, `{}`, 1), "action.name is missing"},
		{strings.Replace(good, `"read"`, `true`, 1), "action.name must be a string"},
		{strings.Replace(good, `"name":"read"`, `"name":"read","properties":"p"`, 1), "action.properties must be an object"},
		{strings.Replace(good, `"resource"`, `"resources"`, 1), "resource is missing"},
		{strings.Replace(good, `"type":"thing",`, ``, 1), "resource.type is missing"},
		{strings.Replace(good, `,"id":"yes"`, ``, 1), "resource.id is missing"},
		{strings.Replace(good, `"id":"yes"`, `"id":"yes","properties":1`, 1), "resource.properties must be an object"},
		{`{"context":[],` + good[1:], "context must be an object"},
		{`{"context":null,` + good[1:], "context must be an object"},
		{`{"context":{"deep":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `},` + good[1:], "the body is not JSON that can be read: document is nested deeper than 64 levels"},
		{`{"context":{"many":[1` + strings.Repeat(",1", 10_000) + `]},` + good[1:], "the body is not JSON that can be read: document has more than 10000 members"},
	} {
		w := s.post(authzen.PathEvaluation, tt.body, "X-Request-Id", "the request")
		if got := decode(t, w); w.Code != 400 || got["message"] != tt.message || w.Header().Get("X-Request-Id") != "the request" {
			t.Errorf("%.200s\n%d %v, want %s", tt.body, w.Code, got, tt.message)
		}
	}
	for _, kind := range []string{"", "text/plain", "application/json5", "application/x-www-form-urlencoded", "application/*", "json", ";"} {
		w := s.post(authzen.PathEvaluation, good, "Content-Type", kind)
		if got := decode(t, w); w.Code != 400 || got["message"] != "the content type must be application/json" {
			t.Errorf("content type %q: %d %v", kind, w.Code, got)
		}
	}
	for _, kind := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON ;charset=\"utf-8\"", "application/json;x"} {
		s.must(t, 200, authzen.PathEvaluation, good, "Content-Type", kind)
	}
	w := s.post(authzen.PathEvaluation, good, "Content-Encoding", "gzip")
	if got := decode(t, w); w.Code != 400 || got["message"] != "the body must not be encoded" {
		t.Errorf("%d %v", w.Code, got)
	}
	if n := len(s.records(t)); n != 4 {
		t.Errorf("%d records: what is refused is no decision", n)
	}
}

// TestRequestID is fact 5: the identifier comes back exactly, with every status,
// and none is made up.
func TestRequestID(t *testing.T) {
	s := newStand(t, setup{strict: true})
	for _, id := range []string{"simple", "with space and / and \"", strings.Repeat("x", 2000), "ünïcode"} {
		for _, path := range []string{authzen.PathEvaluation, authzen.PathEvaluations, authzen.PathSearchSubject, authzen.PathSearchResource, authzen.PathSearchAction} {
			for _, authorization := range []string{"Bearer decides", "Bearer unknown", "Bearer writes"} {
				for _, body := range []string{"{}", asked("yes")} {
					w := s.post(path, body, "Authorization", authorization, "X-Request-ID", id)
					if got := w.Header()["X-Request-Id"]; len(got) != 1 || got[0] != id {
						t.Errorf("%s %s %d: X-Request-Id %q", path, authorization, w.Code, got)
					}
				}
			}
		}
	}
	w := s.post(authzen.PathEvaluation, asked("yes"), "Authorization", "Bearer decides", "X-Correlation-Id", "c-1", "X-Request-Id", "r 1")
	if w.Header().Get("X-Correlation-Id") != "c-1" || w.Header().Get("X-Request-Id") != "r 1" {
		t.Errorf("headers %v", w.Header())
	}
	if w := s.post(authzen.PathEvaluation, asked("yes"), "Authorization", "Bearer decides"); w.Header()["X-Request-Id"] != nil {
		t.Errorf("X-Request-Id %q without one in the request", w.Header()["X-Request-Id"])
	}
}

// TestCallers is the part of fact 4 about who asks: 401 without a good
// credential, 403 for one that may not.
func TestCallers(t *testing.T) {
	s := newStand(t, setup{strict: true})
	for authorization, status := range map[string]int{"": 401, "Bearer unknown": 401, "Basic x": 401, "Bearer writes": 403, "Bearer decides": 200} {
		headers := []string{"X-Request-Id", "r"}
		if authorization != "" {
			headers = append(headers, "Authorization", authorization)
		}
		for _, path := range []string{authzen.PathEvaluation, authzen.PathEvaluations, authzen.PathSearchSubject, authzen.PathSearchResource, authzen.PathSearchAction} {
			w := s.post(path, asked("yes"), headers...)
			decode(t, w)
			if w.Code != status || (w.Header().Get("WWW-Authenticate") != "") != (status >= 400) {
				t.Errorf("%s with %q: %d %v", path, authorization, w.Code, w.Header())
			}
		}
		if w := s.get(authzen.PathMetadata, headers...); w.Code != 404 { // no TLS, not from here
			t.Errorf("metadata with %q: %d", authorization, w.Code)
		}
	}
}

func (s *stand) get(path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

func TestMethods(t *testing.T) {
	s := onLab(t)
	for path, allow := range map[string]string{
		authzen.PathEvaluation: "POST", authzen.PathEvaluations: "POST", authzen.PathSearchAction: "POST", authzen.PathMetadata: "GET",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			if method == allow {
				continue
			}
			r := httptest.NewRequest(method, path, strings.NewReader("{}"))
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			if decode(t, w); w.Code != 405 || w.Header().Get("Allow") != allow {
				t.Errorf("%s %s: %d, Allow %q", method, path, w.Code, w.Header().Get("Allow"))
			}
		}
	}
}

// TestUnrouted answers in AuthZEN's shape where there is no such path.
func TestUnrouted(t *testing.T) {
	s := onLab(t)
	for _, path := range []string{"/access/v1/nosuch", "/access/v1/evaluation/", "/access/v2/evaluation", "/access/"} {
		w := s.post(path, asked("allow"), "X-Request-Id", "r-1")
		if decode(t, w); w.Code != 404 || w.Header().Get("X-Request-Id") != "r-1" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// TestTooLarge refuses a body above the bound, announced or not.
func TestTooLarge(t *testing.T) {
	s := onLab(t)
	body := `{"context":{"x":"` + strings.Repeat("x", 2<<20) + `"},` + asked("yes")[1:]
	if w := s.post(authzen.PathEvaluation, body); w.Code != 413 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	r := httptest.NewRequest(http.MethodPost, authzen.PathEvaluation, strings.NewReader(body))
	r.ContentLength = -1
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if decode(t, w); w.Code != 413 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	small := httptest.NewRequest(http.MethodPost, authzen.PathEvaluation, strings.NewReader(asked("yes")))
	small.ContentLength = -1
	small.Header.Set("Content-Type", "application/json")
	w = httptest.NewRecorder()
	s.handler.ServeHTTP(w, small)
	if decode(t, w); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// refusing cannot record.
type refusing struct{ pdp.Recorder }

func (refusing) Append(context.Context, *audit.Record) (audit.Receipt, error) {
	return audit.Receipt{}, &audit.UnavailableError{Reason: "disk_full", RetryAfter: 3_000_000_000}
}

func (refusing) Submit(context.Context, *audit.Record) (*audit.Ticket, error) {
	return nil, &audit.UnavailableError{Reason: "disk_full", RetryAfter: 3_000_000_000}
}

// TestUnrecorded gives no answer that is not in the log.
func TestUnrecorded(t *testing.T) {
	s := newStand(t, setup{recorder: refusing{}})
	question := `{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}`
	for path, body := range map[string]string{
		authzen.PathEvaluation:     question,
		authzen.PathEvaluations:    `{"evaluations":[` + question + `]}`,
		authzen.PathSearchSubject:  question,
		authzen.PathSearchResource: question,
		authzen.PathSearchAction:   question,
	} {
		w := s.post(path, body)
		if got := decode(t, w); w.Code != 503 || w.Header().Get("Retry-After") != "3" || got["message"] != "audit_unavailable: the audit log cannot take the record: disk_full" {
			t.Errorf("%s: %d %v %v", path, w.Code, w.Header(), got)
		}
	}
}
