package bundles

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// judgeActivation sends an activation of kept revisions, which passed all gates
// when they were pushed, through those that may say otherwise now. A rollback is
// not judged: it must not fail.
func (s *Service) judgeActivation(ctx context.Context, c *change, snapshot *eval.Snapshot) error {
	gates := slices.DeleteFunc(slices.Clone(s.o.Gates), func(g Gate) bool { return !g.Activation })
	if c.kind != KindActivate && c.kind != KindPromote || c.gates != nil || len(gates) == 0 {
		return nil
	}
	candidate := &Candidate{By: c.by, Snapshot: snapshot}
	var names []string
	for i, changed := range c.result.Changed {
		names = append(names, changed.Name)
		if active := s.activeBundle(changed.Name); i == 0 || active == nil {
			candidate.Active = active
		}
	}
	candidate.Name = bounded(strings.Join(names, ","))
	gateCtx, done := s.giveWay(ctx)
	defer done()
	results, err := s.try(gateCtx, candidate, gates, nil)
	c.gates, c.result.Gates = results, results
	refused, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	refused = gaveWay(gateCtx, refused)
	refused.Gates = results
	return refused
}

// evidence is what the revisions that become active were judged by when they
// were pushed: bundle to gate to hash.
func (c *change) evidence() map[string]map[string]string {
	found := map[string]map[string]string{}
	for name, r := range c.changes {
		if r == nil {
			continue
		}
		for _, g := range r.Gates {
			if g.Evidence == "" {
				continue
			}
			if found[name] == nil {
				found[name] = map[string]string{}
			}
			found[name][g.Name] = g.Evidence
		}
	}
	return found
}
