package bundles_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/trial"
)

// Append and Submit make the recorder one of decisions too.
func (r *recorder) Submit(ctx context.Context, rec *audit.Record) (*audit.Ticket, error) {
	_, err := r.Append(ctx, rec)
	return &audit.Ticket{}, err
}

// door is a bundle whose rule is the text.
func door(revision, rule string) content {
	return content{
		".manifest": fmt.Sprintf(`{"revision": %q, "roots": ["door"]}`, revision),
		"door.rego": "package door\n\n" + rule,
	}
}

// stand is a bench with a decision point and a service that runs.
type stand struct {
	*bench
	point *pdp.PDP
	now   atomic.Int64 // nanoseconds after start
	stop  func()
}

func newStand(t *testing.T, dir string, rules ...string) *stand {
	t.Helper()
	s := &stand{}
	start := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	now := func() time.Time { return start.Add(time.Duration(s.now.Load())) }
	s.bench = open(t, dir, func(o *bundles.Options) { o.Now = now })
	s.point = pdp.New(s.engine, s.recorder, pdp.Options{Now: now})
	for i, rule := range rules {
		s.mustPush("door", files(t, door(fmt.Sprintf("r%d", i+1), rule)), func(p *bundles.PushRequest) { p.Keep = i > 0 })
	}
	s.run()
	return s
}

// run runs the service until stop or the end of the test.
func (s *stand) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }() // ended by stop
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.Error(err)
		}
	})
	s.Cleanup(s.stop)
}

// ask decides for a user and returns what was answered and the record.
func (s *stand) ask(user string) (answer string, rec audit.Record) {
	s.Helper()
	input := ast.NewObject(ast.Item(ast.StringTerm("subject"), ast.ObjectTerm(ast.Item(ast.StringTerm("id"), ast.StringTerm(user)))))
	d, err := s.point.Decide(s.Context(), &pdp.Query{Path: "door/open", Input: input})
	if err != nil {
		answer = "error"
	}
	if d != nil {
		answer += string(d.JSON)
		rec = s.find(d.ID)
		d.Release()
	}
	return answer, rec
}

func (s *stand) find(id string) audit.Record {
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	for i := len(s.recorder.records) - 1; i >= 0; i-- {
		if s.recorder.records[i].DecisionID == id {
			return s.recorder.records[i]
		}
	}
	return audit.Record{}
}

func (s *stand) stage(revision string, mode bundles.Mode, percent float64, limits trial.Limits) *bundles.Staging {
	s.Helper()
	st, err := s.Try(s.Context(), bundles.StageRequest{Name: "door", Revision: revision, Mode: mode, Percent: percent, Limits: limits, By: bundles.Origin{Caller: "ci"}})
	if err != nil {
		s.Fatal(err)
	}
	return st
}

// eventually waits until what is staged is as wanted.
func (s *stand) eventually(what string, want func(*bundles.Staging) bool) *bundles.Staging {
	s.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		st, err := s.Staged("door")
		if err == nil && want(st) {
			return st
		}
		if time.Now().After(deadline) {
			s.Fatalf("no %s: %+v, %v", what, st, err)
		}
		time.Sleep(time.Millisecond)
	}
}

// details of the last record of an event.
func (s *stand) lastOf(event string) map[string]any {
	s.Helper()
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	for _, rec := range slices.Backward(s.recorder.records) {
		if rec.Event == event {
			var details map[string]any
			if err := json.Unmarshal(rec.Details, &details); err != nil {
				s.Fatal(err)
			}
			return details
		}
	}
	s.Fatalf("no record of %s", event)
	return nil
}

func some[T any](v T) *T { return &v }

func TestShadow(t *testing.T) {
	s := newStand(t, t.TempDir(), `open := true`, `open if input.subject.id != "eve"`)
	if st := s.stage("r2", bundles.ModeShadow, 100, trial.Limits{}); st.Status != "running" || st.Active != "r1" || st.Subject != "" {
		t.Errorf("%+v", st)
	}
	var eve []string
	for i := range 50 {
		user := fmt.Sprintf("u%d", i)
		if i%10 == 0 {
			user = "eve"
		}
		answer, rec := s.ask(user)
		if answer != "true" || string(rec.Bundles) != `{"door":"r1","standard":"s1"}` || rec.Details != nil {
			t.Fatalf("%s: %s, bundles %s, details %s", user, answer, rec.Bundles, rec.Details)
		}
		if user == "eve" {
			eve = append(eve, rec.DecisionID)
		}
	}
	st := s.eventually("comparison", func(st *bundles.Staging) bool { return st.Counts.Compared+st.Counts.Dropped == 50 })
	if st.Counts.Answered != 0 || st.Counts.Decisions != 50 {
		t.Errorf("%+v", st.Counts)
	}
	for _, d := range st.Differences {
		if d.Kind != trial.KindDenies || !slices.Contains(eve, d.DecisionID) || d.Path != "door/open" || !d.Active.Allowed || !d.Candidate.Undefined {
			t.Errorf("difference %+v", d)
		}
	}
	if st.Counts.Dropped == 0 && len(st.Differences) != len(eve) {
		t.Errorf("%d differences", len(st.Differences))
	}
	if m := s.metrics(); m["verdict_staged_compared_total"] != float64(st.Counts.Compared) {
		t.Errorf("metrics %v", m)
	}
	ended, err := s.Unstage(t.Context(), bundles.UnstageRequest{Name: "door", By: bundles.Origin{Caller: "ci"}})
	if err != nil || ended.Status != "ended" || ended.Ended.Reason != bundles.EndAsked || ended.Ended.By != "ci" || ended.Counts.Decisions != 50 {
		t.Errorf("%+v %v", ended, err)
	}
	if s.engine.Active().Staged() != nil || s.lastOf("bundle_unstaged")["reason"] != "ended" {
		t.Error("it goes on")
	}
	_, err = s.Unstage(t.Context(), bundles.UnstageRequest{Name: "door"})
	wantRefusal(t, err, bundles.CodeNotFound, "", "")
}

// TestShadowDelaysNobody tries a revision whose every evaluation takes seconds:
// answers do not wait for it, and what waits for it is bounded.
func TestShadowDelaysNobody(t *testing.T) {
	s := newStand(t, t.TempDir(), `open := true`, `open if {
	count([1 | some a in numbers.range(1, 4000); some b in numbers.range(1, 4000); a * b == -1]) == 0
}`)
	s.stage("r2", bundles.ModeShadow, 100, trial.Limits{})
	for i := range 2000 {
		if answer, _ := s.ask(fmt.Sprint(i)); answer != "true" {
			t.Fatal(answer)
		}
	}
	if st, err := s.Staged("door"); err != nil || st.Counts.Dropped < 2000-trial.DefaultQueue-10 {
		t.Errorf("%+v %v", st, err)
	}
}

func TestCanary(t *testing.T) {
	s := newStand(t, t.TempDir(), `open := "old"`, `open := "new"`)
	st := s.stage("r2", bundles.ModeCanary, 30, trial.Limits{Flips: some(100.0), Latency: some(0.0)})
	if st.Subject != "/subject/id" || *st.Limits.Errors != trial.DefaultErrors || *st.Limits.Flips != 100 {
		t.Errorf("%+v", st)
	}
	if d := s.lastOf("bundle_staged"); d["revision"] != "r2" || d["mode"] != "canary" || d["percent"] != 30.0 || d["active"] != "r1" {
		t.Errorf("record %v", d)
	}
	sides, in := map[string]string{}, 0
	for range 2 {
		for i := range 500 {
			user := fmt.Sprintf("user-%d", i)
			answer, rec := s.ask(user)
			want, mark := `{"door":"r1","standard":"s1"}`, ""
			if answer == `"new"` {
				want, mark = `{"door":"r2","standard":"s1"}`, `{"canary":{"active":"r1","bundle":"door","revision":"r2"}}`
			}
			if string(rec.Bundles) != want || string(rec.Details) != mark {
				t.Fatalf("%s says %s: bundles %s, details %s", user, answer, rec.Bundles, rec.Details)
			}
			if before, ok := sides[user]; ok && before != answer {
				t.Fatalf("%s met both revisions", user)
			}
			if sides[user] == "" && answer == `"new"` {
				in++
			}
			sides[user] = answer
		}
	}
	if in < 110 || in > 190 {
		t.Errorf("%d of 500 subjects met the canary of 30 percent", in)
	}
	d, err := s.point.Decide(t.Context(), &pdp.Query{Path: "door/open"})
	if err != nil || string(d.JSON) != `"old"` {
		t.Errorf("without a subject: %s %v", d.JSON, err)
	}
	st = s.eventually("comparison", func(st *bundles.Staging) bool { return st.Counts.Compared+st.Counts.Dropped == uint64(2*in) })
	if st.Counts.Answered != uint64(2*in) || st.Counts.Differences[trial.KindResult] != st.Counts.Compared {
		t.Errorf("%+v", st.Counts)
	}
	// More of it: who was in stays in.
	s.stage("r2", bundles.ModeCanary, 60, trial.Limits{Flips: some(100.0), Latency: some(0.0)})
	if s.lastOf("bundle_unstaged")["reason"] != "replaced" {
		t.Error("what was replaced is not recorded")
	}
	for user, before := range sides {
		if answer, _ := s.ask(user); before == `"new"` && answer != before {
			t.Errorf("%s fell out of a larger share", user)
		}
	}
	done, err := s.Promote(t.Context(), bundles.PromoteRequest{Name: "door", Revision: "r2", By: bundles.Origin{Caller: "ci"}})
	if err != nil || done.Kind != bundles.KindPromote || done.Bundles["door"] != "r2" {
		t.Fatalf("%+v %v", done, err)
	}
	if answer, rec := s.ask("anybody"); answer != `"new"` || rec.Details != nil {
		t.Errorf("%s %s", answer, rec.Details)
	}
	if st, err := s.Staged("door"); err != nil || st.Ended == nil || st.Ended.Reason != bundles.EndPromoted {
		t.Errorf("%+v %v", st, err)
	}
	events := s.recorder.events()
	if i, j := slices.Index(events, "bundle_unstaged"), len(events)-1-slices.Index(reversed(events), "bundle_activated"); i < 0 || j < i {
		t.Errorf("order of %v", events)
	}
}

func reversed(list []string) []string {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

// TestCanaryIsTakenBack exceeds each limit by real decisions.
func TestCanaryIsTakenBack(t *testing.T) {
	tests := []struct {
		reason, candidate string
		limits            trial.Limits
	}{
		{"errors", "open := 1 if input.subject.id\nopen := 2 if input.subject.id", trial.Limits{}},
		{"flips", "open := false", trial.Limits{Flips: some(10.0)}},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			s := newStand(t, t.TempDir(), `open := true`, tt.candidate)
			tt.limits.MinDecisions, tt.limits.Latency = some(20), some(0.0)
			s.stage("r2", bundles.ModeCanary, 50, tt.limits)
			n := 0
			st := s.eventually("end", func(st *bundles.Staging) bool {
				for range 10 {
					answer, rec := s.ask(fmt.Sprint(n))
					if n++; tt.reason == "errors" && (answer != "true" || rec.Details != nil && !strings.Contains(string(rec.Details), `"canary_failed":"eval_conflict_error"`)) {
						t.Fatalf("a broken canary is felt: %s %s", answer, rec.Details)
					}
				}
				return st.Status == "ended"
			})
			if string(st.Ended.Reason) != tt.reason || st.Ended.Breach == nil || st.Ended.Breach.Of < 20 {
				t.Errorf("ended %+v", st.Ended)
			}
			if d := s.lastOf("bundle_unstaged"); d["reason"] != tt.reason || d["breach"] == nil || d["counts"] == nil {
				t.Errorf("record %v", d)
			}
			for i := range 50 {
				if answer, rec := s.ask(fmt.Sprint(i)); answer != "true" || rec.Details != nil {
					t.Errorf("it still answers: %s %s", answer, rec.Details)
				}
			}
		})
	}
}

// TestStagedEnds ends what is staged by everything that changes what is active,
// recorded first.
func TestStagedEnds(t *testing.T) {
	for name, change := range map[string]func(*stand) error{
		"push": func(s *stand) error {
			_, err := s.push("app", files(s.TB, app("r1")))
			return err
		},
		"activate": func(s *stand) error {
			_, err := s.Activate(s.Context(), bundles.ActivationRequest{Bundles: map[string]*string{"door": some("r2")}})
			return err
		},
		"data": func(s *stand) error {
			_, err := s.engine.Write(func(d *eval.Draft) error {
				return d.Patch(storage.AddOp, storage.Path{"free"}, ast.String("x"))
			})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t, t.TempDir(), `open := true`, `open := true if 1 == 1`)
			s.stage("r2", bundles.ModeCanary, 100, trial.Limits{})
			unrecorded := errors.New("no log")
			s.recorder.mu.Lock()
			s.recorder.err = unrecorded
			s.recorder.mu.Unlock()
			if err := change(s); err == nil {
				t.Error("changed without a record")
			}
			if s.engine.Active().Staged() == nil {
				t.Error("ended without a record")
			}
			s.recorder.mu.Lock()
			s.recorder.err = nil
			s.recorder.mu.Unlock()
			if err := change(s); err != nil {
				t.Fatal(err)
			}
			if st, err := s.Staged("door"); err != nil || st.Ended == nil || st.Ended.Reason != bundles.EndSuperseded || s.engine.Active().Staged() != nil {
				t.Errorf("%+v %v", st, err)
			}
		})
	}
}

// TestStagedEndsWithTheProcess wants the next start to say so, once.
func TestStagedEndsWithTheProcess(t *testing.T) {
	dir := t.TempDir()
	s := newStand(t, dir, `open := true`, `open := true if 1 == 1`)
	s.stage("r2", bundles.ModeCanary, 100, trial.Limits{})
	s.stop()
	s.close()
	for _, want := range []int{1, 0} {
		again := newStand(t, dir)
		if again.engine.Active().Staged() != nil {
			t.Error("it goes on after the restart")
		}
		deadline := time.Now().Add(time.Minute)
		count := func() (n int) {
			for _, e := range again.recorder.events() {
				if e == "bundle_unstaged" {
					n++
				}
			}
			return n
		}
		for count() < want && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		again.stop()
		if count() != want || want == 1 && again.lastOf("bundle_unstaged")["reason"] != "restart" {
			t.Errorf("%v, want %d ends", again.recorder.events(), want)
		}
		again.close()
	}
}

func TestStageRefused(t *testing.T) {
	s := newStand(t, t.TempDir(), `open := true`, `open := true if 1 == 1`)
	if _, err := s.push("door", files(t, content{".manifest": `{"revision": "bad", "roots": ["door"]}`, "door.rego": "package door\n\nopen := nothing"})); err == nil {
		t.Fatal("a policy that does not compile is taken")
	}
	s.mustPush("app", files(t, app("a1")), func(p *bundles.PushRequest) { p.Keep = true })
	ask := func(change func(*bundles.StageRequest)) error {
		r := bundles.StageRequest{Name: "door", Revision: "r2", Mode: bundles.ModeShadow, Percent: 10}
		change(&r)
		_, err := s.Try(t.Context(), r)
		if err != nil {
			wantRefused(t, s.bench, "stage", r.Name)
		}
		return err
	}
	wantRefusal(t, ask(func(r *bundles.StageRequest) { r.Revision = "bad" }), bundles.CodeGate, bundles.GateCompile, "was refused")
	for _, tt := range []struct {
		change func(*bundles.StageRequest)
		code   bundles.Code
		part   string
	}{
		{func(r *bundles.StageRequest) { r.Revision = "r9" }, bundles.CodeNotFound, "r9"},
		{func(r *bundles.StageRequest) { r.Revision = "r1" }, bundles.CodeRequest, "active already"},
		{func(r *bundles.StageRequest) { r.Mode = "" }, bundles.CodeRequest, "mode"},
		{func(r *bundles.StageRequest) { r.Percent = 0 }, bundles.CodeRequest, "percent"},
		{func(r *bundles.StageRequest) { r.Limits.Flips = some(1.0) }, bundles.CodeRequest, "limits"},
		{func(r *bundles.StageRequest) { r.Mode, r.Limits.Flips = bundles.ModeCanary, some(101.0) }, bundles.CodeRequest, "limits.flips"},
		{func(r *bundles.StageRequest) { r.Name = "../x" }, bundles.CodeName, ""},
		{func(r *bundles.StageRequest) { r.IfMatch = []string{"r7"} }, bundles.CodePrecondition, "r1"},
	} {
		wantRefusal(t, ask(tt.change), tt.code, "", tt.part)
	}
	if err := ask(func(*bundles.StageRequest) {}); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, ask(func(r *bundles.StageRequest) { r.Name, r.Revision = "app", "a1" }), bundles.CodeStaged, "", "r2")
	_, err := s.Promote(t.Context(), bundles.PromoteRequest{Name: "app"})
	wantRefusal(t, err, bundles.CodeNotFound, "", "")
	_, err = s.Promote(t.Context(), bundles.PromoteRequest{Name: "door", Revision: "r3"})
	wantRefusal(t, err, bundles.CodePrecondition, "", "r2")
	wantRefused(t, s.bench, "promote", "door")
	_, err = s.Unstage(t.Context(), bundles.UnstageRequest{Name: "app"})
	wantRefusal(t, err, bundles.CodeNotFound, "", "app")
	wantRefused(t, s.bench, "unstage", "app")
	if _, err := s.Staged("app"); err == nil {
		t.Error("another bundle's trial is shown")
	}
}

// TestStagedUnderTraffic stages, promotes and goes back while many ask, for the
// race detector.
func TestStagedUnderTraffic(t *testing.T) {
	s := newStand(t, t.TempDir(), `open := {"allow": true, "user": input.subject.id, "set": {x | some x in input.list}}`, `open := {"allow": count(input.list) > 1, "user": input.subject.id}`)
	var asking sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for w := range 4 {
		asking.Go(func() { // ended by cancel
			for i := 0; ctx.Err() == nil; i++ {
				input, _, err := eval.ParseInput(fmt.Appendf(nil, `{"subject": {"id": "u%d-%d"}, "list": [3, %d, {"b": 1, "a": [1, {"z": 1, "y": 2}]}]}`, w, i%50, i%3), eval.Limits{})
				if err != nil {
					t.Error(err)
					return
				}
				d, err := s.point.Decide(t.Context(), &pdp.Query{Path: "door/open", Input: input})
				if err != nil || !strings.Contains(string(d.JSON), fmt.Sprintf(`"user":"u%d-%d"`, w, i%50)) {
					t.Errorf("%v %v", d, err)
					return
				}
				d.Release()
			}
		})
	}
	limits := trial.Limits{Flips: some(100.0), Latency: some(0.0)}
	for range 5 {
		s.stage("r2", bundles.ModeShadow, 50, trial.Limits{})
		s.eventually("comparison", func(st *bundles.Staging) bool { return st.Counts.Compared+st.Counts.Dropped > 50 })
		s.stage("r2", bundles.ModeCanary, 50, limits)
		s.eventually("canary", func(st *bundles.Staging) bool { return st.Counts.Compared+st.Counts.Dropped > 50 })
		if _, err := s.Promote(t.Context(), bundles.PromoteRequest{Name: "door"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Rollback(t.Context(), bundles.RollbackRequest{Name: "door"}); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	asking.Wait()
}

// TestChangeRefused wants a record of each activation and rollback that came to
// nothing, and an error that says so where there is none.
func TestChangeRefused(t *testing.T) {
	b := newBench(t)
	b.mustPush("app", files(t, app("r1")))
	for name, bundle := range map[string]map[string]*string{"": nil, "app": {"app": some("r9")}, "other": {"other": some("r1")}} {
		_, err := b.Activate(t.Context(), bundles.ActivationRequest{Bundles: bundle, By: bundles.Origin{Caller: "ci"}})
		if err == nil {
			t.Fatalf("%v is active", bundle)
		}
		wantRefused(t, b, "activate", name)
	}
	_, err := b.Rollback(t.Context(), bundles.RollbackRequest{Name: "app"})
	wantRefusal(t, err, bundles.CodeNotFound, "", "no revision that was active before")
	wantRefused(t, b, "rollback", "app")
	_, err = b.Rollback(t.Context(), bundles.RollbackRequest{Name: "app", Revision: "r1", IfMatch: []string{"r7"}})
	wantRefusal(t, err, bundles.CodePrecondition, "", "r1")
	wantRefused(t, b, "rollback", "app")
	b.recorder.mu.Lock()
	b.recorder.err = audit.ErrUnavailable
	b.recorder.mu.Unlock()
	if _, err := b.Rollback(t.Context(), bundles.RollbackRequest{Name: "app"}); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("without a log: %v", err)
	}
}

// wantRefused wants the last record to be of a refusal.
func wantRefused(t *testing.T, b *bench, action, name string) {
	t.Helper()
	rec := b.recorder.last(t)
	if rec.Event != "bundle_refused" || rec.Action != action || rec.Resource != "bundle:"+name || rec.Message == "" || rec.Outcome != audit.OutcomeFailure {
		t.Errorf("record %+v of a refused %s of %q", rec, action, name)
	}
}
