package cert

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/storage"
)

// BucketName is the bucket of the state store that the inventory lives in.
const BucketName = "certificates"

const (
	issuedPart = "cert"
	// keepFor is how long a certificate stays in the inventory after its end.
	keepFor = 90 * 24 * time.Hour
	// rewatch is the time between two attempts to follow the store.
	rewatch = 2 * time.Second
)

// RegistryOptions are the optional parts of a Registry.
type RegistryOptions struct {
	// Authority signs what is issued; nil: nothing is.
	Authority Authority
	// Allowed are the names that certificates may bear.
	Allowed Allowed
	// MaxTTL is the longest life of what is issued; 0: DefaultTTL.
	MaxTTL time.Duration
	// InUse gives the certificates that verdict itself uses; nil: none.
	InUse func() []Info
	// Authorities gives those of clients, whose certificates may be revoked
	// though others issued them; nil: none.
	Authorities func() *x509.CertPool
	// Now is the clock; nil: time.Now.
	Now    func() time.Time
	Logger zerolog.Logger
}

// Registry is the inventory of the certificates that were issued here or revoked
// here. Its methods may be called by several goroutines at once.
type Registry struct {
	bucket   storage.Bucket
	recorder Recorder
	o        RegistryOptions
	issued   *prometheus.CounterVec

	mu      sync.Mutex // of those who change revoked
	revoked atomic.Pointer[revokedSet]
	after   atomic.Uint64 // the bucket's revision that revoked shows
}

// revokedSet holds serial numbers by RawIssuer. It does not change.
type revokedSet map[string]map[string]struct{}

// entry is a value in the store.
type entry struct {
	Certificate []byte     `json:"certificate"` // DER
	Authority   string     `json:"authority"`
	RequestedBy string     `json:"requested_by,omitempty"`
	RevokedAt   *time.Time `json:"revoked_at,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	Published   *bool      `json:"published,omitempty"`
}

// OpenRegistry opens the inventory in a bucket and reads what is revoked.
func OpenRegistry(ctx context.Context, bucket storage.Bucket, recorder Recorder, o RegistryOptions) (*Registry, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxTTL <= 0 {
		o.MaxTTL = DefaultTTL
	}
	if err := o.Allowed.Check(); err != nil {
		return nil, err
	}
	r := &Registry{bucket: bucket, recorder: recorder, o: o, issued: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "verdict_certificates_issued_total", Help: "Certificates asked for, by type and outcome.",
	}, []string{"type", "outcome"})}
	return r, r.load(ctx)
}

// Collectors are the metrics of the inventory.
func (r *Registry) Collectors() []prometheus.Collector {
	return []prometheus.Collector{r.issued, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "verdict_certificates_revoked", Help: "Certificates that were revoked here and are refused.",
	}, func() float64 {
		n := 0
		for _, serials := range *r.revoked.Load() {
			n += len(serials)
		}
		return float64(n)
	})}
}

// Revoked tells whether a certificate was revoked here. It does not block.
func (r *Registry) Revoked(c *x509.Certificate) bool {
	serials := (*r.revoked.Load())[string(c.RawIssuer)]
	if len(serials) == 0 {
		return false
	}
	_, ok := serials[string(c.SerialNumber.Bytes())]
	return ok
}

// Issued tells whether a certificate was issued here for another service.
func (r *Registry) Issued(ctx context.Context, c *x509.Certificate) (bool, error) {
	stored, err := r.bucket.Get(ctx, storage.Key(issuedPart, SerialText(c.SerialNumber)))
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up the certificate %s: %w", SerialText(c.SerialNumber), err)
	}
	e, kept, _, err := decode(stored.Value)
	return err == nil && e.Authority != outside && kept.Equal(c), err
}

// load reads what is revoked.
func (r *Registry) load(ctx context.Context) error {
	set, first, cursor := revokedSet{}, uint64(0), ""
	for {
		page, err := r.bucket.List(ctx, storage.Prefix(issuedPart), cursor, 0)
		if err != nil {
			return fmt.Errorf("read the certificates that are revoked: %w", err)
		}
		if cursor == "" {
			first = page.Revision
		}
		for _, e := range page.Entries {
			_, c, revoked, err := decode(e.Value)
			if err != nil {
				return fmt.Errorf("read the certificate %s: %w", e.Key, err)
			}
			if revoked {
				set.add(c)
			}
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revoked.Store(&set)
	r.after.Store(first)
	return nil
}

func (s revokedSet) add(c *x509.Certificate) {
	serials := s[string(c.RawIssuer)]
	if serials == nil {
		serials = map[string]struct{}{}
		s[string(c.RawIssuer)] = serials
	}
	serials[string(c.SerialNumber.Bytes())] = struct{}{}
}

func decode(value []byte) (e entry, c *x509.Certificate, revoked bool, err error) {
	if err := json.Unmarshal(value, &e); err != nil {
		return e, nil, false, fmt.Errorf("%w: %w", storage.ErrDamaged, err)
	}
	if c, err = x509.ParseCertificate(e.Certificate); err != nil {
		return e, nil, false, fmt.Errorf("%w: %w", storage.ErrDamaged, err)
	}
	return e, c, e.RevokedAt != nil, nil
}

// refuse has a certificate refused from now on.
func (r *Registry) refuse(c *x509.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.revoked.Load()
	next := make(revokedSet, len(old)+1)
	for issuer, serials := range old {
		if issuer != string(c.RawIssuer) {
			next[issuer] = serials
			continue
		}
		own := make(map[string]struct{}, len(serials)+1)
		for serial := range serials {
			own[serial] = struct{}{}
		}
		next[issuer] = own
	}
	next.add(c)
	r.revoked.Store(&next)
}

// Run follows the store, so that what another process revokes is refused here
// too, until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	for {
		err := r.bucket.Watch(ctx, storage.Prefix(issuedPart), r.after.Load(), func(e storage.Event) error {
			if !e.Deleted {
				if _, c, revoked, err := decode(e.Value); err == nil && revoked && !r.Revoked(c) {
					r.refuse(c)
				}
			}
			r.after.Store(e.Revision)
			return nil
		})
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, storage.ErrClosed) {
			return nil
		}
		if errors.Is(err, storage.ErrCompacted) {
			err = r.load(ctx)
		}
		if err != nil && ctx.Err() == nil {
			r.o.Logger.Error().Err(err).Msg("the inventory of certificates cannot be followed")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rewatch):
		}
	}
}

func (r *Registry) info(e entry, c *x509.Certificate) Info {
	i := Describe(c, r.o.Now())
	i.Authority, i.RequestedBy, i.RevokedAt, i.Reason, i.Published = e.Authority, e.RequestedBy, e.RevokedAt, e.Reason, e.Published
	if e.RevokedAt != nil {
		i.Status = Revoked
	}
	return i
}

func (r *Registry) record(ctx context.Context, e Event, by keys.By) error {
	e.By = by
	if err := r.recorder.RecordCertificate(ctx, e); err != nil {
		return fmt.Errorf("record %s: %w", e.Kind, err)
	}
	return nil
}
