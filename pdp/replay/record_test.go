package replay_test

import (
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/opa"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/replay"
)

// TestUnfit has the decisions that cannot be replayed, or are none.
func TestUnfit(t *testing.T) {
	const p1 = "package p\n"
	big := strings.Repeat("x", 70_000)
	for _, tc := range []struct {
		name, old, next, input string
		query                  func(*pdp.Query)
		want                   string // a reason; empty: replayed
		skipped                bool
		flips                  uint64
	}{
		{name: "masked value read", old: "r := input.a.user", next: "r := input.a.password", input: `{"a": {"user": 1, "password": "x"}}`, want: replay.ReasonMasked},
		{name: "masked value in what is read", old: "r := 1", next: "r := count(input.a)", input: `{"a": {"password": "x"}}`, want: replay.ReasonMasked},
		{name: "masked value not read by the candidate", old: "r := count(input.a)", next: "r := input.b", input: `{"a": {"password": "x"}, "b": 1}`},
		{name: "masked below", old: "r := input.a", next: "r := input.password.deep", input: `{"a": 1, "password": {"deep": 1}}`, want: replay.ReasonMasked},
		{name: "chance by masked arguments", old: `r := rand.intn(input.k, 10)`, next: `r := rand.intn(input.k, 10)`, input: `{"k": "a", "password": "x"}`, want: replay.ReasonMasked},
		{name: "clock beside masked values", old: `r := time.now_ns()`, next: `r := time.now_ns()`, input: `{"password": "x"}`},
		{name: "large input", old: "r := count(input.x)", next: "r := count(input.x)", input: `{"x": "` + big + `"}`},
		{name: "large input, changed", old: "r := count(input.x)", next: "r := count(input.x) + 1", input: `{"x": "` + big + `"}`, flips: 1},
		{name: "large result", old: `r := concat("", [input.x, "` + big + `"])`, next: `r := concat("", [input.x, "` + big + `"])`, input: `{"x": "a"}`},
		{name: "large result, changed", old: `r := "` + big + `"`, next: `r := concat("", ["` + big + `", "y"])`, input: `{"x": "a"}`, flips: 1},
		{name: "looks like a blob", old: "r := input.size", next: "r := input.size", input: `{"sha256": "` + strings.Repeat("ab", 32) + `", "size": 70000, "blob": true}`},
		{name: "looks like a small blob", old: "r := input.size", next: "r := input.size", input: `{"sha256": "` + strings.Repeat("ab", 32) + `", "size": 7, "blob": true}`},
		{name: "null and no input differ", old: "r := input == null", next: "r := input == null", input: ``, want: replay.ReasonNoInput},
		{name: "null and no input are the same", old: "r if input.x", next: "r if input.x", input: `null`},
		{name: "fault", old: "r := 1", next: "r := 2", input: `{}`, query: func(q *pdp.Query) { q.Fault = &pdp.Fault{Code: "no_path", Message: "m"} }, want: replay.ReasonFault},
		{name: "ad-hoc query", old: "r := 1", next: "r := 2", input: `{}`, query: func(q *pdp.Query) { q.Edge = opa.EdgeQuery }, want: replay.SkippedQuery, skipped: true},
		{name: "filter", old: "r := 1", next: "r := 2", input: `{}`, query: func(q *pdp.Query) { q.Edge = opa.EdgeCompile }, want: replay.SkippedCompile, skipped: true},
		{name: "preview", old: "r := 1", next: "r := 2", input: `{}`, query: func(q *pdp.Query) { q.Edge = pdp.EdgePreview }, want: replay.SkippedPreview, skipped: true},
		{name: "search", old: "r := 1", next: "r := 2", input: `{}`, query: func(q *pdp.Query) { q.Details = []byte(`{"search":{}}`) }, want: replay.SkippedSearch, skipped: true},
		{name: "input like a search", old: "r := 1", next: "r := 2", input: `{"x": 1, "details": {"search": {}}}`, flips: 1},
		{name: "certificates", old: "r := 1", next: `r := crypto.x509.parse_and_verify_certificates(input.x)`, input: `{"x": "y"}`, want: replay.ReasonUnrecorded},
		{name: "strict", old: `r := 1 / input.x`, next: `r := 1 / input.x`, input: `{"x": 0}`, query: func(q *pdp.Query) { q.Strict = true }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newPoint(t, p1+tc.old)
			q := &pdp.Query{Edge: "test", Path: "p/r", Input: value(t, tc.input)}
			if tc.query != nil {
				tc.query(q)
			}
			p.askQuery(t, q)
			r := p.replay(t, p.candidate(t, p1+tc.next), replay.Request{})
			counts := r.NotReplayable
			if tc.skipped {
				counts = r.Skipped
			}
			switch {
			case tc.want != "" && (counts.Count != 1 || counts.Reasons[tc.want] != 1 || r.Replayed != 0):
				t.Errorf("want %s: %s", tc.want, text(t, r))
			case tc.want == "" && (r.Replayed != 1 || r.Flips.Count != tc.flips):
				t.Error(text(t, r))
			}
		})
	}
}

// TestMaskingPolicy has results of which a policy hides a part.
func TestMaskingPolicy(t *testing.T) {
	const hides = `package system.log
mask contains "/result/secret"
mask contains {"op": "upsert", "path": "/result/name", "value": "(hidden)"}
mask contains "/input/pin" if input.input.pin
`
	const policy = "package p\n" + `r := {"allow": input.x == 1, "secret": input.x, "name": input.x, "more": 1}`
	p := newPoint(t, policy, hides)
	p.ask(t, "p/r", `{"x": 1, "pin": 1234}`)
	if r := p.replay(t, p.candidate(t, policy), replay.Request{}); r.Flips.Count != 0 || r.Replayed != 1 {
		t.Errorf("the same policy: %s", text(t, r))
	}
	changed := strings.Replace(policy, `"more": 1`, `"more": 2`, 1)
	r := p.replay(t, p.candidate(t, changed), replay.Request{})
	if r.Flips.Count != 1 {
		t.Fatalf("the changed policy: %s", text(t, r))
	}
	if shown := string(r.Flips.List[0].New.Result); shown != `{"allow":true,"more":2,"name":"(hidden)"}` {
		t.Errorf("shown: %s", shown)
	}
	if r := p.replay(t, p.candidate(t, "package p\nr := input.pin"), replay.Request{}); r.NotReplayable.Reasons[replay.ReasonMasked] != 1 {
		t.Errorf("what was erased is read: %s", text(t, r))
	}
	hidden := newPoint(t, policy, "package system.log\nmask contains \"/result/allow\"")
	hidden.ask(t, "p/r", `{"x": 1}`)
	if r := hidden.replay(t, hidden.candidate(t, policy), replay.Request{}); r.NotReplayable.Reasons[replay.ReasonResult] != 1 {
		t.Errorf("the verdict was erased: %s", text(t, r))
	}
}

// TestUnrecorded asks for chance that no record holds.
func TestUnrecorded(t *testing.T) {
	p := newPoint(t, "package p\nr := 1")
	for range 5 {
		p.ask(t, "p/r", "{}")
	}
	c := p.candidate(t, "package p\nr := rand.intn(\"x\", 1000000)")
	r := p.replay(t, c, replay.Request{})
	if r.Unrecorded != 5 || r.Flips.Count != 5 || !r.Flips.List[0].Unrecorded {
		t.Error(text(t, r))
	}
	if sum(t, r) != sum(t, p.replay(t, c, replay.Request{})) {
		t.Error("two replays differ")
	}
	// The clock is known to be that of the record.
	r = p.replay(t, p.candidate(t, "package p\nr := time.now_ns() - time.now_ns() + 1"), replay.Request{})
	if r.Unrecorded != 0 || r.Flips.Count != 0 {
		t.Error(text(t, r))
	}
}
