package transit_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/transit"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"", "vault:", "vault:v1", "vault:v1:", "vault:v:AAAA", "vault:v0:AAAA", "vault:v-1:AAAA", "vault:v+1:AAAA", "vault:v4294967296:AAAA",
		"vault:v1:!", "vault:v1:AAA", "vault:vx:AAAA", "Vault:v1:AAAA", "bao:v1:AAAA", "vault:v1:AAAA:AAAA",
	} {
		if version, b, err := transit.Parse(bad); err == nil || version != 0 || b != nil {
			t.Errorf("%q: version %d, %x, %v", bad, version, b, err)
		}
	}
	for _, version := range []uint32{1, 2, math.MaxUint32} {
		text := transit.Format(version, []byte{1, 2, 3})
		if got, b, err := transit.Parse(text); got != version || !bytes.Equal(b, []byte{1, 2, 3}) || err != nil {
			t.Errorf("%q: %d, %x, %v", text, got, b, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"vault:v1:AAAA", "vault:v12:AQID", "vault:v0:AAAA", "vault:v1:", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		version, b, err := transit.Parse(text)
		if err != nil {
			if version != 0 || b != nil {
				t.Errorf("an error and results: %d, %x", version, b)
			}
			return
		}
		again, c, err := transit.Parse(transit.Format(version, b))
		if err != nil || again != version || !bytes.Equal(b, c) {
			t.Errorf("%q does not come back: %d, %x, %v", text, again, c, err)
		}
	})
}

func FuzzParseVersion(f *testing.F) {
	f.Add(string(keys.AES256), []byte("1795453255"))
	f.Add(string(keys.Ed25519), []byte(`{"creation_time":"2026-11-23T17:00:55Z","public_key":"6JoAXB7GwuTqzI3/OILC4AKBNOaR4XDD23nY9LboU6w="}`))
	f.Add(string(keys.ECDSAP256), []byte(`{"creation_time":"x","public_key":"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}`))
	f.Add(string(keys.RSA4096), []byte(`{}`))
	f.Fuzz(func(t *testing.T, typ string, raw []byte) {
		if public, err := transit.ParseVersion(typ, raw); err != nil && public {
			t.Error("an error and a key")
		}
	})
}
