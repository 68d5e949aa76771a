package bundles

import (
	"io"
	"sync/atomic"

	"github.com/verdict-pdp/verdict/bundles/signature"
)

// TrustSettings say whose bundles are taken.
type TrustSettings struct {
	Keys []signature.KeyConfig
	// AllowUnsigned takes bundles without a signature. One that has a signature
	// must still verify, unless no key is configured at all.
	AllowUnsigned bool
}

// Trust is the Verifier of a server: it takes what a configured key has signed.
type Trust struct {
	o     signature.Options
	state atomic.Pointer[trustState]
}

// trustState changes as a whole.
type trustState struct {
	ring          *signature.Keyring
	allowUnsigned bool
}

// NewTrust gives a Trust that takes nothing until settings are committed.
func NewTrust(o signature.Options) *Trust {
	t := &Trust{o: o}
	t.state.Store(&trustState{ring: signature.NewKeyring(o)})
	return t
}

// Prepare reads the keys and gives the function that puts the settings in place
// of those in use. Until it is called nothing changes, and an error changes
// nothing.
func (t *Trust) Prepare(s TrustSettings) (commit func(), err error) {
	ring := signature.NewKeyring(t.o)
	commitKeys, err := ring.Prepare(s.Keys)
	if err != nil {
		return nil, err
	}
	commitKeys() // nobody else has this ring yet
	next := &trustState{ring: ring, allowUnsigned: s.AllowUnsigned}
	return func() { t.state.Store(next) }, nil
}

// Keys lists the keys and whether they are valid now.
func (t *Trust) Keys() []signature.KeyStatus { return t.state.Load().ring.Keys() }

// Verify implements Verifier.
func (t *Trust) Verify(name string, a *Archive) (Signer, error) {
	state := t.state.Load()
	if state.allowUnsigned && (a.Signatures() == nil || state.ring.Len() == 0) {
		return Signer{Unsigned: true}, nil
	}
	proof, err := state.ring.Verify(name, a.Signatures(), a.SignedFiles)
	if err != nil {
		return Signer{}, err
	}
	return Signer{KeyID: proof.KeyID, Algorithm: string(proof.Algorithm)}, nil
}

// SignedFiles is the archive as signatures see it; it is a signature.Files.
func (a *Archive) SignedFiles(fn func(name string, content io.Reader) error) error {
	return a.Each(func(f File, content io.Reader) error { return fn(f.Path, content) })
}
