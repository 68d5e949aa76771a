package bundles

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/storage"
)

// Summary is one bundle in a list.
type Summary struct {
	Name     string     `json:"name"`
	Revision string     `json:"revision,omitempty"` // the active one; empty: none is
	Digest   string     `json:"digest,omitempty"`
	Since    *time.Time `json:"since,omitempty"`
	Previous string     `json:"previous,omitempty"`
	Roots    []string   `json:"roots,omitempty"`
	Modules  int        `json:"modules"`
	// Confirmed is when the active revision was last known to be the current
	// one, MaxAgeSeconds how old that may become; 0: as it likes.
	Confirmed     *time.Time `json:"confirmed,omitempty"`
	MaxAgeSeconds int64      `json:"max_age_seconds,omitempty"`
	Stale         bool       `json:"stale,omitempty"`
	// ETag is what If-Match takes; empty when none is active.
	ETag string `json:"-"`
}

// List gives the bundles of which a revision was accepted, by name, from a
// cursor of a list before; the next cursor is empty at the end.
func (s *Service) List(ctx context.Context, cursor string, limit int) (list []Summary, next string, err error) {
	prefix := storage.Prefix(keyName)
	if cursor != "" && (!strings.HasPrefix(cursor, prefix) || storage.CheckKey(cursor) != nil) {
		return nil, "", refuse(CodeRequest, "", "cursor: not one of a list before").about("cursor")
	}
	page, err := s.o.Bucket.List(ctx, prefix, cursor, limit)
	if err != nil {
		return nil, "", fmt.Errorf("list bundles: %w", err)
	}
	list = []Summary{}
	for _, e := range page.Entries {
		parts, err := storage.Parts(e.Key)
		if err != nil || len(parts) != 2 {
			return nil, "", fmt.Errorf("list bundles: key %q", e.Key)
		}
		list = append(list, s.summary(parts[1]))
	}
	return list, page.Cursor, nil
}

// summary tells what is active of a bundle.
func (s *Service) summary(name string) Summary {
	v := Summary{Name: name}
	entry, ok := s.current().Bundles[name]
	if !ok {
		return v
	}
	v.Revision, v.Digest, v.Since, v.Previous, v.ETag = entry.Revision, entry.Digest, &entry.Since, entry.Previous, etag(entry.Revision)
	s.mu.Lock()
	age := s.ageOf(name, entry, s.confirmed[name], s.o.Now())
	s.mu.Unlock()
	v.Confirmed, v.MaxAgeSeconds, v.Stale = &age.Confirmed, int64(age.MaxAge.Seconds()), age.Stale
	if b := s.activeBundle(name); b != nil {
		v.Roots, v.Modules = b.Roots, len(b.Modules)
	}
	return v
}

// Bundle tells what is active of one bundle, or gives an *Error of
// CodeNotFound.
func (s *Service) Bundle(ctx context.Context, name string) (Summary, error) {
	if err := s.checkName(name); err != nil {
		return Summary{}, notFound(name)
	}
	known, err := s.meta.name(ctx, name)
	if err != nil {
		return Summary{}, err
	}
	if known.version == 0 {
		return Summary{}, notFound(name)
	}
	return s.summary(name), nil
}

func notFound(name string) *Error {
	return refuse(CodeNotFound, "", "there is no bundle %s", shown(name))
}

// Revisions lists what is kept of a bundle, the newest first, refused pushes
// behind. before is a number of a list before, 0 for the start; refused pushes
// stand on the last page.
func (s *Service) Revisions(ctx context.Context, name string, before uint64, limit int) (list []*Revision, next uint64, err error) {
	if err := s.checkName(name); err != nil {
		return nil, 0, notFound(name)
	}
	accepted, err := s.collect(ctx, keyRevision, name)
	if err != nil {
		return nil, 0, err
	}
	refused, err := s.collect(ctx, keyRefused, name)
	if err != nil {
		return nil, 0, err
	}
	if len(accepted)+len(refused) == 0 {
		return nil, 0, notFound(name)
	}
	if before > 0 {
		accepted = slices.DeleteFunc(accepted, func(r *Revision) bool { return r.Number >= before })
	}
	if limit > 0 && len(accepted) > limit {
		return accepted[:limit], accepted[limit-1].Number, nil
	}
	return append(accepted, refused...), 0, nil
}

// collect lists the revisions of a name, the newest first.
func (s *Service) collect(ctx context.Context, kind, name string) ([]*Revision, error) {
	list := []*Revision{}
	err := s.meta.each(ctx, storage.Prefix(kind, name), func(r *Revision) error {
		list = append(list, s.withStatus(r))
		return nil
	})
	slices.SortFunc(list, func(x, y *Revision) int {
		return cmp.Or(cmp.Compare(y.Number, x.Number), y.PushedAt.Compare(x.PushedAt))
	})
	return list, err
}

func (s *Service) withStatus(r *Revision) *Revision {
	if entry, ok := s.current().Bundles[r.Name]; ok && r.Status == StatusKept && entry.Revision == r.Revision {
		r.Status = StatusActive
	}
	return r
}

// Revision gives one kept revision, by its name or its digest; a refused push
// when no accepted one has it.
func (s *Service) Revision(ctx context.Context, name, revision string) (*Revision, error) {
	if err := s.checkName(name); err != nil {
		return nil, notFound(name)
	}
	r, err := s.meta.revision(ctx, name, revision)
	if err == nil {
		return s.withStatus(r), nil
	}
	for _, kind := range []string{keyRevision, keyRefused} {
		list, listErr := s.collect(ctx, kind, name)
		if listErr != nil {
			return nil, listErr
		}
		for _, r := range list {
			if r.Digest == revision || r.Revision == revision {
				return r, nil
			}
		}
	}
	return nil, err
}

// Archive gives the bytes of a kept revision as they were pushed. The caller
// closes them.
func (s *Service) Archive(ctx context.Context, name, revision string) (*Revision, io.ReadSeekCloser, error) {
	r, err := s.Revision(ctx, name, revision)
	if err != nil {
		return nil, nil, err
	}
	file, err := s.disk.reader(r)
	if err != nil {
		return nil, nil, err
	}
	return r, file, nil
}

// Diff tells what is different in the kept revision to of a bundle.
func (s *Service) Diff(ctx context.Context, name, from, to string) (*Changes, error) {
	unlock, err := lock(ctx, s.judging) // two bundles are read for it
	if err != nil {
		return nil, fmt.Errorf("wait for pushes: %w", err)
	}
	defer unlock()
	var read [2]*content
	var before *eval.Bundle
	for i, revision := range []string{from, to} {
		r, err := s.Revision(ctx, name, revision)
		if err != nil {
			return nil, err
		}
		if read[i], err = s.readKept(r, before); err != nil {
			return nil, err
		}
		before = read[i].bundle
	}
	return Compare(read[0].bundle, read[1].bundle)
}

// History lists the last activations, the newest first.
func (s *Service) History(ctx context.Context) ([]*Activation, error) {
	page, err := s.o.Bucket.List(ctx, storage.Prefix(keyHistory), "", 0)
	if err != nil {
		return nil, fmt.Errorf("list activations: %w", err)
	}
	list := make([]*Activation, 0, len(page.Entries))
	for _, e := range slices.Backward(page.Entries) {
		a := &Activation{}
		if err := json.Unmarshal(e.Value, a); err != nil {
			return nil, fmt.Errorf("read %s: %w", e.Key, err)
		}
		list = append(list, a)
	}
	return list, nil
}
