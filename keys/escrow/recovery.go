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
	// Shares that were given, and the Threshold at which they are enough: of
	// all escrow keys together, as far as shares of them were given.
	Shares    int `json:"shares"`
	Threshold int `json:"threshold"`
	// Principals that gave them; at least two are needed.
	Principals []string `json:"principals"`
	// EscrowKeys are those that the packages of the key are wrapped to; shares
	// of each are needed.
	EscrowKeys []KeyProgress `json:"escrow_keys"`
	Expires    time.Time     `json:"expires"`
}

// KeyProgress is how far a recovery is with one of the escrow keys it needs.
type KeyProgress struct {
	Thumbprint string `json:"thumbprint"`
	// Versions of the key, or of the one of its MACs, that it opens.
	Versions []uint32 `json:"versions"`
	// Shares that were given, and the Threshold at which they are enough; 0
	// before the first.
	Shares    int `json:"shares"`
	Threshold int `json:"threshold"`
	// Principals that gave them; at least two are needed.
	Principals int `json:"principals"`
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
	splits     map[string]*split // by the thumbprint of the escrow key
	principals []Principal
	expires    time.Time
}

// split is what was given of one escrow key.
type split struct {
	shares     []Share
	principals int
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
// who gives some opens. Each principal gives once. Where versions of the key are
// wrapped to several escrow keys, since one was replaced, shares of each are
// needed, and may be given together. When there are enough of each, by at least
// two principals, the key is brought back, with the key of its MACs where that is
// lost too, and everything is forgotten.
//
// ErrShare, ErrSamePrincipal, ErrRelated, ErrTooMany, ErrNone when nothing of
// the key is in escrow, keys.ErrKeyPresent when it is not lost,
// keys.ErrKeyUnknown when there never was such a key.
func (r *Recoveries) Give(ctx context.Context, by keys.By, p Principal, id string, texts []string) (Progress, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire()
	needs, err := r.needs(ctx, id)
	var shares []given
	if err == nil {
		shares, err = parse(texts, needs)
	}
	if err == nil {
		err = r.admit(p, id, shares)
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
		open = &recovery{splits: map[string]*split{}, expires: r.o.Now().Add(r.o.Time)}
		r.open[id] = open
	}
	open.add(p, shares)
	progress := open.progress(id, needs)
	if !open.enough(needs) {
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
	event := keys.Event{Kind: keys.EventRecoveryCancelled, KeyID: id, Shares: open.count(), Principals: open.names(), By: by}
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

// admit checks who gives shares, and whether they fit to those that were given.
func (r *Recoveries) admit(p Principal, id string, shares []given) error {
	if p.Issued {
		return fmt.Errorf("%s is known by a certificate that was issued here, on the request of somebody who may be another principal; use a token: %w", p.Name, ErrRelated)
	}
	all := map[string][]Share{}
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
		for thumbprint, s := range open.splits {
			all[thumbprint] = slices.Clone(s.shares)
		}
	}
	for _, g := range shares {
		for _, other := range all[g.thumbprint] {
			if g.Number == other.Number || !g.sameSplit(other) {
				return fmt.Errorf("share %d is there twice, or of another split: %w", g.Number, ErrShare)
			}
		}
		all[g.thumbprint] = append(all[g.thumbprint], g.Share)
	}
	if open == nil && len(r.open) >= maxRecoveries {
		return fmt.Errorf("%d recoveries are open: %w", len(r.open), ErrTooMany)
	}
	return nil
}

// add takes what a principal gave.
func (o *recovery) add(p Principal, shares []given) {
	o.principals = append(o.principals, p)
	here := map[string]bool{}
	for _, g := range shares {
		s := o.splits[g.thumbprint]
		if s == nil {
			s = &split{}
			o.splits[g.thumbprint] = s
		}
		s.shares = append(s.shares, g.Share)
		if !here[g.thumbprint] {
			here[g.thumbprint] = true
			s.principals++
		}
	}
}

// enough tells whether every escrow key that is needed can be combined.
func (o *recovery) enough(needs []need) bool {
	for _, n := range needs {
		s := o.splits[n.recipient]
		if s == nil || len(s.shares) < int(s.shares[0].Threshold) || s.principals < minPrincipals {
			return false
		}
	}
	return true
}

func (o *recovery) names() []string {
	names := make([]string, 0, len(o.principals))
	for _, p := range o.principals {
		names = append(names, p.Name)
	}
	return names
}

// count gives the number of shares.
func (o *recovery) count() int {
	n := 0
	for _, s := range o.splits {
		n += len(s.shares)
	}
	return n
}

func (o *recovery) progress(id string, needs []need) Progress {
	p := Progress{Key: id, Recovered: []string{}, Principals: o.names(), Expires: o.expires.UTC()}
	for _, n := range needs {
		k := KeyProgress{Thumbprint: n.recipient, Versions: n.versions}
		if s := o.splits[n.recipient]; s != nil {
			k.Shares, k.Threshold, k.Principals = len(s.shares), int(s.shares[0].Threshold), s.principals
		}
		p.EscrowKeys = append(p.EscrowKeys, k)
		p.Shares, p.Threshold = p.Shares+k.Shares, p.Threshold+k.Threshold
	}
	return p
}
