package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
	"github.com/verdict-pdp/verdict/pdp/replay"
)

// granting is a bundle that allows what its rule says, which also asks the clock
// and chance.
func granting(t *testing.T, revision, rule string) []byte {
	return tarball(t, map[string]string{
		".manifest": fmt.Sprintf(`{"revision": %q, "roots": ["shop"]}`, revision),
		"p.rego": "package shop\n\ndefault allow := false\n\nallow if {\n\t" + rule + "\n}\n\n" +
			"draw := [rand.intn(\"x\", 1000000000), uuid.rfc4122(\"y\"), time.now_ns()]\n",
	})
}

type replayed struct {
	SHA256 string         `json:"sha256"`
	Report *replay.Report `json:"report"`
}

// TestReplay asks what a kept revision would have decided, over HTTP and on the
// command line, and has a gate refuse what newly allows 3 of 200 denials.
func TestReplay(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: []string{
		"--set", "bundles.gates.replay=100000", "--set", "bundles.gates.replay_flips=10", "--set", "bundles.gates.replay_no_grants=shop/",
	}})
	token := s.AdminToken()
	push := func(path string, body []byte) *servertest.Answer {
		t.Helper()
		return s.Do(servertest.Request{Method: http.MethodPut, Path: "/api/v1/bundles/" + path, Body: body, Token: token})
	}
	const strict = `input.subject.properties.roles[_] == "admin"`
	wantStatus(t, push("shop", granting(t, "r1", strict)), http.StatusOK, `"name":"replay","result":"passed"`, "0 of 0 recorded decisions")
	special := map[string]bool{}
	for i := range 200 {
		input := map[string]any{"subject": map[string]any{"id": fmt.Sprint("u", i), "properties": map[string]any{"roles": []string{"clerk"}}}, "resource": map[string]any{"type": "order"}}
		id := s.Decide("shop/allow", input).DecisionID()
		if i%70 == 7 {
			special[id] = true
		}
	}
	for range 20 {
		s.Decide("shop/draw", map[string]any{"password": "x"})
	}
	// What the standard policies decide, for several protocols.
	question := map[string]any{"subject": map[string]any{"type": "user", "id": "ada"}, "action": map[string]any{"name": "customer.read"}, "resource": map[string]any{"type": "customer", "id": "1"}}
	for range 5 {
		s.Decide("verdict/authz/decision", question)
		wantStatus(t, s.Do(servertest.Request{Path: "/access/v1/evaluation", Body: question, Header: map[string]string{"Content-Type": "application/json"}}), http.StatusOK)
		s.Do(servertest.Request{Method: http.MethodGet, Path: "/authz/forward/a/b?x=1", Header: map[string]string{"Accept": "text/html"}})
	}
	loose := strict + "\n}\n\nallow if {\n\tinput.subject.id in {\"u7\", \"u77\", \"u147\"}"
	refused := push("shop", granting(t, "r2", loose))
	wantStatus(t, refused, http.StatusUnprocessableEntity, `"gate":"replay"`, "3 of ", "that were denied would be allowed")
	for id := range special {
		if !strings.Contains(string(refused.Body), id) {
			t.Errorf("the refusal does not name %s: %s", id, refused.Body)
		}
	}
	if len(special) != 3 {
		t.Fatalf("%d special decisions", len(special))
	}

	ask := func(rev, body string, accept string) *servertest.Answer {
		t.Helper()
		return s.Do(servertest.Request{Path: "/api/v1/bundles/shop/revisions/" + rev + "/replay", Body: body, Token: token, Header: map[string]string{"Accept": accept, "Content-Type": "application/json"}})
	}
	same := ask("r1", "", "")
	got := &replayed{}
	if err := json.Unmarshal(same.Body, got); err != nil || same.Status != http.StatusOK {
		t.Fatalf("%d %s: %v", same.Status, same.Body, err)
	}
	// The calls with arguments of 20 records are erased, since their input is masked.
	if r := got.Report; r.Flips.Count != 0 || r.Replayed != 215 || r.NotReplayable.Reasons[replay.ReasonMasked] != 20 {
		t.Errorf("r1 on its own decisions: %s", same.Body)
	}
	changed := ask("r2", `{"paths": ["shop/allow"], "detail": 2}`, "application/x-ndjson")
	lines := strings.Split(strings.TrimSpace(string(changed.Body)), "\n")
	last := &struct{ Result replayed }{}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), last); err != nil || len(lines) < 2 || !strings.HasPrefix(lines[0], `{"progress":`) {
		t.Fatalf("%s: %v", changed.Body, err)
	}
	r := last.Result.Report
	if r.Flips.Kinds[replay.DenyToAllow] != 3 || len(r.Flips.List) != 2 || !r.Flips.More || !special[r.Flips.List[0].DecisionID] ||
		r.Groups.Role[0].Value != "clerk" || r.Groups.ResourceType[0].Value != "order" {
		t.Errorf("r2: %s", changed.Body)
	}
	wantStatus(t, ask("r9", "", ""), http.StatusNotFound)
	wantStatus(t, ask("r1", `{"limit": 0}`, ""), http.StatusBadRequest, "limit is a number")
	wantStatus(t, ask("r1", `{"form": 1}`, ""), http.StatusBadRequest, "form")
	wantStatus(t, ask("r1", `{"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}`, ""), http.StatusBadRequest, "to is before from")

	// What may flip within the bounds passes, and its report's hash is recorded.
	passed := push("shop", granting(t, "r3", strict+"\n}\n\nextra := true if {\n\ttrue"))
	wantStatus(t, passed, http.StatusOK, `"status":"active"`, `"evidence":"sha256:`)
	records := string(s.Do(servertest.Request{Path: "/api/v1/audit/records?limit=1000", Token: token}).Body)
	for _, part := range []string{`"filter":{"bundle":"shop","gate":"replay"}`, `"evidence":{"shop":{"replay":"sha256:`, `"replay":"shop"`} {
		if !strings.Contains(records, part) {
			t.Errorf("no record has %s", part)
		}
	}

	cli := func(args ...string) []string {
		return append(args, "--server", s.URL, "--token-file", filepath.Join(s.Dir, "admin.token"))
	}
	wantRun(t, 0, cli("replay", "shop", "r1", "--from", "1h"), "shop r1: 0 of 215 recorded decisions come out otherwise", "not replayable: 20 (masked 20)", "report sha256 ")
	out := wantRun(t, 1, cli("replay", "shop", "r2"), "deny_to_allow: 3", "by role: clerk 3", "(--fail-on flips)")
	for id := range special {
		if !strings.Contains(out, id+" shop/allow deny_to_allow: true, was false") {
			t.Errorf("%s is not in %s", id, out)
		}
	}
	for _, tc := range []struct {
		failOn string
		code   int
	}{{"never", 0}, {"grants", 1}, {"2", 1}, {"3", 0}, {"1%", 1}, {"2%", 0}, {"x", 2}, {"-1", 2}, {"101%", 2}} {
		wantRun(t, tc.code, cli("replay", "shop", "r2", "--fail-on="+tc.failOn))
	}
	wantRun(t, 0, cli("replay", "shop", "r2", "--path", "shop/draw", "--output", "json"), `"other_paths":215`)
	wantRun(t, 2, cli("replay", "shop", "r9"), "404 not_found")
	wantRun(t, 2, cli("replay", "shop", "r1", "--from", "yesterday"), "--from")
	if s.Metric(`verdict_replays_total{outcome="success"}`) < 10 {
		t.Error("replays are not counted")
	}
	s.Stop()
}

// TestActivationGate has a kept revision that passed its gates judged again when
// it is activated.
func TestActivationGate(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: []string{"--set", "bundles.gates.replay=1000"}})
	token := s.AdminToken()
	push := func(path string, body []byte) *servertest.Answer {
		t.Helper()
		return s.Do(servertest.Request{Method: http.MethodPut, Path: "/api/v1/bundles/" + path, Body: body, Token: token})
	}
	wantStatus(t, push("shop", granting(t, "r1", "input.x == 1")), http.StatusOK)
	wantStatus(t, push("shop?activate=false", granting(t, "r2", "input.x == 2")), http.StatusOK, `"status":"kept"`)
	id := s.Decide("shop/allow", map[string]any{"x": 2}).DecisionID()
	activate := func(revision string) *servertest.Answer {
		return s.Do(servertest.Request{Path: "/api/v1/activations", Token: token, Body: map[string]any{"bundles": map[string]any{"shop": revision}}})
	}
	wantStatus(t, activate("r2"), http.StatusUnprocessableEntity, `"gate":"replay"`, id, "1 of 1 recorded")
	wantStatus(t, s.Decide("shop/allow", map[string]any{"x": 1}), http.StatusOK, `"result":true`)
	wantStatus(t, s.Do(servertest.Request{Path: "/api/v1/audit/records?limit=1000", Token: token}), http.StatusOK, `"event":"bundle_refused"`, `"action":"activate"`)
	// What somebody has to go back to is not judged.
	wantStatus(t, s.Do(servertest.Request{Path: "/api/v1/bundles/shop/rollback", Token: token, Body: map[string]any{"revision": "r2"}}), http.StatusOK)
	s.Stop()
}
