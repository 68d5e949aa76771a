package eval

import (
	"fmt"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// CodeStale names a decision that was not made because a bundle that it depends
// on is too old.
const CodeStale = "policy_stale"

// Expiring is a bundle that may not become older than MaxAge.
type Expiring struct {
	Name, Revision string
	// Confirmed is when the revision was last known to be the current one.
	Confirmed time.Time
	MaxAge    time.Duration // positive
}

// StaleError is returned in place of an answer that depends on a bundle which
// is too old.
type StaleError struct {
	Bundle, Revision string
	Age, MaxAge      time.Duration
}

// Error says which bundle it is, and how old.
func (e *StaleError) Error() string {
	return fmt.Sprintf("bundle %s, revision %s, was confirmed to be current %s ago, and %s is the most that is allowed",
		e.Bundle, e.Revision, e.Age.Truncate(time.Second), e.MaxAge)
}

// expiry is what an Engine knows of the age of its bundles.
type expiry struct {
	first   int64 // unix nanoseconds of the earliest end
	bundles []Expiring
}

// SetExpiry says how old each bundle is and may become; nil: none ends. It holds
// for decisions that begin from now on.
func (e *Engine) SetExpiry(bundles []Expiring) {
	if len(bundles) == 0 {
		e.expiry.Store(nil)
		return
	}
	x := &expiry{bundles: bundles}
	for i, b := range bundles {
		if end := b.Confirmed.Add(b.MaxAge).UnixNano(); i == 0 || end < x.first {
			x.first = end
		}
	}
	e.expiry.Store(x)
}

// Stale returns a *StaleError when the answer to a decision path can depend on a
// bundle that is too old, and nil otherwise: the path lies at, above or below a
// root of it, or a rule that the answer may need reads such a path. Before any
// bundle is too old this costs one atomic load and one comparison.
func (s *Snapshot) Stale(path string, now time.Time) error {
	x := s.engine.expiry.Load()
	if x == nil || now.UnixNano() < x.first {
		return nil
	}
	if old := s.stale(x, path, now); old != nil {
		return old
	}
	return nil
}

func (s *Snapshot) stale(x *expiry, path string, now time.Time) *StaleError {
	var p *prepared
	for _, b := range x.bundles {
		age := now.Sub(b.Confirmed)
		if age < b.MaxAge {
			continue
		}
		held := s.bundle(b.Name)
		if held == nil {
			continue
		}
		if p == nil {
			var err error
			if p, _, err = s.program.prepare(path); err != nil {
				return nil // which the evaluation finds too, and has no answer
			}
		}
		if p.touches(s.program.reaches, held) {
			return &StaleError{Bundle: b.Name, Revision: b.Revision, Age: age, MaxAge: b.MaxAge}
		}
	}
	return nil
}

func (s *Snapshot) bundle(name string) *Bundle {
	for _, b := range s.bundles {
		if b.Name == name {
			return b
		}
	}
	return nil
}

// touches tells whether the query can read what a bundle owns. It is found out
// once for each bundle.
func (p *prepared) touches(r *Reaches, b *Bundle) bool {
	if known, ok := p.touched.Load(b); ok {
		return known.(bool)
	}
	p.reading.Do(func() { p.reads = r.reads(p.ref) })
	yes := false
	for _, path := range p.reads {
		if yes = b.owns(path); yes {
			break
		}
	}
	p.touched.Store(b, yes)
	return yes
}

// owns tells whether something at, above or below path is the bundle's.
func (b *Bundle) owns(path []string) bool {
	for _, root := range b.Roots {
		switch {
		case root != "":
			if overlaps(path, strings.Split(root, "/")) {
				return true
			}
		case len(path) == 0 || path[0] != baseRoot || b.brings(path):
			return true
		}
	}
	return false
}

// brings tells whether the bundle has data at, above or below path.
func (b *Bundle) brings(path []string) bool {
	if b.Data == nil {
		return false
	}
	var at ast.Value = b.Data
	for _, name := range path {
		obj, ok := at.(ast.Object)
		if !ok {
			return true
		}
		t := obj.Get(keyTerm(name))
		if t == nil {
			return false
		}
		at = t.Value
	}
	return true
}
