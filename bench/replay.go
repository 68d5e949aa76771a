package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/bench/load"
	"github.com/verdict-pdp/verdict/bench/server"
	"github.com/verdict-pdp/verdict/bench/workload"
)

const (
	// replayBound is how long a replay of replayDecisions may take.
	replayBound     = 10 * time.Second
	replayDecisions = 100_000
	replayBundle    = "authz"
	// replayGrants is how many recorded denials a candidate newly allows, which
	// the gate must name.
	replayGrants = 3
)

// replaying measures how long recorded decisions of the first set take on a
// revision that is not active, and has the gate refuse one that newly allows a
// few of them.
type replaying struct {
	site      *site
	server    *server.Server
	set       *workload.Set
	decisions int
	out       io.Writer
}

func replayCommand(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench replay", flag.ContinueOnError)
	site := siteFlags(flags)
	decisions := flags.Int("decisions", replayDecisions, "recorded decisions")
	if err := parse(flags, args, func() error { return atLeast("decisions", *decisions, replayGrants) }); err != nil {
		return err
	}
	s, err := site(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	r := &replaying{site: s, set: workload.RBAC(), decisions: *decisions, out: out}
	if err := r.start(ctx); err != nil {
		return err
	}
	if err := r.same(ctx); err != nil {
		return err
	}
	return r.refused(ctx)
}

// start runs verdict on the set as a pushed bundle and has the decisions
// recorded.
func (r *replaying) start(ctx context.Context) error {
	dir, err := r.site.folder("replay")
	if err != nil {
		return err
	}
	r.server, err = server.StartVerdict(ctx, server.VerdictOptions{
		Program: r.site.verdict, Dir: dir, PushName: replayBundle,
		Env: []string{
			fmt.Sprintf("VERDICT_BUNDLES_GATES_REPLAY=%d", r.decisions), fmt.Sprintf("VERDICT_BUNDLES_GATES_REPLAY_FLIPS=%d", r.decisions),
			"VERDICT_BUNDLES_GATES_REPLAY_NO_GRANTS=/",
		},
	})
	if err != nil {
		return err
	}
	r.site.running = append(r.site.running, r.server)
	if status, body, err := r.push(ctx, "r1", "", ""); err != nil || status != http.StatusOK {
		return errors.Join(fmt.Errorf("push: status %d: %.300s", status, body), err)
	}
	for asked := 0; asked < r.decisions; {
		result, err := load.Run(ctx, load.Options{
			Addr: r.server.Addr, Token: r.server.Token, Set: r.set, First: asked, Connections: 64, Measure: time.Second,
		})
		if err != nil {
			return err
		}
		if asked += result.Sent; result.Wrong+result.Errors > 0 {
			return fmt.Errorf("%s: %w", result.FirstError, errWrong)
		}
	}
	return nil
}

// push sends the set as a revision with more rules.
func (r *replaying) push(ctx context.Context, revision, query, rules string) (status int, body []byte, err error) {
	more := map[string][]byte{"more.rego": []byte("package authz\n\nimport rego.v1\n\nrevision := \"" + revision + "\"\n" + rules)}
	archive, err := r.set.Archive(revision, []string{"authz", "rbac"}, more)
	if err != nil {
		return 0, nil, err
	}
	return send(ctx, r.server, http.MethodPut, "/api/v1/bundles/"+replayBundle+query, r.server.PushToken, archive)
}

// same replays the decisions on a revision with the same rules.
func (r *replaying) same(ctx context.Context) error {
	if status, body, err := r.push(ctx, "r2", "?activate=false", ""); err != nil || status != http.StatusOK {
		return errors.Join(fmt.Errorf("push: status %d: %.300s", status, body), err)
	}
	before, err := r.server.Usage()
	if err != nil {
		return err
	}
	start := time.Now()
	status, body, err := send(ctx, r.server, http.MethodPost, "/api/v1/bundles/"+replayBundle+"/revisions/r2/replay", r.server.PushToken, fmt.Appendf(nil, `{"limit":%d}`, r.decisions))
	took := time.Since(start)
	if err != nil || status != http.StatusOK {
		return errors.Join(fmt.Errorf("replay: status %d: %.300s", status, body), err)
	}
	after, err := r.server.Usage()
	if err != nil {
		return err
	}
	var answer struct {
		Report struct {
			Replayed int `json:"replayed"`
			Flips    struct {
				Count int `json:"count"`
			} `json:"flips"`
		} `json:"report"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("read the report: %w", err)
	}
	fmt.Fprintf(r.out, "%d decisions replayed in %.2f s, %.2f s of processor time, %d flips; RSS %d MiB, peak %d MiB; bound %v for %d\n",
		answer.Report.Replayed, took.Seconds(), (after.CPU - before.CPU).Seconds(), answer.Report.Flips.Count, after.RSS>>20, after.PeakRSS>>20, replayBound, replayDecisions)
	if answer.Report.Flips.Count > 0 || answer.Report.Replayed != r.decisions {
		return fmt.Errorf("replay on the same rules: %w", errWrong)
	}
	return nil
}

// refused pushes a revision that newly allows a few recorded denials.
func (r *replaying) refused(ctx context.Context) error {
	ids, resources, err := r.denials(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	status, body, err := r.push(ctx, "r3", "", fmt.Sprintf("\nallow if input.resource.id in {%s}\n", strings.Join(resources, ", ")))
	if err != nil {
		return err
	}
	var problem struct {
		Gate   string `json:"gate"`
		Detail string `json:"detail"`
	}
	if err := json.Unmarshal(body, &problem); err != nil || status != http.StatusUnprocessableEntity || problem.Gate != "replay" {
		return errors.Join(fmt.Errorf("push of what allows %d denials: status %d: %.300s", replayGrants, status, body), err)
	}
	fmt.Fprintf(r.out, "push of a revision that newly allows %d of them, in %.2f s: refused: %s\n", replayGrants, time.Since(start).Seconds(), problem.Detail)
	for _, id := range ids {
		if !strings.Contains(problem.Detail, id) {
			return fmt.Errorf("the refusal does not name %s: %w", id, errWrong)
		}
	}
	return nil
}

// denials finds the ids and the resources of a few recorded denials.
func (r *replaying) denials(ctx context.Context) (ids, resources []string, err error) {
	from := r.decisions / 2
	status, body, err := send(ctx, r.server, http.MethodGet, fmt.Sprintf("/api/v1/audit/records?from=%d&limit=1000", from), r.server.StatusToken, nil)
	if err != nil || status != http.StatusOK {
		return nil, nil, errors.Join(fmt.Errorf("read records: status %d: %.300s", status, body), err)
	}
	for line := range bytes.Lines(body) {
		var record struct {
			Type       string `json:"type"`
			DecisionID string `json:"decision_id"`
			Result     bool   `json:"result"`
			Input      struct {
				Resource struct {
					ID string `json:"id"`
				} `json:"resource"`
			} `json:"input"`
		}
		if err := json.Unmarshal(line, &record); err != nil {
			return nil, nil, fmt.Errorf("read records: %w", err)
		}
		if record.Type == "decision" && !record.Result && len(ids) < replayGrants {
			ids = append(ids, record.DecisionID)
			resources = append(resources, fmt.Sprintf("%q", record.Input.Resource.ID))
		}
	}
	if len(ids) < replayGrants {
		return nil, nil, fmt.Errorf("%d denials only", len(ids))
	}
	return ids, resources, nil
}
