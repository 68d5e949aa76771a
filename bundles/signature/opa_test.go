package signature_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/bundles/signature"
	"github.com/verdict-pdp/verdict/internal/opatest"
)

// folder writes the bundle to a folder.
func (c content) folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range c {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// pack writes the bundle to a tarball.
func (c content) pack(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "bundle.tar.gz")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	gz := gzip.NewWriter(file)
	tw := tar.NewWriter(gz)
	for name, text := range c {
		if err := tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

// unpack reads a tarball: its signature, and the rest.
func unpack(t *testing.T, name string) (signatures []byte, c content) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	gz, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	c = content{}
	for tr := tar.NewReader(gz); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if name := strings.TrimPrefix(h.Name, "/"); name == signature.Name {
			signatures = raw
		} else if h.Typeflag == tar.TypeReg {
			c[name] = string(raw)
		}
	}
	return signatures, c
}

func opa(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(opatest.Binary(t), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mustOPA(t *testing.T, dir string, args ...string) {
	t.Helper()
	if out, err := opa(t, dir, args...); err != nil {
		t.Fatalf("opa %v: %v\n%s", args, err, out)
	}
}

// opaSample is a bundle that OPA loads: it has no second data file for a path.
func opaSample() content { return sample().with("readme.md", "") }

// opaAlgorithms are those that OPA has.
func opaAlgorithms() []signature.Algorithm {
	list := signature.Algorithms()
	return list[1:] // without EdDSA
}

// TestBuiltByOPA: what stock opa build and opa sign make is believed.
func TestBuiltByOPA(t *testing.T) {
	opatest.Binary(t)
	for _, a := range opaAlgorithms() {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			p := keyFiles(t, a)
			dir, out := opaSample().folder(t), filepath.Join(t.TempDir(), "out.tar.gz")
			mustOPA(t, dir, "build", "-b", ".", "-o", out, "--signing-key", p.private, "--signing-alg", string(a))
			signatures, c := unpack(t, out)
			// opa build calls the key "default" unless it is told otherwise
			r := ring(t, signature.KeyConfig{ID: "default", Algorithm: a, File: p.public})
			_, err := r.Verify("app", signatures, c.files)
			refused(t, err, "")
			_, err = r.Verify("app", signatures, c.with("app/policy.rego", "package app").files)
			refused(t, err, signature.FileChanged)

			// opa sign names no key
			mustOPA(t, dir, "sign", "-b", ".", "--signing-key", p.private, "--signing-alg", string(a))
			signatures, err = os.ReadFile(filepath.Join(dir, signature.Name))
			if err != nil {
				t.Fatal(err)
			}
			proof, err := r.Verify("app", signatures, opaSample().files)
			refused(t, err, "")
			if proof.Files != len(opaSample()) {
				t.Errorf("%d files are signed", proof.Files)
			}
		})
	}
}

func TestBuiltByOPAWithKeyIDAndScope(t *testing.T) {
	p := keyFiles(t, "ES256")
	claims := write(t, "claims.json", `{"scope": "write", "keyid": "ci-2026", "iat": 1, "iss": "pipeline"}`, 0o600)
	out := filepath.Join(t.TempDir(), "out.tar.gz")
	mustOPA(t, opaSample().folder(t), "build", "-b", ".", "-o", out, "--revision", "r2", "--signing-key", p.private,
		"--signing-alg", "ES256", "--verification-key-id", "ci-2026", "--claims-file", claims)
	signatures, c := unpack(t, out)
	proof, err := ring(t, signature.KeyConfig{ID: "ci-2026", Algorithm: "ES256", File: p.public, Scope: "write"}).Verify("app", signatures, c.files)
	refused(t, err, "")
	if proof.KeyID != "ci-2026" || proof.Scope != "write" {
		t.Errorf("proof %+v", proof)
	}
	_, err = ring(t, signature.KeyConfig{ID: "ci-2026", Algorithm: "ES256", File: p.public}).Verify("app", signatures, c.files)
	refused(t, err, signature.ScopeMismatch)
}

// TestSignedHere: OPA believes what is signed here.
func TestSignedHere(t *testing.T) {
	opatest.Binary(t)
	for _, a := range opaAlgorithms() {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			p := keyFiles(t, a)
			c := opaSample()
			signatures := string(sign(t, p, signature.SignerOptions{Algorithm: a, KeyID: "ci"}, c))
			verify := func(c content) (string, error) {
				return opa(t, t.TempDir(), "build", "-b", c.with(signature.Name, signatures).pack(t),
					"--verification-key", p.public, "--verification-key-id", "ci", "--signing-alg", string(a))
			}
			if out, err := verify(c); err != nil {
				t.Errorf("OPA refuses it: %v\n%s", err, out)
			}
			if out, err := verify(c.with("app/policy.rego", "package app\n\nallow := true\n")); err == nil {
				t.Errorf("OPA takes a changed bundle: %s", out)
			}
		})
	}
}
