package bundles_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/replay"
)

// past is a replayer that says what it is told to.
type past struct {
	flips    []replay.Flip
	replayed uint64
	timing   replay.Timing
	wait     bool
	request  replay.Request
	compared replay.Comparison
}

func (p *past) Run(ctx context.Context, _ *eval.Snapshot, q replay.Request) (*replay.Report, error) {
	if p.wait {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	p.request = q
	for i := range p.flips {
		q.OnFlip(&p.flips[i])
	}
	return &replay.Report{Replayed: p.replayed, Bundles: json.RawMessage("{}"), Flips: replay.Flips{Count: uint64(len(p.flips)), List: p.flips}}, nil
}

func (p *past) Compare(ctx context.Context, _, _ *eval.Snapshot, c replay.Comparison) (*replay.Timing, error) {
	if p.wait {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	p.compared = c
	return &p.timing, nil
}

// records keeps what is recorded.
type records struct {
	list []audit.Record
	err  error
}

func (r *records) Append(_ context.Context, rec *audit.Record) (audit.Receipt, error) {
	r.list = append(r.list, *rec)
	return audit.Receipt{}, r.err
}

func flips(n int, path string, kind replay.Kind) (list []replay.Flip) {
	for i := range n {
		list = append(list, replay.Flip{DecisionID: "id-" + string(rune('a'+i)), Path: path, Kind: kind})
	}
	return list
}

func TestReplayGate(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name    string
		past    past
		options bundles.ReplayGateOptions
		refused []string // parts of the message; nil: it passes
	}{
		{"no flips", past{replayed: 10}, bundles.ReplayGateOptions{}, nil},
		{"one flip", past{replayed: 10, flips: flips(1, "p", replay.Changed)}, bundles.ReplayGateOptions{}, []string{"1 of 10", "at most 0 may", "id-a (p, changed)"}},
		{"within the number", past{replayed: 10, flips: flips(3, "p", replay.DenyToAllow)}, bundles.ReplayGateOptions{Flips: 3}, nil},
		{"beyond the number", past{replayed: 10, flips: flips(4, "p", replay.Changed)}, bundles.ReplayGateOptions{Flips: 3}, []string{"at most 3 may", "id-d"}},
		{"within the share", past{replayed: 100, flips: flips(5, "p", replay.ToError)}, bundles.ReplayGateOptions{Share: 5}, nil},
		{"beyond the share", past{replayed: 99, flips: flips(5, "p", replay.ToError)}, bundles.ReplayGateOptions{Share: 5}, []string{"at most 4 may"}},
		{"the larger counts", past{replayed: 100, flips: flips(5, "p", replay.ToError)}, bundles.ReplayGateOptions{Share: 1, Flips: 5}, nil},
		{"a grant", past{replayed: 100, flips: append(flips(2, "q/r", replay.AllowToDeny), flips(1, "p/r", replay.DenyToAllow)...)}, bundles.ReplayGateOptions{Share: 100, NoGrants: []string{"p/"}}, []string{"1 of 100", "that were denied would be allowed", "id-a (p/r, deny_to_allow)"}},
		{"a grant elsewhere", past{replayed: 100, flips: flips(2, "q", replay.DenyToAllow)}, bundles.ReplayGateOptions{Share: 100, NoGrants: []string{"p/", "q/r"}}, nil},
		{"a grant anywhere", past{replayed: 100, flips: flips(2, "q", replay.DenyToAllow)}, bundles.ReplayGateOptions{Share: 100, NoGrants: []string{"/"}}, []string{"2 of 100"}},
		{"many", past{replayed: 100, flips: flips(15, "q", replay.Changed)}, bundles.ReplayGateOptions{}, []string{"id-j", "and 5 more"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rec := &records{}
			tc.options.Decisions = 50
			gate := bundles.ReplayGate(bundles.LogGate{Replayer: &tc.past, Recorder: rec, Now: func() time.Time { return now }, Window: time.Hour}, tc.options)
			f, err := gate.Check(t.Context(), &bundles.Candidate{Name: "shop", By: bundles.Origin{Caller: "ci"}})
			var refused *bundles.Error
			switch {
			case tc.refused == nil && err != nil, tc.refused != nil && (!errors.As(err, &refused) || refused.Code != bundles.CodeGate):
				t.Fatal(err)
			case !strings.HasPrefix(f.Evidence, "sha256:") || f.Message == "" || f.Details == nil:
				t.Errorf("finding %+v", f)
			}
			for _, part := range tc.refused {
				if !strings.Contains(refused.Message, part) {
					t.Errorf("no %q in %q", part, refused.Message)
				}
			}
			if tc.past.request.Limit != 50 || !tc.past.request.From.Equal(now.Add(-time.Hour)) {
				t.Errorf("asked %+v", tc.past.request)
			}
			if len(rec.list) != 1 || rec.list[0].Event != audit.EventAuditLogAccess || rec.list[0].RequestedBy != "ci" || !strings.Contains(string(rec.list[0].Details), `"count":50`) {
				t.Errorf("recorded %+v", rec.list)
			}
		})
	}
}

func TestBenchmarkGate(t *testing.T) {
	active := func() *eval.Snapshot { return nil }
	check := func(p *past, slower float64, c *bundles.Candidate) (bundles.Finding, error) {
		return bundles.BenchmarkGate(bundles.LogGate{Replayer: p, Recorder: &records{}}, active, bundles.BenchmarkGateOptions{Slower: slower}).Check(t.Context(), c)
	}
	with := &bundles.Candidate{Name: "shop", Active: &eval.Bundle{}}
	if f, err := check(&past{}, 0, with); err != nil || !f.Off {
		t.Errorf("off: %+v, %v", f, err)
	}
	if f, err := check(&past{}, 50, &bundles.Candidate{}); err != nil || !f.Off {
		t.Errorf("nothing active: %+v, %v", f, err)
	}
	p := &past{timing: replay.Timing{Decisions: 100, Slower: true, Ratio: 2.5, Active: 10, Candidate: 25, Rounds: 9, Attempts: 3}}
	var refused *bundles.Error
	if _, err := check(p, 50, with); !errors.As(err, &refused) || !strings.Contains(refused.Message, "25.0 us each instead of 10.0 us, 2.50 times as long, and 1.50 times is allowed") {
		t.Errorf("slower: %v", err)
	}
	if p.compared.Factor != 1.5 || p.compared.Sample != replay.DefaultSample {
		t.Errorf("asked %+v", p.compared)
	}
	p.timing.Decisions = 3
	if f, err := check(p, 50, with); err != nil || !strings.Contains(f.Message, "not judged") {
		t.Errorf("too few: %+v, %v", f, err)
	}
}

// TestLogGateFails has gates that cannot judge: they refuse.
func TestLogGateFails(t *testing.T) {
	candidate := &bundles.Candidate{Name: "shop", Active: &eval.Bundle{}}
	gates := func(g bundles.LogGate) []bundles.Gate {
		return []bundles.Gate{
			bundles.ReplayGate(g, bundles.ReplayGateOptions{Decisions: 1}),
			bundles.BenchmarkGate(g, func() *eval.Snapshot { return nil }, bundles.BenchmarkGateOptions{Slower: 1}),
		}
	}
	for _, g := range gates(bundles.LogGate{Replayer: &past{wait: true}, Recorder: &records{}, Timeout: time.Millisecond}) {
		var refused *bundles.Error
		if _, err := g.Check(t.Context(), candidate); !errors.As(err, &refused) || !strings.Contains(refused.Message, "not done after 1ms") {
			t.Errorf("%s in no time: %v", g.Name, err)
		}
	}
	lost := errors.New("lost")
	p := &past{}
	for _, g := range gates(bundles.LogGate{Replayer: p, Recorder: &records{err: lost}}) {
		if _, err := g.Check(t.Context(), candidate); !errors.Is(err, lost) || p.request.Limit != 0 || p.compared.Sample != 0 {
			t.Errorf("%s without a record: %v", g.Name, err)
		}
	}
}
