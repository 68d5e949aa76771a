package bundles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/storage"
)

// confirmEvery is how often a confirmation is written down at most. One that a
// crash forgets makes the bundle look older, never younger.
const confirmEvery = time.Minute

// confirmation is when the active content of a name was found to be the current
// one.
type confirmation struct {
	Digest string    `json:"digest"`
	At     time.Time `json:"at"`

	written time.Time // At as it is written down
	version uint64
}

// Age is how old the active revision of a bundle is.
type Age struct {
	Name, Revision string
	// Confirmed is when the revision was made active or was last confirmed to be
	// the current one, whichever is later.
	Confirmed time.Time
	Age       time.Duration // by the service's clock, never negative
	MaxAge    time.Duration // 0: it never becomes stale
	Stale     bool
}

// StaleBundlesError is what is wrong when bundles are too old.
type StaleBundlesError struct{ Bundles []Age }

// Error names the bundles.
func (e *StaleBundlesError) Error() string {
	texts := make([]string, len(e.Bundles))
	for i, a := range e.Bundles {
		texts[i] = fmt.Sprintf("bundle %s is stale: revision %s was confirmed %s ago, at most %s is allowed", a.Name, a.Revision, a.Age.Truncate(time.Second), a.MaxAge)
	}
	return strings.Join(texts, "; ")
}

// Confirm says that the active revision of a bundle is still the current one,
// as who pulls it knows: its age begins again. digest is that of the content
// (PushResult.Digest); when another content is active nothing is confirmed, and
// the error is an *Error of CodePrecondition, or of CodeNotFound when none is.
// Neither is what nobody may vouch for any more, since the key that signed it
// was taken out or its time is over: that is an *Error of the gate GateSignature.
// The confirmation holds when Confirm returns, and is written down at least
// once a minute.
func (s *Service) Confirm(ctx context.Context, name, digest string) error {
	unlock, err := lock(ctx, s.confirming)
	if err != nil {
		return fmt.Errorf("wait for other confirmations: %w", err)
	}
	defer unlock()
	entry, ok := s.current().Bundles[name]
	switch {
	case !ok:
		return refuse(CodeNotFound, "", "no revision of bundle %s is active", shown(name))
	case entry.Digest != digest:
		return refuse(CodePrecondition, "", "the content of digest %s is active, and another was confirmed", entry.Digest)
	}
	if err := s.vouch(ctx, name, entry); err != nil {
		return err
	}
	now := s.o.Now().UTC()
	s.mu.Lock()
	c := s.confirmed[name]
	s.mu.Unlock()
	before := s.ageOf(name, entry, c, now)
	if before.Stale {
		if err := s.recordConfirmed(ctx, before); err != nil {
			return err
		}
	}
	c.Digest, c.At = digest, now
	if before.Stale || now.Sub(c.written) >= confirmEvery || now.Before(c.written) {
		if err := s.writeConfirmation(ctx, name, &c); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.confirmed[name] = c
	s.mu.Unlock()
	s.expire()
	return nil
}

// recordConfirmed records that a stale bundle decides again.
func (s *Service) recordConfirmed(ctx context.Context, a Age) error {
	return s.record(ctx, &audit.Record{
		Event: audit.EventBundleConfirmed, Severity: audit.SeverityMedium, Outcome: audit.OutcomeSuccess,
		Action: "confirm", Resource: "bundle:" + a.Name, Message: "the bundle was stale and is not any more",
	}, Origin{Caller: "serve"}, map[string]any{
		"name": a.Name, "revision": a.Revision, "age_seconds": int64(a.Age.Seconds()), "max_age_seconds": int64(a.MaxAge.Seconds()),
	})
}

func (s *Service) writeConfirmation(ctx context.Context, name string, c *confirmation) error {
	b := &batch{}
	b.put(storage.Key(keyConfirmed, name), c, c.version)
	versions, err := s.meta.apply(ctx, b)
	if err != nil {
		return err
	}
	c.version, c.written = versions[0], c.At
	return nil
}

// readConfirmations reads what was confirmed before the start.
func (s *Service) readConfirmations(ctx context.Context) error {
	s.confirmed = map[string]confirmation{}
	prefix := storage.Prefix(keyConfirmed)
	for cursor := ""; ; {
		page, err := s.o.Bucket.List(ctx, prefix, cursor, 0)
		if err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		for _, e := range page.Entries {
			parts, err := storage.Parts(e.Key)
			c := confirmation{version: e.Revision}
			if err = errors.Join(err, json.Unmarshal(e.Value, &c)); err != nil || len(parts) != 2 {
				return fmt.Errorf("read %s: %w", e.Key, err)
			}
			c.written = c.At
			s.confirmed[parts[1]] = c
		}
		if cursor = page.Cursor; cursor == "" {
			return nil
		}
	}
}

// maxAge is how old a bundle may become; 0: as old as it likes.
func (s *Service) maxAge(name string) time.Duration {
	if d, ok := s.o.MaxAges[name]; ok {
		return d
	}
	return s.o.MaxAge
}

func (s *Service) ageOf(name string, entry activeEntry, c confirmation, now time.Time) Age {
	a := Age{Name: name, Revision: entry.Revision, Confirmed: entry.Since, MaxAge: s.maxAge(name)}
	if c.Digest == entry.Digest && c.At.After(entry.Since) {
		a.Confirmed = c.At
	}
	a.Age = max(0, now.Sub(a.Confirmed))
	a.Stale = a.MaxAge > 0 && a.Age >= a.MaxAge
	return a
}

// Ages tells how old the active bundles are, by name.
func (s *Service) Ages() []Age {
	now := s.o.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	ages := make([]Age, 0, len(s.active.Bundles))
	for name, entry := range s.active.Bundles {
		ages = append(ages, s.ageOf(name, entry, s.confirmed[name], now))
	}
	slices.SortFunc(ages, func(a, b Age) int { return strings.Compare(a.Name, b.Name) })
	return ages
}

// Healthy returns a *StaleBundlesError when bundles are too old.
func (s *Service) Healthy() error {
	stale := slices.DeleteFunc(s.Ages(), func(a Age) bool { return !a.Stale })
	if len(stale) == 0 {
		return nil
	}
	return &StaleBundlesError{Bundles: stale}
}

// expire tells the engine how old bundles may become.
func (s *Service) expire() {
	s.expiring.Lock() // what is told last is what is true last
	defer s.expiring.Unlock()
	var list []eval.Expiring
	for _, a := range s.Ages() {
		if a.MaxAge > 0 {
			list = append(list, eval.Expiring{Name: a.Name, Revision: a.Revision, Confirmed: a.Confirmed, MaxAge: a.MaxAge})
		}
	}
	s.o.Engine.SetExpiry(list)
}
