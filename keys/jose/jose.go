package jose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/verdict-pdp/verdict/keys"
)

// Defaults and limits.
const (
	// DefaultMaxAge is how long the JWK Set may be kept by those who read it.
	DefaultMaxAge = 5 * time.Minute
	// DefaultTokenLife is the longest life of a token.
	DefaultTokenLife = time.Hour
	// DefaultSkew is how far clocks may differ.
	DefaultSkew = time.Minute
	// MaxToken is the length of a token that Verify takes, in bytes.
	MaxToken = 16 << 10

	// slack is how much later than its creation a version is seen by every
	// node: a ring looks at a key once a minute.
	slack = 2 * time.Minute
)

// ErrToken is returned for every token that does not hold, whatever is wrong
// with it.
var ErrToken = errors.New("token_invalid")

// ErrClaims is returned when claims may not be signed.
var ErrClaims = errors.New("claims_invalid")

// Options of a Signer. The zero value is the default.
type Options struct {
	// MaxAge is the cache time that the JWK Set is served with. A version
	// signs when it has been published that long, and a little more. Zero:
	// DefaultMaxAge.
	MaxAge time.Duration
	// TokenLife is the longest time from now to a token's exp. An old version
	// is published until the last token that it has signed has expired. Zero:
	// DefaultTokenLife.
	TokenLife time.Duration
	// Skew is how far clocks may differ. Zero: DefaultSkew.
	Skew time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Signer signs JWTs with one key of the ring. Its methods may be called by
// several goroutines at once.
type Signer struct {
	ring   Ring
	id     string
	method *Method
	o      Options
}

// NewSigner makes the signer of a key by its id. It asks nobody: the key may
// not exist yet.
func NewSigner(ring Ring, id string, alg keys.Algorithm, o Options) (*Signer, error) {
	if ring == nil || id == "" {
		return nil, errors.New("a signer needs a ring and the id of a key")
	}
	method, err := NewMethod(alg)
	if err != nil {
		return nil, err
	}
	if o.MaxAge < 0 || o.TokenLife < 0 || o.Skew < 0 {
		return nil, errors.New("the times of a signer are not negative")
	}
	for _, d := range []struct {
		is    *time.Duration
		other time.Duration
	}{{&o.MaxAge, DefaultMaxAge}, {&o.TokenLife, DefaultTokenLife}, {&o.Skew, DefaultSkew}} {
		if *d.is == 0 {
			*d.is = d.other
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Signer{ring: ring, id: id, method: method, o: o}, nil
}

// MaxAge is how long the JWK Set may be kept.
func (s *Signer) MaxAge() time.Duration { return s.o.MaxAge }

// TokenLife is the longest time from now to a token's exp.
func (s *Signer) TokenLife() time.Duration { return s.o.TokenLife }

// KeyID is the kid of a version: the key's id, a colon, the version.
func KeyID(id string, version uint32) string {
	return id + ":" + strconv.FormatUint(uint64(version), 10)
}

// ParseKeyID reads what KeyID has written, and nothing else.
func ParseKeyID(kid string) (id string, version uint32, ok bool) {
	id, number, found := strings.Cut(kid, ":")
	n, err := strconv.ParseUint(number, 10, 32)
	version = uint32(n)
	ok = found && err == nil && n > 0 && len(id) <= keys.MaxName && id != "" && KeyID(id, version) == kid
	if !ok {
		return "", 0, false
	}
	return id, version, true
}

// Sign signs claims as a JWT with a header typ ("at+jwt", "JWT"). The claims
// must have an exp within TokenLife, else ErrClaims.
func (s *Signer) Sign(ctx context.Context, typ string, claims jwt.Claims) (string, error) {
	expires, err := claims.GetExpirationTime()
	switch latest := s.o.Now().Add(s.o.TokenLife); {
	case err != nil:
		return "", fmt.Errorf("exp: %w: %w", err, ErrClaims)
	case expires == nil:
		return "", fmt.Errorf("there is no exp: %w", ErrClaims)
	case expires.After(latest):
		return "", fmt.Errorf("exp is more than %v from now: %w", s.o.TokenLife, ErrClaims)
	}
	published, err := s.published(ctx)
	if err != nil {
		return "", err
	}
	token := jwt.NewWithClaims(s.method, claims)
	token.Header["typ"] = typ
	token.Header["kid"] = KeyID(s.id, published.signs)
	signed, err := token.SignedString(Key{Context: ctx, Ring: s.ring, ID: s.id, Version: published.signs})
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed, nil
}

// Verify verifies a token that Sign has made, with public keys that are known
// here, and reads its claims, which must have an exp that has not come. The
// error is ErrToken, or that of a ring which cannot tell its keys.
func (s *Signer) Verify(ctx context.Context, token, typ string, claims jwt.Claims, more ...jwt.ParserOption) error {
	if len(token) > MaxToken {
		return fmt.Errorf("more than %d bytes: %w", MaxToken, ErrToken)
	}
	published, err := s.published(ctx)
	if err != nil {
		return err
	}
	options := append([]jwt.ParserOption{
		jwt.WithValidMethods([]string{s.method.Alg()}), jwt.WithExpirationRequired(), jwt.WithStrictDecoding(),
		jwt.WithLeeway(s.o.Skew), jwt.WithTimeFunc(s.o.Now),
	}, more...)
	_, err = jwt.NewParser(options...).ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		if got, _ := t.Header["typ"].(string); !strings.EqualFold(got, typ) { // RFC 8725, section 3.11
			return nil, errors.New("another typ")
		}
		if _, ok := t.Header["crit"]; ok { // RFC 7515, section 4.1.11
			return nil, errors.New("extensions that must be understood")
		}
		kid, _ := t.Header["kid"].(string)
		id, version, ok := ParseKeyID(kid)
		i := slices.IndexFunc(published.versions, func(v keys.Version) bool { return v.Number == version })
		if !ok || id != s.id || i < 0 {
			return nil, errors.New("no key of that kid")
		}
		return published.versions[i].Public, nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrToken, err)
	}
	return nil
}

// Set gives the public keys that tokens may be verified with now: that which
// signs, the one that signs next, and those whose tokens have not all expired.
// keys.ErrKeyUnknown when there is no key yet.
func (s *Signer) Set(ctx context.Context) (Set, error) {
	published, err := s.published(ctx)
	if err != nil {
		return Set{}, err
	}
	set := Set{Keys: make([]JWK, 0, len(published.versions))}
	for _, v := range published.versions {
		k, err := NewJWK(v.Public, s.method.alg, KeyID(s.id, v.Number))
		if err != nil {
			return Set{}, err
		}
		set.Keys = append(set.Keys, k)
	}
	return set, nil
}

// publication is what stands in the JWK Set.
type publication struct {
	versions []keys.Version // ascending
	signs    uint32         // that which signs now
}

// published chooses the versions, from the newest down. A compromised one, and
// those that were retired, are not published any more.
func (s *Signer) published(ctx context.Context) (*publication, error) {
	key, err := s.ring.Key(ctx, s.id)
	if err != nil {
		return nil, fmt.Errorf("look at key %s: %w", s.id, err)
	}
	now := s.o.Now()
	key.Versions = slices.Clone(key.Versions)
	first := key.MinEncrypt // that may sign; nothing new is signed with a compromised one or an older one
	if n := len(key.Compromised); n > 0 {
		first = max(first, key.Compromised[n-1]+1)
	}
	p, begun := &publication{}, false
	for i, v := range slices.Backward(key.Versions) {
		if v.Number == key.Latest && key.Since.After(v.Created) {
			v.Created = key.Since // by the ring's clock, which is ours
			key.Versions[i] = v
		}
		if last := begun || v.Number < first && i+1 < len(key.Versions); last && now.After(s.begins(key.Versions[i+1]).Add(s.o.TokenLife+2*s.o.Skew)) {
			break // the last token by v was signed when the next one began, at the latest
		}
		if v.Number < key.MinDecrypt || slices.Contains(key.Compromised, v.Number) {
			continue
		}
		p.versions = append(p.versions, v)
		// The oldest one that may sign does so at once: there is nothing
		// else, be the key new or the one before compromised.
		if !begun && v.Number >= first {
			p.signs, begun = v.Number, !now.Before(s.begins(v))
		}
	}
	if p.signs == 0 {
		return nil, fmt.Errorf("key %s has no version that may sign: %w", s.id, keys.ErrVersionDisallowed)
	}
	slices.Reverse(p.versions)
	return p, nil
}

// begins is when a version that was published at its creation begins to sign.
func (s *Signer) begins(v keys.Version) time.Time { return v.Created.Add(s.o.MaxAge + slack) }
