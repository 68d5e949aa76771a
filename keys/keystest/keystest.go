// Package keystest holds the suite that every holder of keys must pass, with a
// ring over it, and what tests of keys share.
package keystest

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"embed"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/storage/state"
)

//go:embed testdata/*.pem
var testKeys embed.FS

// Run runs the whole suite on one backend. Every test uses names of its own,
// so that the backend may hold other keys.
func Run(t *testing.T, b keys.Backend) {
	t.Run("backend", func(t *testing.T) { testBackend(t, b) })
	t.Run("ring", func(t *testing.T) { testRing(t, b) })
}

// Unique gives a prefix for the names of one test's keys.
func Unique(t testing.TB) string {
	t.Helper()
	b := make([]byte, 6)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return "t" + hex.EncodeToString(b) + "-"
}

// Store gives an empty bucket of a state store, which is closed in the end.
func Store(t testing.TB) keys.Store {
	t.Helper()
	return OpenStore(t, t.TempDir())
}

// OpenStore gives the bucket of the state store in a folder.
func OpenStore(t testing.TB, dir string) keys.Store {
	t.Helper()
	s, err := state.Open(filepath.Join(dir, "state"), state.Options{Command: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	bucket, err := s.Bucket("keys")
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

// Recorder keeps events in memory.
type Recorder struct {
	// Before is called with each event; an error refuses it. Set it before use.
	Before func(keys.Event) error

	mu     sync.Mutex
	events []keys.Event
}

// RecordKey implements keys.Recorder.
func (r *Recorder) RecordKey(_ context.Context, e keys.Event) error {
	if r.Before != nil {
		if err := r.Before(e); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	return nil
}

// Events gives the events of a kind, or all when it is empty.
func (r *Recorder) Events(kind keys.EventKind) []keys.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []keys.Event
	for _, e := range r.events {
		if kind == "" || e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

// Ring gives a ring over a backend, with a store and a recorder of its own.
func Ring(t testing.TB, b keys.Backend, o keys.Options) (*keys.Ring, *Recorder) {
	t.Helper()
	rec := &Recorder{}
	if o.Prefix == "" {
		o.Prefix = Unique(t)
	}
	r, err := keys.New(b, Store(t), rec, o)
	if err != nil {
		t.Fatal(err)
	}
	return r, rec
}

// RSAKeys gives three RSA keys of 4096 bits in PKCS #8, which are for tests.
func RSAKeys(t testing.TB) [][]byte {
	t.Helper()
	var found [][]byte
	for n := range 3 {
		text, err := testKeys.ReadFile(fmt.Sprintf("testdata/rsa-4096-%d.pem", n+1))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(strings.ReplaceAll(string(text), "TESTING KEY", "PRIVATE KEY")))
		if block == nil {
			t.Fatal("no key in the file")
		}
		if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
			t.Fatal(err)
		}
		found = append(found, block.Bytes)
	}
	return found
}

// Prepared is a backend that takes its RSA keys of 4096 bits, in turn, from
// RSAKeys, since making one takes seconds.
type Prepared struct {
	keys.Backend
	material [][]byte

	mu   sync.Mutex
	next int
}

// Prepare gives such a backend.
func Prepare(t testing.TB, b keys.Backend) *Prepared {
	return &Prepared{Backend: b, material: RSAKeys(t)}
}

func (p *Prepared) take() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	return p.material[p.next%len(p.material)]
}

// Ensure implements keys.Manager.
func (p *Prepared) Ensure(ctx context.Context, name string, t keys.Type) (keys.Key, bool, error) {
	if _, err := p.Describe(ctx, name); err == nil || t != keys.RSA4096 {
		return p.Backend.Ensure(ctx, name, t)
	}
	key, err := p.Import(ctx, name, t, p.take())
	return key, err == nil, err
}

// Rotate implements keys.Manager.
func (p *Prepared) Rotate(ctx context.Context, name string) (keys.Key, error) {
	key, err := p.Describe(ctx, name)
	if err != nil || key.Type != keys.RSA4096 {
		return p.Backend.Rotate(ctx, name)
	}
	return p.Import(ctx, name, key.Type, p.take())
}
