package keys_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/keystest"
)

var update = flag.Bool("update", false, "write the test vectors anew")

// vector is one file of testdata/ciphertext. Bytes are in hex.
type vector struct {
	Comment    string       `json:"comment"`
	Class      keys.Class   `json:"class"`
	KeyID      string       `json:"key_id"`
	KeyVersion uint32       `json:"key_version"`
	Context    keys.Context `json:"context"`
	Plaintext  string       `json:"plaintext"`
	DataKey    string       `json:"data_key"`
	Wrapped    string       `json:"wrapped_data_key"`
	Nonce      string       `json:"nonce"`
	AAD        string       `json:"associated_data"`
	MACKey     string       `json:"mac_key,omitempty"`
	MACVersion uint32       `json:"mac_version,omitempty"`
	MACMessage string       `json:"mac_message,omitempty"`
	Ciphertext string       `json:"ciphertext"`
}

// fixed is a backend of one data key, which is as good as no secret.
type fixed struct {
	keys.Backend
	v *vector
}

func (f fixed) Describe(context.Context, string) (keys.Key, error) {
	return keys.Key{Name: f.v.KeyID, Latest: f.v.KeyVersion}, nil
}

func (f fixed) DataKeys(_ context.Context, _ string, contexts [][]byte) ([]keys.DataKey, error) {
	made := make([]keys.DataKey, len(contexts))
	for i := range made {
		made[i] = keys.DataKey{Plaintext: unhex(f.v.DataKey), Wrapped: keys.WrappedKey{Version: f.v.KeyVersion, Blob: unhex(f.v.Wrapped)}}
	}
	return made, nil
}

func (f fixed) Unwrap(_ context.Context, _ string, items []keys.Sealed) ([]keys.Opened, error) {
	opened := make([]keys.Opened, len(items))
	for i, item := range items {
		opened[i] = keys.Opened{Plaintext: unhex(f.v.DataKey)}
		if !bytes.Equal(item.Blob, unhex(f.v.Wrapped)) {
			opened[i] = keys.Opened{Err: keys.ErrInvalid}
		}
	}
	return opened, nil
}

func (f fixed) mac(message []byte) []byte {
	h := hmac.New(sha256.New, unhex(f.v.MACKey))
	h.Write(message)
	return h.Sum(nil)
}

func (f fixed) MAC(_ context.Context, _ string, _ uint32, messages [][]byte) ([]keys.Tag, error) {
	tags := make([]keys.Tag, len(messages))
	for i, m := range messages {
		tags[i] = keys.Tag{Version: f.v.MACVersion, Bytes: f.mac(m)}
	}
	return tags, nil
}

func (f fixed) VerifyMAC(_ context.Context, _ string, items []keys.MACCheck) ([]error, error) {
	errs := make([]error, len(items))
	for i, item := range items {
		if !hmac.Equal(f.mac(item.Message), item.Tag.Bytes) {
			errs[i] = keys.ErrInvalid
		}
	}
	return errs, nil
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// ringOf gives a ring over the fixed keys of a vector.
func ringOf(t testing.TB, v *vector) *keys.Ring {
	t.Helper()
	o := keys.Options{Prefix: "verdict-", Rand: &once{first: make([]byte, 16), rest: unhex(v.Nonce)}}
	if strings.HasSuffix(v.KeyID, "-rsa-4096") {
		p := keys.DefaultPolicies()[v.Class]
		p.Algorithm = keys.RSA4096
		o.Policies = keys.Policies{v.Class: p}
	}
	r, _ := keystest.Ring(t, fixed{v: v}, o)
	return r
}

// once gives the ring its name and then, again and again, the nonce.
type once struct{ first, rest []byte }

func (o *once) Read(p []byte) (int, error) {
	if o.first != nil {
		n := copy(p, o.first)
		o.first = nil
		return n, nil
	}
	return copy(p, o.rest), nil
}

// TestVectors opens each vector by the description of the format alone, and
// then by the ring, which also writes the same text.
func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	files, err := filepath.Glob("testdata/ciphertext/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			v := readVector(t, file)
			v.check(t)
			r := ringOf(t, v)
			text, err := r.EncryptOne(t.Context(), keys.By{}, keys.Value{Class: v.Class, Context: v.Context, Data: unhex(v.Plaintext)})
			if err != nil || text != v.Ciphertext {
				t.Errorf("the ring writes %s, %v", text, err)
			}
			got, err := r.DecryptOne(t.Context(), keys.By{}, keys.Ciphertext{Text: v.Ciphertext, Context: v.Context})
			if err != nil || hex.EncodeToString(got) != v.Plaintext {
				t.Errorf("the ring reads %x, %v", got, err)
			}
		})
	}
}

func readVector(t testing.TB, file string) *vector {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	v := &vector{}
	if err := json.Unmarshal(content, v); err != nil {
		t.Fatal(err)
	}
	return v
}

// check opens a vector without the ring.
func (v *vector) check(t *testing.T) {
	e, err := keystest.Decode(v.Ciphertext)
	if err != nil {
		t.Fatal(err)
	}
	if e.Text() != v.Ciphertext || e.Class != byte(v.Class) || e.KeyID != v.KeyID || e.Version != v.KeyVersion ||
		hex.EncodeToString(e.Wrapped) != v.Wrapped || hex.EncodeToString(e.Nonce) != v.Nonce {
		t.Errorf("decoded: %+v", e)
	}
	aad := e.AAD(v.Context.Tenant, v.Context.Type, v.Context.ID, v.Context.Pointer)
	if hex.EncodeToString(aad) != v.AAD {
		t.Errorf("associated data %x, want %s", aad, v.AAD)
	}
	block, err := aes.NewCipher(unhex(v.DataKey))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := gcm.Open(nil, e.Nonce, e.Body, aad)
	if err != nil || hex.EncodeToString(plain) != v.Plaintext {
		t.Errorf("plaintext %x, %v", plain, err)
	}
	if v.MACKey == "" {
		return
	}
	digest := sha256.Sum256(keystest.Parts(string(aad), string(e.Unauthenticated())))
	message := append([]byte("verdict/mac/v1"), digest[:]...)
	if hex.EncodeToString(message) != v.MACMessage || e.MACVersion != v.MACVersion || !hmac.Equal(e.MAC, fixed{v: v}.mac(message)) {
		t.Errorf("MAC of %x: version %d, %x", message, e.MACVersion, e.MAC)
	}
}

// writeVectors makes the files of fixed keys, nonces and values.
func writeVectors(t *testing.T) {
	sequence := func(from byte, n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = from + byte(i)
		}
		return hex.EncodeToString(b)
	}
	full := keys.Context{Tenant: "acme", Type: "customer", ID: "17", Pointer: "/ssn"}
	for name, v := range map[string]vector{
		"internal": {Comment: "Class internal: the data key is the tenant's.", Class: keys.Internal, KeyID: "verdict-internal", KeyVersion: 1, Context: full, Plaintext: hex.EncodeToString([]byte(`"123-45-6789"`))},
		"empty-value-and-context": {
			Comment: "Nothing but the class is said of the value, and it is empty. Parts that are left out are bound as empty ones.",
			Class:   keys.Confidential, KeyID: "verdict-confidential", KeyVersion: 4_294_967_295,
		},
		"restricted": {Comment: "Class restricted: the data key is the document's.", Class: keys.Restricted, KeyID: "verdict-restricted", KeyVersion: 7, Context: full, Plaintext: hex.EncodeToString([]byte(`{"a":[1,null]}`))},
		"top-secret": {
			Comment: "Class top_secret under an RSA key: a MAC follows the body. The wrapped data key of a real value has 512 bytes.",
			Class:   keys.TopSecret, KeyID: "verdict-top_secret", KeyVersion: 2, Context: full, Plaintext: hex.EncodeToString([]byte("launch")), MACKey: sequence(0xa0, 32), MACVersion: 3,
		},
		"internal-rsa": {
			Comment: "Class internal under an RSA key, which is not its default: the key's id names the algorithm.",
			Class:   keys.Internal, KeyID: "verdict-internal-rsa-4096", KeyVersion: 1, Context: keys.Context{Tenant: "ä/ö"}, Plaintext: "00ff", MACKey: sequence(0xa0, 32), MACVersion: 1,
		},
	} {
		v.DataKey, v.Wrapped, v.Nonce = sequence(0, 32), sequence(0x40, 72), sequence(0xf0, 12)
		if v.MACKey != "" {
			v.Wrapped = sequence(0x40, 64)
		}
		var err error
		if v.Ciphertext, err = ringOf(t, &v).EncryptOne(t.Context(), keys.By{}, keys.Value{Class: v.Class, Context: v.Context, Data: unhex(v.Plaintext)}); err != nil {
			t.Fatal(err)
		}
		e, err := keystest.Decode(v.Ciphertext)
		if err != nil {
			t.Fatal(err)
		}
		aad := e.AAD(v.Context.Tenant, v.Context.Type, v.Context.ID, v.Context.Pointer)
		v.AAD = hex.EncodeToString(aad)
		if v.MACKey != "" {
			digest := sha256.Sum256(keystest.Parts(string(aad), string(e.Unauthenticated())))
			v.MACMessage = hex.EncodeToString(append([]byte("verdict/mac/v1"), digest[:]...))
		}
		content, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("testdata/ciphertext", name+".json"), append(content, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInspect(t *testing.T) {
	v := readVector(t, "testdata/ciphertext/top-secret.json")
	h, err := keys.Inspect(v.Ciphertext)
	if err != nil || h != (keys.Header{Class: keys.TopSecret, KeyID: "verdict-top_secret", Version: 2, MACVersion: 3}) {
		t.Errorf("%+v, %v", h, err)
	}
	for _, text := range []string{
		"", "vd1", "vd1.", "vd2." + v.Ciphertext[4:], " " + v.Ciphertext, v.Ciphertext + " ", v.Ciphertext + "\n",
		v.Ciphertext[:40] + "\n" + v.Ciphertext[40:], v.Ciphertext + "==", "vd1." + strings.Repeat("A", 1000),
		"vd1." + strings.Repeat("A", keys.MaxText),
	} {
		if h, err := keys.Inspect(text); !errors.Is(err, keys.ErrMalformed) || h != (keys.Header{}) {
			t.Errorf("%.60q: %+v, %v", text, h, err)
		}
	}
}

// FuzzCiphertext gives the parser anything: it does not panic, what it takes
// is written back as the same text, and the ring opens nothing but what it
// wrote.
func FuzzCiphertext(f *testing.F) {
	files, err := filepath.Glob("testdata/ciphertext/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("%d seeds, %v", len(files), err)
	}
	known := map[string]*vector{}
	for _, file := range files {
		v := readVector(f, file)
		known[v.Ciphertext] = v
		f.Add(v.Ciphertext)
		f.Add(v.Ciphertext[:len(v.Ciphertext)/2])
	}
	v := readVector(f, "testdata/ciphertext/top-secret.json")
	r := ringOf(f, v)
	f.Fuzz(func(t *testing.T, text string) {
		h, err := keys.Inspect(text)
		if err != nil {
			if !errors.Is(err, keys.ErrMalformed) || h != (keys.Header{}) {
				t.Fatalf("%+v, %v", h, err)
			}
			return
		}
		e, err := keystest.Decode(text)
		if err != nil || e.Text() != text || e.KeyID != h.KeyID || e.Version != h.Version || e.Class != byte(h.Class) {
			t.Fatalf("read as %+v, written as %q, %v", h, e.Text(), err)
		}
		plain, err := r.DecryptOne(t.Context(), keys.By{}, keys.Ciphertext{Text: text, Context: v.Context})
		if (err == nil) != (text == v.Ciphertext) || err != nil && plain != nil {
			t.Fatalf("opened %q: %q, %v", text, plain, err)
		}
	})
}

func TestClasses(t *testing.T) {
	for _, c := range keys.Classes() {
		for _, name := range []string{c.String(), strings.ToUpper(c.String())} {
			if got, ok := keys.ParseClass(name); !ok || got != c {
				t.Errorf("%s: %v, %v", name, got, ok)
			}
		}
		text, err := json.Marshal(c)
		var back keys.Class
		if err != nil || json.Unmarshal(text, &back) != nil || back != c {
			t.Errorf("%v as JSON: %s, %v", c, text, err)
		}
	}
	for _, name := range []string{"", "secret", "Top_Secret", "public ", strings.Repeat("x", 1000)} {
		var c keys.Class
		if _, ok := keys.ParseClass(name); ok {
			t.Errorf("%q is a class", name)
		}
		if err := c.UnmarshalText([]byte(name)); err == nil || len(err.Error()) > 300 {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := json.Marshal(keys.Class(0)); err == nil {
		t.Error("class 0 has a text")
	}
}

func TestPolicies(t *testing.T) {
	good := keys.Policy{Algorithm: keys.AES256, RotationDays: 90, MaxCacheTimeMinutes: 60}
	for _, test := range []struct {
		name   string
		change func(*keys.Policy)
		ok     bool
	}{
		{"as it is", func(*keys.Policy) {}, true},
		{"0 days", func(p *keys.Policy) { p.RotationDays = 0 }, false},
		{"1 day", func(p *keys.Policy) { p.RotationDays = 1 }, true},
		{"365 days", func(p *keys.Policy) { p.RotationDays = 365 }, true},
		{"366 days", func(p *keys.Policy) { p.RotationDays = 366 }, false},
		{"-1 minutes", func(p *keys.Policy) { p.MaxCacheTimeMinutes = -1 }, false},
		{"0 minutes", func(p *keys.Policy) { p.MaxCacheTimeMinutes = 0 }, true},
		{"1440 minutes", func(p *keys.Policy) { p.MaxCacheTimeMinutes = 1440 }, true},
		{"1441 minutes", func(p *keys.Policy) { p.MaxCacheTimeMinutes = 1441 }, false},
		{"rsa-4096", func(p *keys.Policy) { p.Algorithm = keys.RSA4096 }, true},
		{"rsa-2048", func(p *keys.Policy) { p.Algorithm = keys.RSA2048 }, false},
		{"no algorithm", func(p *keys.Policy) { p.Algorithm = "" }, false},
	} {
		p := good
		test.change(&p)
		if err := p.Validate(); (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	for name, want := range map[string]keys.Type{
		"aes256-gcm96": keys.AES256, "AES_256_GCM": keys.AES256, "aes_256_gcm": keys.AES256,
		"rsa-4096": keys.RSA4096, "RSA_4096": keys.RSA4096, "rsa_4096": keys.RSA4096,
		"FERNET": "", "fernet": "", "RSA_2048": "", "": "", "des": "",
	} {
		got, err := keys.ParseType(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	want := map[keys.Class]string{
		keys.Public:       "{aes256-gcm96 365 false true 120}",
		keys.Internal:     "{aes256-gcm96 180 false true 60}",
		keys.Confidential: "{aes256-gcm96 90 true true 30}",
		keys.Restricted:   "{aes256-gcm96 30 true false 0}",
		keys.TopSecret:    "{rsa-4096 7 true false 0}",
	}
	g := newRig(t, keys.Options{})
	for c, want := range want {
		if got := fmt.Sprint(g.ring.Policy(c)); got != want {
			t.Errorf("%v: %s, want %s", c, got, want)
		}
	}
}
