package issuer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/open-policy-agent/opa/v1/ast"
)

// Bounds of a token.
const (
	maxToken  = 16 << 10 // bytes
	maxHeader = 4 << 10  // bytes of its header, encoded
	maxKeyID  = 256      // bytes
	// maxLooked is how much of a bearer is looked at to find out whose it is.
	maxLooked = 64 << 10
)

// Verify returns what a bearer token says, once it is known to be true. The
// error is ErrForeign for a bearer that names no configured issuer, else a
// *RefusedError. A token whose key is not known waits for its issuer's keys to
// be fetched, within Options.Wait and ctx; nothing else blocks.
func (v *Verifier) Verify(ctx context.Context, bearer string) (*Token, error) {
	known := *v.live.Load()
	if len(known) == 0 || strings.IndexByte(bearer, '.') < 0 {
		return nil, ErrForeign
	}
	hash := sha256.Sum256([]byte(bearer))
	if t, name := v.cache.get(hash, known, v.o.Now(), v.o.Skew); t != nil {
		v.metrics.count(name, resultCached)
		return t, nil
	}
	is, err := known.named(bearer)
	if err != nil {
		v.metrics.count("", string(TooLarge))
		return nil, err
	}
	if is == nil {
		return nil, ErrForeign
	}
	t, keys, err := v.verify(ctx, is, bearer)
	if err != nil {
		refused := &RefusedError{Issuer: is.Issuer, Reason: reasonOf(err)}
		v.metrics.count(is.Issuer, string(refused.Reason))
		return nil, refused
	}
	v.metrics.count(is.Issuer, resultVerified)
	v.cache.put(hash, &entry{token: t, issuer: is, keys: keys, until: v.o.Now().Add(v.o.CacheFor), size: entryCost + len(bearer)*entryFactor})
	return t, nil
}

// named is the configured issuer that a bearer names, nil when it names none.
// Nothing is verified here, and whoever looks less closely must not find
// another issuer: of several iss one that is configured counts, also before
// JSON that breaks off.
func (known issuers) named(bearer string) (*issuer, error) {
	if len(bearer) > maxLooked {
		return nil, &RefusedError{Reason: TooLarge}
	}
	_, rest, _ := strings.Cut(bearer, ".")
	payload, _, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(payload, "="))
	if err != nil {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, nil
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, nil
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, nil
		}
		var text string
		if name == "iss" && json.Unmarshal(value, &text) == nil && known[text] != nil {
			return known[text], nil
		}
	}
	return nil, nil
}

// verify verifies a token of an issuer, with keys of the set that it returns.
func (v *Verifier) verify(ctx context.Context, is *issuer, bearer string) (*Token, *keySet, error) {
	if len(bearer) > maxToken {
		return nil, nil, &RefusedError{Reason: TooLarge}
	}
	h, reason := readHeader(bearer)
	if reason != "" {
		return nil, nil, &RefusedError{Reason: reason}
	}
	if reason = is.admits(h); reason != "" {
		return nil, nil, &RefusedError{Reason: reason}
	}
	var used *keySet
	c := &claimSet{}
	_, err := is.parser.ParseWithClaims(bearer, c, func(*jwt.Token) (any, error) {
		key, keys, err := v.key(ctx, is, h, c)
		used = keys
		return key, err
	})
	if err != nil {
		return nil, nil, err
	}
	t, ok := tokenOf(c)
	if !ok {
		return nil, nil, &RefusedError{Reason: Claims}
	}
	return t, used, nil
}

// key finds the key of a token. When it is not known and the token is otherwise
// in order, the issuer's keys are asked for again.
func (v *Verifier) key(ctx context.Context, is *issuer, h *header, c *claimSet) (any, *keySet, error) {
	key, keys, reason := v.find(is, h)
	if reason == "" || reason != KeyUnknown && reason != KeysMissing {
		return key, keys, refusal(reason)
	}
	if err := is.validator.Validate(c); err != nil {
		return nil, nil, err
	}
	if !v.await(ctx, is.source) {
		return nil, nil, refusal(reason)
	}
	key, keys, reason = v.find(is, h)
	return key, keys, refusal(reason)
}

func (v *Verifier) find(is *issuer, h *header) (any, *keySet, Reason) {
	keys := is.source.keys.Load()
	if keys == nil || is.source.stale(v.o.Now()) {
		return nil, nil, KeysMissing
	}
	key, reason := keys.find(h)
	return key, keys, reason
}

// await has the keys of a source fetched, and tells whether they were.
func (v *Verifier) await(ctx context.Context, s *source) bool {
	f := s.demand(v.o.Now())
	if f == nil {
		return false
	}
	defer s.left()
	v.awake()
	timer := time.NewTimer(v.o.Wait)
	defer timer.Stop()
	select {
	case <-f.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// refusal is the error for a reason, nil for none.
func refusal(r Reason) error {
	if r == "" {
		return nil
	}
	return &RefusedError{Reason: r}
}

// header is what counts in the header of a token.
type header struct {
	algorithm string
	keyID     string
	named     bool   // keyID is there
	typ       string // as typeOf gives it
}

// readHeader reads the header of a compact JWS (RFC 7515, section 7.1). What
// would have the verifier find keys by itself (jku, x5u), use one that the token
// brings along (jwk, x5c), or read the token in another way (crit, b64) is
// refused.
func readHeader(bearer string) (*header, Reason) {
	encoded, rest, _ := strings.Cut(bearer, ".")
	if strings.Count(rest, ".") != 1 || strings.ContainsFunc(bearer, foreign) {
		return nil, Malformed
	}
	if len(encoded) > maxHeader {
		return nil, TooLarge
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, Malformed
	}
	o, _, err := parseObject(raw)
	if err != nil {
		return nil, Malformed
	}
	for _, name := range []string{"crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc"} {
		if member(o, name) != nil {
			return nil, Header
		}
	}
	h := &header{}
	var texts [3]string
	for i, name := range []string{"alg", "kid", "typ"} {
		v := member(o, name)
		s, ok := v.(ast.String)
		if v != nil && !ok {
			return nil, Header
		}
		texts[i] = string(s)
	}
	h.algorithm, h.keyID, h.typ = texts[0], texts[1], typeOf(texts[2])
	h.named = member(o, "kid") != nil
	if len(h.keyID) > maxKeyID {
		return nil, Header
	}
	return h, ""
}

// foreign tells the characters that base64url (RFC 4648, section 5) does not
// have: decoders pass over some of them.
func foreign(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
		return false
	}
	return true
}

// typeOf is a media type in the form in which types are compared (RFC 7515,
// section 4.1.9): a token without one is a JWT.
func typeOf(typ string) string {
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
	if typ == "" {
		return "jwt"
	}
	return typ
}

// admits tells why the issuer's tokens have no such header, or nothing.
func (is *issuer) admits(h *header) Reason {
	if !slices.Contains(is.Algorithms, h.algorithm) {
		return Algorithm
	}
	if !slices.Contains(is.accept, h.typ) {
		return Type
	}
	return ""
}
