package bundles

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

// keptRefused is how many refused pushes of one name are kept to be looked at.
const keptRefused = 5

// retain removes the revisions of a name that are no longer kept: first what
// is written of them, then their archives. The holder of changing calls it.
// What cannot be removed now is when it is called next.
func (s *Service) retain(ctx context.Context, name string) {
	if err := s.retainKind(ctx, keyRevision, name, s.o.KeepRevisions); err != nil {
		s.o.Logger.Error().Err(err).Str("bundle", name).Msg("old revisions could not be removed")
	}
	if err := s.retainKind(ctx, keyRefused, name, keptRefused); err != nil {
		s.o.Logger.Error().Err(err).Str("bundle", name).Msg("refused bundles could not be removed")
	}
}

func (s *Service) retainKind(ctx context.Context, kind, name string, most int) error {
	var all []*Revision
	err := s.meta.each(ctx, storage.Prefix(kind, name), func(r *Revision) error {
		all = append(all, r)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(x, y *Revision) int {
		return cmp.Or(cmp.Compare(y.Number, x.Number), y.PushedAt.Compare(x.PushedAt))
	})
	entry := s.current().Bundles[name]
	tried := ""
	if st := s.running(); st != nil && st.info.Name == name {
		tried = st.info.Revision
	}
	for i, r := range all {
		if kind == keyRevision && (r.Revision == entry.Revision || r.Revision == entry.Previous || r.Revision == tried) {
			continue
		}
		if i < most && !s.tooOld(r) {
			continue
		}
		key := storage.Key(kind, name, r.Revision)
		if kind == keyRefused {
			key = storage.Key(kind, name, r.Digest)
		}
		b := &batch{}
		b.remove(key, r.version)
		if _, err := s.meta.apply(ctx, b); err != nil {
			return err
		}
		if err := s.disk.release(r.Archive.SHA256); err != nil {
			return err
		}
	}
	return nil
}

// tooOld tells whether a revision was neither pushed nor active for KeepDays.
func (s *Service) tooOld(r *Revision) bool {
	last := r.PushedAt
	if r.ActivatedAt != nil && r.ActivatedAt.After(last) {
		last = *r.ActivatedAt
	}
	return s.o.KeepDays > 0 && s.o.Now().Sub(last) > time.Duration(s.o.KeepDays)*24*time.Hour
}
