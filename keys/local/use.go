package local

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"

	"github.com/verdict-pdp/verdict/keys"
)

// wrapping gives a key that wraps data keys.
func (b *Backend) wrapping(ctx context.Context, name string, n int) (*entry, error) {
	e, err := b.get(ctx, name)
	if err != nil {
		return nil, err
	}
	if n > keys.MaxBatch {
		return nil, fmt.Errorf("%d items, at most %d: %w", n, keys.MaxBatch, keys.ErrUnsupported)
	}
	if m := e.versions[e.key.Latest]; m.wrap == nil && m.rsa == nil {
		return nil, fmt.Errorf("a key of type %s wraps nothing: %w", e.key.Type, keys.ErrUnsupported)
	}
	return e, nil
}

// DataKeys implements keys.Wrapper.
func (b *Backend) DataKeys(ctx context.Context, name string, contexts [][]byte) ([]keys.DataKey, error) {
	e, err := b.wrapping(ctx, name, len(contexts))
	if err != nil {
		return nil, err
	}
	made := make([]keys.DataKey, len(contexts))
	for i, c := range contexts {
		plain := make([]byte, keys.DataKeySize)
		if _, err := rand.Read(plain); err != nil {
			return nil, fmt.Errorf("make a data key: %w", err)
		}
		wrapped, err := e.wrap(plain, c)
		if err != nil {
			clear(plain)
			made[i].Err = err
			continue
		}
		made[i] = keys.DataKey{Plaintext: plain, Wrapped: wrapped}
	}
	return made, nil
}

// wrap wraps a data key with the latest version.
func (e *entry) wrap(plain, bound []byte) (keys.WrappedKey, error) {
	w := keys.WrappedKey{Version: e.key.Latest}
	m := e.versions[w.Version]
	err := checkContext(m, bound)
	switch {
	case err != nil:
	case m.rsa != nil:
		w.Blob, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, &m.rsa.PublicKey, plain, nil)
	default:
		w.Blob, err = m.wrap.Encrypt(plain, bound)
	}
	if err != nil {
		return keys.WrappedKey{}, fmt.Errorf("wrap a data key: %w", err)
	}
	return w, nil
}

// checkContext refuses a wrap that would not be bound to anything, or is said
// to be and is not.
func checkContext(m *material, bound []byte) error {
	if (m.rsa == nil) != (len(bound) > 0) || len(bound) > keys.MaxContext {
		return fmt.Errorf("a context of %d bytes: %w", len(bound), keys.ErrUnsupported)
	}
	return nil
}

// Unwrap implements keys.Wrapper.
func (b *Backend) Unwrap(ctx context.Context, name string, items []keys.Sealed) ([]keys.Opened, error) {
	e, err := b.wrapping(ctx, name, len(items))
	if err != nil {
		return nil, err
	}
	opened := make([]keys.Opened, len(items))
	for i := range items {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		opened[i].Plaintext, opened[i].Err = e.unwrap(&items[i])
	}
	return opened, nil
}

func (e *entry) unwrap(s *keys.Sealed) (plain []byte, err error) {
	m, err := e.reading(s.Version)
	switch {
	case err != nil:
		return nil, err
	case checkContext(m, s.Context) != nil:
		return nil, keys.ErrInvalid
	case m.rsa != nil:
		plain, err = rsa.DecryptOAEP(sha256.New(), nil, m.rsa, s.Blob, nil)
	default:
		plain, err = m.wrap.Decrypt(s.Blob, s.Context)
	}
	if err != nil {
		return nil, keys.ErrInvalid
	}
	return plain, nil
}

// reading gives a version that may unwrap.
func (e *entry) reading(number uint32) (*material, error) {
	m := e.versions[number]
	if m == nil || number < e.key.MinDecrypt {
		return nil, keys.ErrVersionDisallowed
	}
	return m, nil
}

// Rewrap implements keys.Wrapper.
func (b *Backend) Rewrap(ctx context.Context, name string, items []keys.Sealed) ([]keys.Rewrapped, error) {
	e, err := b.wrapping(ctx, name, len(items))
	if err != nil {
		return nil, err
	}
	wrapped := make([]keys.Rewrapped, len(items))
	for i := range items {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		plain, err := e.unwrap(&items[i])
		if err == nil {
			wrapped[i].WrappedKey, err = e.wrap(plain, items[i].Context)
			clear(plain)
		}
		wrapped[i].Err = err
	}
	return wrapped, nil
}

// making gives the version that is to sign, 0 for the latest.
func (b *Backend) making(ctx context.Context, name string, number uint32, n int) (*entry, uint32, error) {
	e, err := b.get(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	if n > keys.MaxBatch {
		return nil, 0, fmt.Errorf("%d items, at most %d: %w", n, keys.MaxBatch, keys.ErrUnsupported)
	}
	if number == 0 {
		number = e.key.Latest
	}
	if e.versions[number] == nil || number < e.key.MinEncrypt {
		return nil, 0, keys.ErrVersionDisallowed
	}
	return e, number, nil
}

// Sign implements keys.Signer.
func (b *Backend) Sign(ctx context.Context, name string, number uint32, alg keys.Algorithm, messages [][]byte) ([]keys.Tag, error) {
	e, number, err := b.making(ctx, name, number, len(messages))
	if err != nil {
		return nil, err
	}
	if !hasAlgorithm(e.key.Type, alg) {
		return nil, fmt.Errorf("%s by a key of type %s: %w", alg, e.key.Type, keys.ErrUnsupported)
	}
	m := e.versions[number]
	tags := make([]keys.Tag, len(messages))
	for i, message := range messages {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var signature []byte
		if m.rsa != nil {
			signature, err = signRSA(m.rsa, alg, message)
		} else {
			signature, err = m.signer.Sign(message)
		}
		if err != nil {
			tags[i].Err = fmt.Errorf("sign: %w", err)
			continue
		}
		tags[i] = keys.Tag{Version: number, Bytes: signature}
	}
	return tags, nil
}

func hasAlgorithm(t keys.Type, alg keys.Algorithm) bool {
	switch alg {
	case keys.EdDSA:
		return t == keys.Ed25519
	case keys.ES256:
		return t == keys.ECDSAP256
	case keys.RS256, keys.PS256:
		return rsaBits(t) > 0
	}
	return false
}

func signRSA(k *rsa.PrivateKey, alg keys.Algorithm, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	if alg == keys.PS256 {
		return rsa.SignPSS(rand.Reader, k, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	}
	return rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest[:])
}

// MAC implements keys.Signer.
func (b *Backend) MAC(ctx context.Context, name string, number uint32, messages [][]byte) ([]keys.Tag, error) {
	e, number, err := b.making(ctx, name, number, len(messages))
	if err != nil {
		return nil, err
	}
	m := e.versions[number]
	if m.mac == nil {
		return nil, fmt.Errorf("a MAC by a key of type %s: %w", e.key.Type, keys.ErrUnsupported)
	}
	tags := make([]keys.Tag, len(messages))
	for i, message := range messages {
		tags[i].Version = number
		tags[i].Bytes, tags[i].Err = m.mac.ComputeMAC(message)
	}
	return tags, nil
}

// VerifyMAC implements keys.Signer.
func (b *Backend) VerifyMAC(ctx context.Context, name string, items []keys.MACCheck) ([]error, error) {
	e, err := b.get(ctx, name)
	if err != nil {
		return nil, err
	}
	if e.key.Type != keys.HMAC || len(items) > keys.MaxBatch {
		return nil, fmt.Errorf("%d MACs by a key of type %s: %w", len(items), e.key.Type, keys.ErrUnsupported)
	}
	results := make([]error, len(items))
	for i, item := range items {
		m, err := e.reading(item.Tag.Version)
		if err == nil && m.mac.VerifyMAC(item.Tag.Bytes, item.Message) != nil {
			err = keys.ErrInvalid
		}
		results[i] = err
	}
	return results, nil
}
