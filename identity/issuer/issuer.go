// Package issuer verifies JWTs of outside issuers, as RFC 8725 wants it done:
// issuer, audience and algorithms are pinned by configuration, keys come from
// the issuer's JWK set and nowhere else, and everything that a token says is
// bounded before it is looked at.
//
// A token is verified in verify.go; where keys come from is in source.go; what
// was verified once is kept for a while in cache.go.
package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Defaults of Options.
const (
	DefaultSkew         = time.Minute
	DefaultCacheFor     = time.Minute
	DefaultCacheEntries = 8192
	DefaultCacheBytes   = 32 << 20
	DefaultWait         = 2 * time.Second
	DefaultFetchTimeout = 5 * time.Second
	DefaultStaleAfter   = 24 * time.Hour
)

// tick is how often Run looks for what is due; a file is looked at as often.
const tick = time.Second

// Config is one issuer whose tokens are accepted.
type Config struct {
	// Issuer is the iss of its tokens, Audience the aud that they must have.
	Issuer, Audience string
	// Algorithms are those accepted, by their names in RFC 7518 and RFC 8037;
	// only those of a public key exist here.
	Algorithms []string
	// JWKSURL and JWKSFile tell where its keys are; exactly one is set.
	JWKSURL, JWKSFile string
	// Accept are the types (typ) of tokens that are accepted. Empty: at+jwt and
	// JWT. A token without a type is a JWT.
	Accept []string
}

// Change is a new set of keys of an issuer.
type Change struct {
	Issuer string
	// Added and Removed are key ids, those of keys without one being thumbprints.
	Added, Removed []string
}

// Options are the optional parts of a Verifier; the zero value is the defaults.
type Options struct {
	// Skew is how far the clocks of issuers may be off; 0: DefaultSkew.
	Skew time.Duration
	// CacheFor, CacheEntries and CacheBytes bound what is kept of verified
	// tokens; 0: the default of that name.
	CacheFor                 time.Duration
	CacheEntries, CacheBytes int
	// Wait is how long a token with an unknown key may wait for its issuer's
	// keys; 0: DefaultWait.
	Wait time.Duration
	// FetchTimeout bounds one fetch of keys; 0: DefaultFetchTimeout.
	FetchTimeout time.Duration
	// StaleAfter is how long keys are used while newer ones cannot be fetched; 0:
	// DefaultStaleAfter.
	StaleAfter time.Duration
	// Transport fetches keys; nil: HTTP with TLS 1.2 at least and the system's
	// authorities.
	Transport http.RoundTripper
	// Changed is told of new keys before they are used, by the goroutine that
	// fetched them; an error keeps the old ones until it is told again. Nil: nobody
	// is told.
	Changed func(context.Context, Change) error
	// Now is the clock; nil: time.Now.
	Now    func() time.Time
	Logger zerolog.Logger
}

func (o Options) withDefaults() Options {
	durations := []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.Skew, DefaultSkew},
		{&o.CacheFor, DefaultCacheFor},
		{&o.Wait, DefaultWait},
		{&o.FetchTimeout, DefaultFetchTimeout},
		{&o.StaleAfter, DefaultStaleAfter},
	}
	for _, d := range durations {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.CacheEntries <= 0 {
		o.CacheEntries = DefaultCacheEntries
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.Changed == nil {
		o.Changed = func(context.Context, Change) error { return nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// issuer is a checked Config. It is never changed.
type issuer struct {
	Config
	accept    []string // lower case, without application/
	parser    *jwt.Parser
	validator *jwt.Validator
	source    *source
}

// issuers are all that are configured, by their iss.
type issuers map[string]*issuer

// Verifier verifies tokens. Its methods may be called from many goroutines.
type Verifier struct {
	o       Options
	fetcher *fetcher
	live    atomic.Pointer[issuers]
	cache   *cache
	metrics *metrics
	wake    chan struct{} // tells Run that somebody waits for keys
}

// New makes a verifier of tokens of these issuers. Key files are read at once,
// URLs once Run runs.
func New(configs []Config, o Options) (*Verifier, error) {
	o = o.withDefaults()
	v := &Verifier{
		o: o, fetcher: newFetcher(o.Transport, o.FetchTimeout), metrics: newMetrics(),
		cache: newCache(o.CacheEntries, o.CacheBytes), wake: make(chan struct{}, 1),
	}
	v.live.Store(&issuers{})
	commit, err := v.Prepare(configs)
	if err != nil {
		return nil, err
	}
	commit()
	return v, nil
}

// Prepare checks other issuers, and reads their key files; commit puts them in
// force. The keys of an issuer that stays are kept until Run reads them again.
func (v *Verifier) Prepare(configs []Config) (commit func(), err error) {
	next, old := issuers{}, *v.live.Load()
	for i, c := range configs {
		is, err := v.issuer(c)
		if err != nil {
			return nil, fmt.Errorf("authn.issuers[%d]: %w", i, err)
		}
		if next[c.Issuer] != nil {
			return nil, fmt.Errorf("authn.issuers[%d].issuer: %s is given twice", i, c.Issuer)
		}
		if is.source, err = v.source(c); err != nil {
			return nil, fmt.Errorf("authn.issuers[%d].jwks_file: %w", i, err)
		}
		if same := old[c.Issuer]; same != nil && same.JWKSURL == c.JWKSURL && same.JWKSFile == c.JWKSFile {
			is.source = same.source
		}
		next[c.Issuer] = is
	}
	return func() {
		v.live.Store(&next)
		for name := range old {
			if next[name] == nil {
				v.metrics.forget(name)
			}
		}
		v.awake()
	}, nil
}

// issuer checks a Config.
func (v *Verifier) issuer(c Config) (*issuer, error) {
	switch {
	case c.Issuer == "":
		return nil, errors.New("issuer is empty")
	case c.Audience == "":
		return nil, errors.New("audience is empty")
	case len(c.Algorithms) == 0:
		return nil, errors.New("algorithms is empty")
	case (c.JWKSURL == "") == (c.JWKSFile == ""):
		return nil, errors.New("exactly one of jwks_url and jwks_file is needed")
	}
	for _, name := range c.Algorithms {
		if !slices.Contains(Algorithms(), name) {
			return nil, fmt.Errorf("algorithms: %q is not known; write one of %s", name, strings.Join(Algorithms(), ", "))
		}
	}
	if c.JWKSURL != "" {
		if u, err := url.Parse(c.JWKSURL); err != nil || u.Host == "" || u.User != nil {
			return nil, errors.New("jwks_url is not the URL of a server, without a password")
		}
	}
	c.Algorithms = slices.Clone(c.Algorithms)
	is := &issuer{Config: c}
	for _, typ := range c.Accept {
		is.accept = append(is.accept, typeOf(typ))
	}
	if len(is.accept) == 0 {
		is.accept = []string{"at+jwt", "jwt"}
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(c.Algorithms), jwt.WithIssuer(c.Issuer), jwt.WithAudience(c.Audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(v.o.Skew),
		jwt.WithTimeFunc(v.o.Now), jwt.WithStrictDecoding(),
	}
	is.parser, is.validator = jwt.NewParser(options...), jwt.NewValidator(options...)
	return is, nil
}

// Collectors are the metrics of the verifier.
func (v *Verifier) Collectors() []prometheus.Collector { return v.metrics.collectors() }

// Ready counts the issuers, and those whose keys are known and not too old:
// tokens of the others are refused.
func (v *Verifier) Ready() (ready, configured int) {
	known := *v.live.Load()
	for _, is := range known {
		if is.source.keys.Load() != nil && !is.source.stale(v.o.Now()) {
			ready++
		}
	}
	return ready, len(known)
}

// Run keeps the keys fresh until ctx ends; then it waits for what it fetches,
// which ends with ctx too, and returns nil. Without it tokens of issuers with a
// URL are refused.
func (v *Verifier) Run(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var fetching sync.WaitGroup
	defer fetching.Wait()
	for {
		for _, is := range *v.live.Load() {
			if s := is.source; s.take(v.o.Now()) {
				fetching.Go(func() { v.refresh(ctx, s) }) // ended by ctx, awaited above
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-v.wake:
		}
	}
}

func (v *Verifier) awake() {
	select {
	case v.wake <- struct{}{}:
	default: // it is told already
	}
}
