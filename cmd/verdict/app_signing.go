package main

import (
	"context"
	"errors"

	"github.com/golang-jwt/jwt/v5"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/jose"
)

const (
	// signingKey is the name, after the prefix, of the key that signs JWTs, and
	// signingType what it is: ES256 is what every library can verify (RFC 7518,
	// section 3.1: "Recommended+").
	signingKey  = "jwt"
	signingType = keys.ECDSAP256
	signingAlg  = keys.ES256
)

// signing signs JWTs with a key that is created when it is first needed.
type signing struct {
	*jose.Signer
	ring *keys.Ring
}

func (a *app) openSigning() (err error) {
	a.signing.ring = a.keys.Ring
	a.signing.Signer, err = jose.NewSigner(a.keys.Ring, a.keys.ID(signingKey), signingAlg, jose.Options{Now: a.now})
	return err
}

// Sign implements authzen.MetadataSigner.
func (s *signing) Sign(ctx context.Context, typ string, claims jwt.Claims) (string, error) {
	token, err := s.Signer.Sign(ctx, typ, claims)
	if !errors.Is(err, keys.ErrKeyUnknown) {
		return token, err
	}
	if _, err := s.ring.EnsureKey(ctx, keys.By{}, s.ring.ID(signingKey), signingType); err != nil {
		return "", err
	}
	return s.Signer.Sign(ctx, typ, claims)
}
