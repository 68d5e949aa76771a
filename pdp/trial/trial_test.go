package trial_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/trial"
)

// snapshots builds an active and a candidate snapshot of one policy each.
func snapshots(t testing.TB, active, candidate string) (a, c *eval.Snapshot) {
	t.Helper()
	for _, p := range []struct {
		text string
		into **eval.Snapshot
	}{{active, &a}, {candidate, &c}} {
		e, err := eval.New(eval.Options{Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		m, err := eval.ParseModule("p.rego", []byte("package p\n\n"+p.text))
		if err != nil {
			t.Fatal(err)
		}
		if *p.into, err = e.Write(func(d *eval.Draft) error { return d.PutModule(m) }); err != nil {
			t.Fatal(err)
		}
	}
	return a, c
}

func start() time.Time { return time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC) }

// answered is what the snapshot answers to a question at p/r.
func answered(t testing.TB, s *eval.Snapshot, id string, input ast.Value) *eval.Served {
	t.Helper()
	d := &eval.Served{ID: id, Path: "p/r", Input: input, Now: start(), Took: time.Millisecond, Size: 10}
	d.Result, d.Err = s.Eval(t.Context(), &eval.Query{Path: d.Path, Input: input, Now: d.Now})
	return d
}

func object(t testing.TB, format string, args ...any) ast.Value {
	t.Helper()
	return ast.MustParseTerm(fmt.Sprintf(format, args...)).Value
}

// settle runs a trial until it has compared what waits, or exceeds a limit.
func settle(t *testing.T, tr *trial.Trial) *trial.Breach {
	t.Helper()
	before, _ := tr.Report()
	want := before.Compared + before.Dropped + uint64(tr.Waiting())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan *trial.Breach, 1)
	go func() { ended <- tr.Run(ctx) }() // ended by stop
	for {
		select {
		case b := <-ended:
			return b
		case <-time.After(time.Millisecond):
		}
		if c, _ := tr.Report(); c.Compared+c.Dropped == want && tr.Breached() == 0 {
			stop()
			return <-ended
		}
	}
}

func TestKinds(t *testing.T) {
	active, candidate := snapshots(t, `
r := input.a if not input.fail_active
r := 1 if input.fail_active
r := 2 if input.fail_active`, `
r := input.c if not input.fail
r := 1 if input.fail
r := 2 if input.fail`)
	tests := []struct {
		a, c string // what is said; "fail": it fails, empty: it is undefined
		want trial.Kind
	}{
		{"true", "true", trial.KindSame},
		{"true", "false", trial.KindDenies},
		{"false", "true", trial.KindAllows},
		{"", "true", trial.KindAllows},
		{"true", "", trial.KindDenies},
		{"", "", trial.KindSame},
		{"false", "", trial.KindResult},
		{"1", "2", trial.KindResult},
		{`{"allow": true}`, `{"allow": true, "x": 1}`, trial.KindResult},
		{`{"allow": true}`, `{"allowed": true}`, trial.KindResult},
		{`{"allow": true}`, `{"decision": "permit"}`, trial.KindDenies},
		{`{"allow": false, "reasons": [{"code": "a_b"}, {"code": "Not a code"}, 1]}`, `{"allowed": true}`, trial.KindAllows},
		{"true", "fail", trial.KindError},
		{"fail", "true", trial.KindRecovered},
		{"fail", "fail", trial.KindSame},
	}
	for _, canary := range []bool{false, true} {
		tr := trial.New(trial.Options{Active: active, Candidate: candidate, Canary: canary, Percent: 100})
		want := map[string]trial.Kind{}
		for i, tt := range tests {
			var members []string
			for key, text := range map[string]string{"a": tt.a, "c": tt.c} {
				switch {
				case text == "fail" && key == "a":
					members = append(members, `"fail_active": true`)
				case text == "fail":
					members = append(members, `"fail": true`)
				case text != "":
					members = append(members, fmt.Sprintf("%q: %s", key, text))
				}
			}
			input := object(t, "{%s}", strings.Join(members, ","))
			id := fmt.Sprintf("d%d", i)
			d := answered(t, active, id, input)
			if canary {
				d = answered(t, candidate, id, input)
				if d.Staged = d.Err == nil; !d.Staged { // as the decision point does
					failed := d.Err
					d = answered(t, active, id, input)
					d.Failed = failed
				}
			}
			if tr.Served(d); tt.want != trial.KindSame {
				want[id] = tt.want
			}
		}
		settle(t, tr)
		counts, kept := tr.Report()
		for _, d := range kept {
			if want[d.DecisionID] != d.Kind {
				t.Errorf("canary %v, decision %s: %+v, want %s", canary, d.DecisionID, d, want[d.DecisionID])
			}
			delete(want, d.DecisionID)
			if d.DecisionID == "d11" && (!slices.Equal(d.Active.Reasons, []string{"a_b"}) || !d.Candidate.Allowed) {
				t.Errorf("%+v", d)
			}
		}
		if len(want) > 0 || counts.Errors != 1 || counts.Decisions != uint64(len(tests)) || counts.Dropped != 0 {
			t.Errorf("canary %v: not found %v, counts %+v", canary, want, counts)
		}
		if canary != (counts.Answered == 13) {
			t.Errorf("canary %v: %d answered", canary, counts.Answered)
		}
	}
}

// TestChanceIsShared wants a policy that throws dice to be compared on the same
// throw.
func TestChanceIsShared(t *testing.T) {
	active, candidate := snapshots(t, `r := [rand.intn("x", 1000000000), time.now_ns(), uuid.rfc4122("u")]`, `r := [rand.intn("x", 1000000000), time.now_ns(), uuid.rfc4122("u")]`)
	tr := trial.New(trial.Options{Active: active, Candidate: candidate, Percent: 100})
	for i := range 20 {
		tr.Served(answered(t, active, fmt.Sprint(i), nil))
	}
	settle(t, tr)
	if c, kept := tr.Report(); c.Same != 20 {
		t.Errorf("%+v %+v", c, kept)
	}
}

func TestBounds(t *testing.T) {
	active, candidate := snapshots(t, `r := true`, `r := input.never`)
	small := trial.Options{Active: active, Candidate: candidate, Percent: 100, Queue: 8, QueueBytes: 45}
	tr := trial.New(small)
	for i := range 1000 {
		tr.Served(answered(t, active, fmt.Sprint(i), nil)) // nobody runs it: this would hang if it waited
	}
	settle(t, tr)
	if c, _ := tr.Report(); c.Decisions != 1000 || c.Compared != 4 || c.Dropped != 996 {
		t.Errorf("by bytes: %+v", c)
	}
	small.QueueBytes = 0
	tr = trial.New(small)
	for i := range 1000 {
		tr.Served(answered(t, active, fmt.Sprint(i), nil))
	}
	settle(t, tr)
	if c, _ := tr.Report(); c.Compared != 8 || c.Dropped != 992 {
		t.Errorf("by number: %+v", c)
	}
	small.Queue, small.Busy = 1000, func() bool { return true }
	tr = trial.New(small)
	tr.Served(answered(t, active, "x", nil))
	settle(t, tr)
	if c, _ := tr.Report(); c.Compared != 0 || c.Dropped != 1 {
		t.Errorf("when busy: %+v", c)
	}
	small.Busy = nil
	tr = trial.New(small)
	for i := range 250 {
		d := answered(t, active, fmt.Sprint(i), nil)
		d.Path = "p/r" + strings.Repeat("/", 1000)
		tr.Served(d)
	}
	settle(t, tr)
	c, kept := tr.Report()
	if len(kept) != 100 || kept[0].DecisionID != "249" || kept[99].DecisionID != "150" || len(kept[0].Path) != 256 || c.Differences[trial.KindDenies] != 250 || c.FlipPercent != 100 {
		t.Errorf("%d kept, %+v", len(kept), c)
	}
}

// TestSampling wants a shadow to look at as many decisions as it is told, spread
// over all.
func TestSampling(t *testing.T) {
	active, candidate := snapshots(t, `r := true`, `r := true`)
	for _, percent := range []float64{0.01, 1, 25, 99.5, 100} {
		tr := trial.New(trial.Options{Active: active, Candidate: candidate, Percent: percent, Queue: 20_000})
		d := answered(t, active, "x", nil)
		most := 0
		for i := range 10_000 {
			tr.Served(d)
			if i == 999 {
				most = i
			}
		}
		settle(t, tr)
		if c, _ := tr.Report(); c.Compared != uint64(percent*100) || most == 0 {
			t.Errorf("%v percent: %d of 10000", percent, c.Compared)
		}
	}
}

// TestLimits takes a canary back for each reason, not before there are enough
// decisions, and not for what is within the limits.
func TestLimits(t *testing.T) {
	active, candidate := snapshots(t, `r := true`, `r := true`)
	_, denies := snapshots(t, `r := true`, `r := false`)
	broken := errors.New("broken")
	limit := func(v float64) *float64 { return &v }
	least := 50
	tests := []struct {
		name      string
		limits    trial.Limits
		candidate *eval.Snapshot
		took      time.Duration // of the candidate; the active one takes 1 ms
		failEvery int           // decision of the candidate fails; 0: none
		decisions int           // of each side
		want      string
	}{
		{"nothing wrong", trial.Limits{}, candidate, time.Millisecond, 0, 400, ""},
		{"errors", trial.Limits{}, candidate, time.Millisecond, 20, 400, "errors"},
		{"errors that are allowed", trial.Limits{Errors: limit(10)}, candidate, time.Millisecond, 20, 400, ""},
		{"too few errors", trial.Limits{}, candidate, time.Millisecond, 2, 20, ""},
		{"none allowed", trial.Limits{Errors: limit(0)}, candidate, time.Millisecond, 100, 400, "errors"},
		{"latency", trial.Limits{}, candidate, 4 * time.Millisecond, 0, 400, "latency"},
		{"latency that is allowed", trial.Limits{Latency: limit(5)}, candidate, 4 * time.Millisecond, 0, 400, ""},
		{"any latency", trial.Limits{Latency: limit(0)}, candidate, time.Second, 0, 400, ""},
		{"too few slow ones", trial.Limits{}, candidate, 4 * time.Millisecond, 0, 40, ""},
		{"flips", trial.Limits{}, denies, time.Millisecond, 0, 400, "flips"},
		{"flips that are allowed", trial.Limits{Flips: limit(100)}, denies, time.Millisecond, 0, 400, ""},
		{"too few flips", trial.Limits{}, denies, time.Millisecond, 0, 40, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.limits.MinDecisions = &least
			tr := trial.New(trial.Options{Active: active, Candidate: tt.candidate, Canary: true, Percent: 50, Limits: tt.limits, Queue: 1000})
			for i := range tt.decisions {
				tr.Served(answered(t, active, "a", nil))
				d := answered(t, tt.candidate, "c", nil)
				d.Staged, d.Took = true, tt.took
				if tt.failEvery > 0 && i%tt.failEvery == tt.failEvery-1 {
					d = answered(t, active, "f", nil)
					d.Failed = broken
				}
				tr.Served(d)
			}
			got := ""
			if b := settle(t, tr); b != nil {
				if got = b.Limit; b.String() == "" || b.Of < uint64(least) || b.Value <= b.Allowed {
					t.Errorf("breach %+v", b)
				}
			}
			if got != tt.want {
				c, _ := tr.Report()
				t.Errorf("breach %q, want %q: %+v", got, tt.want, c)
			}
		})
	}
}

// TestLastDecisionsCount wants a canary that was good for long to be taken back
// soon after it is not.
func TestLastDecisionsCount(t *testing.T) {
	active, candidate := snapshots(t, `r := true`, `r := true`)
	least := 10
	tr := trial.New(trial.Options{Active: active, Candidate: candidate, Canary: true, Percent: 50, Limits: trial.Limits{MinDecisions: &least}, Queue: 1})
	good, bad := answered(t, candidate, "g", nil), answered(t, active, "b", nil)
	good.Staged, bad.Failed = true, errors.New("broken")
	for range 100_000 {
		tr.Served(good)
	}
	for range 3 {
		tr.Served(bad)
	}
	if b := settle(t, tr); b == nil || b.Limit != "errors" {
		t.Errorf("breach %v", b)
	}
}

func TestLimitsValidate(t *testing.T) {
	f := func(v float64) *float64 { return &v }
	n := func(v int) *int { return &v }
	for _, tt := range []struct {
		limits trial.Limits
		field  string
	}{
		{trial.Limits{}, ""},
		{trial.Limits{}.InForce(), ""},
		{trial.Limits{Errors: f(-1)}, "limits.errors"},
		{trial.Limits{Flips: f(101)}, "limits.flips"},
		{trial.Limits{Latency: f(0.5)}, "limits.latency"},
		{trial.Limits{Latency: f(0)}, ""},
		{trial.Limits{MinDecisions: n(0)}, "limits.min_decisions"},
	} {
		if field, want := tt.limits.Validate(); field != tt.field || (want == "") != (field == "") {
			t.Errorf("%+v: %q %q", tt.limits, field, want)
		}
	}
}
