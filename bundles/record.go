package bundles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/verdict-pdp/verdict/audit"
)

// maxRecorded bounds the message of one gate in a record.
const maxRecorded = 500

// record appends a record of who asked for what.
func (s *Service) record(ctx context.Context, r *audit.Record, by Origin, details any) error {
	encoded, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("encode %s: %w", r.Event, err)
	}
	r.Type, r.Details = audit.TypeBundle, encoded
	r.RequestedBy, r.ClientIP, r.UserAgent, r.Edge = by.Caller, by.ClientIP, by.UserAgent, by.Edge
	r.CorrelationID, r.TraceID = by.CorrelationID, by.TraceID
	if r.Bundles == nil {
		r.Bundles = s.o.Engine.Active().RevisionsJSON()
	}
	if _, err := s.o.Recorder.Append(ctx, r); err != nil {
		return fmt.Errorf("record %s: %w", r.Event, err)
	}
	return nil
}

// recordPush records a bundle that passed its gates.
func (s *Service) recordPush(ctx context.Context, p PushRequest, result *PushResult) error {
	details := map[string]any{
		"name": p.Name, "revision": result.Revision, "digest": result.Digest, "size": result.Size,
		"gates": gatesForRecord(result.Gates), "dry_run": p.DryRun, "activate": !p.Keep && !p.DryRun,
	}
	if p.By.Source != "" {
		details["source"] = p.By.Source
	}
	if result.Status == "unchanged" {
		details["unchanged"] = true
	}
	if result.Signer != nil {
		details["signer"] = result.Signer
	}
	return s.record(ctx, &audit.Record{
		Event: audit.EventBundlePushed, Severity: audit.SeverityMedium, Outcome: audit.OutcomeSuccess,
		Action: "push", Resource: "bundle:" + p.Name,
	}, p.By, details)
}

// recordRefusal records why a push came to nothing, and returns why.
func (s *Service) recordRefusal(ctx context.Context, p PushRequest, err error) error {
	details := map[string]any{"dry_run": p.DryRun}
	if p.By.Source != "" {
		details["source"] = p.By.Source
	}
	return s.Refused(ctx, Attempt{Action: "push", Name: p.Name, By: p.By, details: details}, err)
}

// Attempt is what somebody asked for.
type Attempt struct {
	Action string // push, activate, rollback, stage, unstage or promote
	Name   string // of the bundle; empty: of several
	// Revision is the one asked for, where one was.
	Revision string
	By       Origin

	details map[string]any // more of them; may be nil
}

// Refused records why an attempt came to nothing, and returns why. When that
// cannot be recorded, the error says so too. A caller that went away in the
// middle was not refused. The methods of Service call it for what they refuse;
// who refuses what it cannot even read calls it as well.
func (s *Service) Refused(ctx context.Context, a Attempt, err error) error {
	if err == nil || errors.Is(err, audit.ErrUnavailable) || ctx.Err() != nil {
		return err
	}
	details := map[string]any{"name": bounded(a.Name)}
	if a.Revision != "" {
		details["revision"] = bounded(a.Revision)
	}
	maps.Copy(details, a.details)
	refused, ok := errors.AsType[*Error](err)
	if ok {
		details["code"], details["gate"], details["gates"] = refused.Code, refused.Gate, gatesForRecord(refused.Gates)
		if refused.Revision != "" || refused.Digest != "" {
			details["revision"], details["digest"] = refused.Revision, refused.Digest
		}
	}
	failed := s.record(context.WithoutCancel(ctx), &audit.Record{
		Event: audit.EventBundleRefused, Severity: severityOf(refused), Outcome: audit.OutcomeFailure,
		Action: a.Action, Resource: "bundle:" + bounded(a.Name), Message: bounded(err.Error()),
	}, a.By, details)
	return errors.Join(err, failed)
}

// gatesForRecord leaves the details of gates to the answer.
func gatesForRecord(gates []GateResult) []GateResult {
	short := make([]GateResult, 0, len(gates))
	for _, g := range gates {
		g.Details = nil
		if len(g.Message) > maxRecorded {
			g.Message = strings.ToValidUTF8(g.Message[:maxRecorded], "") + "..."
		}
		short = append(short, g)
	}
	return short
}
