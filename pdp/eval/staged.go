package eval

import (
	"errors"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// ErrStaged is returned by Attach when another snapshot is staged.
var ErrStaged = errors.New("another snapshot is staged")

// Staged is a snapshot that is tried on live decisions beside the active one. It
// is part of that one: another active snapshot is without it.
type Staged struct {
	Snapshot *Snapshot
	// Share are those whose decisions the snapshot answers; nil: nobody.
	Share *Share
	// Mark is a member of a JSON object, "name":value: what the record of a
	// decision that the snapshot answered says of it.
	Mark    []byte
	Watcher Watcher
}

// Watcher is told of what happens while a snapshot is staged.
type Watcher interface {
	// Served is called with each decision, by path and input, that was made. It
	// is on the way of the answer: it does not wait, and does not keep d.
	Served(d *Served)
	// Ending is called before another snapshot becomes active, while nobody else
	// writes. An error keeps everything as it is.
	Ending() error
}

// Served is a decision that was made while a snapshot is staged. Its values may
// be kept and are shared with others: they must not be changed.
type Served struct {
	ID, Path string
	Input    ast.Value
	Size     int // bytes of input, result and what else is recorded of it
	Now      time.Time
	Strict   bool

	// Staged tells that the staged snapshot answered, Failed why it did not,
	// though it should have: then the active one answered.
	Staged bool
	Failed error
	Result Result
	Err    error
	Took   time.Duration
}

// Staged is what is tried beside the snapshot; nil: nothing.
func (s *Snapshot) Staged() *Staged { return s.staged }

// Unstaged is the snapshot with nothing tried beside it.
func (s *Snapshot) Unstaged() *Snapshot {
	if s.staged == nil {
		return s
	}
	plain := *s
	plain.staged = nil
	return &plain
}

// Attach tries st beside the active snapshot, from which it must have been built
// by Stage, after then has returned nil. The error is ErrStale when another
// became active since, ErrStaged, or that of then; nothing has changed then.
func (e *Engine) Attach(st *Staged, then func() error) error {
	e.writer.Lock()
	defer e.writer.Unlock()
	active := e.Active()
	switch {
	case active.generation+1 != st.Snapshot.generation:
		return ErrStale
	case active.staged != nil:
		return ErrStaged
	}
	if err := then(); err != nil {
		return err
	}
	next := *active
	next.staged = st
	e.active.Store(&next)
	return nil
}

// Detach ends what Attach began, after then has returned nil. It does nothing
// when that has ended already, and then does not call then.
func (e *Engine) Detach(st *Staged, then func() error) error {
	e.writer.Lock()
	defer e.writer.Unlock()
	active := e.Active()
	if active.staged != st {
		return nil
	}
	if err := then(); err != nil {
		return err
	}
	e.active.Store(active.Unstaged())
	return nil
}

// replace makes next the active snapshot, after what was staged has ended and
// then has returned nil. The holder of writer calls it.
func (e *Engine) replace(next *Snapshot, then func() error) error {
	active := e.Active()
	if st := active.staged; st != nil {
		if err := st.Watcher.Ending(); err != nil {
			return err
		}
		e.active.Store(active.Unstaged())
	}
	if err := then(); err != nil {
		return err
	}
	e.active.Store(next)
	return nil
}
