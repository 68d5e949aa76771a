package transit

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/verdict-pdp/verdict/keys"
)

// message is one item of a batch that is signed or has a MAC.
type message struct {
	Input []byte `json:"input"`
	HMAC  string `json:"hmac,omitempty"`
}

// signing is what a signature algorithm asks of Vault.
func signing(t keys.Type, alg keys.Algorithm) (map[string]any, error) {
	// jws: r and s of fixed length, and base64url without padding (RFC 7515,
	// appendix A.3); Vault's default is ASN.1.
	body := map[string]any{"marshaling_algorithm": "jws", "hash_algorithm": "sha2-256", "prehashed": t != keys.Ed25519}
	rsa := t == keys.RSA2048 || t == keys.RSA3072 || t == keys.RSA4096
	switch {
	case alg == keys.EdDSA && t == keys.Ed25519, alg == keys.ES256 && t == keys.ECDSAP256:
	case alg == keys.RS256 && rsa:
		body["signature_algorithm"] = "pkcs1v15"
	case alg == keys.PS256 && rsa:
		body["signature_algorithm"], body["salt_length"] = "pss", "hash"
	default:
		return nil, fmt.Errorf("%s with a key of type %s: %w", alg, t, keys.ErrUnsupported)
	}
	return body, nil
}

// Sign implements keys.Signer.
func (b *Backend) Sign(ctx context.Context, name string, version uint32, alg keys.Algorithm, messages [][]byte) ([]keys.Tag, error) {
	t, err := b.typeOf(ctx, name)
	if err != nil {
		return nil, err
	}
	body, err := signing(t, alg)
	if err != nil {
		return nil, err
	}
	if size(messages) > keys.MaxMessage {
		return nil, tooLong(messages)
	}
	if t != keys.Ed25519 { // which hashes what it signs with its own secret (RFC 8032, section 5.1.6)
		hashed := make([][]byte, len(messages))
		for i, m := range messages {
			sum := sha256.Sum256(m)
			hashed[i] = sum[:]
		}
		messages = hashed
	}
	return b.tag(ctx, name, version, messages, request[message]{operation: "sign", path: "sign/" + name, body: body, perCall: perCall(t)})
}

// MAC implements keys.Signer.
func (b *Backend) MAC(ctx context.Context, name string, version uint32, messages [][]byte) ([]keys.Tag, error) {
	if err := b.makesMACs(ctx, name); err != nil {
		return nil, err
	}
	if size(messages) > keys.MaxMessage {
		return nil, tooLong(messages)
	}
	return b.tag(ctx, name, version, messages, request[message]{operation: "hmac", path: "hmac/" + name + "/sha2-256", body: map[string]any{}, perCall: maxItems})
}

func size(messages [][]byte) (n int) {
	for _, m := range messages {
		n += len(m)
	}
	return n
}

func tooLong(messages [][]byte) error {
	return fmt.Errorf("messages of %d bytes: %w", size(messages), keys.ErrUnsupported)
}

func (b *Backend) makesMACs(ctx context.Context, name string) error {
	t, err := b.typeOf(ctx, name)
	if err == nil && t != keys.HMAC {
		err = fmt.Errorf("a MAC with a key of type %s: %w", t, keys.ErrUnsupported)
	}
	return err
}

// tag signs messages, or makes their MACs. The version is sent, always: what is
// signed may name it, and a rotation could come between.
func (b *Backend) tag(ctx context.Context, name string, version uint32, messages [][]byte, r request[message]) ([]keys.Tag, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	r.items = make([]message, len(messages))
	for i, m := range messages {
		r.items[i].Input = append([]byte{}, m...) // never nil, which is null in JSON
	}
	r.body["key_version"] = version
	results, err := batch(ctx, b, r)
	if refused(err) || err == nil && anyFailed(results) {
		if disallowed := b.disallowed(ctx, name, version); disallowed != nil {
			return nil, disallowed
		}
	}
	if err != nil {
		return nil, unexplained(err)
	}
	tags := make([]keys.Tag, len(results))
	for i, res := range results {
		tags[i] = readTag(res, r.operation, version)
	}
	return tags, nil
}

func anyFailed(results []result) bool {
	for _, r := range results {
		if r.Error != "" {
			return true
		}
	}
	return false
}

// disallowed gives an error when the key is gone or may not sign with the
// version.
func (b *Backend) disallowed(ctx context.Context, name string, version uint32) error {
	m, err := b.read(ctx, name)
	if err == nil && !m.encrypts(version) {
		err = fmt.Errorf("version %d of key %s: %w", version, name, keys.ErrVersionDisallowed)
	}
	return err
}

func readTag(r result, operation string, asked uint32) keys.Tag {
	text, encoding := r.Signature, base64.RawURLEncoding
	if operation == "hmac" {
		text, encoding = r.HMAC, base64.StdEncoding
	}
	version, raw, err := parse(text, encoding)
	if r.Error != "" || err != nil || asked != 0 && version != asked {
		return keys.Tag{Err: &keys.UnavailableError{Reason: keys.ReasonFailed, Err: fmt.Errorf("vault: %s: %w", operation, errAnswer)}}
	}
	return keys.Tag{Version: version, Bytes: raw}
}

// VerifyMAC implements keys.Signer.
func (b *Backend) VerifyMAC(ctx context.Context, name string, checks []keys.MACCheck) ([]error, error) {
	if len(checks) == 0 {
		return nil, nil
	}
	if err := b.makesMACs(ctx, name); err != nil {
		return nil, err
	}
	inputs := make([]message, len(checks))
	for i, c := range checks {
		inputs[i] = message{Input: append([]byte{}, c.Message...), HMAC: format(c.Tag.Version, c.Tag.Bytes, base64.StdEncoding)}
	}
	results, err := batch(ctx, b, request[message]{operation: "verify", path: "verify/" + name + "/sha2-256", body: map[string]any{}, items: inputs, perCall: maxItems})
	if err != nil {
		return nil, b.explain(ctx, name, err)
	}
	errs, err := b.blame(ctx, name, results, func(i int) uint32 { return checks[i].Tag.Version })
	if err != nil {
		return nil, err
	}
	for i, r := range results {
		if errs[i] == nil && !r.Valid {
			errs[i] = keys.ErrInvalid
		}
	}
	return errs, nil
}
