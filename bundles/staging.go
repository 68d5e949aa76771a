package bundles

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/trial"
	"github.com/verdict-pdp/verdict/storage"
)

// DefaultSubject is where a canary finds the subject in the input: AuthZEN's
// place for its id.
const DefaultSubject = "/subject/id"

// Mode is how a staged revision is tried.
type Mode string

// The modes.
const (
	// ModeShadow evaluates some decisions on the staged revision too, after they
	// are answered.
	ModeShadow Mode = "shadow"
	// ModeCanary lets the staged revision answer for some subjects.
	ModeCanary Mode = "canary"
)

// EndReason is why a staged revision is not tried any more.
type EndReason string

// The reasons. Those of a canary that was taken back are the names of limits:
// errors, latency, flips.
const (
	EndAsked      EndReason = "ended"          // somebody ended it
	EndReplaced   EndReason = "replaced"       // it was staged anew, or another in its place
	EndPromoted   EndReason = "promoted"       // it becomes the active one
	EndSuperseded EndReason = "active_changed" // another set, or a write through the API, becomes active
	EndRestart    EndReason = "restart"
)

// StageRequest asks for a kept revision to be tried beside the active ones.
type StageRequest struct {
	Name, Revision string
	Mode           Mode
	// Percent is how much of the decisions (shadow) or subjects (canary) it is
	// tried on, above 0 and at most 100.
	Percent float64
	Limits  trial.Limits // of a canary
	IfMatch []string     // as in PushRequest
	By      Origin
}

// Staging is a revision that is tried, or was.
type Staging struct {
	Name     string        `json:"name"`
	Revision string        `json:"revision"`
	Digest   string        `json:"digest"`
	Active   string        `json:"active,omitempty"` // the revision it is tried beside; empty: none
	Mode     Mode          `json:"mode"`
	Percent  float64       `json:"percent"`
	Subject  string        `json:"subject,omitempty"` // of a canary: JSON Pointer into the input
	Limits   *trial.Limits `json:"limits,omitempty"`
	Since    time.Time     `json:"since"`
	By       string        `json:"by"`
	// Status is running or ended.
	Status string      `json:"status"`
	Ended  *StagingEnd `json:"ended,omitempty"`

	Counts trial.Counts `json:"counts"`
	// Differences are the last ones, the newest first.
	Differences []trial.Difference `json:"differences"`
}

// StagingEnd is how a trial ended.
type StagingEnd struct {
	At     time.Time `json:"at"`
	Reason EndReason `json:"reason"`
	By     string    `json:"by"`
	// Breach is the limit that was exceeded.
	Breach *trial.Breach `json:"breach,omitempty"`
}

// staging is a trial that runs. It is the watcher of what is staged.
type staging struct {
	*trial.Trial
	service *Service
	info    Staging
	staged  *eval.Staged
	ended   chan struct{}             // closed when it has
	because atomic.Pointer[EndReason] // of an activation under way; nil: EndSuperseded
}

// Try tries a kept revision, which has passed the gates, beside what is
// active. One of the same bundle that is tried already ends. Errors are as of
// Push, and a refusal is recorded as there; another bundle's that is tried is CodeStaged. What is staged ends with
// the next change of what is active, and with the process.
func (s *Service) Try(ctx context.Context, r StageRequest) (*Staging, error) {
	st, err := s.tryStage(ctx, &r)
	return st, s.Refused(ctx, Attempt{Action: "stage", Name: r.Name, Revision: r.Revision, By: r.By}, err)
}

func (s *Service) tryStage(ctx context.Context, r *StageRequest) (*Staging, error) {
	info, err := s.stageable(r)
	if err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, s.changing)
	if err != nil {
		return nil, fmt.Errorf("wait for other changes: %w", err)
	}
	defer unlock()
	now := s.current()
	if err := now.match(r.Name, r.IfMatch, false); err != nil {
		return nil, err
	}
	kept, err := s.acceptedRevision(ctx, r.Name, r.Revision)
	if err != nil {
		return nil, err
	}
	if kept.Digest == now.Bundles[r.Name].Digest {
		return nil, refuse(CodeRequest, "", "revision %s of bundle %s is active already", shown(kept.Revision), r.Name)
	}
	old := s.running()
	if old != nil && old.info.Name != r.Name {
		return nil, refuse(CodeStaged, "", "revision %s of bundle %s is staged; end that first", shown(old.info.Revision), old.info.Name)
	}
	info.Revision, info.Digest, info.Active = kept.Revision, kept.Digest, now.Bundles[r.Name].Revision
	return s.attach(ctx, *info, kept, r.By)
}

// attach builds and stages. The holder of changing calls it.
func (s *Service) attach(ctx context.Context, info Staging, kept *Revision, by Origin) (*Staging, error) {
	var c *content
	var st *staging
	for range swapTries {
		err := s.o.Background(func() (err error) {
			if c == nil {
				if c, err = s.readKept(kept, s.activeBundle(info.Name)); err != nil {
					return fmt.Errorf("read bundle %s revision %s: %w", info.Name, kept.Revision, err)
				}
			}
			st, err = s.newStaging(info, c.bundle)
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := s.end(ctx, s.running(), EndReplaced, by, nil); err != nil {
			return nil, err
		}
		err = s.o.Engine.Attach(st.staged, func() error { return s.recordStaged(ctx, st, by) })
		if errors.Is(err, eval.ErrStale) {
			continue // something was written through the API: build it again
		}
		if err != nil {
			return nil, err
		}
		return st.report(), nil
	}
	return nil, &Error{Code: CodeBusy, Message: "policies and data are being written through the API all the time", RetryAfter: time.Second}
}

// stageable checks what a request asks for.
func (s *Service) stageable(r *StageRequest) (*Staging, error) {
	if err := s.checkName(r.Name); err != nil {
		return nil, err
	}
	info := &Staging{Name: r.Name, Mode: r.Mode, Percent: r.Percent, Since: s.o.Now().UTC(), By: r.By.Caller, Status: "running"}
	if !(r.Percent > 0 && r.Percent <= 100) {
		return nil, refuse(CodeRequest, "", "percent is a number above 0 and at most 100").about("percent")
	}
	switch r.Mode {
	case ModeShadow:
		if r.Limits != (trial.Limits{}) {
			return nil, refuse(CodeRequest, "", "limits are a canary's; a shadow answers nobody").about("limits")
		}
	case ModeCanary:
		if field, want := r.Limits.Validate(); field != "" {
			return nil, refuse(CodeRequest, "", "%s is %s", field, want).about(field)
		}
		limits := r.Limits.InForce()
		info.Limits, info.Subject = &limits, cmp.Or(s.o.CanarySubject, DefaultSubject)
	default:
		return nil, refuse(CodeRequest, "", "mode is %s or %s", ModeShadow, ModeCanary).about("mode")
	}
	return info, nil
}

// acceptedRevision is a revision that passed the gates, by name or digest. One
// that was refused is an *Error that says by which gate.
func (s *Service) acceptedRevision(ctx context.Context, name, revision string) (*Revision, error) {
	found, err := s.Revision(ctx, name, revision)
	if err != nil {
		return nil, err
	}
	if found.Status != StatusRefused {
		return s.meta.revision(ctx, name, found.Revision)
	}
	gate := ""
	for _, g := range found.Gates {
		if g.Result == Failed {
			gate = g.Name
		}
	}
	return nil, &Error{Code: CodeGate, Gate: gate, Message: fmt.Sprintf("revision %s of bundle %s was refused", shown(revision), name), Gates: found.Gates, Revision: found.Revision, Digest: found.Digest}
}

// newStaging builds the snapshot in which the revision stands for its bundle.
func (s *Service) newStaging(info Staging, b *eval.Bundle) (*staging, error) {
	active := s.o.Engine.Active()
	snapshot, _, err := s.stage(withBundle(active.Bundles(), b), "")
	if err != nil {
		return nil, err
	}
	st := &staging{service: s, info: info, ended: make(chan struct{})}
	st.staged = &eval.Staged{Snapshot: snapshot, Watcher: st}
	o := trial.Options{
		Active: active.Unstaged(), Candidate: snapshot, Percent: info.Percent, Metrics: s.trials,
		Busy: s.busy, Now: s.o.Now,
	}
	if info.Mode == ModeCanary {
		if st.staged.Share, err = eval.NewShare(info.Name+"@"+info.Revision, info.Subject, info.Percent); err != nil {
			return nil, fmt.Errorf("bundles.canary.subject: %w", err)
		}
		mark, err := json.Marshal(map[string]string{"bundle": info.Name, "revision": info.Revision, "active": info.Active})
		if err != nil {
			return nil, fmt.Errorf("encode mark: %w", err)
		}
		st.staged.Mark = append([]byte(`"canary":`), mark...)
		o.Canary, o.Limits = true, *info.Limits
	}
	st.Trial = trial.New(o)
	return st, nil
}

// recordStaged records that a trial begins and writes that down; directly after
// it begins.
func (s *Service) recordStaged(ctx context.Context, st *staging, by Origin) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	i := &st.info
	details := map[string]any{"name": i.Name, "revision": i.Revision, "digest": i.Digest, "active": i.Active, "mode": i.Mode, "percent": i.Percent}
	if i.Mode == ModeCanary {
		details["subject"], details["limits"] = i.Subject, i.Limits
	}
	err := s.record(ctx, &audit.Record{
		Event: audit.EventBundleStaged, Severity: audit.SeverityHigh, Outcome: audit.OutcomeSuccess, Action: "stage", Resource: "bundle:" + i.Name,
	}, by, details)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("encode %s: %w", keyStaged, err)
	}
	if _, err := s.meta.apply(ctx, &batch{ops: []storage.Op{storage.Put(keyStaged, raw)}}); err != nil {
		return &Error{Code: CodeUnavailable, Message: "what is staged could not be written down", Err: errors.Join(err, s.recordEnd(ctx, st, &StagingEnd{Reason: EndAsked, By: "serve"}, by))}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.staging = st
	close(s.restaged)
	s.restaged = make(chan struct{})
	return nil
}

// running is the trial that runs; nil: none does.
func (s *Service) running() *staging {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.staging
}

// Staged tells what is tried of a bundle, or what came of the last one since the
// start. The error is an *Error of CodeNotFound when there was none.
func (s *Service) Staged(name string) (*Staging, error) {
	s.mu.Lock()
	st, last := s.staging, s.lastStaged[name]
	s.mu.Unlock()
	if on := s.o.Engine.Active().Staged(); st == nil && on != nil { // its end is recorded, and it still answers
		st, _ = on.Watcher.(*staging)
	}
	switch {
	case st != nil && st.info.Name == name:
		return st.report(), nil
	case last != nil:
		return last, nil
	}
	return nil, refuse(CodeNotFound, "", "no revision of bundle %s is staged", shown(name))
}

// report is what is known of a trial now.
func (st *staging) report() *Staging {
	info := st.info
	info.Counts, info.Differences = st.Trial.Report()
	if info.Differences == nil {
		info.Differences = []trial.Difference{}
	}
	return &info
}

// UnstageRequest asks for a trial to end.
type UnstageRequest struct {
	Name string
	By   Origin
}

// Unstage ends a trial and tells what came of it. The error is an *Error of
// CodeNotFound when nothing of the bundle is staged.
func (s *Service) Unstage(ctx context.Context, r UnstageRequest) (*Staging, error) {
	st, err := s.unstage(ctx, r)
	return st, s.Refused(ctx, Attempt{Action: "unstage", Name: r.Name, By: r.By}, err)
}

func (s *Service) unstage(ctx context.Context, r UnstageRequest) (*Staging, error) {
	unlock, err := s.lockFirst(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for other changes: %w", err)
	}
	defer unlock()
	st := s.running()
	if st == nil || st.info.Name != r.Name {
		return nil, refuse(CodeNotFound, "", "no revision of bundle %s is staged", shown(r.Name))
	}
	if err := s.end(context.WithoutCancel(ctx), st, EndAsked, r.By, nil); err != nil {
		return nil, err
	}
	return s.Staged(r.Name)
}

// PromoteRequest asks for what is staged to become active.
type PromoteRequest struct {
	Name string
	// Revision is the one that is expected to be staged; empty: any.
	Revision string
	IfMatch  []string
	By       Origin
}

// Promote makes the staged revision of a bundle active; its trial ends. Errors
// are as of Activate.
func (s *Service) Promote(ctx context.Context, r PromoteRequest) (*Activation, error) {
	c := &change{kind: KindPromote, by: r.By}
	c.choose = func(ctx context.Context, now activeSet) (map[string]*Revision, error) {
		st := s.running()
		if st == nil || st.info.Name != r.Name {
			return nil, refuse(CodeNotFound, "", "no revision of bundle %s is staged", shown(r.Name))
		}
		err := now.match(r.Name, r.IfMatch, false)
		switch {
		case err != nil:
			return nil, err
		case r.Revision != "" && r.Revision != st.info.Revision && r.Revision != st.info.Digest:
			return nil, refuse(CodePrecondition, "", "revision %q is staged, and another was expected to be", st.info.Revision).about("revision")
		}
		found, err := s.meta.revision(ctx, r.Name, st.info.Revision)
		if err != nil {
			return nil, err
		}
		c.staged, c.promoted = st.staged.Snapshot, st
		return map[string]*Revision{r.Name: found}, nil
	}
	return s.asked(ctx, c, r.Name, r.Revision)
}
