package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/verdict-pdp/verdict/api/tokens"
	"github.com/verdict-pdp/verdict/identity/issuer"
)

// OutsideTokens verifies tokens of outside issuers; issuer.Verifier is one. It
// returns issuer.ErrForeign or an *issuer.RefusedError, must be safe for
// concurrent use, and may block for keys within a bound of its own.
type OutsideTokens interface {
	Verify(ctx context.Context, bearer string) (*issuer.Token, error)
}

// IssuerScopes says which scopes the tokens of an issuer have: the scopes of an
// entry of authn.issuers.
type IssuerScopes struct {
	Issuer string
	// Claim is the one that is looked at; empty: no token has a scope.
	Claim string
	// Map has the scopes for each of its values.
	Map map[string][]string
}

// issuerScopes is a checked IssuerScopes.
type issuerScopes struct {
	claim  string
	values map[string]tokens.Scopes
}

func parseIssuerScopes(list []IssuerScopes) (map[string]issuerScopes, error) {
	out := make(map[string]issuerScopes, len(list))
	for i, s := range list {
		checked := issuerScopes{claim: s.Claim, values: make(map[string]tokens.Scopes, len(s.Map))}
		for value, names := range s.Map {
			scopes, err := tokens.ParseScopes(names)
			if err != nil {
				return nil, fmt.Errorf("authn.issuers[%d].scopes.map.%s: %w", i, value, err)
			}
			checked.values[value] = scopes
		}
		out[s.Issuer] = checked
	}
	return out, nil
}

// of are the scopes of a token: those of all values that are mapped.
func (s issuerScopes) of(t *issuer.Token) (scopes tokens.Scopes) {
	if s.claim == "" {
		return scopes
	}
	for _, value := range t.Values(s.claim) {
		if more, ok := s.values[value]; ok {
			scopes = scopes.With(more)
		}
	}
	return scopes
}

// outside finds the caller by a token that is not verdict's own. Its name holds
// the issuer, since each of them may have the same subjects; a fragment is no
// part of an issuer, so that no two callers have one name.
func (g *Gate) outside(ctx context.Context, bearer string, s *settings) (Caller, error) {
	if g.o.Outside == nil {
		return Caller{}, errUnknownToken
	}
	t, err := g.o.Outside.Verify(ctx, bearer)
	switch {
	case errors.Is(err, issuer.ErrForeign):
		return Caller{}, errUnknownToken
	case err != nil:
		return Caller{}, err
	}
	name := t.Subject
	if name == "" {
		name = t.Client
	}
	return Caller{Name: t.Issuer + "#" + name, Kind: Outside, Scopes: s.issuers[t.Issuer].of(t)}, nil
}
