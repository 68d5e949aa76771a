package keystest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/verdict-pdp/verdict/keys"
)

func testSignatures(s *suite) {
	for _, test := range []struct {
		typ keys.Type
		alg keys.Algorithm
	}{
		{keys.Ed25519, keys.EdDSA},
		{keys.ECDSAP256, keys.ES256},
		{keys.RSA4096, keys.RS256},
		{keys.RSA4096, keys.PS256},
	} {
		s.Run(string(test.alg), func(t *testing.T) {
			sub := &suite{T: t, b: s.b, prefix: Unique(t)}
			sub.signatures(test.typ, test.alg)
		})
	}
}

func (s *suite) sign(name string, version uint32, alg keys.Algorithm, messages ...[]byte) []keys.Tag {
	s.Helper()
	tags, err := s.b.Sign(s.Context(), name, version, alg, messages)
	if err != nil || len(tags) != len(messages) {
		s.Fatalf("sign: %v, %d tags", err, len(tags))
	}
	for i, tag := range tags {
		if tag.Err != nil {
			s.Fatalf("sign message %d: %v", i, tag.Err)
		}
	}
	return tags
}

func (s *suite) signatures(typ keys.Type, alg keys.Algorithm) {
	name := s.ensure("sign", typ)
	messages := [][]byte{[]byte("header.payload"), {}, bytes.Repeat([]byte("a"), 100_000)}
	first := s.sign(name, 0, alg, messages...)
	k := s.rotate(name)
	if len(k.Versions) != 2 {
		s.Fatalf("%d versions", len(k.Versions))
	}
	second := s.sign(name, 0, alg, messages...)
	old := s.sign(name, 1, alg, messages...)
	for i, m := range messages {
		for _, c := range []struct {
			tag     keys.Tag
			version uint32
		}{{first[i], 1}, {second[i], 2}, {old[i], 1}} {
			if c.tag.Version != c.version {
				s.Errorf("version %d signed, not %d", c.tag.Version, c.version)
			}
			if err := keys.VerifySignature(k.Versions[c.version-1].Public, alg, m, c.tag.Bytes); err != nil {
				s.Errorf("message %d, version %d: %v", i, c.version, err)
			}
			if err := keys.VerifySignature(k.Versions[2-c.version].Public, alg, m, c.tag.Bytes); !errors.Is(err, keys.ErrInvalid) {
				s.Errorf("message %d, key of the other version: %v", i, err)
			}
			if err := keys.VerifySignature(k.Versions[c.version-1].Public, alg, append([]byte("x"), m...), c.tag.Bytes); !errors.Is(err, keys.ErrInvalid) {
				s.Errorf("message %d, changed: %v", i, err)
			}
		}
	}
	if _, err := s.b.Sign(s.Context(), name, 3, alg, messages); !errors.Is(err, keys.ErrVersionDisallowed) {
		s.Errorf("version to come: %v", err)
	}
	if _, err := s.b.SetMinimums(s.Context(), name, keys.Minimums{Encrypt: 2}); err != nil {
		s.Fatal(err)
	}
	if _, err := s.b.Sign(s.Context(), name, 1, alg, messages); !errors.Is(err, keys.ErrVersionDisallowed) {
		s.Errorf("version below the minimum: %v", err)
	}
}

func testMACs(s *suite) {
	name := s.ensure("mac", keys.HMAC)
	messages := [][]byte{[]byte("one"), {}, bytes.Repeat([]byte("a"), 10_000)}
	tags, err := s.b.MAC(s.Context(), name, 0, messages)
	if err != nil || len(tags) != len(messages) {
		s.Fatalf("MAC: %v, %d tags", err, len(tags))
	}
	s.rotate(name)
	second, err := s.b.MAC(s.Context(), name, 0, messages)
	if err != nil || len(second) != len(messages) {
		s.Fatalf("MAC: %v, %d tags", err, len(second))
	}
	var checks []keys.MACCheck
	var want []error
	add := func(m []byte, version uint32, mac []byte, err error) {
		checks, want = append(checks, keys.MACCheck{Message: m, Tag: keys.Tag{Version: version, Bytes: mac}}), append(want, err)
	}
	for i, m := range messages {
		if tags[i].Err != nil || tags[i].Version != 1 || len(tags[i].Bytes) != sha256.Size || second[i].Version != 2 {
			s.Fatalf("MAC %d: %+v, %+v", i, tags[i], second[i])
		}
		add(m, 1, tags[i].Bytes, nil)
		add(m, 2, second[i].Bytes, nil)
		add(m, 2, tags[i].Bytes, keys.ErrInvalid)
		add(append([]byte("x"), m...), 1, tags[i].Bytes, keys.ErrInvalid)
		flipped := bytes.Clone(tags[i].Bytes)
		flipped[31] ^= 1
		add(m, 1, flipped, keys.ErrInvalid)
		add(m, 1, tags[i].Bytes[:31], keys.ErrInvalid)
		add(m, 0, tags[i].Bytes, keys.ErrVersionDisallowed)
		add(m, 3, tags[i].Bytes, keys.ErrVersionDisallowed)
	}
	s.checkMACs(name, checks, want)
	if _, err := s.b.SetMinimums(s.Context(), name, keys.Minimums{Decrypt: 2, Encrypt: 2}); err != nil {
		s.Fatal(err)
	}
	s.checkMACs(name, checks[:2], []error{keys.ErrVersionDisallowed, nil})
	if _, err := s.b.MAC(s.Context(), name, 1, messages); !errors.Is(err, keys.ErrVersionDisallowed) {
		s.Errorf("version below the minimum: %v", err)
	}
}

func (s *suite) checkMACs(name string, checks []keys.MACCheck, want []error) {
	s.Helper()
	got, err := s.b.VerifyMAC(s.Context(), name, checks)
	if err != nil || len(got) != len(checks) {
		s.Fatalf("check: %v, %d results", err, len(got))
	}
	for i := range got {
		if !errors.Is(got[i], want[i]) {
			s.Errorf("check %d: %v, want %v", i, got[i], want[i])
		}
	}
}

func testImport(s *suite) {
	ctx := s.Context()
	symmetric := bytes.Repeat([]byte{1, 2, 3, 4}, 8)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.Fatal(err)
	}
	edDER, ecDER := marshal(s, edKey), marshal(s, ecKey)
	for _, test := range []struct {
		typ      keys.Type
		material []byte
	}{
		{keys.AES256, symmetric},
		{keys.HMAC, symmetric},
		{keys.RSA4096, RSAKeys(s)[0]},
		{keys.Ed25519, edDER},
		{keys.ECDSAP256, ecDER},
	} {
		name, kept := s.prefix+string(test.typ), bytes.Clone(test.material)
		k, err := s.b.Import(ctx, name, test.typ, test.material)
		if err != nil || k.Latest != 1 || k.Type != test.typ || !k.Imported {
			s.Fatalf("import %s: %+v, %v", test.typ, k, err)
		}
		if !bytes.Equal(kept, test.material) {
			s.Errorf("import %s changed the material", test.typ)
		}
		if k, err = s.b.Import(ctx, name, test.typ, test.material); err != nil || k.Latest != 2 {
			s.Errorf("import %s again: %+v, %v", test.typ, k, err)
		}
		for _, wrong := range [][]byte{nil, {1}, bytes.Repeat([]byte{1}, 33)} {
			if _, err := s.b.Import(ctx, name+"x", test.typ, wrong); !errors.Is(err, keys.ErrInvalidMaterial) {
				s.Errorf("import %s of %d bytes: %v", test.typ, len(wrong), err)
			}
		}
	}
	if _, err := s.b.Import(ctx, s.prefix+"y", keys.ECDSAP256, edDER); !errors.Is(err, keys.ErrInvalidMaterial) {
		s.Errorf("Ed25519 as P-256: %v", err)
	}
	if _, err := s.b.Import(ctx, s.prefix+string(keys.HMAC), keys.AES256, symmetric); !errors.Is(err, keys.ErrKeyMismatch) {
		s.Errorf("another type: %v", err)
	}
	s.imported(symmetric, &edKey, ecKey)
}

// imported shows that the material is what is used.
func (s *suite) imported(symmetric []byte, edKey *ed25519.PrivateKey, ecKey *ecdsa.PrivateKey) {
	tags, err := s.b.MAC(s.Context(), s.prefix+string(keys.HMAC), 0, [][]byte{[]byte("message")})
	if err != nil || len(tags) != 1 {
		s.Fatalf("MAC: %v", err)
	}
	h := hmac.New(sha256.New, symmetric)
	h.Write([]byte("message"))
	if !hmac.Equal(h.Sum(nil), tags[0].Bytes) {
		s.Error("the MAC is not that of the imported key")
	}
	message := []byte("message")
	signed := s.sign(s.prefix+string(keys.Ed25519), 1, keys.EdDSA, message)
	if err := keys.VerifySignature(edKey.Public(), keys.EdDSA, message, signed[0].Bytes); err != nil {
		s.Errorf("EdDSA by the imported key: %v", err)
	}
	signed = s.sign(s.prefix+string(keys.ECDSAP256), 2, keys.ES256, message)
	if err := keys.VerifySignature(&ecKey.PublicKey, keys.ES256, message, signed[0].Bytes); err != nil {
		s.Errorf("ES256 by the imported key: %v", err)
	}
	// The same material under two versions unwraps alike.
	name := s.prefix + string(keys.AES256)
	k := s.dataKey(name, []byte("context"))
	if plain, err := s.unwrap(name, keys.WrappedKey{Version: 1, Blob: k.Wrapped.Blob}, []byte("context")); err != nil || !bytes.Equal(plain, k.Plaintext) {
		s.Errorf("the imported key under its other version: %v", err)
	}
}

func marshal(s *suite, k any) []byte {
	s.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		s.Fatal(err)
	}
	return der
}

func testWrongUse(s *suite) {
	ctx := s.Context()
	aes, rsa, mac, ed := s.ensure("aes", keys.AES256), s.ensure("rsa", keys.RSA4096), s.ensure("mac", keys.HMAC), s.ensure("ed", keys.Ed25519)
	one := [][]byte{[]byte("x")}
	for _, name := range []string{mac, ed} {
		if _, err := s.b.DataKeys(ctx, name, one); !errors.Is(err, keys.ErrUnsupported) {
			s.Errorf("data key under %s: %v", name, err)
		}
	}
	for _, c := range []struct {
		name  string
		bound []byte
	}{{aes, nil}, {rsa, one[0]}} {
		made, err := s.b.DataKeys(ctx, c.name, [][]byte{c.bound})
		if err == nil && len(made) == 1 {
			err = made[0].Err
		}
		if !errors.Is(err, keys.ErrUnsupported) {
			s.Errorf("data key of %s bound to %q: %v", c.name, c.bound, err)
		}
	}
	if _, err := s.b.Sign(ctx, aes, 0, keys.EdDSA, one); !errors.Is(err, keys.ErrUnsupported) {
		s.Errorf("signature by a key that wraps: %v", err)
	}
	if _, err := s.b.Sign(ctx, ed, 0, keys.RS256, one); !errors.Is(err, keys.ErrUnsupported) {
		s.Errorf("RS256 by Ed25519: %v", err)
	}
	if _, err := s.b.MAC(ctx, ed, 0, one); !errors.Is(err, keys.ErrUnsupported) {
		s.Errorf("MAC by Ed25519: %v", err)
	}
}
