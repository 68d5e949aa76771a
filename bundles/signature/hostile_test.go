package signature_test

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/verdict-pdp/verdict/bundles/signature"
)

// forgery makes tokens that no honest signer makes.
type forgery struct {
	t       testing.TB
	key     any // of method
	method  jwt.SigningMethod
	header  map[string]any
	payload map[string]any
}

func (f forgery) token() string {
	f.t.Helper()
	encode := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			f.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	signed := encode(f.header) + "." + encode(f.payload)
	if f.method == nil {
		return signed + "."
	}
	sig, err := f.method.Sign(signed, f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func signaturesFile(tokens ...string) []byte {
	raw, err := json.Marshal(map[string]any{"signatures": tokens})
	if err != nil {
		panic(err)
	}
	return raw
}

// stage is a ring with one RSA key, and honest parts to forge from.
type stage struct {
	ring *signature.Keyring
	pair pair
	key  *rsa.PrivateKey
	list []any // files as the payload has them
}

func newStage(t testing.TB) stage {
	t.Helper()
	p := keyFiles(t, "RS256")
	k, ok := keys()["RSA"].(*rsa.PrivateKey)
	if !ok {
		t.Fatal("not an RSA key")
	}
	honest := sign(t, p, signature.SignerOptions{Algorithm: "RS256", KeyID: "ci"}, sample())
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(string(honest), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Files []any `json:"files"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return stage{
		ring: ring(t, signature.KeyConfig{ID: "ci", Algorithm: "RS256", File: p.public}),
		pair: p, key: k, list: claims.Files,
	}
}

// forge makes a signature that is honest but for what change does.
func (s stage) forge(t testing.TB, change func(*forgery)) []byte {
	t.Helper()
	f := forgery{
		t: t, key: s.key, method: jwt.SigningMethodRS256,
		header:  map[string]any{"alg": "RS256", "kid": "ci"},
		payload: map[string]any{"files": s.list},
	}
	change(&f)
	return signaturesFile(f.token())
}

// file is the entry of a payload's list.
func file(name, hash, algorithm string) map[string]any {
	return map[string]any{"name": name, "hash": hash, "algorithm": algorithm}
}

func TestHostileSignature(t *testing.T) {
	s := newStage(t)
	public, err := os.ReadFile(s.pair.public)
	if err != nil {
		t.Fatal(err)
	}
	honest := string(s.forge(t, func(*forgery) {}))
	token := strings.TrimSuffix(strings.TrimPrefix(honest, `{"signatures":["`), `"]}`)
	parts := strings.Split(token, ".")
	for _, tt := range []struct {
		name       string
		signatures []byte
		want       signature.Reason
	}{
		{"honest", []byte(honest), ""},
		{"absent", nil, signature.NoSignature},
		{"empty", []byte{}, signature.Format},
		{"not JSON", []byte("{"), signature.Format},
		{"not an object", []byte(`["x"]`), signature.Format},
		{"something follows", []byte(honest + "{}"), signature.Format},
		{"no signatures", []byte(`{}`), signature.Format},
		{"an empty list", []byte(`{"signatures": []}`), signature.Format},
		{"another case", []byte(strings.Replace(honest, "signatures", "Signatures", 1)), signature.Format},
		{"two signatures", signaturesFile(token, token), signature.Format},
		{"the list twice", []byte(strings.Replace(honest, `{`, `{"signatures":["x.y.z"],`, 1)), signature.Format},
		{"not a string", []byte(`{"signatures": [1]}`), signature.Format},
		{"another plugin", []byte(strings.Replace(honest, `{`, `{"plugin":"mine",`, 1)), signature.Format},
		{"OPA's own plugin", []byte(strings.Replace(honest, `{`, `{"plugin":"_default",`, 1)), ""},
		{"two parts", signaturesFile(parts[0] + "." + parts[1]), signature.Format},
		{"four parts", signaturesFile(token + ".x"), signature.Format},
		{"no parts", signaturesFile(""), signature.Format},
		{"header not base64", signaturesFile("!." + parts[1] + "." + parts[2]), signature.Format},
		{"header padded", signaturesFile(parts[0] + "==." + parts[1] + "." + parts[2]), signature.Format},
		{"payload not base64", signaturesFile(parts[0] + ".!." + parts[2]), signature.Format},
		{"signature not base64", signaturesFile(parts[0] + "." + parts[1] + ".!"), signature.Format},
		{"a line feed in it", signaturesFile(parts[0] + "." + parts[1] + "\n." + parts[2]), signature.SignatureInvalid},
		{"no signature in it", signaturesFile(parts[0] + "." + parts[1] + "."), signature.SignatureInvalid},
		{"a giant header", signaturesFile(strings.Repeat("A", 9<<10) + "." + parts[1] + "." + parts[2]), signature.Format},
		{"a giant JWT", signaturesFile(parts[0] + "." + strings.Repeat("A", 17<<20) + "." + parts[2]), signature.Format},
		{"alg none", s.forge(t, func(f *forgery) { f.header["alg"], f.method = "none", nil }), signature.AlgorithmNotAllowed},
		{"alg None", s.forge(t, func(f *forgery) { f.header["alg"], f.method = "None", nil }), signature.AlgorithmNotAllowed},
		{"HS256 with the public key", s.forge(t, func(f *forgery) {
			f.header["alg"], f.method, f.key = "HS256", jwt.SigningMethodHS256, public
		}), signature.AlgorithmNotAllowed},
		{"HS256 with the public key, said to be RS256", s.forge(t, func(f *forgery) {
			f.method, f.key = jwt.SigningMethodHS256, public
		}), signature.SignatureInvalid},
		{"RS512 by the right key", s.forge(t, func(f *forgery) {
			f.header["alg"], f.method = "RS512", jwt.SigningMethodRS512
		}), signature.AlgorithmNotAllowed},
		{"PS256 by the right key, said to be RS256", s.forge(t, func(f *forgery) { f.method = jwt.SigningMethodPS256 }), signature.SignatureInvalid},
		{"no alg", s.forge(t, func(f *forgery) { delete(f.header, "alg") }), signature.Format},
		{"the wrong key", s.forge(t, func(f *forgery) { f.key = keys()["other RSA"] }), signature.SignatureInvalid},
		{"another key's id", s.forge(t, func(f *forgery) { f.header["kid"] = "ops" }), signature.KeyUnknown},
		{"kid a number", s.forge(t, func(f *forgery) { f.header["kid"] = 7 }), signature.Format},
		{"kid too long", s.forge(t, func(f *forgery) { f.header["kid"] = strings.Repeat("k", 300) }), signature.Format},
		{"the header's id counts", s.forge(t, func(f *forgery) { f.payload["keyid"] = "ops" }), ""},
		{"the payload's id where the header has none", s.forge(t, func(f *forgery) {
			f.header["kid"], f.payload["keyid"] = "", "ops"
		}), signature.KeyUnknown},
		{"crit", s.forge(t, func(f *forgery) { f.header["crit"] = []string{"b64"} }), signature.Format},
		{"a key of its own", s.forge(t, func(f *forgery) {
			f.header["jwk"], f.key = map[string]any{"kty": "RSA"}, keys()["other RSA"]
		}), signature.SignatureInvalid},
		{"expired", s.forge(t, func(f *forgery) { f.payload["exp"] = now.Unix() }), signature.Expired},
		{"not yet", s.forge(t, func(f *forgery) { f.payload["nbf"] = now.Add(time.Second).Unix() }), signature.Expired},
		{"within its time", s.forge(t, func(f *forgery) {
			f.payload["exp"], f.payload["nbf"], f.payload["iat"] = now.Add(time.Second).Unix(), now.Unix(), "any"
		}), ""},
		{"files not a list", s.forge(t, func(f *forgery) { f.payload["files"] = "all" }), signature.Format},
		{"no files", s.forge(t, func(f *forgery) { delete(f.payload, "files") }), signature.FileExtra},
		{"a file twice", s.forge(t, func(f *forgery) { f.payload["files"] = append(s.list[:len(s.list):len(s.list)], s.list[0]) }), signature.Format},
		{"a file twice in two spellings", s.forge(t, func(f *forgery) {
			f.payload["files"] = append(s.list[:len(s.list):len(s.list)], file("./app//policy.rego", "00", "SHA-256"))
		}), signature.Format},
		{"a path that leads out", s.forge(t, func(f *forgery) {
			f.payload["files"] = []any{file("../app/policy.rego", "00", "SHA-256")}
		}), signature.Format},
		{"a file that is not there", s.forge(t, func(f *forgery) {
			f.payload["files"] = append(s.list[:len(s.list):len(s.list)], file("more.rego", "00", "SHA-256"))
		}), signature.FileMissing},
		{"a file left out", s.forge(t, func(f *forgery) { f.payload["files"] = s.list[1:] }), signature.FileExtra},
		{"too many files", s.forge(t, func(f *forgery) {
			var many []any
			for i := range 20_001 {
				many = append(many, file(fmt.Sprint(i), "", ""))
			}
			f.payload["files"] = many
		}), signature.Format},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proof, err := s.ring.Verify("app", tt.signatures, sample().files)
			refused(t, err, tt.want)
			if (proof == nil) != (err != nil) {
				t.Errorf("proof %v with error %v", proof, err)
			}
		})
	}
}

// TestHostileFiles: the signature is honest, the bundle is not what was signed.
func TestHostileFiles(t *testing.T) {
	s := newStage(t)
	honest := s.forge(t, func(*forgery) {})
	evil := `{"metadata": {"verdict": {"serial": 9}}, "metadata": null, `
	for _, tt := range []struct {
		name    string
		content content
		want    signature.Reason
		file    string
	}{
		{"honest", sample(), "", ""},
		{"missing file", sample().with("readme.md", ""), signature.FileMissing, "readme.md"},
		{"extra file", sample().with("app/more.rego", "package app"), signature.FileExtra, "app/more.rego"},
		{"extra test", sample().with("app/policy_test.rego", "package app"), signature.FileExtra, "app/policy_test.rego"},
		{"changed policy", sample().with("app/policy.rego", sample()["app/policy.rego"]+"\n"), signature.FileChanged, "app/policy.rego"},
		{"changed byte", sample().with("readme.md", "Signed as well\n"), signature.FileChanged, "readme.md"},
		{"changed data", sample().with("app/data.json", `{"b": [1, 2.5, {"x": null}], "a": "<&>"}`), signature.FileChanged, "app/data.json"},
		{"changed manifest", sample().with(".manifest", `{"revision": "r1", "roots": [""]}`), signature.FileChanged, ".manifest"},
		{"data that is YAML", sample().with("app/data.json", "b: [1, 2.50, {x: null}]\na: <&>\n"), signature.FileChanged, "app/data.json"},
		{"manifest that is YAML", sample().with(".manifest", "revision: r1\nroots: [app]\n"), signature.FileChanged, ".manifest"},
		{"YAML that is not", sample().with("app/sub/data.yaml", "k: [\n"), signature.FileChanged, "app/sub/data.yaml"},
		{"a second document", sample().with("app/data.json", sample()["app/data.json"]+"{}"), signature.FileChanged, "app/data.json"},
		{"a member twice, the hash is the same", sample().with("app/data.json", `{"a": "other", "b": [1, 2.50, {"x": null}], "a": "<&>"}`), signature.Format, "app/data.json"},
		{"a manifest's member twice", sample().with(".manifest", evil+`"revision": "r1", "roots": ["app"]}`), signature.Format, ".manifest"},
		{"nested signature", sample().with("app/.signatures.json", string(honest)), signature.Format, "app/.signatures.json"},
		{"moved", sample().with("readme.md", "").with("app/readme.md", "signed as well\n"), signature.FileExtra, "app/readme.md"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.ring.Verify("app", honest, tt.content.files)
			if e := refused(t, err, tt.want); e != nil && e.File != tt.file && tt.name != "moved" {
				t.Errorf("file %q, want %q", e.File, tt.file)
			}
		})
	}
}

// TestHashes are the hash algorithms of files that OPA knows.
func TestHashes(t *testing.T) {
	s := newStage(t)
	for algorithm, want := range map[string]struct {
		hash   string
		reason signature.Reason
	}{
		"MD5":         {"d41d8cd98f00b204e9800998ecf8427e", signature.AlgorithmNotAllowed},
		"SHA-1":       {"da39a3ee5e6b4b0d3255bfef95601890afd80709", signature.AlgorithmNotAllowed},
		"":            {"", signature.AlgorithmNotAllowed},
		"sha-256":     {"", signature.AlgorithmNotAllowed},
		"SHA-224":     {"d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f", ""},
		"SHA-256":     {"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", ""},
		"SHA-384":     {"38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b", ""},
		"SHA-512":     {"cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e", ""},
		"SHA-512-224": {"6ed0dd02806fa89e25de060c19d3ac86cabb87d6a0ddd05c333b84f4", ""},
		"SHA-512-256": {"c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a", ""},
	} {
		signatures := s.forge(t, func(f *forgery) { f.payload["files"] = []any{file("empty.rego", want.hash, algorithm)} })
		_, err := s.ring.Verify("app", signatures, content{"empty.rego": ""}.files)
		if e := refused(t, err, want.reason); e != nil && e.File != "empty.rego" {
			t.Errorf("%s: file %q", algorithm, e.File)
		}
	}
	for _, hash := range []string{"zz", "e3b0c4"} {
		signatures := s.forge(t, func(f *forgery) { f.payload["files"] = []any{file("empty.rego", hash, "SHA-256")} })
		if _, err := s.ring.Verify("app", signatures, content{"empty.rego": ""}.files); err == nil {
			t.Errorf("the hash %q was taken", hash)
		}
	}
}

// TestBounds are the bounds on files whose content has to be parsed.
func TestBounds(t *testing.T) {
	s := newStage(t)
	r := signature.NewKeyring(signature.Options{Now: clock, Limits: signature.Limits{Document: 1000, YAML: 100, Values: 50, Files: 5, Signatures: 4000}})
	commit, err := r.Prepare([]signature.KeyConfig{{ID: "ci", Algorithm: "RS256", File: s.pair.public}})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	honest := s.forge(t, func(*forgery) {})
	for _, tt := range []struct {
		name    string
		content content
		want    signature.Reason
	}{
		{"within", sample(), ""},
		{"a large document", sample().with("app/data.json", `{"a": "`+strings.Repeat("x", 1000)+`"}`), signature.Format},
		{"many values", sample().with("app/data.json", `[`+strings.Repeat("1,", 60)+`1]`), signature.Format},
		{"large YAML", sample().with("app/sub/data.yaml", "a: "+strings.Repeat("x", 100)), signature.Format},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := r.Verify("app", honest, tt.content.files)
			refused(t, err, tt.want)
		})
	}
	// a policy is hashed as it is read, whatever its size
	large := content{"x.rego": strings.Repeat("#\n", 100_000)}
	signatures := sign(t, s.pair, signature.SignerOptions{Algorithm: "RS256", KeyID: "ci"}, large)
	_, err = r.Verify("app", signatures, large.files)
	refused(t, err, "")
	_, err = r.Verify("app", append(signatures, strings.Repeat(" ", 4000)...), large.files)
	refused(t, err, signature.Format)
}

// FuzzSignatures: no input makes the parser fail in another way than by an
// *Error, and none is believed that was not signed.
func FuzzSignatures(f *testing.F) {
	s := newStage(f)
	honest := s.forge(f, func(*forgery) {})
	f.Add(honest)
	f.Add(s.forge(f, func(f *forgery) { f.header["kid"] = "" }))
	f.Add(s.forge(f, func(f *forgery) { f.payload["keyid"] = "ci" }))
	f.Add([]byte(`{"signatures": ["a.b.c"], "plugin": "_default"}`))
	f.Add([]byte(`{"signatures": ["eyJhbGciOiJub25lIn0.e30."]}`))
	f.Add([]byte(`{"signatures":["x"],"signatures":[{"a":[1,"\"",2]}]}`))
	none := signature.Files(func(func(string, io.Reader) error) error { return nil })
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := signature.Describe(raw, signature.Limits{})
		if (d == nil) != (err != nil) {
			t.Fatalf("%+v with error %v", d, err)
		}
		if err != nil {
			refused(t, err, signature.Format)
		}
		proof, err := s.ring.Verify("app", raw, none)
		if err == nil || proof != nil {
			t.Fatalf("believed: %+v", proof)
		}
	})
}
