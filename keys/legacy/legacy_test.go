package legacy_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fernet/fernet-go"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/keystest"
	"github.com/verdict-pdp/verdict/keys/legacy"
	"github.com/verdict-pdp/verdict/keys/local"
)

// sample is testdata/fields.json.
type sample struct {
	Keys   map[string]string `json:"keys"`
	Fields []struct {
		Name      string          `json:"name"`
		Plaintext string          `json:"plaintext"`
		Field     json.RawMessage `json:"field"`
	} `json:"fields"`
}

func read(t testing.TB) (*sample, *legacy.Keys) {
	t.Helper()
	content, err := os.ReadFile("testdata/fields.json")
	if err != nil {
		t.Fatal(err)
	}
	s := &sample{}
	if err := json.Unmarshal(content, s); err != nil {
		t.Fatal(err)
	}
	k := legacy.NewKeys()
	for id, material := range s.Keys {
		if err := k.Add(id, []byte(strings.ReplaceAll(material, "TESTING KEY", "PRIVATE KEY"))); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.Fields) < 10 {
		t.Fatalf("%d fields", len(s.Fields))
	}
	return s, k
}

func TestFields(t *testing.T) {
	s, k := read(t)
	for _, test := range s.Fields {
		f, err := legacy.Parse(test.Field)
		if err != nil {
			t.Errorf("%s: %v", test.Name, err)
			continue
		}
		if got, err := k.Open(f); err != nil || string(got) != test.Plaintext {
			t.Errorf("%s: %q, %v", test.Name, got, err)
		}
		raw, err := base64.StdEncoding.DecodeString(f.Data)
		if err != nil {
			raw, err = base64.URLEncoding.DecodeString(f.Data)
		}
		if err != nil {
			t.Fatal(err)
		}
		raw = bytes.TrimRight(raw, "=") // of a token in base64 once more: padding says nothing
		for i := range raw {
			changed := f
			flipped := bytes.Clone(raw)
			flipped[i] ^= 1 << (i % 8)
			changed.Data = base64.StdEncoding.EncodeToString(flipped)
			if len(raw) > 200 && i%100 != 0 { // RSA takes its time
				continue
			}
			if got, err := k.Open(changed); !errors.Is(err, legacy.ErrInvalid) && !errors.Is(err, legacy.ErrMalformed) || got != nil {
				t.Errorf("%s, byte %d changed: %q, %v", test.Name, i, got, err)
			}
			changed.Data = base64.StdEncoding.EncodeToString(raw[:i])
			if got, err := k.Open(changed); err == nil || got != nil {
				t.Errorf("%s, %d bytes: %q", test.Name, i, got)
			}
		}
		f.KeyID = "none"
		if _, err := k.Open(f); !errors.Is(err, legacy.ErrKeyUnknown) {
			t.Errorf("%s, other key: %v", test.Name, err)
		}
	}
}

// TestShortFernet gives tokens with a valid HMAC that are no Fernet tokens.
func TestShortFernet(t *testing.T) {
	s, k := read(t)
	key, err := fernet.DecodeKey(s.Keys["fernet-1"])
	if err != nil {
		t.Fatal(err)
	}
	token, err := fernet.EncryptAndSign([]byte("x"), key)
	if err != nil {
		t.Fatal(err)
	}
	f := legacy.Field{Data: string(token), KeyID: "fernet-1", Algorithm: legacy.Fernet}
	if got, err := k.Open(f); err != nil || string(got) != "x" {
		t.Fatalf("%q, %v", got, err)
	}
	for n := range len(bytes.TrimRight(token, "=")) {
		f.Data = string(token[:n])
		if got, err := k.Open(f); err == nil {
			t.Errorf("%d characters: %q", n, got)
		}
	}
}

func TestParse(t *testing.T) {
	for _, text := range []string{
		``, `null`, `[]`, `{}`, `{"encrypted_data":"AA==","key_id":"k"}`, `{"encrypted_data":"AA==","key_id":"k","algorithm":"rot13"}`,
		`{"encrypted_data":"","key_id":"k","algorithm":"fernet"}`, `{"encrypted_data":"AA==","algorithm":"fernet"}`,
		`{"encrypted_data":1,"key_id":"k","algorithm":"fernet"}`,
	} {
		if f, err := legacy.Parse([]byte(text)); !errors.Is(err, legacy.ErrMalformed) || f != (legacy.Field{}) {
			t.Errorf("%s: %+v, %v", text, f, err)
		}
	}
	if _, err := legacy.Parse(make([]byte, legacy.MaxField+1)); !errors.Is(err, legacy.ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
}

func TestAddRefuses(t *testing.T) {
	for name, material := range map[string]string{
		"short":     "c2VjcmV0",
		"no text":   "\x00\x01",
		"empty":     "",
		"no RSA":    "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
		"no base64": strings.Repeat("*", 44),
	} {
		if err := legacy.NewKeys().Add("k", []byte(material)); err == nil || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReencrypt takes all fields over into a ring and counts.
func TestReencrypt(t *testing.T) {
	s, k := read(t)
	dir := filepath.Join(t.TempDir(), "keys")
	b, err := local.Open(dir, local.Master{File: filepath.Join(dir, "master.key"), Generate: true}, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ring, _ := keystest.Ring(t, b, keys.Options{})
	where := keys.Context{Tenant: "acme", Pointer: "/ssn"}
	var items []legacy.Item
	for _, test := range s.Fields {
		f, err := legacy.Parse(test.Field)
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, legacy.Item{Field: f, Class: keys.Confidential, Context: where})
	}
	good := len(items)
	lost, public := items[0], items[0]
	lost.Field.KeyID, public.Class = "lost", keys.Public
	items = append(items, lost, public)
	results, counts, err := k.Reencrypt(t.Context(), ring, keys.By{}, items)
	if err != nil || len(results) != len(items) {
		t.Fatalf("%d results, %v", len(results), err)
	}
	want := legacy.Counts{
		Total:  good + 2,
		Done:   map[legacy.Algorithm]int{legacy.Fernet: 6, legacy.AES256GCM: 3, legacy.RSA2048: 2, legacy.RSA4096: 2},
		Failed: map[string]int{"key_unknown": 1, "classification_not_encrypted": 1},
	}
	if counts.Total != want.Total || !maps.Equal(counts.Done, want.Done) || !maps.Equal(counts.Failed, want.Failed) {
		t.Errorf("counted %+v, want %+v", counts, want)
	}
	for i, test := range s.Fields {
		got, err := ring.DecryptOne(t.Context(), keys.By{}, keys.Ciphertext{Text: results[i].Text, Context: where})
		if err != nil || string(got) != test.Plaintext {
			t.Errorf("%s: %q, %v", test.Name, got, err)
		}
	}
}

// FuzzField gives anything as a field: nothing panics, and only what the
// sample holds opens.
func FuzzField(f *testing.F) {
	s, k := read(f)
	known := map[string]bool{}
	for _, test := range s.Fields {
		f.Add([]byte(test.Field))
		known[test.Plaintext] = true
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		field, err := legacy.Parse(text)
		if err != nil {
			if field != (legacy.Field{}) {
				t.Fatalf("%+v beside %v", field, err)
			}
			return
		}
		if plain, err := k.Open(field); err == nil && !known[string(plain)] || err != nil && plain != nil {
			t.Fatalf("opened %s: %q, %v", text, plain, err)
		}
	})
}
