package signature_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/bundles/signature"
)

// TestChoice is which keys may vouch for which bundle, and when.
func TestChoice(t *testing.T) {
	p := keyFiles(t, "ES256")
	other := keyFiles(t, "ES384")
	hour := time.Hour
	key := func(id string, change func(*signature.KeyConfig)) signature.KeyConfig {
		c := signature.KeyConfig{ID: id, Algorithm: "ES256", File: p.public}
		if change != nil {
			change(&c)
		}
		return c
	}
	names := func(list ...string) func(*signature.KeyConfig) {
		return func(c *signature.KeyConfig) { c.Names = list }
	}
	window := func(from, to time.Time) func(*signature.KeyConfig) {
		return func(c *signature.KeyConfig) { c.NotBefore, c.NotAfter = from, to }
	}
	otherKey := func(id string, names ...string) signature.KeyConfig {
		return signature.KeyConfig{ID: id, Algorithm: "ES384", File: other.public, Names: names}
	}
	for _, tt := range []struct {
		name  string
		keyID string // in the signature
		keys  []signature.KeyConfig
		want  signature.Reason
		by    string
	}{
		{"no keys", "ci", nil, signature.KeyUnknown, ""},
		{"no keys, no id", "", nil, signature.KeyUnknown, ""},
		{"by id", "ci", []signature.KeyConfig{otherKey("x"), key("ci", nil)}, "", "ci"},
		{"another id only", "ci", []signature.KeyConfig{key("old", nil)}, signature.KeyUnknown, ""},
		{"the name is allowed", "ci", []signature.KeyConfig{key("ci", names("x", "app"))}, "", "ci"},
		{"the name is not", "ci", []signature.KeyConfig{key("ci", names("x", "app2"))}, signature.KeyNotForBundle, ""},
		{"an id is not looked for elsewhere", "ci", []signature.KeyConfig{key("ci", names("x")), key("all", nil)}, signature.KeyNotForBundle, ""},
		{"begins now", "ci", []signature.KeyConfig{key("ci", window(now, time.Time{}))}, "", "ci"},
		{"begins later", "ci", []signature.KeyConfig{key("ci", window(now.Add(1), time.Time{}))}, signature.KeyOutsideWindow, ""},
		{"ends later", "ci", []signature.KeyConfig{key("ci", window(time.Time{}, now.Add(1)))}, "", "ci"},
		{"ends now", "ci", []signature.KeyConfig{key("ci", window(time.Time{}, now))}, signature.KeyOutsideWindow, ""},
		{"rotation: the new one", "new", []signature.KeyConfig{otherKey("old"), key("new", window(now.Add(-hour), now.Add(hour)))}, "", "new"},
		{"no id: any that the name allows", "", []signature.KeyConfig{otherKey("x"), key("ci", names("app"))}, "", "ci"},
		{"no id: none that the name allows", "", []signature.KeyConfig{key("ci", names("x"))}, signature.KeyNotForBundle, ""},
		{"no id: outside the window", "", []signature.KeyConfig{key("a", names("x")), key("ci", window(time.Time{}, now))}, signature.KeyOutsideWindow, ""},
		{"no id: another algorithm", "", []signature.KeyConfig{otherKey("x"), key("ci", names("x"))}, signature.AlgorithmNotAllowed, ""},
		{"another key under the id", "ci", []signature.KeyConfig{otherKey("ci")}, signature.AlgorithmNotAllowed, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			signatures := sign(t, p, signature.SignerOptions{Algorithm: "ES256", KeyID: tt.keyID}, sample())
			proof, err := ring(t, tt.keys...).Verify("app", signatures, sample().files)
			refused(t, err, tt.want)
			if tt.want == "" && proof.KeyID != tt.by {
				t.Errorf("by the key %q, want %q", proof.KeyID, tt.by)
			}
		})
	}
}

func TestScope(t *testing.T) {
	p := keyFiles(t, "ES256")
	for _, tt := range []struct {
		signed, key string
		want        signature.Reason
	}{
		{"", "", ""},
		{"write", "write", ""},
		{"write", "", signature.ScopeMismatch},
		{"", "write", signature.ScopeMismatch},
		{"Write", "write", signature.ScopeMismatch},
	} {
		signatures := sign(t, p, signature.SignerOptions{Algorithm: "ES256", KeyID: "ci", Scope: tt.signed}, sample())
		r := ring(t, signature.KeyConfig{ID: "ci", Algorithm: "ES256", File: p.public, Scope: tt.key})
		_, err := r.Verify("app", signatures, sample().files)
		refused(t, err, tt.want)
	}
}

// TestRotation: keys change at once, and only by commit.
func TestRotation(t *testing.T) {
	first, second := keyFiles(t, "ES256"), keyFiles(t, "EdDSA")
	byFirst := sign(t, first, signature.SignerOptions{Algorithm: "ES256", KeyID: "1"}, sample())
	bySecond := sign(t, second, signature.SignerOptions{Algorithm: "EdDSA", KeyID: "2"}, sample())
	configs := []signature.KeyConfig{
		{ID: "1", Algorithm: "ES256", File: first.public},
		{ID: "2", Algorithm: "EdDSA", File: second.public},
	}
	r := ring(t, configs[0])
	try := func(signatures []byte, want signature.Reason) {
		t.Helper()
		_, err := r.Verify("app", signatures, sample().files)
		refused(t, err, want)
	}
	commit, err := r.Prepare(configs)
	if err != nil {
		t.Fatal(err)
	}
	try(byFirst, "")
	try(bySecond, signature.KeyUnknown)
	commit()
	try(byFirst, "")
	try(bySecond, "")
	if commit, err = r.Prepare(configs[1:]); err != nil {
		t.Fatal(err)
	}
	commit()
	try(byFirst, signature.KeyUnknown)
	try(bySecond, "")
	if _, err := r.Prepare([]signature.KeyConfig{configs[0], {ID: "3", Algorithm: "ES256", File: "nowhere.pem"}}); err == nil {
		t.Fatal("a key without a file was taken")
	}
	try(byFirst, signature.KeyUnknown)
	try(bySecond, "")
	if got := r.Keys(); len(got) != 1 || r.Len() != 1 || got[0].ID != "2" || !got[0].Valid {
		t.Errorf("keys %+v", got)
	}
}

func TestPrepareRefuses(t *testing.T) {
	rsaPair, ec, ed := keyFiles(t, "RS256"), keyFiles(t, "ES256"), keyFiles(t, "EdDSA")
	read := func(file string) string {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	weak := string(pem.EncodeToMemory(&pem.Block{
		Type:  "RSA PUBLIC KEY",
		Bytes: x509.MarshalPKCS1PublicKey(&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}),
	}))
	for _, tt := range []struct {
		name      string
		id        string
		algorithm signature.Algorithm
		file      string
		want      string
	}{
		{"no id", "", "ES256", ec.public, "the id is empty"},
		{"a long id", strings.Repeat("x", 257), "ES256", ec.public, "longer than 256 bytes"},
		{"none", "k", "none", ec.public, `unknown algorithm "none"`},
		{"no algorithm", "k", "", ec.public, "unknown algorithm"},
		{"lower case", "k", "es256", ec.public, "unknown algorithm"},
		{"no file", "k", "ES256", "nowhere", "no such file"},
		{"a folder", "k", "ES256", t.TempDir(), "not a regular file"},
		{"a large file", "k", "ES256", write(t, "k", strings.Repeat("x", 65<<10), 0o600), "larger than 65536 bytes"},
		{"not PEM", "k", "ES256", write(t, "k", "hello", 0o600), "holds no PEM block"},
		{"two keys", "k", "ES256", write(t, "k", read(ec.public)+read(ec.public), 0o600), "more than one PEM block"},
		{"a private key", "k", "ES256", ec.private, "holds a private key"},
		{"RSA as EC", "k", "ES256", rsaPair.public, "an RSA key cannot be used with ES256"},
		{"EC as RSA", "k", "RS256", ec.public, "an EC key on P-256 cannot be used with RS256"},
		{"the wrong curve", "k", "ES384", ec.public, "an EC key on P-256 cannot be used with ES384"},
		{"Ed25519 as EC", "k", "ES256", ed.public, "an Ed25519 key cannot be used with ES256"},
		{"weak RSA", "k", "RS256", write(t, "k", weak, 0o600), "an RSA key of 1024 bits"},
		{"a public key as the secret", "k", "HS256", write(t, "k", read(rsaPair.public), 0o600), "needs a secret"},
		{"a short secret", "k", "HS384", write(t, "k", strings.Repeat("x", 47)+"\n\n\n", 0o600), "a secret of 47 bytes; HS384 needs at least 48"},
		{"a secret that others read", "k", "HS256", write(t, "k", secretText, 0o640), "make it 0600"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := signature.NewKeyring(signature.Options{})
			_, err := r.Prepare([]signature.KeyConfig{{ID: tt.id, Algorithm: tt.algorithm, File: tt.file}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	good := signature.KeyConfig{ID: "k", Algorithm: "ES256", File: ec.public}
	r := signature.NewKeyring(signature.Options{})
	if _, err := r.Prepare([]signature.KeyConfig{good, good}); err == nil || !strings.Contains(err.Error(), "given twice") {
		t.Errorf("one id twice: %v", err)
	}
	good.NotBefore, good.NotAfter = now, now
	if _, err := r.Prepare([]signature.KeyConfig{good}); err == nil || !strings.Contains(err.Error(), "ends before it begins") {
		t.Errorf("an empty window: %v", err)
	}
	if _, err := r.Prepare(make([]signature.KeyConfig, 1001)); err == nil || !strings.Contains(err.Error(), "at most 1000") {
		t.Errorf("many keys: %v", err)
	}
}

// TestKeyForms are the files in which keys come.
func TestKeyForms(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	p := pair{
		private: write(t, "key.pem", encode("EC PARAMETERS", []byte{6, 8})+encode("EC PRIVATE KEY", sec1), 0o600),
		public:  write(t, "cert.pem", encode("CERTIFICATE", cert), 0o644),
	}
	signatures := sign(t, p, signature.SignerOptions{Algorithm: "ES256", KeyID: "ci"}, sample())
	_, err = ring(t, signature.KeyConfig{ID: "ci", Algorithm: "ES256", File: p.public}).Verify("app", signatures, sample().files)
	refused(t, err, "")

	rsaKey, ok := keys()["RSA"].(*rsa.PrivateKey)
	if !ok {
		t.Fatal("not an RSA key")
	}
	p = pair{
		private: write(t, "key.pem", encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), 0o600),
		public:  write(t, "key.pub", encode("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)), 0o644),
	}
	signatures = sign(t, p, signature.SignerOptions{Algorithm: "PS512", KeyID: "ci"}, sample())
	_, err = ring(t, signature.KeyConfig{ID: "ci", Algorithm: "PS512", File: p.public}).Verify("app", signatures, sample().files)
	refused(t, err, "")
}
