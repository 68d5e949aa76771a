package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/internal/pointtest"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/replay"
)

const shop = `package shop

default allow := false

allow if {
	input.action == "read"
	some role in input.subject.roles
	data.grants[role][input.resource.type]
}

decision := {"allow": allow, "reasons": reasons}

reasons := [{"code": "no_grant"} | not allow]
`

// point is a decision point that masks some keys, with a replayer of its log.
type point struct {
	*pdp.PDP
	log      *audit.Log
	engine   *eval.Engine
	replayer *replay.Replayer
}

func newPoint(t testing.TB, modules ...string) *point {
	t.Helper()
	keys := mask.NewKeys([]string{"password", "token"})
	log := pointtest.Log(t, audit.Options{})
	engine := newEngine(t, modules...)
	return &point{
		PDP: pdp.New(engine, log, pdp.Options{MaskKeys: keys}), log: log, engine: engine,
		replayer: replay.New(log, engine, replay.Options{MaskKeys: keys}),
	}
}

func newEngine(t testing.TB, modules ...string) *eval.Engine {
	t.Helper()
	engine, err := eval.New(eval.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	_, err = engine.Write(func(d *eval.Draft) error { return put(d, modules...) })
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func put(d *eval.Draft, modules ...string) error {
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
}

// candidate is a snapshot of the modules that is not active.
func (p *point) candidate(t testing.TB, modules ...string) *eval.Snapshot {
	t.Helper()
	s, err := p.engine.Stage(func(d *eval.Draft) error { return put(d, modules...) })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask decides and returns the id of the decision.
func (p *point) ask(t testing.TB, path, input string) string {
	t.Helper()
	return p.askQuery(t, &pdp.Query{Edge: "test", Path: path, Input: value(t, input)})
}

// askAll decides all inputs at once, and returns the ids of the decisions.
func (p *point) askAll(t testing.TB, paths, inputs []string) (ids []string) {
	t.Helper()
	queries := make([]pdp.Query, len(inputs))
	for i := range inputs {
		queries[i] = pdp.Query{Edge: "test", Path: paths[i], Input: value(t, inputs[i])}
	}
	outcomes, err := p.DecideBatch(t.Context(), queries)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		ids = append(ids, o.Decision.ID)
		o.Decision.Release()
	}
	return ids
}

func (p *point) askQuery(t testing.TB, q *pdp.Query) string {
	t.Helper()
	d, err := p.Decide(t.Context(), q)
	if errors.Is(err, pdp.ErrUnrecorded) || d == nil {
		t.Fatal(err)
	}
	defer d.Release()
	return d.ID
}

func value(t testing.TB, text string) ast.Value {
	t.Helper()
	if text == "" {
		return nil
	}
	v, _, err := eval.ParseInput([]byte(text), eval.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (p *point) replay(t testing.TB, s *eval.Snapshot, q replay.Request) *replay.Report {
	t.Helper()
	r, err := p.replayer.Run(t.Context(), s, q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSame replays decisions on the policy that made them: nothing changes,
// whatever the policy asks of clock and chance.
func TestSame(t *testing.T) {
	policies := map[string]struct{ module, path, input string }{
		"boolean":        {`package p` + "\n" + `r := input.x == 1`, "p/r", `{"x": 1}`},
		"undefined":      {`package p` + "\n" + `r if input.x == 2`, "p/r", `{"x": 1}`},
		"no such path":   {`package p` + "\n" + `r := 1`, "q/r", `{"x": 1}`},
		"null result":    {`package p` + "\n" + `r := null`, "p/r", ``},
		"set":            {`package p` + "\n" + `r contains x if some x in input.l`, "p/r", `{"l": ["<b>", "a", 3, 1e400]}`},
		"clock":          {`package p` + "\n" + `r := time.now_ns()`, "p/r", ``},
		"clock, used":    {`package p` + "\n" + `r := time.now_ns() % 2`, "p/r", `{}`},
		"rand":           {`package p` + "\n" + `r := [rand.intn("a", 1000000), rand.intn("b", 1000000)]`, "p/r", `{}`},
		"rand by input":  {`package p` + "\n" + `r := rand.intn(input.k, 1000000)`, "p/r", `{"k": "<k&>"}`},
		"uuid":           {`package p` + "\n" + `r := uuid.rfc4122("x")`, "p/r", `{}`},
		"uuid of a set":  {`package p` + "\n" + `r := uuid.rfc4122(sprintf("%v", [{1, 2}]))`, "p/r", `{}`},
		"sign":           {`package p` + "\n" + `r := io.jwt.encode_sign({"alg": "HS256", "typ": "JWT"}, {"a": input.x}, {"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"})`, "p/r", `{"x": 1}`},
		"runtime":        {`package p` + "\n" + `r := opa.runtime()`, "p/r", `{}`},
		"error":          {`package p` + "\n" + `r := x if x := input.a` + "\n" + `r := y if y := input.b`, "p/r", `{"a": 1, "b": 2}`},
		"late error":     {`package p` + "\n" + `r := x if {x := rand.intn("q", 1000)}` + "\n" + `r := y if {y := rand.intn("q", 1000) + 1}`, "p/r", `{}`},
		"bad path":       {`package p` + "\n" + `r := 1`, `p/"`, `{}`},
		"builtin error":  {`package p` + "\n" + `r := rand.intn("a", input.n)`, "p/r", `{"n": "x"}`},
		"masked result":  {`package p` + "\n" + `r := {"allow": true, "token": rand.intn("t", 1000000)}`, "p/r", `{}`},
		"no input read":  {`package p` + "\n" + `r := 1`, "p/r", `{"password": "x"}`},
		"other read":     {`package p` + "\n" + `r := input.a.user`, "p/r", `{"a": {"user": 1, "password": "x"}}`},
		"standard below": {`package verdict.mine` + "\n" + `r := time.now_ns()`, "verdict/mine/r", `{}`},
	}
	for name, tc := range policies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPoint(t, tc.module)
			for range 3 {
				p.ask(t, tc.path, tc.input)
			}
			r := p.replay(t, p.candidate(t, tc.module), replay.Request{})
			if r.Flips.Count != 0 || r.Replayed != 3 || r.Decisions != 3 || r.Unrecorded != 0 {
				t.Errorf("%s", text(t, r))
			}
			again := p.replay(t, p.candidate(t, tc.module), replay.Request{})
			if a, b := sum(t, r), sum(t, again); a != b {
				t.Errorf("two replays have the sums %s and %s", a, b)
			}
		})
	}
}

func text(t testing.TB, r *replay.Report) string {
	t.Helper()
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func sum(t testing.TB, r *replay.Report) string {
	t.Helper()
	s, err := r.Sum()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBruteForce compares the flips of a changed rule with those that OPA's
// library finds, which is asked about every input on both policies.
func TestBruteForce(t *testing.T) {
	const changed = `package shop

default allow := false

allow if {
	input.action in {"read", "list"}
	some role in input.subject.roles
	data.grants[role][input.resource.type]
	input.resource.id != 13
}

allow if input.action == "delete"

decision := {"allow": allow, "reasons": reasons}

reasons := [{"code": "no_grant"} | not allow]
`
	grants := `package grants
clerk.order := true
boss.order := true
boss.bill := true
`
	p := newPoint(t, shop, grants)
	rnd := rand.New(rand.NewPCG(4, 2))
	pick := func(list ...string) string { return list[rnd.IntN(len(list))] }
	old, next := brute(t, shop, grants), brute(t, changed, grants)
	want := map[string]replay.Kind{}
	byRole := map[string]int{}
	var paths, inputs, roles []string
	for range 800 {
		role := pick("clerk", "boss", "guest")
		input := fmt.Sprintf(`{"subject": {"id": "u", "roles": [%q]}, "action": %q, "resource": {"type": %q, "id": %d}}`,
			role, pick("read", "list", "write", "delete"), pick("order", "bill"), rnd.IntN(20))
		paths, inputs, roles = append(paths, pick("shop/allow", "shop/decision")), append(inputs, input), append(roles, role)
	}
	for i, id := range p.askAll(t, paths, inputs) {
		was, is := old(t, paths[i], inputs[i]), next(t, paths[i], inputs[i])
		if was == is {
			continue
		}
		byRole[roles[i]]++
		if want[id] = replay.AllowToDeny; strings.Contains(is, "true") {
			want[id] = replay.DenyToAllow
		}
	}
	if len(want) < 50 {
		t.Fatalf("%d flips only", len(want))
	}
	r := p.replay(t, p.candidate(t, changed), replay.Request{List: 10_000})
	if r.Flips.Count != uint64(len(want)) || len(r.Flips.List) != len(want) || r.Replayed != 800 || r.Flips.More {
		t.Fatalf("%d flips of %d replayed, %d expected", r.Flips.Count, r.Replayed, len(want))
	}
	for _, f := range r.Flips.List {
		if want[f.DecisionID] != f.Kind {
			t.Errorf("%s: %s, expected %q", f.DecisionID, f.Kind, want[f.DecisionID])
		}
	}
	if !slices.IsSortedFunc(r.Flips.List, func(a, b replay.Flip) int { return int(int64(b.Seq) - int64(a.Seq)) }) {
		t.Error("the newest flip is not the first")
	}
	for _, g := range r.Groups.Role {
		if int(g.Count) != byRole[g.Value] {
			t.Errorf("role %s: %d flips, expected %d", g.Value, g.Count, byRole[g.Value])
		}
	}
	if len(r.Groups.Path) != 2 || len(r.Groups.ResourceType) != 2 || !hasGroup(r.Groups.Reason, "no_grant") {
		t.Errorf("groups: %s", text(t, r))
	}
}

func hasGroup(list []replay.Group, name string) bool {
	return slices.ContainsFunc(list, func(g replay.Group) bool { return g.Value == name })
}

// brute evaluates with OPA's library and nothing of verdict's.
func brute(t *testing.T, modules ...string) func(t *testing.T, path, input string) string {
	t.Helper()
	prepared := map[string]rego.PreparedEvalQuery{}
	for _, path := range []string{"shop/allow", "shop/decision"} {
		options := []func(*rego.Rego){rego.Query("data." + strings.ReplaceAll(path, "/", "."))}
		for i, m := range modules {
			options = append(options, rego.Module(fmt.Sprint(i, ".rego"), m))
		}
		q, err := rego.New(options...).PrepareForEval(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		prepared[path] = q
	}
	return func(t *testing.T, path, input string) string {
		var doc any
		if err := json.Unmarshal([]byte(input), &doc); err != nil {
			t.Fatal(err)
		}
		q := prepared[path]
		rs, err := q.Eval(t.Context(), rego.EvalInput(doc))
		if err != nil || len(rs) != 1 {
			t.Fatal(rs, err)
		}
		out, err := json.Marshal(rs[0].Expressions[0].Value)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
}

func TestKinds(t *testing.T) {
	const conflict = "r := 1 if true\nr := 2 if true"
	for _, tc := range []struct {
		name, old, next string
		want            replay.Kind
	}{
		{"deny to allow", "r := false", "r := true", replay.DenyToAllow},
		{"undefined to allow", "q := 1", "r := true", replay.DenyToAllow},
		{"a value to allow", `r := {"x": 1}`, `r := {"allow": true}`, replay.DenyToAllow},
		{"an error to allow", conflict, "r := true", replay.DenyToAllow},
		{"allow to deny", "r := true", "r := false", replay.AllowToDeny},
		{"allow to undefined", `r := {"allowed": true}`, "q := 1", replay.AllowToDeny},
		{"deny to undefined", "r := false", "q := 1", replay.Changed},
		{"null to undefined", "r := null", "q := 1", replay.Changed},
		{"other reasons", `r := {"allow": false, "reasons": [1]}`, `r := {"allow": false, "reasons": [2]}`, replay.Changed},
		{"value", "r := 1", "r := 2", replay.Changed},
		{"allow to error", "r := true", conflict, replay.ToError},
		{"error to deny", conflict, "r := false", replay.FromError},
		{"the same", "r := true", "r := 1 == 1", ""},
		{"set and array", "r := {2, 1}", "r := [1, 2]", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newPoint(t, "package p\n"+tc.old)
			id := p.ask(t, "p/r", "{}")
			r := p.replay(t, p.candidate(t, "package p\n"+tc.next), replay.Request{})
			if tc.want == "" {
				if r.Flips.Count != 0 {
					t.Error(text(t, r))
				}
				return
			}
			if len(r.Flips.List) != 1 || r.Flips.List[0].Kind != tc.want || r.Flips.List[0].DecisionID != id || r.Flips.Kinds[tc.want] != 1 {
				t.Error(text(t, r))
			}
		})
	}
}

func TestWindowAndLimit(t *testing.T) {
	p := newPoint(t, "package p\nr := 1\nq := 1\ns.t := 1")
	var ids []string
	var middle time.Time
	for i := range 20 {
		if i == 10 {
			time.Sleep(2 * time.Millisecond) // real time: the log's clock is the machine's
			middle = time.Now()
			time.Sleep(2 * time.Millisecond)
		}
		ids = append(ids, p.ask(t, []string{"p/r", "p/q"}[i%2], "{}"))
	}
	p.ask(t, "p/s/t", "{}")
	c := p.candidate(t, "package p\nr := 2\nq := 2\ns.t := 2")
	for _, tc := range []struct {
		name    string
		request replay.Request
		flips   uint64
		limited bool
	}{
		{"all", replay.Request{}, 21, false},
		{"from", replay.Request{From: middle}, 11, false},
		{"to", replay.Request{To: middle}, 10, false},
		{"empty window", replay.Request{From: middle, To: middle}, 0, false},
		{"future", replay.Request{From: middle.Add(time.Hour)}, 0, false},
		{"limit", replay.Request{Limit: 5}, 5, true},
		{"path", replay.Request{Paths: []string{"p/r"}}, 10, false},
		{"paths", replay.Request{Paths: []string{"/p/r", "p/s/"}}, 11, false},
		{"everything below", replay.Request{Paths: []string{"p/"}}, 21, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := p.replay(t, c, tc.request)
			if r.Flips.Count != tc.flips || r.Limited != tc.limited {
				t.Error(text(t, r))
			}
		})
	}
	r := p.replay(t, c, replay.Request{Limit: 6, List: 2, Paths: []string{"p/r", "p/q"}})
	if r.Flips.Count != 5 || len(r.Flips.List) != 2 || !r.Flips.More || r.Flips.List[0].DecisionID != ids[19] || r.OtherPaths != 1 {
		t.Error(text(t, r))
	}
	for _, bad := range []replay.Request{{Limit: -1}, {Limit: replay.MaxLimit + 1}, {List: replay.MaxList + 1}, {From: middle, To: middle.Add(-1)}, {Paths: []string{`a"`}}} {
		if _, err := p.replayer.Run(t.Context(), c, bad); !errors.Is(err, replay.ErrRequest) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestCancel(t *testing.T) {
	p := newPoint(t, "package p\nr := 1")
	p.askAll(t, slices.Repeat([]string{"p/r"}, 600), slices.Repeat([]string{"{}"}, 600))
	ctx, cancel := context.WithCancel(t.Context())
	var told []replay.Progress
	_, err := p.replayer.Run(ctx, p.candidate(t, "package p\nr := 2"), replay.Request{OnFlip: func(*replay.Flip) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	r := p.replay(t, p.engine.Active(), replay.Request{Progress: func(x replay.Progress) { told = append(told, x) }})
	if last := told[len(told)-1]; last.Read != last.Total || last.Decisions != 600 || r.Replayed != 600 {
		t.Errorf("told %+v of %s", told, text(t, r))
	}
}
