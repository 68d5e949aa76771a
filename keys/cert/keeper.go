package cert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Times of a Keeper.
const (
	// DefaultEvery is how often files are looked at.
	DefaultEvery = 10 * time.Second

	firstWait   = 4 * time.Second // of a handshake, for the first certificate
	leastRetry  = time.Second
	mostRetry   = time.Minute
	stepTimeout = 15 * time.Second
)

// KeeperSettings are what a reload may change.
type KeeperSettings struct {
	// Source gives the certificate that is served. Required.
	Source Source
	// Clients are what client certificates are held against.
	Clients ClientSettings
}

// KeeperOptions are the other parts of a Keeper.
type KeeperOptions struct {
	// Authorities gives authorities of clients that are in no file; nil: none.
	Authorities func() []*x509.Certificate
	// Revoked tells certificates that were revoked here. It is asked with every
	// request and must not block. nil: none was.
	Revoked func(*x509.Certificate) bool
	// Recorder is told before another certificate is served. nil: nobody is.
	Recorder Recorder
	// Every is how often files are looked at; 0: DefaultEvery.
	Every time.Duration
	// Now is the clock; nil: time.Now.
	Now    func() time.Time
	Logger zerolog.Logger
}

// Keeper has the certificate that the listeners serve and what client
// certificates are held against, and keeps both up to date. What is new is
// checked first; while it is not good, or there is none, the old stays. Open
// connections go on.
type Keeper struct {
	o       KeeperOptions
	metrics *keeperMetrics
	serving atomic.Pointer[tls.Certificate] // nil: there is none yet
	config  atomic.Pointer[tls.Config]
	trust   atomic.Pointer[trust]
	ready   chan struct{} // closed with the first certificate
	wake    chan struct{} // Run is to look now

	mu       sync.Mutex
	source   Source           // owned by mu
	pending  *tls.Certificate // is to be recorded before it is served; owned by mu
	failures int              // of the source in a row; owned by mu
	retry    time.Time        // when the source is asked again; owned by mu
	problem  string           // of the source; owned by mu
	distrust string           // what is wrong with the files about clients; owned by mu
	warned   *tls.Certificate // whose end was told of; owned by mu
}

// NewKeeper makes a keeper. The files are read here and must be good; a source
// that Waits is not asked before Run.
func NewKeeper(s KeeperSettings, o KeeperOptions) (*Keeper, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Every <= 0 {
		o.Every = DefaultEvery
	}
	k := &Keeper{o: o, ready: make(chan struct{}), wake: make(chan struct{}, 1)}
	k.metrics = newKeeperMetrics(k)
	commit, err := k.Prepare(s)
	if err != nil {
		return nil, err
	}
	commit()
	return k, nil
}

// Prepare reads the files of new settings; commit puts them in force. The same
// Source as before keeps its certificate, files that have changed excepted.
func (k *Keeper) Prepare(s KeeperSettings) (commit func(), err error) {
	t, err := loadTrust(s.Clients, k.moreAuthorities(), k.o.Now(), k.trust.Load())
	if err != nil {
		return nil, fmt.Errorf("server.tls: %w", err)
	}
	k.mu.Lock()
	same := k.source == s.Source
	k.mu.Unlock()
	var next *tls.Certificate
	if !s.Source.Waits() {
		if next, err = s.Source.Next(context.Background(), nil); err != nil { // it reads files
			return nil, fmt.Errorf("server.tls: %w", err)
		}
	}
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.source, k.distrust = s.Source, ""
		if !same {
			k.pending, k.failures, k.retry, k.problem = nil, 0, time.Time{}, ""
		}
		k.trust.Store(t)
		k.rebuild()
		if next != nil {
			k.serve(next)
		}
		k.Wake()
	}, nil
}

func (k *Keeper) moreAuthorities() []*x509.Certificate {
	if k.o.Authorities == nil {
		return nil
	}
	return k.o.Authorities()
}

// Wake has Run look at everything now.
func (k *Keeper) Wake() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Config is the configuration for a connection that begins now: TLS 1.3, or 1.2
// with forward secrecy and authenticated encryption only.
func (k *Keeper) Config() *tls.Config { return k.config.Load() }

// rebuild makes the configuration anew. The caller holds mu.
func (k *Keeper) rebuild() {
	c := &tls.Config{
		GetCertificate: k.certificate,
		MinVersion:     tls.VersionTLS12,
		CipherSuites: []uint16{ // of TLS 1.2
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: []string{"h2", "http/1.1"},
		Time:       k.o.Now,
	}
	if t := k.trust.Load(); t.any() {
		c.ClientCAs, c.ClientAuth = t.pool, tls.VerifyClientCertIfGiven
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return nil
			}
			return k.Refused(s.VerifiedChains)
		}
		// A resumed session would bring along a certificate that was verified by
		// the authorities of another time.
		c.SessionTicketsDisabled = true
	}
	k.config.Store(c)
}

// certificate is tls.Config.GetCertificate. The first handshakes wait a little
// for the first certificate.
func (k *Keeper) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := k.serving.Load(); c != nil {
		return c, nil
	}
	timer := time.NewTimer(firstWait)
	defer timer.Stop()
	select {
	case <-k.ready:
		return k.serving.Load(), nil
	case <-hello.Context().Done():
	case <-timer.C:
	}
	return nil, errors.New("there is no certificate to serve yet")
}

// Refused tells why none of the verified chains of a client certificate is good
// now, or nil. It is for every request: it is cheap and does not block.
func (k *Keeper) Refused(chains [][]*x509.Certificate) error {
	return k.trust.Load().refused(chains, k.o.Revoked, k.o.Now())
}

// serve puts a certificate in force. The caller holds mu.
func (k *Keeper) serve(next *tls.Certificate) {
	if k.serving.Swap(next) == nil {
		close(k.ready)
	}
}

// Run keeps everything up to date until ctx ends, and returns nil then.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		k.step(ctx)
		timer := time.NewTimer(k.wait())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-k.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// wait is how long nothing is to be done.
func (k *Keeper) wait() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := k.source.Due(k.serving.Load())
	if k.retry.After(at) {
		at = k.retry
	}
	if at.IsZero() {
		return k.o.Every
	}
	return max(min(k.o.Every, at.Sub(k.o.Now())), 10*time.Millisecond)
}

// step looks at everything once.
func (k *Keeper) step(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	k.renew(ctx)
	k.retrust(ctx) // after it: a new authority of our own is one of clients too
	k.warn(ctx)
}

// renew asks the source, unless it failed a moment ago.
func (k *Keeper) renew(ctx context.Context) {
	k.mu.Lock()
	source, next, current := k.source, k.pending, k.serving.Load()
	early := k.o.Now().Before(k.retry)
	k.mu.Unlock()
	if early {
		return
	}
	var err error
	if next == nil {
		next, err = source.Next(ctx, current)
	}
	if err == nil && next != current {
		err = k.exchange(ctx, source, next)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return // the end
	}
	k.note(ctx, source, err)
}

// exchange records and serves a certificate. One that could not be recorded is
// kept for the next time.
func (k *Keeper) exchange(ctx context.Context, source Source, next *tls.Certificate) error {
	info := Describe(next.Leaf, k.o.Now())
	info.Use, info.Authority = UseServing, source.Name()
	err := k.record(ctx, Event{Kind: EventRenewed, Certificate: info})
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.source != source {
		return nil // a reload came between
	}
	if err != nil {
		k.pending = next
		return fmt.Errorf("record the new certificate: %w", err)
	}
	k.pending = nil
	k.serve(next)
	k.metrics.renewals.WithLabelValues("success").Inc()
	k.o.Logger.Info().Str("serial", info.Serial).Time("not_after", info.NotAfter).Str("source", info.Authority).Msg("another certificate is served")
	return nil
}

// note keeps what came of asking the source, and tells of a failure once.
func (k *Keeper) note(ctx context.Context, source Source, err error) {
	k.mu.Lock()
	if k.source != source {
		k.mu.Unlock()
		return
	}
	if err == nil {
		k.failures, k.retry, k.problem = 0, time.Time{}, ""
		k.mu.Unlock()
		return
	}
	k.failures++
	again := min(leastRetry<<min(k.failures-1, 10), mostRetry)
	first := k.failures == 1 || k.problem != err.Error() && !source.Waits()
	k.retry, k.problem = k.o.Now().Add(again), err.Error()
	k.mu.Unlock()
	k.metrics.renewals.WithLabelValues("failure").Inc()
	k.o.Logger.Error().Err(err).Str("source", source.Name()).Dur("again_in", again).Msg("there is no certificate to take the place of the one that is served")
	if !first {
		return
	}
	e := Event{Kind: EventRenewalFailed, Failed: err.Error()}
	if current := k.serving.Load(); current != nil {
		e.Certificate = Describe(current.Leaf, k.o.Now())
		e.Certificate.Use, e.Certificate.Authority = UseServing, source.Name()
	}
	if err := k.record(ctx, e); err != nil {
		k.o.Logger.Error().Err(err).Msg("a failed renewal could not be recorded")
	}
}

// retrust reads the files about clients again and takes what is new and good.
func (k *Keeper) retrust(ctx context.Context) {
	old := k.trust.Load()
	next, err := loadTrust(old.settings, k.moreAuthorities(), k.o.Now(), old)
	if err == nil && next == old {
		k.distrusts("")
		return
	}
	e := Event{Kind: EventTrustChanged}
	if err != nil {
		if e.Failed = err.Error(); !k.distrusts(e.Failed) {
			return // it is known
		}
		k.o.Logger.Error().Err(err).Msg("what client certificates are held against could not be read again; the old stays")
	} else {
		e.Detail = fmt.Sprintf("%d authorities, %d revocation lists", len(next.authorities), len(next.lists))
	}
	if failed := k.record(ctx, e); failed != nil {
		k.o.Logger.Error().Err(failed).Msg("a change of the authorities of clients could not be recorded")
		return // until the next time
	}
	if err != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.trust.Load() != old {
		return // a reload came between
	}
	k.distrust = ""
	k.trust.Store(next)
	k.rebuild()
	k.o.Logger.Info().Int("authorities", len(next.authorities)).Int("revocation_lists", len(next.lists)).Msg("other authorities hold for clients")
}

// distrusts keeps what is wrong with the files about clients and tells whether
// that is news.
func (k *Keeper) distrusts(what string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	news := k.distrust != what
	k.distrust = what
	return news
}

// warn tells once of each certificate that less than a third of its life is
// left: then its renewal does not do.
func (k *Keeper) warn(ctx context.Context) {
	current := k.serving.Load()
	if current == nil {
		return
	}
	k.mu.Lock()
	known, source := k.warned == current, k.source.Name()
	k.mu.Unlock()
	leaf, now := current.Leaf, k.o.Now()
	// A thirtieth of its life is the play of a renewal, and as much again is
	// for the renewal itself.
	if life := leaf.NotAfter.Sub(leaf.NotBefore); known || leaf.NotAfter.Sub(now) >= life/3-life/15 {
		return
	}
	info := Describe(leaf, now)
	info.Use, info.Authority = UseServing, source
	k.o.Logger.Warn().Str("serial", info.Serial).Time("not_after", info.NotAfter).Msg("the certificate that is served ends soon")
	if err := k.record(ctx, Event{Kind: EventExpiring, Certificate: info}); err != nil {
		return // until the next time
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.warned = current
}

func (k *Keeper) record(ctx context.Context, e Event) error {
	if k.o.Recorder == nil {
		return nil
	}
	return k.o.Recorder.RecordCertificate(ctx, e)
}

// ClientAuthorities are the authorities whose certificates clients may have.
func (k *Keeper) ClientAuthorities() *x509.CertPool { return k.trust.Load().pool }
