package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
)

// Sign signs messages with a version of a key, 0 for the latest, and tells
// which it was. ErrVersionDisallowed when the version is compromised or below
// the minimum, ErrUnsupported when the key does not have the algorithm.
func (r *Ring) Sign(ctx context.Context, id string, version uint32, alg Algorithm, messages [][]byte) ([]Tag, error) {
	if err := checkMessages(messages); err != nil {
		return nil, err
	}
	known, err := r.look(ctx, id)
	if err != nil {
		return nil, err
	}
	if version == 0 {
		version = known.key.Latest
	}
	if known.state.compromised(version) || version < known.key.MinEncrypt {
		return nil, fmt.Errorf("sign with key %s version %d: %w", id, version, ErrVersionDisallowed)
	}
	tags, err := r.backend.Sign(ctx, id, version, alg, messages)
	if err != nil {
		return nil, fmt.Errorf("sign with key %s version %d: %w", id, version, err)
	}
	return tags, checkTags(tags, version, len(messages))
}

// checkTags refuses an answer in which another version signed than was asked.
func checkTags(tags []Tag, version uint32, n int) error {
	if len(tags) != n {
		return fmt.Errorf("%d signatures for %d messages", len(tags), n)
	}
	for _, t := range tags {
		if t.Err == nil && t.Version != version {
			return fmt.Errorf("version %d signed, not %d: %w", t.Version, version, ErrVersionDisallowed)
		}
	}
	return nil
}

// Verify checks a signature with the public key of a version, without the
// backend when the key was looked at before: nil, ErrInvalid, or
// ErrVersionDisallowed when the version is compromised, below the minimum or
// does not exist.
func (r *Ring) Verify(ctx context.Context, id string, alg Algorithm, message []byte, tag Tag) error {
	known, err := r.look(ctx, id)
	if err != nil {
		return err
	}
	if tag.Version > known.key.Latest { // perhaps rotated elsewhere just now
		if known, err = r.lookAgain(ctx, id); err != nil {
			return err
		}
	}
	if known.state.compromised(tag.Version) || tag.Version < known.key.MinDecrypt {
		return ErrVersionDisallowed
	}
	for _, v := range known.key.Versions {
		if v.Number == tag.Version {
			return VerifySignature(v.Public, alg, message, tag.Bytes)
		}
	}
	return ErrVersionDisallowed
}

// VerifySignature checks a signature with a public key: nil, ErrInvalid, or
// ErrUnsupported when the algorithm does not fit the key.
func VerifySignature(public crypto.PublicKey, alg Algorithm, message, signature []byte) error {
	valid, digest := false, sha256.Sum256(message)
	switch key := public.(type) {
	case ed25519.PublicKey:
		if alg != EdDSA {
			return ErrUnsupported
		}
		valid = len(key) == ed25519.PublicKeySize && ed25519.Verify(key, message, signature)
	case *ecdsa.PublicKey:
		if alg != ES256 {
			return ErrUnsupported
		}
		const half = 32
		valid = len(signature) == 2*half && ecdsa.Verify(key, digest[:],
			new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:]))
	case *rsa.PublicKey:
		switch alg {
		case RS256:
			valid = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
		case PS256:
			valid = rsa.VerifyPSS(key, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		default:
			return ErrUnsupported
		}
	default:
		return ErrUnsupported
	}
	if !valid {
		return ErrInvalid
	}
	return nil
}

// HMAC makes the HMAC-SHA256 of messages with the latest version of a key,
// which is created when it does not exist.
func (r *Ring) HMAC(ctx context.Context, by By, id string, messages [][]byte) ([]Tag, error) {
	if err := checkMessages(messages); err != nil {
		return nil, err
	}
	return r.makeMACs(ctx, by, id, messages)
}

// VerifyHMAC checks MACs; a result is nil, ErrInvalid or ErrVersionDisallowed.
func (r *Ring) VerifyHMAC(ctx context.Context, id string, items []MACCheck) ([]error, error) {
	messages := make([][]byte, len(items))
	for i := range items {
		messages[i] = items[i].Message
	}
	if err := checkMessages(messages); err != nil {
		return nil, err
	}
	marks, err := r.marks(ctx, id)
	if err != nil {
		return nil, err
	}
	results, err := r.backend.VerifyMAC(ctx, id, items)
	if err == nil && len(results) != len(items) {
		err = errors.New("results are missing")
	}
	if err != nil {
		return nil, fmt.Errorf("check MACs by %s: %w", id, err)
	}
	for i := range items {
		if marks.compromised(items[i].Tag.Version) {
			results[i] = ErrVersionDisallowed
		}
	}
	return results, nil
}

func checkMessages(messages [][]byte) error {
	size := 0
	for _, m := range messages {
		size += len(m)
	}
	if len(messages) > MaxBatch || size > MaxMessage {
		return fmt.Errorf("%d messages of %d bytes, at most %d of %d: %w", len(messages), size, MaxBatch, MaxMessage, ErrTooLarge)
	}
	return nil
}
