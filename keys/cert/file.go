package cert

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"sync"
	"time"
)

// Files is the Source of a certificate and its key in PEM files. They are looked
// at again with each Next, and taken when their content has changed and is good.
type Files struct {
	cert, key string
	now       func() time.Time

	mu   sync.Mutex
	last [sha256.Size]byte // of what Next saw last; owned by mu
	err  error             // what was wrong with it; owned by mu
}

// NewFiles makes a source; a nil clock is time.Now. Nothing is read yet.
func NewFiles(cert, key string, now func() time.Time) *Files {
	if now == nil {
		now = time.Now
	}
	return &Files{cert: cert, key: key, now: now}
}

// Name implements Source.
func (f *Files) Name() string { return "files" }

// Waits implements Source.
func (f *Files) Waits() bool { return false }

// Due implements Source.
func (f *Files) Due(*tls.Certificate) time.Time { return time.Time{} }

// Next implements Source. Of two files that are being replaced one may be new
// and one old: what is not good is an error only when it is still there the next
// time, unless there is no current certificate.
func (f *Files) Next(_ context.Context, current *tls.Certificate) (*tls.Certificate, error) {
	cert, err := readFile(f.cert, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	key, err := readFile(f.key, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d:", len(cert)) // a hash takes all
	h.Write(cert)
	h.Write(key)
	sum := [sha256.Size]byte(h.Sum(nil))

	f.mu.Lock()
	defer f.mu.Unlock()
	if current != nil && sum == f.last {
		if f.err != nil {
			return nil, f.err
		}
		return current, nil
	}
	next, err := f.load(cert, key)
	f.last, f.err = sum, err
	if err != nil && current != nil {
		return current, nil
	}
	return next, err
}

// load checks what the files hold.
func (f *Files) load(cert, key []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("load %s and %s: %w", f.cert, f.key, err)
	}
	chain, err := parseChain(cert)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", f.cert, err)
	}
	leaf := chain[0]
	switch {
	case f.now().After(leaf.NotAfter):
		return nil, fmt.Errorf("the certificate in %s has ended on %s", f.cert, leaf.NotAfter.UTC().Format(time.RFC3339))
	case leaf.IsCA && len(chain) > 1, !goodFor(leaf, Server):
		return nil, fmt.Errorf("the first certificate in %s is not that of a server", f.cert)
	}
	if err := checkChain(chain); err != nil {
		return nil, fmt.Errorf("load %s: %w", f.cert, err)
	}
	return &pair, nil
}
