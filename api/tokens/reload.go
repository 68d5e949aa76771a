package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Prepare reads the file for a reload in two steps: an error means that what is
// in force stays, commit puts what was read in force.
func (s *Store) Prepare() (commit func(), err error) {
	list, state, err := s.read()
	if err != nil {
		return nil, err
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if now, err := statFile(s.path); err != nil || now != state {
			// It changed meanwhile: what was revoked since must not come back.
			_ = s.refreshLocked() // logged there
			return
		}
		s.swap(list, state)
	}, nil
}

// Run looks at the file every Options.Poll and tells Options.Changed of what
// was added and revoked, at its start too. It ends with ctx, without an error;
// lookups go on working after it.
func (s *Store) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.o.Poll)
	defer ticker.Stop()
	pending := true
	for {
		if pending {
			err := s.announce(ctx)
			if pending = err != nil; pending && ctx.Err() == nil {
				s.o.Logger.Error().Err(err).Msg("changes of tokens could not be recorded, will try again")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
			pending = true
		case <-ticker.C:
			s.checked.Store(s.o.Now().UnixNano())
			s.mu.Lock()
			_ = s.refreshLocked() // logged there
			s.mu.Unlock()
		}
	}
}

// refreshIfDue looks at the file unless that was done lately or is being done.
func (s *Store) refreshIfDue(now time.Time) {
	last := s.checked.Load()
	// A clock that was set back must not stop the looking.
	if d := now.UnixNano() - last; d >= 0 && d < int64(s.o.CheckEvery) || !s.checked.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	if !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	_ = s.refreshLocked() // logged there
}

// refreshLocked takes the file when it is another than the one in force. A
// version that cannot be taken is logged once; the tokens in force stay. A file
// that was removed takes all of its tokens along.
func (s *Store) refreshLocked() error {
	state, err := statFile(s.path)
	if err == nil {
		if state == s.table.Load().state {
			s.err, s.failed = nil, fileState{}
			return nil
		}
		if s.err != nil && state == s.failed {
			return s.err
		}
		var list []*Token
		if list, state, err = s.read(); err == nil {
			s.swap(list, state)
			return nil
		}
	}
	if s.err == nil || state != s.failed {
		s.o.Logger.Error().Err(err).Msg("the changed token file is not taken, the old tokens stay")
	}
	s.err, s.failed = err, state
	return err
}

// swap puts a list in force; s.mu is held.
func (s *Store) swap(list []*Token, state fileState) {
	t := &table{byHash: make(map[[32]byte]*Token, len(list)+1), list: list, state: state}
	for _, token := range list {
		t.byHash[token.hash] = token
	}
	if s.admin != nil {
		t.byHash[s.admin.hash] = s.admin
	}
	s.table.Store(t)
	s.err, s.failed = nil, fileState{}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// recordedDocument is the file that says of which tokens Changed was told.
type recordedDocument struct {
	Format int             `json:"format"`
	Tokens []recordedToken `json:"tokens"`
}

type recordedToken struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// announce tells Changed what differs from what it was told last. Only Run
// calls it, so that there is one order.
func (s *Store) announce(ctx context.Context) error {
	if s.o.Changed == nil {
		return nil
	}
	told, err := s.told()
	if err != nil {
		// Telling of a token twice is better than never.
		s.o.Logger.Warn().Err(err).Msg("cannot tell which tokens were recorded, recording all of them")
	}
	list := s.table.Load().list
	var added, revoked []string
	now := make([]recordedToken, 0, len(list))
	gone := make(map[recordedToken]bool, len(told))
	for _, r := range told {
		gone[r] = true
	}
	for _, t := range list {
		r := recordedToken{ID: t.ID, Name: t.Name}
		now = append(now, r)
		if !gone[r] {
			added = append(added, t.Name)
		}
		delete(gone, r)
	}
	for _, r := range told {
		if gone[r] {
			revoked = append(revoked, r.Name)
		}
	}
	if len(added)+len(revoked) == 0 {
		return nil
	}
	if err := s.o.Changed(ctx, added, revoked); err != nil {
		return err
	}
	// It is recorded: to stop now must not make it be recorded twice.
	return s.remember(context.WithoutCancel(ctx), now)
}

func (s *Store) told() ([]recordedToken, error) {
	b, _, err := readPrivate(filepath.Join(s.dir, recordedName), maxFileBytes)
	if err != nil || b == nil {
		return nil, err
	}
	var doc recordedDocument
	if err := json.Unmarshal(b, &doc); err != nil || doc.Format != formatVersion {
		return nil, fmt.Errorf("read %s: %w", recordedName, errors.Join(ErrFile, err))
	}
	return doc.Tokens, nil
}

func (s *Store) remember(ctx context.Context, now []recordedToken) (err error) {
	b, err := json.Marshal(recordedDocument{Format: formatVersion, Tokens: now})
	if err != nil {
		return fmt.Errorf("encode %s: %w", recordedName, err)
	}
	unlock, err := lock(ctx, s.dir, s.o.LockWait)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return writePrivate(s.dir, recordedName, append(b, '\n'))
}
