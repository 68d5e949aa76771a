package bundles

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/replay"
)

// The gates that ask the log of decisions; see ReplayGate and BenchmarkGate.
const (
	GateReplay    = "replay"    // recorded decisions come out as they did
	GateBenchmark = "benchmark" // they take no longer
)

const (
	maxNamed    = 10  // flips that a refusal names
	maxGateList = 100 // flips in the gate's details
	// defaultReplayTimeout bounds a gate that asks the log.
	defaultReplayTimeout = time.Minute
)

// Replayer runs recorded decisions on a candidate; replay.Replayer is one.
type Replayer interface {
	// Run ends with the context. It changes nothing.
	Run(ctx context.Context, candidate *eval.Snapshot, q replay.Request) (*replay.Report, error)
	// Compare measures how long decisions take; it ends with the context.
	Compare(ctx context.Context, active, candidate *eval.Snapshot, c replay.Comparison) (*replay.Timing, error)
}

// LogGate is what the gates that ask the log have in common.
type LogGate struct {
	Replayer Replayer         // required
	Recorder Recorder         // that the log is read is recorded here; required
	Now      func() time.Time // nil means time.Now
	// Window is how old decisions may be; 0: of any age.
	Window  time.Duration
	Timeout time.Duration // of the gate; default 1 min
}

func (g LogGate) withDefaults() LogGate {
	if g.Now == nil {
		g.Now = time.Now
	}
	if g.Timeout == 0 {
		g.Timeout = defaultReplayTimeout
	}
	return g
}

// from is the oldest time of the window.
func (g LogGate) from() (t time.Time) {
	if g.Window > 0 {
		t = g.Now().Add(-g.Window).UTC()
	}
	return t
}

// recordAccess records that the log is read for a candidate.
func (g LogGate) recordAccess(ctx context.Context, c *Candidate, gate string, from time.Time, decisions int) error {
	filter := map[string]any{"gate": gate, "bundle": c.Name}
	if !from.IsZero() {
		filter["from"] = from
	}
	details, err := json.Marshal(map[string]any{"filter": filter, "count": decisions})
	if err != nil {
		return fmt.Errorf("encode audit access: %w", err)
	}
	by := c.By
	_, err = g.Recorder.Append(ctx, &audit.Record{
		Type: audit.TypeDataAccess, Event: audit.EventAuditLogAccess, Severity: audit.SeverityMedium, Outcome: audit.OutcomeSuccess,
		Action: "replay", Resource: "bundle:" + c.Name, RequestedBy: by.Caller, ClientIP: by.ClientIP, UserAgent: by.UserAgent,
		Edge: by.Edge, CorrelationID: by.CorrelationID, TraceID: by.TraceID, Details: details,
	})
	if err != nil {
		return fmt.Errorf("record audit access: %w", err)
	}
	return nil
}

// ReplayGateOptions are the bounds of a replay.
type ReplayGateOptions struct {
	Decisions int // the newest ones; 0: off
	// Flips is how many decisions may come out otherwise, Share how many in
	// percent of those replayed; the larger of both counts.
	Flips int
	Share float64
	// NoGrants are decision paths at which nothing that was denied may be allowed,
	// however many flips may be. One that ends in a slash stands for all below it,
	// "/" for every one.
	NoGrants []string
}

// ReplayGate refuses a candidate that would have decided otherwise than the log
// has it.
func ReplayGate(g LogGate, o ReplayGateOptions) Gate {
	g = g.withDefaults()
	return Gate{Name: GateReplay, Activation: true, Check: func(ctx context.Context, c *Candidate) (Finding, error) {
		if o.Decisions == 0 {
			return Finding{Off: true}, nil
		}
		ctx, cancel := context.WithTimeout(ctx, g.Timeout)
		defer cancel()
		from := g.from()
		if err := g.recordAccess(ctx, c, GateReplay, from, o.Decisions); err != nil {
			return Finding{}, err
		}
		verdict := replayVerdict{o: o}
		report, err := g.Replayer.Run(ctx, c.Snapshot, replay.Request{From: from, Limit: o.Decisions, List: maxGateList, OnFlip: verdict.see})
		if err != nil {
			return Finding{}, asTimeout(ctx, GateReplay, g.Timeout, err)
		}
		sum, err := report.Sum()
		if err != nil {
			return Finding{}, err
		}
		f := Finding{
			Message:  fmt.Sprintf("%d of %d recorded decisions come out otherwise, %d could not be replayed", report.Flips.Count, report.Replayed, report.NotReplayable.Count),
			Details:  map[string]any{"sha256": sum, "report": report},
			Evidence: "sha256:" + sum,
		}
		return f, verdict.judge(report)
	}}
}

// asTimeout says so when a gate had too little time.
func asTimeout(ctx context.Context, gate string, timeout time.Duration, err error) error {
	if ctx.Err() == context.DeadlineExceeded {
		return refuse(CodeGate, gate, "the gate was not done after %v", timeout)
	}
	return err
}

// replayVerdict collects what a refusal names.
type replayVerdict struct {
	o      ReplayGateOptions
	first  []string // flips
	grants []string // what NoGrants forbids
	count  uint64   // of grants
}

func (v *replayVerdict) see(f *replay.Flip) {
	text := fmt.Sprintf("%s (%s, %s)", f.DecisionID, bounded(f.Path), f.Kind)
	if len(v.first) < maxNamed {
		v.first = append(v.first, text)
	}
	if f.Kind == replay.DenyToAllow && replay.Covers(v.o.NoGrants, f.Path) {
		if v.count++; len(v.grants) < maxNamed {
			v.grants = append(v.grants, text)
		}
	}
}

func (v *replayVerdict) judge(r *replay.Report) error {
	may := max(float64(v.o.Flips), v.o.Share/100*float64(r.Replayed))
	switch {
	case v.count > 0:
		return refuse(CodeGate, GateReplay, "%d of %d recorded decisions that were denied would be allowed, at paths where none may: %s",
			v.count, r.Replayed, named(v.grants, v.count))
	case float64(r.Flips.Count) > may:
		return refuse(CodeGate, GateReplay, "%d of %d recorded decisions would come out otherwise, and at most %d may: %s",
			r.Flips.Count, r.Replayed, int(may), named(v.first, r.Flips.Count))
	}
	return nil
}

func named(list []string, count uint64) string {
	text := strings.Join(list, "; ")
	if more := count - uint64(len(list)); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}
