package bundles

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/verdict-pdp/verdict/bundles/signature"
	"github.com/verdict-pdp/verdict/storage"
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
	return signerOf(proof), nil
}

// Vouch implements Verifier.
func (t *Trust) Vouch(name string, signatures []byte) (Signer, error) {
	state := t.state.Load()
	if state.allowUnsigned && (signatures == nil || state.ring.Len() == 0) {
		return Signer{Unsigned: true}, nil
	}
	proof, err := state.ring.Vouch(name, signatures)
	if err != nil {
		return Signer{}, err
	}
	return signerOf(proof), nil
}

func signerOf(p *signature.Proof) Signer {
	return Signer{KeyID: p.KeyID, Algorithm: string(p.Algorithm), Statement: p.Statement}
}

// SignedFiles is the archive as signatures see it; it is a signature.Files.
func (a *Archive) SignedFiles(fn func(name string, content io.Reader) error) error {
	return a.Each(func(f File, content io.Reader) error { return fn(f.Path, content) })
}

// statement is the digest that was accepted by a signed list; empty: none.
func (m *metadata) statement(ctx context.Context, name, statement string) (digest string, err error) {
	_, err = m.get(ctx, storage.Key(keyStatement, name, statement), &digest)
	return digest, err
}

// checkStatement refuses a bundle that was accepted before and only looks new:
// white space in data files and in the manifest changes the digest, and the old
// signature still holds.
func (s *Service) checkStatement(ctx context.Context, c *Candidate) error {
	if c.Signer.Statement == "" {
		return nil
	}
	digest, err := s.meta.statement(ctx, c.Name, c.Signer.Statement)
	if err != nil || digest == "" || digest == c.Archive.Digest {
		return err
	}
	known, err := s.meta.digest(ctx, c.Name, digest)
	if err != nil {
		return err
	}
	code := CodeUsed
	if known.Activated {
		code = CodePast
	}
	return refuse(code, GateHistory, "what was signed is the revision %q, of digest %s; only white space in data is different, which the signature does not cover", known.Revision, digest)
}

// rememberStatement adds to the batch that accepts a bundle what was signed.
func (s *Service) rememberStatement(ctx context.Context, b *batch, c *Candidate) error {
	if c.Signer.Statement == "" {
		return nil
	}
	digest, err := s.meta.statement(ctx, c.Name, c.Signer.Statement)
	if err == nil && digest == "" {
		b.put(storage.Key(keyStatement, c.Name, c.Signer.Statement), c.Archive.Digest, 0)
	}
	return err
}
