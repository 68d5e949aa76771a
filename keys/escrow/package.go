package escrow

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/verdict-pdp/verdict/keys"
)

const macSuffix = "-mac"

// need is an escrow key whose shares a recovery needs.
type need struct {
	recipient string   // thumbprint
	versions  []uint32 // that it opens, ascending
}

// given is a share and the escrow key that it is of.
type given struct {
	Share

	thumbprint string
}

// parse reads shares and keeps to those of the escrow keys that are needed.
func parse(texts []string, needs []need) ([]given, error) {
	most := MaxShares * len(needs)
	if len(texts) == 0 || len(texts) > most {
		return nil, fmt.Errorf("%d shares, want 1 to %d: %w", len(texts), most, ErrShare)
	}
	shares := make([]given, 0, len(texts))
	for i, text := range texts {
		s, err := ParseShare(text)
		var public *PublicKey
		if err == nil {
			public, err = publicOf(s.commitments[0])
		}
		if err == nil && !slices.ContainsFunc(needs, func(n need) bool { return n.recipient == public.thumbprint }) {
			err = fmt.Errorf("a share of escrow key %s; needed: %s: %w", public.thumbprint, needed(needs), ErrShare)
		}
		if err != nil {
			return nil, fmt.Errorf("shares[%d]: %w", i, err)
		}
		shares = append(shares, given{s, public.thumbprint})
	}
	return shares, nil
}

// needed names escrow keys and what they open.
func needed(needs []need) string {
	text := ""
	for i, n := range needs {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s for versions %v", n.recipient, n.versions)
	}
	return text
}

// lostPart is a lost key, or the lost key of its MACs, and its packages.
type lostPart struct {
	id       string
	loss     keys.Loss
	packages []Package // of the versions that are missing and not retired
}

// parts gives what is lost of a key: itself, and the key of its MACs where that is
// lost and in escrow too.
func (r *Recoveries) parts(ctx context.Context, id string) ([]lostPart, error) {
	var parts []lostPart
	for _, name := range []string{id, id + macSuffix} {
		loss, err := r.ring.Lost(ctx, name)
		if name != id && (errors.Is(err, keys.ErrKeyPresent) || errors.Is(err, keys.ErrKeyUnknown)) {
			continue
		}
		if err != nil {
			return nil, err
		}
		packages, err := r.escrow.Packages(ctx, name)
		if err != nil {
			return nil, err
		}
		packages = slices.DeleteFunc(packages, func(p Package) bool { return p.Version <= loss.Held || p.Version < loss.Retired })
		switch {
		case len(packages) > 0:
			parts = append(parts, lostPart{name, loss, packages})
		case name == id:
			return nil, fmt.Errorf("key %s: %w", id, ErrNone)
		}
	}
	return parts, nil
}

// needs gives the escrow keys that all packages of what is lost are wrapped to, in
// the order of versions.
func (r *Recoveries) needs(ctx context.Context, id string) ([]need, error) {
	parts, err := r.parts(ctx, id)
	if err != nil {
		return nil, err
	}
	var needs []need
	for _, part := range parts {
		for _, p := range part.packages {
			i := slices.IndexFunc(needs, func(n need) bool { return n.recipient == p.Recipient })
			if i < 0 {
				i, needs = len(needs), append(needs, need{recipient: p.Recipient})
			}
			if at, found := slices.BinarySearch(needs[i].versions, p.Version); !found {
				needs[i].versions = slices.Insert(needs[i].versions, at, p.Version)
			}
		}
	}
	return needs, nil
}

// recover brings a key back, and the one of its MACs.
func (r *Recoveries) recover(ctx context.Context, by keys.By, id string, open *recovery) (back []string, err error) {
	back = []string{}
	private := map[string]*PrivateKey{}
	for thumbprint, s := range open.splits {
		if private[thumbprint], err = Combine(s.shares); err != nil {
			return back, err
		}
	}
	parts, err := r.parts(ctx, id)
	if err != nil {
		return back, err
	}
	for _, part := range parts {
		if err := r.recoverOne(ctx, by, part, private, open); err != nil {
			return back, err
		}
		back = append(back, part.id)
	}
	return back, nil
}

func (r *Recoveries) recoverOne(ctx context.Context, by keys.By, part lostPart, private map[string]*PrivateKey, open *recovery) error {
	rec, err := materials(part, private)
	defer func() {
		for _, m := range rec.Material {
			clear(m)
		}
	}()
	if err != nil {
		return err
	}
	rec.Shares, rec.Principals = open.count(), open.names()
	_, err = r.ring.Recover(ctx, by, part.id, rec)
	return err
}

// materials opens packages. Numbers have to be filled where there is no package:
// those of versions that were retired, which are destroyed again, and of versions
// that never were in escrow, which are Missing.
func materials(part lostPart, private map[string]*PrivateKey) (keys.Recovery, error) {
	packages := part.packages
	latest := max(part.loss.Versions, packages[len(packages)-1].Version)
	rec := keys.Recovery{Type: packages[0].Type, Material: make([][]byte, latest)}
	for _, p := range packages {
		key := private[p.Recipient]
		if key == nil {
			return rec, fmt.Errorf("key %s version %d needs shares of escrow key %s: %w", p.Key, p.Version, p.Recipient, ErrShare)
		}
		c, err := key.Open(p)
		if err == nil && c.Type != rec.Type {
			err = fmt.Errorf("package of key %s version %d is of type %s: %w", p.Key, p.Version, c.Type, ErrPackage)
		}
		if err != nil {
			clear(c.Material)
			return rec, err
		}
		rec.Material[p.Version-1] = c.Material
	}
	for version := part.loss.Held + 1; version <= latest; version++ {
		if rec.Material[version-1] != nil {
			continue
		}
		if version >= part.loss.Retired {
			rec.Missing = append(rec.Missing, version)
		}
		var err error
		if rec.Material[version-1], err = newMaterial(rec.Type); err != nil {
			return rec, err
		}
	}
	return rec, nil
}
