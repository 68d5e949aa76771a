package bundles_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/bundles/signature"
)

const trustSecret = "correct horse battery staple correct horse battery staple correct horse"

// trustKey is a key in a file that only its owner reads.
func trustKey(t *testing.T, id, secret string) signature.KeyConfig {
	t.Helper()
	file := filepath.Join(t.TempDir(), id)
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return signature.KeyConfig{ID: id, Algorithm: "HS256", File: file}
}

func trusting(t *testing.T, s bundles.TrustSettings) *bundles.Trust {
	t.Helper()
	trust := bundles.NewTrust(signature.Options{})
	commit, err := trust.Prepare(s)
	if err != nil {
		t.Fatal(err)
	}
	commit()
	return trust
}

// openPacked looks through a tarball that is made of names and texts in turn.
func openPacked(t *testing.T, parts ...string) (*bundles.Archive, error) {
	t.Helper()
	var packed bytes.Buffer
	gz := gzip.NewWriter(&packed)
	tw := tar.NewWriter(gz)
	for i := 0; i < len(parts); i += 2 {
		if err := tw.WriteHeader(&tar.Header{Name: parts[i], Size: int64(len(parts[i+1])), Mode: 0o644, ModTime: time.Unix(int64(i), 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, parts[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return openBytes(t, packed.Bytes())
}

func openBytes(t *testing.T, packed []byte) (*bundles.Archive, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	if err := os.WriteFile(file, packed, 0o644); err != nil {
		t.Fatal(err)
	}
	return bundles.OpenArchive(file, bundles.Limits{})
}

// signedPacked is openPacked, signed with the key.
func signedPacked(t *testing.T, key signature.KeyConfig, parts ...string) *bundles.Archive {
	t.Helper()
	a, err := openPacked(t, parts...)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(key.File)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.NewSigner(raw, signature.SignerOptions{Algorithm: key.Algorithm, KeyID: key.ID})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := a.Sign(signer, &out); err != nil {
		t.Fatal(err)
	}
	signed, err := openBytes(t, out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func trustRefusal(t *testing.T, err error, want signature.Reason) {
	t.Helper()
	refused, ok := errors.AsType[*signature.Error](err)
	if !ok || refused.Reason != want {
		t.Fatalf("error %v, want %s", err, want)
	}
}

func TestTrust(t *testing.T) {
	ours, theirs := trustKey(t, "ours", trustSecret), trustKey(t, "theirs", strings.ToUpper(trustSecret))
	plain, err := openPacked(t, "a.rego", "package a")
	if err != nil {
		t.Fatal(err)
	}
	byUs, byThem := signedPacked(t, ours, "a.rego", "package a"), signedPacked(t, theirs, "a.rego", "package a")
	keys := []signature.KeyConfig{ours}
	for _, tt := range []struct {
		name     string
		settings bundles.TrustSettings
		archive  *bundles.Archive
		want     signature.Reason
		signer   bundles.Signer
	}{
		{"nothing is configured", bundles.TrustSettings{}, plain, signature.NoSignature, bundles.Signer{}},
		{"nothing is configured, signed", bundles.TrustSettings{}, byUs, signature.KeyUnknown, bundles.Signer{}},
		{"signed by us", bundles.TrustSettings{Keys: keys}, byUs, "", bundles.Signer{KeyID: "ours", Algorithm: "HS256"}},
		{"signed by them", bundles.TrustSettings{Keys: keys}, byThem, signature.KeyUnknown, bundles.Signer{}},
		{"not signed", bundles.TrustSettings{Keys: keys}, plain, signature.NoSignature, bundles.Signer{}},
		{"not signed, which is allowed", bundles.TrustSettings{Keys: keys, AllowUnsigned: true}, plain, "", bundles.Signer{Unsigned: true}},
		{"signed by us, need not be", bundles.TrustSettings{Keys: keys, AllowUnsigned: true}, byUs, "", bundles.Signer{KeyID: "ours", Algorithm: "HS256"}},
		{"signed by them, need not be", bundles.TrustSettings{Keys: keys, AllowUnsigned: true}, byThem, signature.KeyUnknown, bundles.Signer{}},
		{"signed, no keys to verify by", bundles.TrustSettings{AllowUnsigned: true}, byThem, "", bundles.Signer{Unsigned: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			signer, err := trusting(t, tt.settings).Verify("app", tt.archive)
			if tt.want != "" {
				trustRefusal(t, err, tt.want)
			} else if err != nil {
				t.Fatal(err)
			}
			if (signer.Statement == "") != (signer.KeyID == "") {
				t.Errorf("statement %q of the key %q", signer.Statement, signer.KeyID)
			}
			if signer.Statement = ""; signer != tt.signer {
				t.Errorf("signer %+v, want %+v", signer, tt.signer)
			}
		})
	}
}

// TestTrustChanges: settings change at once, by commit, or not at all.
func TestTrustChanges(t *testing.T) {
	ours, theirs := trustKey(t, "ours", trustSecret), trustKey(t, "theirs", strings.ToUpper(trustSecret))
	byThem := signedPacked(t, theirs, "a.rego", "package a")
	trust := trusting(t, bundles.TrustSettings{Keys: []signature.KeyConfig{ours}})
	if _, err := trust.Prepare(bundles.TrustSettings{Keys: []signature.KeyConfig{theirs, theirs}, AllowUnsigned: true}); err == nil {
		t.Fatal("one id was taken twice")
	}
	commit, err := trust.Prepare(bundles.TrustSettings{Keys: []signature.KeyConfig{theirs}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = trust.Verify("app", byThem)
	trustRefusal(t, err, signature.KeyUnknown)
	commit()
	if _, err := trust.Verify("app", byThem); err != nil {
		t.Fatal(err)
	}
	if keys := trust.Keys(); len(keys) != 1 || keys[0].ID != "theirs" {
		t.Errorf("keys %+v", keys)
	}
}

// TestSignedAgain: signing changes neither the digest nor a file.
func TestSignedAgain(t *testing.T) {
	ours, theirs := trustKey(t, "ours", trustSecret), trustKey(t, "theirs", strings.ToUpper(trustSecret))
	parts := []string{".manifest", `{"revision": "r1"}`, "b/data.json", `{"x": 1}`, "a.rego", "package a", "notes.txt", "of no use"}
	plain, err := openPacked(t, parts...)
	if err != nil {
		t.Fatal(err)
	}
	first := signedPacked(t, ours, parts...)
	raw, err := os.ReadFile(theirs.File)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.NewSigner(raw, signature.SignerOptions{Algorithm: "HS256", KeyID: "theirs"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := first.Sign(signer, &out); err != nil {
		t.Fatal(err)
	}
	second, err := openBytes(t, out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if first.Digest != plain.Digest || second.Digest != plain.Digest || len(second.Files) != len(plain.Files) {
		t.Errorf("digests %s, %s, %s", plain.Digest, first.Digest, second.Digest)
	}
	if bytes.Equal(first.Signatures(), second.Signatures()) || plain.Signatures() != nil {
		t.Error("the signature was not replaced")
	}
	info, err := second.Describe()
	if err != nil || info.Revision != "r1" || len(info.Roots) != 1 || info.Serial != nil {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestHostileSignedArchives: an honest signature in an archive that plays with
// entries.
func TestHostileSignedArchives(t *testing.T) {
	ours := trustKey(t, "ours", trustSecret)
	honest := string(signedPacked(t, ours, "a.rego", "package a", "b.rego", "package b").Signatures())
	trust := trusting(t, bundles.TrustSettings{Keys: []signature.KeyConfig{ours}})
	for _, tt := range []struct {
		name   string
		parts  []string
		opened bool // the archive is one; the signature refuses it
		want   signature.Reason
	}{
		{"honest", []string{"a.rego", "package a", "b.rego", "package b", ".signatures.json", honest}, true, ""},
		{"signature first, absolute names", []string{"/.signatures.json", honest, "/b.rego", "package b", "/a.rego", "package a"}, true, ""},
		{"missing", []string{"a.rego", "package a", ".signatures.json", honest}, true, signature.FileMissing},
		{"extra", []string{"a.rego", "package a", "b.rego", "package b", "c.rego", "package c", ".signatures.json", honest}, true, signature.FileExtra},
		{"extra that is ignored elsewhere", []string{"a.rego", "package a", "b.rego", "package b", "readme.md", "", ".signatures.json", honest}, true, signature.FileExtra},
		{"changed", []string{"a.rego", "package b", "b.rego", "package b", ".signatures.json", honest}, true, signature.FileChanged},
		{"exchanged", []string{"a.rego", "package b", "b.rego", "package a", ".signatures.json", honest}, true, signature.FileChanged},
		{"empty signature", []string{"a.rego", "package a", "b.rego", "package b", ".signatures.json", ""}, true, signature.Format},
		{"two signatures", []string{"a.rego", "package a", "b.rego", "package b", ".signatures.json", "{}", ".signatures.json", honest}, false, ""},
		{"nested signature", []string{"a.rego", "package a", "b.rego", "package b", "x/.signatures.json", honest}, false, ""},
		{"a file twice", []string{"a.rego", "package evil", "a.rego", "package a", "b.rego", "package b", ".signatures.json", honest}, false, ""},
		{"a file twice in two spellings", []string{"./a.rego", "package evil", "a.rego", "package a", "b.rego", "package b", ".signatures.json", honest}, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := openPacked(t, tt.parts...)
			if !tt.opened {
				if refused, ok := errors.AsType[*bundles.Error](err); !ok || refused.Code != bundles.CodeArchive {
					t.Fatalf("error %v, want %s", err, bundles.CodeArchive)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = trust.Verify("app", a)
			if tt.want != "" {
				trustRefusal(t, err, tt.want)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestOpenArchiveRefuses(t *testing.T) {
	if _, err := bundles.OpenArchive(filepath.Join(t.TempDir(), "nowhere"), bundles.Limits{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := openBytes(t, []byte("hello")); err == nil {
		t.Error("text was taken")
	}
	a := content{"a.rego": "package a"}.tarball(t)
	_, err := bundles.OpenArchive(a, bundles.Limits{Packed: 10})
	if refused, ok := errors.AsType[*bundles.Error](err); !ok || refused.Code != bundles.CodeTooLarge {
		t.Errorf("a large archive: %v", err)
	}
}

// TestOldBundleThatLooksNew: white space in data gives another digest, and the
// old signature still holds.
func TestOldBundleThatLooksNew(t *testing.T) {
	ours := trustKey(t, "ours", trustSecret)
	b := open(t, t.TempDir(), func(o *bundles.Options) {
		o.Verifier = trusting(t, bundles.TrustSettings{Keys: []signature.KeyConfig{ours}})
	})
	rego, data := "package app\n\nallow := data.app.x", `{"x": 1}`
	signatures := func(data string) string {
		return string(signedPacked(t, ours, "app/p.rego", rego, "app/data.json", data).Signatures())
	}
	old := signatures(data)
	push := func(data, signatures string) (*bundles.PushResult, error) {
		return b.push("app", files(t, content{"app/p.rego": rego, "app/data.json": data, ".signatures.json": signatures}))
	}
	first, err := push(data, old)
	if err != nil || first.Signer == nil || first.Signer.KeyID != "ours" {
		t.Fatalf("%+v, %v", first, err)
	}
	_, err = push(`{"x":1}`, old)
	wantRefusal(t, err, bundles.CodePast, bundles.GateHistory, "only white space in data is different")
	if _, err := push(`{"x": 2}`, signatures(`{"x": 2}`)); err != nil {
		t.Fatal(err)
	}
	_, err = push(`{"x":1}`, old)
	wantRefusal(t, err, bundles.CodePast, bundles.GateHistory, "only white space in data is different")
	_, err = push(data, old)
	wantRefusal(t, err, bundles.CodePast, bundles.GateHistory, "was active before")
	_, err = push(`{"x": 3}`, old)
	wantRefusal(t, err, bundles.CodeGate, bundles.GateSignature, "file_changed")
	if again, err := push(`{"x": 2}`, signatures(`{"x": 2}`)); err != nil || again.Status != "unchanged" {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestConfirmNeedsAKey confirms what is active with keys that come and go.
func TestConfirmNeedsAKey(t *testing.T) {
	ours, other := trustKey(t, "ours", trustSecret), trustKey(t, "other", strings.ToUpper(trustSecret))
	var now time.Time
	trust := bundles.NewTrust(signature.Options{Now: func() time.Time { return now }})
	trusts := func(s bundles.TrustSettings) {
		t.Helper()
		commit, err := trust.Prepare(s)
		if err != nil {
			t.Fatal(err)
		}
		commit()
	}
	dir := t.TempDir()
	b := open(t, dir, func(o *bundles.Options) { withMaxAge(o); o.Verifier = trust })
	now = b.now
	trusts(bundles.TrustSettings{Keys: []signature.KeyConfig{ours}})
	push := func(key signature.KeyConfig) *bundles.PushResult {
		t.Helper()
		a := signedPacked(t, key, ".manifest", `{"revision": "r1", "roots": ["app"]}`, "app.rego", "package app\n\nrevision := 1")
		packed, err := os.ReadFile(a.File())
		if err != nil {
			t.Fatal(err)
		}
		return b.mustPush("app", packed)
	}
	digest := push(ours).Digest
	ended, renamed := ours, other
	ended.NotAfter, renamed.ID = now.Add(time.Minute), ours.ID
	elsewhere := ours
	elsewhere.Names = []string{"else"}
	now, b.now = now.Add(time.Hour), b.now.Add(time.Hour)
	for name, c := range map[string]struct {
		settings bundles.TrustSettings
		want     string // in the refusal; empty: confirmed
	}{
		"the same key":               {bundles.TrustSettings{Keys: []signature.KeyConfig{ours}}, ""},
		"its time is over":           {bundles.TrustSettings{Keys: []signature.KeyConfig{ended}}, `the key "ours"`},
		"it was taken out":           {bundles.TrustSettings{Keys: []signature.KeyConfig{other}}, "not configured"},
		"no key is left":             {bundles.TrustSettings{}, "not configured"},
		"another key by its id":      {bundles.TrustSettings{Keys: []signature.KeyConfig{renamed}}, "did not make this signature"},
		"it may sign another bundle": {bundles.TrustSettings{Keys: []signature.KeyConfig{elsewhere}}, "may not sign bundles of the name"},
		"unsigned ones are taken":    {bundles.TrustSettings{AllowUnsigned: true}, ""},
	} {
		for _, again := range []bool{false, true} { // after a start the signature is read from disk
			if again {
				b.close()
				before := b.now
				b = open(t, dir, func(o *bundles.Options) {
					withMaxAge(o)
					o.Verifier = trust
					o.Now = func() time.Time { return before }
				})
				b.now = before
			}
			trusts(c.settings)
			age := b.Ages()[0].Age
			err := b.Confirm(t.Context(), "app", digest)
			if c.want == "" {
				if err != nil || b.Ages()[0].Age != 0 {
					t.Errorf("%s (start %v): %v", name, again, err)
				}
				continue
			}
			refused := wantRefusal(t, err, bundles.CodeGate, bundles.GateSignature, c.want)
			if b.Ages()[0].Age != age || !strings.Contains(refused.Message, `nobody vouches any more for revision "r1" of bundle app`) {
				t.Errorf("%s (start %v): %v, age %s", name, again, err, b.Ages()[0].Age)
			}
		}
	}
	// Signed anew by a key that stays, it goes on without the old one.
	trusts(bundles.TrustSettings{Keys: []signature.KeyConfig{ours, other}})
	if r := push(other); r.Status != "unchanged" || r.Unconfirmed != "" {
		t.Errorf("signed anew: %+v", r)
	}
	trusts(bundles.TrustSettings{Keys: []signature.KeyConfig{other}})
	if err := b.Confirm(t.Context(), "app", digest); err != nil {
		t.Error(err)
	}
}
