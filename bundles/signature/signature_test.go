package signature_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/bundles/signature"
)

// content is a bundle by file name.
type content map[string]string

func (c content) files(fn func(string, io.Reader) error) error {
	for name, text := range c {
		if err := fn(name, strings.NewReader(text)); err != nil {
			return err
		}
	}
	return nil
}

// with is a copy in which a file has another text; an empty one removes it.
func (c content) with(name, text string) content {
	next := content{}
	for n, t := range c {
		next[n] = t
	}
	if next[name] = text; text == "" {
		delete(next, name)
	}
	return next
}

func sample() content {
	return content{
		".manifest":         `{"revision": "r1", "roots": ["app"]}`,
		"app/policy.rego":   "package app\n\nallow if input.user == \"alice\"\n",
		"app/data.json":     `{"b": [1, 2.50, {"x": null}], "a": "<&>"}`,
		"app/sub/data.yaml": "k: v\nlist:\n- 1\n- true\n",
		"readme.md":         "signed as well\n",
	}
}

// now is the time of every test.
var now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

// pair is a key in files.
type pair struct {
	private, public string
}

// secretText is longer than the least length of each algorithm.
const secretText = "correct horse battery staple correct horse battery staple correct horse\n"

// keys are made once: RSA keys take their time.
var keys = sync.OnceValue(func() map[string]crypto.Signer {
	made := map[string]crypto.Signer{}
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			panic(err)
		}
		made[name] = k
	}
	for _, name := range []string{"RSA", "other RSA"} {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		made[name] = k
	}
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	made["Ed25519"] = k
	return made
})

// kindOf is the kind of key that an algorithm uses.
func kindOf(a signature.Algorithm) string {
	switch a {
	case "ES256":
		return "P-256"
	case "ES384":
		return "P-384"
	case "ES512":
		return "P-521"
	case "EdDSA":
		return "Ed25519"
	}
	return "RSA"
}

// keyFiles writes a key to files and gives their names.
func keyFiles(t testing.TB, a signature.Algorithm) pair {
	t.Helper()
	if a.Secret() {
		file := write(t, "secret", secretText, 0o600)
		return pair{private: file, public: file}
	}
	return pemFiles(t, kindOf(a))
}

func pemFiles(t testing.TB, kind string) pair {
	t.Helper()
	k := keys()[kind]
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pair{
		private: write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), 0o600),
		public:  write(t, "key.pub", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})), 0o644),
	}
}

func write(t testing.TB, name, text string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func sign(t testing.TB, p pair, o signature.SignerOptions, c content) []byte {
	t.Helper()
	raw, err := os.ReadFile(p.private)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.NewSigner(raw, o)
	if err != nil {
		t.Fatal(err)
	}
	signatures, err := s.Sign(c.files)
	if err != nil {
		t.Fatal(err)
	}
	return signatures
}

func ring(t testing.TB, configs ...signature.KeyConfig) *signature.Keyring {
	t.Helper()
	r := signature.NewKeyring(signature.Options{Now: clock})
	commit, err := r.Prepare(configs)
	if err != nil {
		t.Fatal(err)
	}
	commit()
	return r
}

// refused checks the reason of a refusal; an empty one means that there is
// none.
func refused(t testing.TB, err error, want signature.Reason) *signature.Error {
	t.Helper()
	e, _ := errors.AsType[*signature.Error](err)
	switch {
	case want == "" && err != nil:
		t.Fatalf("refused: %v", err)
	case want != "" && e == nil:
		t.Fatalf("error %v, want a refusal for %s", err, want)
	case want != "" && e.Reason != want:
		t.Fatalf("refused for %v, want %s", err, want)
	}
	return e
}

func TestEveryAlgorithm(t *testing.T) {
	for _, a := range signature.Algorithms() {
		t.Run(string(a), func(t *testing.T) {
			p := keyFiles(t, a)
			signatures := sign(t, p, signature.SignerOptions{Algorithm: a, KeyID: "ci"}, sample())
			r := ring(t, signature.KeyConfig{ID: "ci", Algorithm: a, File: p.public})
			proof, err := r.Verify("app", signatures, sample().files)
			refused(t, err, "")
			if proof.KeyID != "ci" || proof.Algorithm != a || proof.Files != len(sample()) || len(proof.Statement) != 64 {
				t.Errorf("proof %+v", proof)
			}
			_, err = r.Verify("app", signatures, sample().with("app/policy.rego", "package app\n").files)
			refused(t, err, signature.FileChanged)
		})
	}
}

func TestEveryAlgorithmRefusesTheOthers(t *testing.T) {
	var configs []signature.KeyConfig
	files := map[signature.Algorithm]pair{}
	for _, a := range signature.Algorithms() {
		files[a] = keyFiles(t, a)
		configs = append(configs, signature.KeyConfig{ID: string(a), Algorithm: a, File: files[a].public})
	}
	r := ring(t, configs...)
	for _, a := range signature.Algorithms() {
		for _, b := range signature.Algorithms() {
			want := signature.AlgorithmNotAllowed
			if a == b {
				want = ""
			}
			// made by a, said to be made by the key of b
			signatures := sign(t, files[a], signature.SignerOptions{Algorithm: a, KeyID: string(b)}, content{"x.rego": "package x"})
			_, err := r.Verify("app", signatures, content{"x.rego": "package x"}.files)
			refused(t, err, want)
		}
	}
}

// TestContentNotBytes: white space in data is not signed, by OPA's format, and
// Statement stays the same.
func TestContentNotBytes(t *testing.T) {
	p := keyFiles(t, "ES256")
	signatures := sign(t, p, signature.SignerOptions{Algorithm: "ES256", KeyID: "ci"}, sample())
	r := ring(t, signature.KeyConfig{ID: "ci", Algorithm: "ES256", File: p.public})
	first, err := r.Verify("app", signatures, sample().files)
	refused(t, err, "")
	spaced := sample().with("app/data.json", "{\"a\":\"<&>\",\n\"b\":[1,2.50,{\"x\":null}]}").with("app/sub/data.yaml", "list: [1, true]\nk: v\n")
	second, err := r.Verify("app", signatures, spaced.files)
	refused(t, err, "")
	if first.Statement != second.Statement {
		t.Errorf("statement %s, then %s", first.Statement, second.Statement)
	}
	again := sign(t, p, signature.SignerOptions{Algorithm: "ES256", KeyID: "ci"}, spaced)
	third, err := r.Verify("app", again, sample().files)
	refused(t, err, "")
	if first.Statement != third.Statement {
		t.Errorf("statement %s, signed again %s", first.Statement, third.Statement)
	}
	other := sample().with("readme.md", "x")
	fourth, err := r.Verify("app", sign(t, p, signature.SignerOptions{Algorithm: "ES256", KeyID: "ci"}, other), other.files)
	refused(t, err, "")
	if first.Statement == fourth.Statement {
		t.Error("two bundles have one statement")
	}
}

func TestReadError(t *testing.T) {
	p := keyFiles(t, "EdDSA")
	signatures := sign(t, p, signature.SignerOptions{Algorithm: "EdDSA", KeyID: "ci"}, sample())
	r := ring(t, signature.KeyConfig{ID: "ci", Algorithm: "EdDSA", File: p.public})
	broken := errors.New("disk")
	for _, name := range []string{"app/policy.rego", "app/data.json"} {
		_, err := r.Verify("app", signatures, func(fn func(string, io.Reader) error) error {
			return fn(name, io.MultiReader(strings.NewReader("x"), readFails{broken}))
		})
		if e, ok := errors.AsType[*signature.Error](err); ok || !errors.Is(err, broken) {
			t.Errorf("%s: error %v (%v), want the reader's", name, err, e)
		}
	}
}

type readFails struct{ err error }

func (r readFails) Read([]byte) (int, error) { return 0, r.err }

func TestSignRefuses(t *testing.T) {
	p := keyFiles(t, "ES256")
	raw, err := os.ReadFile(p.private)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.NewSigner(raw, signature.SignerOptions{Algorithm: "ES256", Limits: signature.Limits{Files: 2}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		content content
		want    string
	}{
		{"a signature", content{".signatures.json": "{}"}, "a signature is not signed"},
		{"a nested signature", content{"x/.signatures.json": "{}"}, "a signature is not signed"},
		{"data that is not JSON", content{"data.json": "{"}, "data.json cannot be parsed"},
		{"a member twice", content{"data.json": `{"a": 1, "a": 2}`}, "a member is there twice"},
		{"too many", content{"a.rego": "", "b.rego": "", "c.rego": ""}, "more than 2 files"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := s.Sign(tt.content.files); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	p := keyFiles(t, "PS384")
	signatures := sign(t, p, signature.SignerOptions{Algorithm: "PS384", KeyID: "k", Scope: "write"}, sample())
	d, err := signature.Describe(signatures, signature.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (signature.Description{KeyID: "k", Algorithm: "PS384", Scope: "write", Files: 5}); *d != want {
		t.Errorf("%+v, want %+v", *d, want)
	}
}

func TestAlgorithmFor(t *testing.T) {
	for kind, want := range map[string]signature.Algorithm{"RSA": "RS256", "P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"} {
		p := pemFiles(t, kind)
		for _, file := range []string{p.private, p.public} {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := signature.AlgorithmFor(raw); got != want || err != nil {
				t.Errorf("%s: %s, %v", kind, got, err)
			}
		}
	}
	if got, err := signature.AlgorithmFor([]byte(secretText)); err == nil {
		t.Errorf("a secret has the algorithm %s", got)
	}
	if !slices.Contains(signature.Algorithms(), "EdDSA") || slices.Contains(signature.Algorithms(), "none") {
		t.Errorf("algorithms %v", signature.Algorithms())
	}
}
