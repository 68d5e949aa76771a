package bundles

import (
	"context"
	"fmt"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Stage builds the snapshot that would answer if a kept revision, or a refused
// one that is kept, were active in place of the bundle's other revision. Nothing
// changes. An *Error of CodeGate says that it does not fit to what is active.
func (s *Service) Stage(ctx context.Context, name, revision string) (*Revision, *eval.Snapshot, error) {
	r, err := s.Revision(ctx, name, revision)
	if err != nil {
		return nil, nil, err
	}
	active := s.o.Engine.Active()
	if s.current().Bundles[name].Digest == r.Digest {
		return r, active, nil
	}
	unlock, err := lock(ctx, s.judging) // as much memory as for a push
	if err != nil {
		return nil, nil, fmt.Errorf("wait for pushes: %w", err)
	}
	defer unlock()
	var snapshot *eval.Snapshot
	err = s.o.Background(func() error {
		found, err := s.readKept(r, s.activeBundle(name))
		if err != nil {
			return fmt.Errorf("read bundle %s revision %s: %w", name, r.Revision, err)
		}
		snapshot, _, err = s.stage(withBundle(active.Bundles(), found.bundle), "")
		return err
	})
	return r, snapshot, err
}
