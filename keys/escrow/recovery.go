package escrow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/verdict-pdp/verdict/keys"
)

const (
	// DefaultRecoveryTime is how long a recovery waits for shares.
	DefaultRecoveryTime = time.Hour

	maxRecoveries = 64 // open at a time
	minPrincipals = 2
	macSuffix     = "-mac"
)

var (
	// ErrSamePrincipal is returned when somebody who gave shares gives more.
	ErrSamePrincipal = errors.New("recovery_same_principal")
	// ErrRelated is returned when who gives shares was created by somebody who
	// gave some already, or created that one, or both have a creator in common,
	// or when that cannot be known: see Principal.Issued.
	ErrRelated = errors.New("recovery_related_principal")
	// ErrNoRecovery is returned when no recovery of a key is open.
	ErrNoRecovery = errors.New("recovery_not_open")
	// ErrTooMany is returned when too many recoveries are open.
	ErrTooMany = errors.New("recoveries_too_many")
)

// Principal is who gives shares.
type Principal struct {
	// ID names it for ever: a kind and an id or name.
	ID string
	// Name is for records.
	Name string
	// CreatedBy holds the IDs of those who created it, the nearest first; empty:
	// it was created on the host.
	CreatedBy []string
	// Issued says that it is known by a certificate that this server issued:
	// whoever had it issued may hold its key, and may give shares as somebody
	// else. It gives none.
	Issued bool
}

// related tells whether one created the other, or a third created both.
func (p Principal) related(other Principal) bool {
	return slices.Contains(p.CreatedBy, other.ID) || slices.Contains(other.CreatedBy, p.ID) ||
		slices.ContainsFunc(p.CreatedBy, func(id string) bool { return slices.Contains(other.CreatedBy, id) })
}

// Ring is the key ring as recoveries need it; a *keys.Ring is one.
type Ring interface {
	Lost(ctx context.Context, id string) (keys.Loss, error)
	Recover(ctx context.Context, by keys.By, id string, r keys.Recovery) (keys.Key, error)
}

// Progress is how far a recovery is.
type Progress struct {
	Key string `json:"key"`
	// Recovered lists the keys that are back; empty: more is needed.
	Recovered []string `json:"recovered"`
	// Shares that were given, and the Threshold at which they are enough.
	Shares    int `json:"shares"`
	Threshold int `json:"threshold"`
	// Principals that gave them; at least two are needed.
	Principals []string  `json:"principals"`
	Expires    time.Time `json:"expires"`
}

// RecoveryOptions are what Recoveries can do without. The zero value is the
// default.
type RecoveryOptions struct {
	// Time that a recovery waits for shares; 0: DefaultRecoveryTime.
	Time time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Recoveries brings lost keys back. Shares are in memory only, until they are
// enough or the time is over. Its methods may be called by several goroutines
// at once.
type Recoveries struct {
	escrow *Escrow
	ring   Ring
	o      RecoveryOptions

	mu   sync.Mutex // held while shares are given and used
	open map[string]*recovery
}

type recovery struct {
	shares     []Share
	principals []Principal
	expires    time.Time
}

// NewRecoveries gives the recoveries of an escrow.
func NewRecoveries(e *Escrow, r Ring, o RecoveryOptions) *Recoveries {
	if o.Time == 0 {
		o.Time = DefaultRecoveryTime
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Recoveries{escrow: e, ring: r, o: o, open: map[string]*recovery{}}
}

// Give adds shares of the escrow key to the recovery of a key, which the first
// who gives some opens. Each principal gives once. When there are enough, by at
// least two principals, the key is brought back, with the key of its MACs where
// that is lost too, and everything is forgotten.
//
// ErrShare, ErrSamePrincipal, ErrRelated, ErrTooMany, ErrNone when nothing of
// the key is in escrow, keys.ErrKeyPresent when it is not lost,
// keys.ErrKeyUnknown when there never was such a key.
func (r *Recoveries) Give(ctx context.Context, by keys.By, p Principal, id string, texts []string) (Progress, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire()
	shares, err := r.parse(texts)
	if err == nil {
		err = r.admit(ctx, p, id, shares)
	}
	event := keys.Event{Kind: keys.EventRecoveryShares, KeyID: id, Shares: len(shares), Principals: []string{p.Name}, By: by}
	if err != nil {
		event.Kind, event.Failed = keys.EventRecoveryRefused, err.Error()
		return Progress{}, errors.Join(err, r.escrow.recorder.RecordKey(ctx, event))
	}
	if err := r.escrow.recorder.RecordKey(ctx, event); err != nil {
		return Progress{}, fmt.Errorf("record shares for key %s: %w", id, err)
	}
	open := r.open[id]
	if open == nil {
		open = &recovery{expires: r.o.Now().Add(r.o.Time)}
		r.open[id] = open
	}
	open.shares, open.principals = append(open.shares, shares...), append(open.principals, p)
	progress := open.progress(id)
	if len(open.shares) < int(open.shares[0].Threshold) || len(open.principals) < minPrincipals {
		return progress, nil
	}
	delete(r.open, id)
	progress.Recovered, err = r.recover(ctx, by, id, open)
	return progress, err
}

// Cancel forgets the shares that were given for a key. ErrNoRecovery when there
// are none.
func (r *Recoveries) Cancel(ctx context.Context, by keys.By, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire()
	open := r.open[id]
	if open == nil {
		return fmt.Errorf("key %s: %w", id, ErrNoRecovery)
	}
	event := keys.Event{Kind: keys.EventRecoveryCancelled, KeyID: id, Shares: len(open.shares), Principals: open.names(), By: by}
	if err := r.escrow.recorder.RecordKey(ctx, event); err != nil {
		return fmt.Errorf("record the end of a recovery of key %s: %w", id, err)
	}
	delete(r.open, id)
	return nil
}

// expire forgets what waited too long.
func (r *Recoveries) expire() {
	now := r.o.Now()
	for id, open := range r.open {
		if !now.Before(open.expires) {
			delete(r.open, id)
		}
	}
}

// parse reads shares and keeps to those of the escrow key.
func (r *Recoveries) parse(texts []string) ([]Share, error) {
	if len(texts) == 0 || len(texts) > MaxShares {
		return nil, fmt.Errorf("%d shares, want 1 to %d: %w", len(texts), MaxShares, ErrShare)
	}
	shares := make([]Share, 0, len(texts))
	for i, text := range texts {
		s, err := ParseShare(text)
		if err == nil && !s.of(r.escrow.public) {
			err = fmt.Errorf("a share of another key than keys.escrow.public_key: %w", ErrShare)
		}
		if err != nil {
			return nil, fmt.Errorf("shares[%d]: %w", i, err)
		}
		shares = append(shares, s)
	}
	return shares, nil
}

// admit checks who gives shares, and what for.
func (r *Recoveries) admit(ctx context.Context, p Principal, id string, shares []Share) error {
	if p.Issued {
		return fmt.Errorf("%s is known by a certificate that was issued here, on the request of somebody who may be another principal; use a token: %w", p.Name, ErrRelated)
	}
	given := slices.Clone(shares)
	open := r.open[id]
	if open != nil {
		for _, other := range open.principals {
			switch {
			case other.ID == p.ID:
				return fmt.Errorf("%s gave shares already; another principal gives the others: %w", p.Name, ErrSamePrincipal)
			case p.related(other):
				return fmt.Errorf("%s and %s: one created the other, or the same one created both: %w", p.Name, other.Name, ErrRelated)
			}
		}
		given = append(given, open.shares...)
	}
	seen := map[uint8]bool{}
	for _, s := range given {
		if seen[s.Number] || !s.sameSplit(given[0]) {
			return fmt.Errorf("share %d is there twice, or of another split: %w", s.Number, ErrShare)
		}
		seen[s.Number] = true
	}
	if open == nil && len(r.open) >= maxRecoveries {
		return fmt.Errorf("%d recoveries are open: %w", len(r.open), ErrTooMany)
	}
	if _, err := r.ring.Lost(ctx, id); err != nil {
		return err
	}
	versions, err := r.escrow.Versions(ctx, id)
	if err == nil && len(versions) == 0 {
		err = fmt.Errorf("key %s: %w", id, ErrNone)
	}
	return err
}

func (o *recovery) names() []string {
	names := make([]string, 0, len(o.principals))
	for _, p := range o.principals {
		names = append(names, p.Name)
	}
	return names
}

func (o *recovery) progress(id string) Progress {
	return Progress{
		Key: id, Recovered: []string{}, Shares: len(o.shares), Threshold: int(o.shares[0].Threshold),
		Principals: o.names(), Expires: o.expires.UTC(),
	}
}

// recover brings a key back, and the one of its MACs.
func (r *Recoveries) recover(ctx context.Context, by keys.By, id string, open *recovery) (back []string, err error) {
	private, err := Combine(open.shares)
	if err != nil {
		return nil, err
	}
	back = []string{}
	for _, name := range []string{id, id + macSuffix} {
		loss, err := r.ring.Lost(ctx, name)
		if name != id && (errors.Is(err, keys.ErrKeyPresent) || errors.Is(err, keys.ErrKeyUnknown)) {
			continue
		}
		if err != nil {
			return back, err
		}
		if err := r.recoverOne(ctx, by, name, loss, private, open); err != nil {
			if name != id && errors.Is(err, ErrNone) {
				continue
			}
			return back, err
		}
		back = append(back, name)
	}
	return back, nil
}

func (r *Recoveries) recoverOne(ctx context.Context, by keys.By, id string, loss keys.Loss, private *PrivateKey, open *recovery) error {
	packages, err := r.escrow.Packages(ctx, id)
	if err != nil {
		return err
	}
	if len(packages) == 0 {
		return fmt.Errorf("key %s: %w", id, ErrNone)
	}
	rec, err := materials(packages, loss, private)
	defer func() {
		for _, m := range rec.Material {
			clear(m)
		}
	}()
	if err != nil {
		return err
	}
	rec.Shares, rec.Principals = len(open.shares), open.names()
	_, err = r.ring.Recover(ctx, by, id, rec)
	return err
}

// materials opens packages. A version without one, since it was retired or made
// before there was an escrow, gets new material, so that the others have their
// numbers; what was encrypted under it does not open.
func materials(packages []Package, loss keys.Loss, private *PrivateKey) (keys.Recovery, error) {
	latest := max(loss.Versions, packages[len(packages)-1].Version)
	rec := keys.Recovery{Type: packages[0].Type, Material: make([][]byte, latest)}
	for _, p := range packages {
		if p.Recipient != private.public.thumbprint {
			continue
		}
		c, err := private.Open(p)
		if err == nil && c.Type != rec.Type {
			err = fmt.Errorf("package of key %s version %d is of type %s: %w", p.Key, p.Version, c.Type, ErrPackage)
		}
		if err != nil {
			return rec, err
		}
		rec.Material[p.Version-1] = c.Material
	}
	for i := range rec.Material {
		if rec.Material[i] != nil {
			continue
		}
		var err error
		if rec.Material[i], err = newMaterial(rec.Type); err != nil {
			return rec, err
		}
	}
	return rec, nil
}
