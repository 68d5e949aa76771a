package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// always are the members that the record of every decision has.
var always = []string{
	"seq", "time", "type", "event", "severity", "outcome", "decision_id", "path", "input", "result", "reasons",
	"bundles", "duration_ns",
}

// order is the order of all members of a record.
var order = strings.Split("seq,time,type,event,severity,outcome,decision_id,batch_decision_id,path,subject,action,"+
	"resource,tenant,organization,session,device,location,client_ip,user_agent,requested_by,edge,correlation_id,"+
	"trace_id,input,result,undefined,error,reasons,trust,risk_score,bundles,strict,duration_ns,nd,erased,masked,"+
	"old_values,new_values,affected_fields,approval_id,frameworks,message,details", ",")

// members gives the names of the members of a JSON object, in order.
func members(t *testing.T, object []byte) []string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil {
		t.Fatalf("%v in %s", err, object)
	}
	var names []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatalf("%v in %s", err, object)
		}
		names = append(names, name.(string))
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatalf("%v in %s", err, object)
		}
	}
	return names
}

// edge is a way to ask for a decision.
type edge struct {
	name  string
	batch bool
	ask   func(rule string, input map[string]any) servertest.Request
}

func edges() []edge {
	query := func(input map[string]any) string {
		raw, _ := json.Marshal(input) // it is made of maps and numbers
		return url.QueryEscape(string(raw))
	}
	return []edge{
		{"POST /v1/data", false, func(rule string, input map[string]any) servertest.Request {
			return servertest.Request{Path: "/v1/data/app/" + rule, Body: map[string]any{"input": input}}
		}},
		{"POST /v1/data with metrics", false, func(rule string, input map[string]any) servertest.Request {
			return servertest.Request{Path: "/v1/data/app/" + rule + "?metrics&explain=full&pretty&provenance&instrument", Body: map[string]any{"input": input}}
		}},
		{"GET /v1/data", false, func(rule string, input map[string]any) servertest.Request {
			return servertest.Request{Path: "/v1/data/app/" + rule + "?input=" + query(input)}
		}},
		{"POST /v0/data", false, func(rule string, input map[string]any) servertest.Request {
			return servertest.Request{Path: "/v0/data/app/" + rule, Body: input}
		}},
		{"POST /", false, func(rule string, input map[string]any) servertest.Request {
			input["rule"] = rule
			return servertest.Request{Path: "/", Body: input}
		}},
		{"POST /v1/batch/data", true, func(rule string, input map[string]any) servertest.Request {
			return servertest.Request{Path: "/v1/batch/data/app/" + rule, Body: map[string]any{"inputs": map[string]any{"a": input}}}
		}},
	}
}

// TestRecordMembers compares the members of records over every way to ask, for
// every way in which a decision can end.
func TestRecordMembers(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: plain(t)})
	for _, c := range []struct {
		rule, event, outcome, result string
		extra                        []string
	}{
		{"allow", "permission_granted", "success", "true", nil},
		{"denied", "permission_denied", "failure", "false", nil},
		{"undefined_here", "permission_denied", "failure", "null", []string{"undefined"}},
		{"double", "decision_evaluated", "success", "4", nil},
		{"broken", "decision_error", "error", "null", []string{"error"}},
	} {
		for _, e := range edges() {
			t.Run(c.rule+" "+e.name, func(t *testing.T) {
				q := e.ask(c.rule, map[string]any{"user": "ada", "n": 2})
				q.Header = map[string]string{"User-Agent": "test/1"}
				a := s.Do(q)
				id := a.DecisionID()
				if e.batch {
					var body struct {
						Responses map[string]struct {
							ID string `json:"decision_id"`
						} `json:"responses"`
					}
					if err := json.Unmarshal(a.Body, &body); err != nil {
						t.Fatalf("%v in %s", err, a.Body)
					}
					id = body.Responses["a"].ID
				}
				if id == "" {
					t.Fatalf("no decision id: %d %s", a.Status, a.Body)
				}
				rec := s.Record(id)
				checkMembers(t, rec, append(c.extra, "client_ip", "user_agent", "edge"), e.batch)
				var r record
				if err := json.Unmarshal(rec, &r); err != nil {
					t.Fatal(err)
				}
				if r.Type != "decision" || r.Event != c.event || r.Outcome != c.outcome || string(r.Result) != c.result || r.DecisionID != id {
					t.Errorf("record %s", rec)
				}
			})
		}
	}
}

// checkMembers compares the names of a record's members with those it always has
// and the extra ones.
func checkMembers(t *testing.T, rec []byte, extra []string, batch bool) {
	t.Helper()
	want := append(slices.Clone(always), extra...)
	if batch {
		want = append(want, "batch_decision_id")
	}
	slices.SortFunc(want, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	if got := members(t, rec); !slices.Equal(got, want) {
		t.Errorf("members\n%v, want\n%v", got, want)
	}
}

// TestDecisionsOfStandardPolicies asks the standard policies, whose records tell
// more, an answer that is allowed, one that is denied and one without facts.
func TestDecisionsOfStandardPolicies(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: []string{"--set", "limits.evaluation=20s"}})
	var bodies []string
	for line := range strings.Lines(s.Stdout()) {
		if _, rest, ok := strings.Cut(line, " -d '"); ok {
			bodies = append(bodies, strings.TrimSuffix(strings.TrimSpace(rest), "'"))
		}
	}
	if len(bodies) != 2 {
		t.Fatalf("there are not two questions to try:\n%s", s.Stdout())
	}
	for i, body := range append(bodies, `{"input":{}}`, `{}`, `{"input":null}`, `{"input":[]}`) {
		a := s.Do(servertest.Request{Path: "/v1/data/verdict/authz/decision", Body: body})
		result, ok := a.JSON(t)["result"].(map[string]any)
		if !ok || result["allow"] != (i == 0) {
			t.Errorf("%s\nis answered %d %s", body, a.Status, a.Body)
		}
		if reasons, ok := result["reasons"].([]any); !ok || i > 0 && len(reasons) == 0 {
			t.Errorf("%s\nis denied without reasons: %s", body, a.Body)
		}
		names := members(t, s.Record(a.DecisionID()))
		for _, name := range always {
			if !slices.Contains(names, name) {
				t.Errorf("the record of %s has no %s", body, name)
			}
		}
	}
}

const canary = "cAnArY-7f3a"

// TestMasking sends secrets in every place that is masked, and looks for them in
// all that the server has written.
func TestMasking(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: plain(t)})
	secret := func(n int) string { return fmt.Sprintf("%s-%d", canary, n) }
	input := map[string]any{
		"password": secret(1), "PASSWORD": secret(2), "Private_Key": []any{secret(3), map[string]any{"x": secret(4)}},
		"user":  map[string]any{"headers": []any{map[string]any{"Authorization": "Bearer " + secret(5), "cookie": secret(6)}}},
		"token": map[string]any{secret(7): secret(8)}, "pad": strings.Repeat("x", 100),
	}
	large := map[string]any{"secret": secret(9), "pad": strings.Repeat("y", 200<<10)}
	for _, e := range edges() {
		for _, in := range []map[string]any{input, large} {
			if e.name == "GET /v1/data" && len(in) == len(large) {
				continue // a query cannot be that long
			}
			for _, rule := range []string{"allow", "echo", "broken", "double", "undefined_here"} {
				q := e.ask(rule, map[string]any{"user": in["user"], "password": in["password"], "all": in})
				q.Token = secret(10)
				q.Header = map[string]string{"Cookie": secret(11), "X-Api-Key": secret(12)}
				if a := s.Do(q); a.Status != http.StatusOK && a.Status != http.StatusNotFound && a.Status != http.StatusInternalServerError {
					t.Errorf("%s: %d %s", e.name, a.Status, a.Body)
				}
			}
		}
	}
	for _, q := range []servertest.Request{
		{Path: "/v1/data/app/allow", Body: `{"input":{"password":"` + secret(20)},
		{Path: "/v1/data/app/allow", Body: `{"input":{"token":"` + secret(21) + `"}`, Header: map[string]string{"Content-Encoding": "gzip"}},
		{Path: "/v1/policies", Token: secret(22)},
		{Path: "/v1/policies?token=" + secret(23)},
		{Path: "/api/v1/status", Header: map[string]string{"Authorization": "Basic " + secret(24)}},
		{Method: http.MethodPut, Path: "/v1/data/app2", Token: s.AdminToken(), Body: map[string]any{"password": secret(25)}},
		{Method: http.MethodPut, Path: "/v1/data/app3?token=" + secret(26), Token: secret(27), Body: map[string]any{"password": secret(28)}},
	} {
		s.Do(q)
	}
	s.Stop()
	if found := search(t, s, canary); len(found) > 0 {
		t.Errorf("secrets were written:\n%s", strings.Join(found, "\n"))
	}
	if r := last(t, readLog(t, s.Dir), "decision_evaluated"); !bytes.Contains(r.raw, []byte(`"masked":[`)) {
		t.Errorf("the record does not tell what is masked: %s", r.raw)
	}
}

// TestMaskedElsewhere sends values that are masked in input or result, and that
// the record would tell in another place too.
func TestMaskedElsewhere(t *testing.T) {
	t.Parallel()
	password := map[string]any{"password": canary}
	subject := map[string]any{"subject": map[string]any{"type": "user", "id": canary}}
	const maskRule = "package system.log\n\nmask contains \"/input/subject/id\"\n"
	for _, c := range []struct {
		name, rule string
		modules    []string
		args       []string
		input      any
	}{
		{name: "reasons", rule: `n := {"allow": false, "reasons": [{"code": "c", "password": input.password}]}`, input: password},
		{name: "trust", rule: `n := {"allow": false, "trust": {"token": input.password}}`, input: password},
		{name: "conflict", rule: `n[k] := v if { some k in [input.password]; some v in [1, 2] }`, input: password},
		{name: "print", rule: `n := 1 if print(input.password)`, input: password},
		{name: "strict error", rule: `n := to_number(input.password)`, input: password},
		{name: "operands of chance", rule: `n := rand.intn(input.password, 10)`, input: password},
		{name: "trace", rule: `n := 1 if trace(input.password)`, input: password},
		{name: "subject, by key", rule: `n := 1`, args: []string{"--set", "audit.mask_keys=id"}, input: subject},
		{name: "subject, by rule", rule: `n := 1`, modules: []string{maskRule}, input: subject},
		{
			name: "session, by key", rule: `n := 1`, args: []string{"--set", "audit.mask_keys=session"},
			input: map[string]any{"context": map[string]any{"session": canary}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bundle := testBundle(t, append(c.modules, "package leak\n\n"+c.rule+"\n")...)
			s := servertest.Start(t, servertest.Options{
				Args: append([]string{"--standard-policies=false", "--bundle", bundle, "--set", "limits.evaluation=20s"}, c.args...),
			})
			a := s.Decide("leak/n?explain=full&strict-builtin-errors", c.input)
			if a.DecisionID() == "" {
				t.Fatalf("no decision: %d %s", a.Status, a.Body)
			}
			s.Stop()
			if found := search(t, s, canary); len(found) > 0 {
				t.Errorf("a secret was written:\n%s", strings.Join(found, "\n"))
			}
		})
	}
}

// search looks for a text in every file of the data folder and in what the server
// said.
func search(t *testing.T, s *servertest.Server, text string) (found []string) {
	t.Helper()
	look := func(name string, content []byte) {
		for rest := content; ; {
			at := bytes.Index(rest, []byte(text))
			if at < 0 {
				return
			}
			found = append(found, fmt.Sprintf("%s: ...%q", name, rest[max(0, at-150):min(len(rest), at+len(text)+40)]))
			rest = rest[at+len(text):]
		}
	}
	err := filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		look(path, content)
		return err
	})
	if err := errors.Join(err); err != nil {
		t.Fatal(err)
	}
	look("standard output", []byte(s.Stdout()))
	look("standard error", []byte(s.Stderr()))
	return found
}

// TestAStartThatFails ends in the log as any other run: nobody takes it for a
// crash.
func TestAStartThatFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "tokens.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"address in use":    {"--data-dir", t.TempDir(), "--addr", taken.Addr().String()},
		"broken token file": {"--data-dir", broken},
	} {
		t.Run(name, func(t *testing.T) {
			_, stderr, code := servertest.Run(t, append([]string{"serve", "--dev", "--grpc-addr", "127.0.0.1:0"}, args...)...)
			if code != 2 && code != 1 {
				t.Fatalf("exit code %d\n%s", code, stderr)
			}
			list := readLog(t, args[1])
			if starts, ends := count(list, "system.start"), count(list, "system.shutdown"); starts != 1 || ends != 1 {
				t.Errorf("%d starts and %d shutdowns are recorded", starts, ends)
			}
			verifyFolder(t, args[1])
		})
	}
}
