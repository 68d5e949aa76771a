package notary_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/keystest"
	"github.com/verdict-pdp/verdict/keys/notary"
)

const (
	origin     = "log.example/verdict"
	checkpoint = origin + "\n3\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
)

var _ note.Signer = (*notary.Signer)(nil)

// signer makes a key and its signer.
func signer(t *testing.T, b keys.Backend) (*keys.Ring, string, *notary.Signer) {
	t.Helper()
	ring, _ := keystest.Ring(t, b, keys.Options{})
	id := ring.ID("checkpoint")
	if _, err := ring.EnsureKey(t.Context(), keys.By{}, id, keys.Ed25519); err != nil {
		t.Fatal(err)
	}
	s, err := notary.New(t.Context(), ring, id, 0, origin, notary.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return ring, id, s
}

func verifier(t *testing.T, s *notary.Signer) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestNotes(t *testing.T) {
	keystest.Each(t, func(t *testing.T, b keys.Backend) {
		ring, id, first := signer(t, b)
		signed, err := note.Sign(&note.Note{Text: checkpoint}, first)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := note.Open(signed, note.VerifierList(verifier(t, first)))
		if err != nil || opened.Text != checkpoint || len(opened.Sigs) != 1 {
			t.Fatalf("opened %+v: %v", opened, err)
		}
		if _, err := note.Open([]byte(strings.Replace(string(signed), "\n3\n", "\n4\n", 1)), note.VerifierList(verifier(t, first))); err == nil {
			t.Error("a tampered note opens")
		}

		if _, err := ring.Rotate(t.Context(), keys.By{}, id); err != nil {
			t.Fatal(err)
		}
		second, err := notary.New(t.Context(), ring, id, 0, origin, notary.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if second.Version() != 2 || second.KeyHash() == first.KeyHash() {
			t.Errorf("version %d, key ids %x and %x", second.Version(), first.KeyHash(), second.KeyHash())
		}
		// The old version still signs, and both signatures stand on one note.
		both, err := note.Sign(&note.Note{Text: checkpoint}, first, second)
		if err != nil {
			t.Fatal(err)
		}
		opened, err = note.Open(both, note.VerifierList(verifier(t, first), verifier(t, second)))
		if err != nil || len(opened.Sigs) != 2 {
			t.Errorf("opened %+v: %v", opened, err)
		}

		if _, err := ring.Compromise(t.Context(), keys.By{}, id, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := first.Sign([]byte(checkpoint)); !errors.Is(err, keys.ErrVersionDisallowed) {
			t.Errorf("a compromised version signs: %v", err)
		}
	})
}

// The line of a signature is what the specification says, computed here by
// hand.
func TestForm(t *testing.T) {
	ring, id, s := signer(t, keystest.Local(t))
	info, err := ring.Key(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	public, ok := info.Versions[0].Public.(ed25519.PublicKey)
	if !ok {
		t.Fatal("no Ed25519 key")
	}
	typed := append([]byte{0x01}, public...)
	sum := sha256.Sum256(append([]byte(origin+"\n"), typed...))
	if want := binary.BigEndian.Uint32(sum[:4]); s.KeyHash() != want {
		t.Errorf("key id %08x, want %08x", s.KeyHash(), want)
	}
	if want := fmt.Sprintf("%s+%08x+%s", origin, s.KeyHash(), base64.StdEncoding.EncodeToString(typed)); s.VerifierKey() != want {
		t.Errorf("verifier key %s, want %s", s.VerifierKey(), want)
	}
	signed, err := note.Sign(&note.Note{Text: checkpoint}, s)
	if err != nil {
		t.Fatal(err)
	}
	text, line, _ := strings.Cut(string(signed), "\n\n")
	rest, ok := strings.CutPrefix(line, "\u2014 "+origin+" ")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(rest, "\n"))
	if !ok || err != nil || len(raw) != 4+ed25519.SignatureSize || !ed25519.Verify(public, []byte(text+"\n"), raw[4:]) {
		t.Errorf("line %q", line)
	}
}

func TestRefused(t *testing.T) {
	ring, _ := keystest.Ring(t, keystest.Local(t), keys.Options{})
	for name, typ := range map[string]keys.Type{"ed": keys.Ed25519, "ec": keys.ECDSAP256} {
		if _, err := ring.EnsureKey(t.Context(), keys.By{}, ring.ID(name), typ); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		key     string
		version uint32
		name    string
		want    error
	}{
		{"none", 0, origin, keys.ErrKeyUnknown},
		{"ec", 0, origin, keys.ErrUnsupported},
		{"ed", 2, origin, keys.ErrVersionDisallowed},
		{"ed", 0, "", nil},
		{"ed", 0, "a+b", nil},
		{"ed", 0, "a b", nil},
		{"ed", 0, "a\u00a0b", nil},
		{"ed", 0, "a\xff", nil},
		{"ed", 0, strings.Repeat("a", 256), nil},
	} {
		if _, err := notary.New(t.Context(), ring, ring.ID(tt.key), tt.version, tt.name, notary.Options{}); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}
