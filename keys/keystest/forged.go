package keystest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"

	"github.com/verdict-pdp/verdict/keys"
)

// testDamaged changes every byte, and cuts at every length.
func testDamaged(s *ringSuite) {
	for _, c := range encrypted() {
		text := s.encrypt(c, home, "a value of some length")
		e, err := Decode(text)
		if err != nil {
			s.Fatal(err)
		}
		raw := e.Unauthenticated()
		var items []keys.Ciphertext
		for i := range text {
			items = append(items, keys.Ciphertext{Text: text[:i], Context: home})
			for _, other := range []string{"A", "_", "=", "\n", "+"} {
				if text[i:i+1] != other {
					items = append(items, keys.Ciphertext{Text: text[:i] + other + text[i+1:], Context: home})
				}
			}
		}
		items = append(items, keys.Ciphertext{Text: text + "A", Context: home}, keys.Ciphertext{Text: text + "\n", Context: home},
			keys.Ciphertext{Text: text + "=", Context: home}, keys.Ciphertext{Text: "VD1." + text[4:], Context: home})
		results, err := s.r.Decrypt(s.Context(), keys.By{}, items)
		if err != nil || len(results) != len(items) {
			s.Fatalf("decrypt: %v, %d results", err, len(results))
		}
		for i, o := range results {
			if !isRefusal(o.Err) || o.Data != nil {
				s.Errorf("%v, change %d of %d: %v, %d bytes", c, i, len(items), o.Err, len(o.Data))
			}
		}
		s.Logf("%v: %d changes of %d bytes refused", c, len(items), len(raw))
	}
}

// isRefusal tells whether an error is of the list that a value may meet.
func isRefusal(err error) bool {
	return errors.Is(err, keys.ErrMalformed) || errors.Is(err, keys.ErrKeyUnknown) ||
		errors.Is(err, keys.ErrVersionDisallowed) || errors.Is(err, keys.ErrInvalid)
}

// testSwapped gives a value another class, key or version in its header.
func testSwapped(s *ringSuite) {
	other, _ := Ring(s, s.b, keys.Options{})
	foreign, err := other.EncryptOne(s.Context(), keys.By{}, keys.Value{Class: keys.Confidential, Context: home, Data: []byte("x")})
	if err != nil {
		s.Fatal(err)
	}
	s.refuses(foreign, home, keys.ErrKeyUnknown)
	s.encrypt(keys.Internal, home, "creates the key")
	e, err := Decode(s.encrypt(keys.Confidential, home, "value"))
	if err != nil {
		s.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*Envelope)
		want   error
	}{
		{"class alone", func(e *Envelope) { e.Class = byte(keys.Internal) }, keys.ErrKeyUnknown},
		{"class and key", func(e *Envelope) { e.Class, e.KeyID = byte(keys.Internal), s.r.ClassID(keys.Internal) }, keys.ErrInvalid},
		{"no key of a class", func(e *Envelope) { e.KeyID = s.r.ID("jwt") }, keys.ErrKeyUnknown},
		{"public", func(e *Envelope) { e.Class = byte(keys.Public) }, keys.ErrMalformed},
		{"version to come", func(e *Envelope) { e.Version = 2 }, keys.ErrVersionDisallowed},
		{"version 0", func(e *Envelope) { e.Version = 0 }, keys.ErrMalformed},
		{"format 2", func(e *Envelope) { e.Format = 2 }, keys.ErrMalformed},
		{"algorithm 2", func(e *Envelope) { e.Algorithm = 2 }, keys.ErrMalformed},
		{"flag 2", func(e *Envelope) { e.Flags = 2 }, keys.ErrMalformed},
		{"a MAC where none is", func(e *Envelope) { e.Flags, e.MACVersion, e.MAC = 1, 1, make([]byte, 32) }, keys.ErrInvalid},
		{"empty key id", func(e *Envelope) { e.KeyID = "" }, keys.ErrMalformed},
		{"key id with a slash", func(e *Envelope) { e.KeyID = "../x" }, keys.ErrMalformed},
		{"no wrapped key", func(e *Envelope) { e.Wrapped = nil }, keys.ErrMalformed},
		{"nothing but a short tag", func(e *Envelope) { e.Body = e.Body[:15] }, keys.ErrMalformed},
		{"nothing", func(*Envelope) {}, nil},
	} {
		changed := e
		test.change(&changed)
		_, err := s.r.DecryptOne(s.Context(), keys.By{}, keys.Ciphertext{Text: changed.Text(), Context: home})
		if !errors.Is(err, test.want) {
			s.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

// testForged makes values of class top_secret with all that is public: the
// RSA key and a genuine value.
func testForged(s *ringSuite) {
	genuine, err := Decode(s.encrypt(keys.TopSecret, home, "genuine"))
	if err != nil {
		s.Fatal(err)
	}
	k, err := s.b.Describe(s.Context(), genuine.KeyID)
	if err != nil {
		s.Fatal(err)
	}
	public, ok := k.Versions[0].Public.(*rsa.PublicKey)
	if !ok {
		s.Fatalf("public key %T", k.Versions[0].Public)
	}
	dek := make([]byte, 32)
	forged := genuine
	if forged.Wrapped, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, public, dek, nil); err != nil {
		s.Fatal(err)
	}
	block, err := aes.NewCipher(dek)
	if err != nil {
		s.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		s.Fatal(err)
	}
	forged.Body = aead.Seal(nil, forged.Nonce, []byte("forged"), forged.AAD(home.Tenant, home.Type, home.ID, home.Pointer))
	s.refuses(forged.Text(), home, keys.ErrInvalid) // the MAC of the genuine one
	forged.MAC = make([]byte, 32)
	s.refuses(forged.Text(), home, keys.ErrInvalid)
	forged.MACVersion = 7
	s.refuses(forged.Text(), home, keys.ErrVersionDisallowed)
	forged.Flags = 0
	s.refuses(forged.Text(), home, keys.ErrInvalid)
	s.opens(genuine.Text(), home, "genuine")
}
