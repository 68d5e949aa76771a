package bundles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/storage"
)

const (
	// maxChanges is how many bundles one activation may change.
	maxChanges = 100
	// maxHistory is how many activations are remembered beside the audit log.
	maxHistory = 100
	// swapTries is how often an activation is built again because of writes
	// through the API in the meantime.
	swapTries = 5
)

// Kind is why a set became active.
type Kind string

// The kinds of activations.
const (
	KindPush     Kind = "push"
	KindActivate Kind = "activate"
	KindRollback Kind = "rollback"
	KindPromote  Kind = "promote"
)

// Activation is one change of the active set.
type Activation struct {
	Number  uint64            `json:"number"` // grows with each; 0: nothing changed
	At      time.Time         `json:"at"`
	Kind    Kind              `json:"kind"`
	By      string            `json:"by"`
	From    string            `json:"from,omitempty"`
	Changed []ChangedBundle   `json:"changed"`
	Bundles map[string]string `json:"bundles"` // the whole set after it: name to revision
	Millis  float64           `json:"duration_ms"`
	// Warm says that the set was ready, and was not built again.
	Warm             bool     `json:"warm"`
	APIWritesDropped []string `json:"api_writes_dropped,omitempty"`
	// Gates are those that judged the activation of kept revisions.
	Gates []GateResult `json:"gates,omitempty"`
}

// ChangedBundle is one bundle in an activation; an empty revision means that
// it was, or is, not active.
type ChangedBundle struct {
	Name   string `json:"name"`
	From   string `json:"from"`
	To     string `json:"to"`
	Digest string `json:"digest,omitempty"`
}

// ActivationRequest asks for kept revisions to be active, all at once.
type ActivationRequest struct {
	// Bundles are revisions by name; nil takes the bundle out of the set, in
	// which it need not be.
	// Bundles that are not named stay as they are.
	Bundles map[string]*string
	By      Origin
}

// RollbackRequest asks for a kept revision of one bundle.
type RollbackRequest struct {
	Name string
	// Revision may be empty: the one that was active before.
	Revision string
	IfMatch  []string
	By       Origin
}

// Activate makes kept revisions active, all or none. Errors are as of Push, and
// a refusal is recorded as there.
func (s *Service) Activate(ctx context.Context, r ActivationRequest) (*Activation, error) {
	named := strings.Join(slices.Sorted(maps.Keys(r.Bundles)), ",")
	if len(r.Bundles) > maxChanges {
		named = ""
	}
	return s.asked(ctx, &change{kind: KindActivate, by: r.By, choose: func(ctx context.Context, now activeSet) (map[string]*Revision, error) {
		if len(r.Bundles) == 0 || len(r.Bundles) > maxChanges {
			return nil, refuse(CodeRequest, "", "an activation names 1 to %d bundles", maxChanges).about("bundles")
		}
		changes := make(map[string]*Revision, len(r.Bundles))
		for name, revision := range r.Bundles {
			if revision == nil {
				if _, active := now.Bundles[name]; active {
					changes[name] = nil
				} else if _, err := s.Bundle(ctx, name); err != nil {
					return nil, err
				}
				continue
			}
			found, err := s.meta.revision(ctx, name, *revision)
			if err != nil {
				return nil, err
			}
			if now.Bundles[name].Digest != found.Digest {
				changes[name] = found
			}
		}
		return changes, nil
	}}, named, "")
}

// Rollback makes a kept revision active again. Errors are as of Activate.
func (s *Service) Rollback(ctx context.Context, r RollbackRequest) (*Activation, error) {
	return s.asked(ctx, &change{kind: KindRollback, by: r.By, choose: func(ctx context.Context, now activeSet) (map[string]*Revision, error) {
		if err := s.checkName(r.Name); err != nil {
			return nil, notFound(r.Name)
		}
		if err := now.match(r.Name, r.IfMatch, false); err != nil {
			return nil, err
		}
		revision := r.Revision
		if revision == "" {
			if revision = now.Bundles[r.Name].Previous; revision == "" {
				return nil, refuse(CodeNotFound, "", "bundle %s has no revision that was active before; name one", shown(r.Name))
			}
		}
		found, err := s.meta.revision(ctx, r.Name, revision)
		if err != nil {
			return nil, err
		}
		if now.Bundles[r.Name].Digest == found.Digest {
			return nil, nil
		}
		return map[string]*Revision{r.Name: found}, nil
	}}, r.Name, r.Revision)
}

// asked makes a change that somebody asked for; a refusal is recorded, with the
// bundle and the revision as they were named.
func (s *Service) asked(ctx context.Context, c *change, name, revision string) (*Activation, error) {
	done, err := s.change(ctx, c)
	a := Attempt{Action: string(c.kind), Name: name, Revision: revision, By: c.by}
	if c.result != nil && len(c.result.Changed) > 0 {
		a.details = map[string]any{"changed": c.result.Changed}
	}
	return done, s.Refused(ctx, a, err)
}

// activatePushed makes active what was accepted just now.
func (s *Service) activatePushed(ctx context.Context, p PushRequest, c *Candidate, result *PushResult) error {
	done, err := s.change(ctx, &change{
		kind: KindPush, by: p.By, staged: c.Snapshot, parsed: map[string]*eval.Bundle{p.Name: c.Bundle}, gates: result.Gates,
		choose: func(ctx context.Context, now activeSet) (map[string]*Revision, error) {
			if err := now.match(p.Name, p.IfMatch, p.IfNone); err != nil {
				return nil, err
			}
			found, err := s.meta.revision(ctx, p.Name, result.Revision)
			if err != nil {
				return nil, err
			}
			return map[string]*Revision{p.Name: found}, nil
		},
	})
	if err != nil {
		if refused, ok := errors.AsType[*Error](err); ok {
			refused.Revision, refused.Digest = result.Revision, result.Digest
		}
		return err
	}
	result.Status, result.Active = string(StatusActive), true
	for _, changed := range done.Changed {
		result.Previous = changed.From
	}
	return nil
}

// change is an activation under way.
type change struct {
	kind   Kind
	by     Origin
	gates  []GateResult // of the push, or of the activation once it is judged
	choose func(ctx context.Context, now activeSet) (map[string]*Revision, error)
	// staged and parsed are what is there already; they may be nil.
	staged *eval.Snapshot
	// promoted is the trial that ends with the activation of what it tried.
	promoted *staging
	parsed   map[string]*eval.Bundle

	now, next activeSet
	changes   map[string]*Revision
	result    *Activation
}

// change makes another set active: built aside, recorded, written down, and
// swapped in, in this order. A crash before it is written down leaves the old
// set, one after it the new.
func (s *Service) change(ctx context.Context, c *change) (*Activation, error) {
	take := func(ctx context.Context) (func(), error) { return lock(ctx, s.changing) }
	if c.kind == KindRollback {
		take = s.lockFirst
	}
	unlock, err := take(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for other changes: %w", err)
	}
	defer unlock()
	start := s.o.Now()
	c.now = s.current()
	if c.changes, err = c.choose(ctx, c.now); err != nil {
		return nil, err
	}
	c.next = c.now.with(c.changes, start.UTC())
	c.result = &Activation{Number: c.next.Number, At: c.next.At, Kind: c.kind, By: c.by.Caller, From: cmp.Or(c.by.ClientIP, c.by.Source), Bundles: map[string]string{}}
	for name, entry := range c.next.Bundles {
		c.result.Bundles[name] = entry.Revision
	}
	c.result.Changed = []ChangedBundle{}
	if len(c.changes) == 0 {
		c.result.Number = 0
		return c.result, nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.changes)) {
		if err := s.checkName(name); err != nil {
			return nil, err
		}
		to := c.next.Bundles[name]
		c.result.Changed = append(c.result.Changed, ChangedBundle{Name: name, From: c.now.Bundles[name].Revision, To: to.Revision, Digest: to.Digest})
	}
	// Once it is begun it is not left half done because the caller goes away.
	ctx = context.WithoutCancel(ctx)
	if err := s.swap(ctx, c); err != nil {
		return nil, err
	}
	c.result.Millis = millis(s.o.Now().Sub(start))
	for name := range c.changes {
		s.retain(ctx, name)
	}
	return c.result, nil
}

// swap builds the snapshot of c.next and makes it the active one.
func (s *Service) swap(ctx context.Context, c *change) error {
	for range swapTries {
		var snapshot *eval.Snapshot
		err := s.o.Background(func() (err error) {
			snapshot, err = s.snapshotOf(c)
			return err
		})
		if err != nil {
			return err
		}
		if err := s.judgeActivation(ctx, c, snapshot); err != nil {
			return err
		}
		before := s.o.Engine.Active().Unstaged()
		c.promote(EndPromoted)
		err = s.o.Engine.Swap(snapshot, func() error { return s.commit(ctx, c, snapshot) })
		switch {
		case errors.Is(err, eval.ErrStale):
			c.staged = nil // something else was written: build it again
			continue
		case err != nil:
			c.promote(EndSuperseded) // that is how the trial ends, if it goes on
			return err
		}
		s.setActive(c.next)
		s.keepWarm(c.now.key(), before)
		return nil
	}
	return &Error{Code: CodeBusy, Message: "policies and data are being written through the API all the time", RetryAfter: time.Second}
}

// promote says why the trial of what is promoted ends.
func (c *change) promote(reason EndReason) {
	if c.promoted != nil {
		c.promoted.because.Store(&reason)
	}
}

// snapshotOf finds the snapshot ready, or builds it.
func (s *Service) snapshotOf(c *change) (*eval.Snapshot, error) {
	active := s.o.Engine.Active()
	for _, w := range s.warm {
		if w.key == c.next.key() && active.APIWrites() == 0 {
			c.result.Warm = true
			return s.o.Engine.Revive(w.snapshot), nil
		}
	}
	if c.staged != nil {
		return c.staged, nil
	}
	c.result.Warm = false
	set := slices.DeleteFunc(active.Bundles(), func(b *eval.Bundle) bool {
		r, changed := c.changes[b.Name]
		return changed && r == nil
	})
	for _, name := range slices.Sorted(maps.Keys(c.changes)) {
		r := c.changes[name]
		if r == nil {
			continue
		}
		if c.parsed[name] == nil {
			found, err := s.readKept(r, s.activeBundle(name))
			if err != nil {
				return nil, fmt.Errorf("read bundle %s revision %s: %w", name, r.Revision, err)
			}
			if c.parsed == nil {
				c.parsed = map[string]*eval.Bundle{}
			}
			c.parsed[name] = found.bundle
		}
		set = withBundle(set, c.parsed[name])
	}
	snapshot, dropped, err := s.stage(set, "")
	c.result.APIWritesDropped = first(dropped, maxListed)
	return snapshot, err
}

// key names the content of a set.
func (a activeSet) key() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(a.Bundles)) {
		fmt.Fprintf(&b, "%s=%s\n", name, a.Bundles[name].Digest)
	}
	return b.String()
}

// keepWarm keeps a former snapshot ready, unless the API wrote into it: that
// it must not bring back.
func (s *Service) keepWarm(key string, snapshot *eval.Snapshot) {
	s.warm = slices.DeleteFunc(s.warm, func(w warmSet) bool { return w.key == key || w.key == s.active.key() })
	if snapshot.APIWrites() == 0 {
		s.warm = slices.Insert(s.warm, 0, warmSet{key: key, snapshot: snapshot})
	}
	if len(s.warm) > keptWarm {
		clear(s.warm[keptWarm:])
		s.warm = s.warm[:keptWarm]
	}
}

// commit records the change and writes it down. Both are durable when it
// returns nil, and the new set answers directly after.
func (s *Service) commit(ctx context.Context, c *change, snapshot *eval.Snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if err := s.fault("activating"); err != nil {
		return err
	}
	event := audit.EventBundleActivated
	if c.kind == KindRollback {
		event = audit.EventBundleRolledBack
	}
	resource := "bundles"
	if len(c.result.Changed) == 1 {
		resource = "bundle:" + c.result.Changed[0].Name
	}
	details := map[string]any{"number": c.next.Number, "kind": c.kind, "changed": c.result.Changed}
	if c.by.Source != "" {
		details["source"] = c.by.Source
	}
	if len(c.gates) > 0 {
		details["gates"] = gatesForRecord(c.gates)
	}
	if evidence := c.evidence(); len(evidence) > 0 {
		details["evidence"] = evidence
	}
	r := audit.Record{
		Event: event, Severity: audit.SeverityHigh, Outcome: audit.OutcomeSuccess, Action: string(c.kind), Resource: resource,
		Bundles: snapshot.RevisionsJSON(),
	}
	if err := s.record(ctx, &r, c.by, details); err != nil {
		return err
	}
	if err := s.fault("activation recorded"); err != nil {
		return err
	}
	if err := s.writeActive(ctx, c); err != nil {
		r.Outcome, r.Message, r.Bundles = audit.OutcomeError, "the change was not written down and does not hold: "+bounded(err.Error()), nil
		return &Error{Code: CodeUnavailable, Message: "the activation could not be written down", Err: errors.Join(err, s.record(ctx, &r, c.by, details))}
	}
	return s.fault("activated")
}

// writeActive writes the set down, and with it that its revisions were active.
func (s *Service) writeActive(ctx context.Context, c *change) error {
	b := &batch{}
	b.put(keyActive, c.next, c.next.version)
	for name, r := range c.changes {
		if r == nil {
			continue
		}
		updated, at := *r, c.next.At
		updated.ActivatedAt, updated.ActivatedBy = &at, c.by.Caller
		updated.Activations++
		b.put(storage.Key(keyRevision, name, r.Revision), &updated, r.version)
		digest, err := s.meta.digest(ctx, name, r.Digest)
		if err != nil {
			return err
		}
		if !digest.Activated {
			digest.Activated = true
			b.put(storage.Key(keyDigest, name, r.Digest), digest, digest.version)
		}
	}
	b.put(historyKey(c.next.Number), c.result, 0)
	if c.next.Number > maxHistory {
		b.ops = append(b.ops, storage.Delete(historyKey(c.next.Number-maxHistory)))
	}
	versions, err := s.meta.apply(ctx, b)
	if errors.Is(err, storage.ErrUncertain) {
		if found, readErr := s.meta.activeSet(ctx); readErr == nil && found.Number == c.next.Number {
			c.next.version = found.version
			return nil
		}
	}
	if err != nil {
		return err
	}
	c.next.version = versions[0]
	return nil
}

// historyKey sorts as its number does.
func historyKey(number uint64) string {
	return storage.Key(keyHistory, fmt.Sprintf("%020d", number))
}
