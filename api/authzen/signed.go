package authzen

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

const (
	// signedLife is how long a signature is served again: as long as callers
	// may keep the document.
	signedLife = 5 * time.Minute
	// maxSigned bounds the signatures that are kept, one an identifier.
	maxSigned = 256
	// The route is open to everybody and tenants are free to name: what it
	// costs to sign is bounded, not by the number of requests.
	signPerSecond = 10
	signBurst     = 20
	signTimeout   = 2 * time.Second
	// signPause is how long nothing is signed after a failure.
	signPause = 10 * time.Second
)

// MetadataSigner signs the metadata document.
type MetadataSigner interface {
	// Sign signs claims, which have an exp, as a JWT with a header typ.
	Sign(ctx context.Context, typ string, claims jwt.Claims) (string, error)
	// TokenLife is the longest time to exp.
	TokenLife() time.Duration
}

// signatures signs metadata documents and keeps what was signed for a while.
type signatures struct {
	signer MetadataSigner // nil: nothing is signed
	now    func() time.Time
	logger zerolog.Logger

	mu     sync.Mutex // held while one is signed; guards what follows
	kept   map[string]signature
	rate   *rate.Limiter
	failed time.Time
}

type signature struct {
	token string
	until time.Time
}

func newSignatures(o Options) *signatures {
	s := &signatures{
		signer: o.Signer, now: o.Now, logger: o.Logger,
		kept: map[string]signature{}, rate: rate.NewLimiter(signPerSecond, signBurst),
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// sign gives the signed form of a document; empty when it cannot be signed now.
func (s *signatures) sign(ctx context.Context, document *Metadata) string {
	if s.signer == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, id := s.now(), document.PolicyDecisionPoint
	if kept, ok := s.kept[id]; ok && now.Before(kept.until) {
		return kept.token
	}
	if !s.failed.IsZero() && now.Before(s.failed.Add(signPause)) || !s.rate.AllowN(now, 1) {
		return ""
	}
	claims, err := claimsOf(document)
	if err == nil {
		// A MapClaims has its times as JSON has numbers.
		claims["iss"], claims["iat"], claims["exp"] = id, float64(now.Unix()), float64(now.Add(s.signer.TokenLife()).Unix())
		var token string
		// The caller's end is not the signature's: others wait for it too.
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), signTimeout)
		defer cancel()
		if token, err = s.signer.Sign(bound, "JWT", claims); err == nil {
			s.failed = time.Time{}
			s.keep(id, signature{token, now.Add(signedLife)}, now)
			return token
		}
	}
	s.failed = now
	s.logger.Warn().Err(err).Msg("the AuthZEN metadata is served without a signature")
	return ""
}

// keep makes room when there is none: what is too old goes, or else all.
func (s *signatures) keep(id string, fresh signature, now time.Time) {
	if len(s.kept) >= maxSigned {
		for other, kept := range s.kept {
			if !now.Before(kept.until) {
				delete(s.kept, other)
			}
		}
	}
	if len(s.kept) >= maxSigned {
		clear(s.kept)
	}
	s.kept[id] = fresh
}

// claimsOf gives the members of a document.
func claimsOf(document *Metadata) (jwt.MapClaims, error) {
	encoded, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	var claims jwt.MapClaims
	err = json.Unmarshal(encoded, &claims)
	return claims, err
}
