package local_test

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/filelock"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/local"
)

var bound = []byte("context")

// wrapOne makes a key and a data key under it.
func wrapOne(t *testing.T, b *local.Backend) keys.DataKey {
	t.Helper()
	if _, _, err := b.Ensure(t.Context(), "wrap", keys.AES256); err != nil {
		t.Fatal(err)
	}
	made, err := b.DataKeys(t.Context(), "wrap", [][]byte{bound})
	if err != nil || made[0].Err != nil {
		t.Fatal(err)
	}
	return made[0]
}

func unwrapOne(t *testing.T, b *local.Backend, k keys.DataKey) {
	t.Helper()
	opened, err := b.Unwrap(t.Context(), "wrap", []keys.Sealed{{WrappedKey: k.Wrapped, Context: bound}})
	if err != nil || opened[0].Err != nil || !bytes.Equal(opened[0].Plaintext, k.Plaintext) {
		t.Errorf("unwrap: %v, %+v", err, opened)
	}
}

func shut(t *testing.T, b *local.Backend) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// secretOf gives a file with a line for each letter, newest first.
func secretOf(t *testing.T, dir, letters string) string {
	t.Helper()
	var lines []string
	for _, c := range letters {
		key := bytes.Repeat([]byte{byte(c), 1}, 16)
		lines = append(lines, base64.StdEncoding.EncodeToString(key))
	}
	path := filepath.Join(dir, "secret-"+letters)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKeysSurviveARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	b := open(t, dir)
	k := wrapOne(t, b)
	types := []keys.Type{keys.RSA2048, keys.Ed25519, keys.ECDSAP256, keys.HMAC}
	var before []keys.Key
	for _, typ := range types {
		if _, _, err := b.Ensure(t.Context(), string(typ), typ); err != nil {
			t.Fatal(err)
		}
		key, err := b.Rotate(t.Context(), string(typ))
		if err != nil {
			t.Fatal(err)
		}
		before = append(before, key)
	}
	shut(t, b)
	b = open(t, dir)
	unwrapOne(t, b, k)
	for _, want := range before {
		got, err := b.Describe(t.Context(), want.Name)
		if err != nil || got.Latest != 2 || got.Type != want.Type || len(got.Versions) != 2 || !got.Versions[1].Created.Equal(want.Versions[1].Created) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
		equal, ok := want.Versions[1].Public.(interface{ Equal(crypto.PublicKey) bool })
		if ok && !equal.Equal(got.Versions[1].Public) {
			t.Errorf("%s has another public key", want.Name)
		}
	}
	shut(t, b)
	if _, err := b.Describe(t.Context(), "wrap"); !errors.Is(err, keys.ErrUnavailable) || b.State().Reason != keys.ReasonClosed {
		t.Errorf("after Close: %v, %+v", err, b.State())
	}
	if _, _, err := b.Ensure(t.Context(), "new", keys.HMAC); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
}

// TestTrimmedIsGone shows that a retired version is not in the file any more.
func TestTrimmedIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	b := open(t, dir)
	wrapOne(t, b)
	if _, err := b.Rotate(t.Context(), "wrap"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "wrap.keyset")
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.SetMinimums(t.Context(), "wrap", keys.Minimums{Decrypt: 2, Encrypt: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Trim(t.Context(), "wrap"); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(file)
	if err != nil || after.Size() > before.Size()*3/4 || after.Mode() != 0o600 {
		t.Errorf("%d bytes of %d are left, mode %v, %v", after.Size(), before.Size(), after.Mode(), err)
	}
	shut(t, b)
	key, err := open(t, dir).Describe(t.Context(), "wrap")
	if err != nil || key.MinDecrypt != 2 || len(key.Versions) != 1 {
		t.Errorf("%+v, %v", key, err)
	}
}

func TestPermissions(t *testing.T) {
	for _, test := range []struct {
		name string
		path string // in the folder; empty: the folder
		mode fs.FileMode
		ok   bool
	}{
		{"stricter", "master.key", 0o400, true},
		{"master key readable by the group", "master.key", 0o640, false},
		{"master key readable by all", "master.key", 0o604, false},
		{"master key writable by all", "master.key", 0o602, false},
		{"keyset readable by the group", "wrap.keyset", 0o640, false},
		{"folder open to the group", "", 0o750, false},
		{"folder open to all", "", 0o701, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			b := open(t, dir)
			wrapOne(t, b)
			shut(t, b)
			path := filepath.Join(dir, test.path)
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			b, err := local.Open(dir, local.Master{File: filepath.Join(dir, "master.key")}, local.Options{})
			if test.ok {
				if err != nil {
					t.Fatal(err)
				}
				shut(t, b)
				return
			}
			if !errors.Is(err, local.ErrPermissions) || !strings.Contains(err.Error(), "chmod") || !strings.Contains(err.Error(), path) {
				t.Errorf("opened: %v", err)
			}
		})
	}
}

func TestMasterKeysThatDoNotFit(t *testing.T) {
	good := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1, 2}, 16))
	long := "a passphrase of many words"
	for _, test := range []struct {
		name, file, passphrase, text, variable string
		ok                                     bool
	}{
		{name: "file", file: good, ok: true},
		{name: "variable", variable: good, ok: true},
		{name: "variable with a former key", variable: good + "," + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{3, 4}, 16)), ok: true},
		{name: "passphrase", passphrase: long, ok: true},
		{name: "passphrase by itself", text: long, ok: true},
		{name: "short passphrase by itself", text: "changeme"},
		{name: "passphrase in two places", passphrase: long, text: long},
		{name: "nothing"},
		{name: "two places", file: good, variable: good},
		{name: "empty file", file: "\n"},
		{name: "short key", file: good[:20]},
		{name: "no base64", file: strings.Repeat("!", 44)},
		{name: "one byte over and over", file: base64.StdEncoding.EncodeToString(make([]byte, 32))},
		{name: "short passphrase", passphrase: "changeme"},
		{name: "five keys", file: strings.Repeat(good+"\n", 5)},
		{name: "long file", file: strings.Repeat(good+"\n", 1000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			m := local.Master{Variable: test.variable, Passphrase: test.text}
			write := func(name, content string) string {
				if content == "" {
					return ""
				}
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			m.File, m.PassphraseFile = write("file", test.file), write("passphrase", test.passphrase)
			b, err := local.Open(filepath.Join(dir, "keys"), m, local.Options{})
			if test.ok {
				if err != nil {
					t.Fatal(err)
				}
				shut(t, b)
				return
			}
			if !errors.Is(err, local.ErrMaster) {
				t.Fatalf("opened: %v", err)
			}
			for _, secret := range []string{good, "changeme", "!!!!"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error tells the key: %v", err)
				}
			}
		})
	}
}

// TestFormerMasterKeys puts new master keys before old ones; the current one
// and three former ones open what is there.
func TestFormerMasterKeys(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "keys")
	reopen := func(letters string) (*local.Backend, error) {
		return local.Open(dir, local.Master{File: secretOf(t, base, letters)}, local.Options{})
	}
	b, err := reopen("a")
	if err != nil {
		t.Fatal(err)
	}
	k := wrapOne(t, b)
	shut(t, b)
	sealedByA, err := os.ReadFile(filepath.Join(dir, "wrap.keyset"))
	if err != nil {
		t.Fatal(err)
	}
	for _, letters := range []string{"ba", "cba", "dcba", "d"} { // each seals the keyset anew
		if b, err = reopen(letters); err != nil {
			t.Fatalf("%s: %v", letters, err)
		}
		unwrapOne(t, b, k)
		shut(t, b)
	}
	if _, err := reopen("cba"); !errors.Is(err, local.ErrMaster) || !strings.Contains(err.Error(), "wrap.keyset") {
		t.Errorf("a keyset of a later key: %v", err)
	}
	// A copy from long ago opens by the third former key, and no later.
	if err := os.WriteFile(filepath.Join(dir, "wrap.keyset"), sealedByA, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := reopen("edcb"); !errors.Is(err, local.ErrMaster) {
		t.Errorf("a keyset of the fourth former key: %v", err)
	}
	if b, err = reopen("dcba"); err != nil {
		t.Fatal(err)
	}
	unwrapOne(t, b, k)
	shut(t, b)
}

func TestRotateMaster(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	b := open(t, dir)
	k := wrapOne(t, b)
	seen := map[string]bool{}
	for range 6 {
		if err := b.RotateMaster(); err != nil {
			t.Fatal(err)
		}
		unwrapOne(t, b, k)
		content, err := os.ReadFile(filepath.Join(dir, "master.key"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Fields(string(content))
		if len(lines) > 1+local.Former || seen[lines[0]] {
			t.Errorf("%d master keys, the first of them seen before: %v", len(lines), seen[lines[0]])
		}
		seen[lines[0]] = true
	}
	shut(t, b)
	if err := b.RotateMaster(); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("rotated after Close: %v", err)
	}
	b = open(t, dir)
	unwrapOne(t, b, k)
	variable, err := local.Open(filepath.Join(t.TempDir(), "keys"), local.Master{
		Variable: base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1, 2}, 16)),
	}, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer variable.Close()
	if err := variable.RotateMaster(); !errors.Is(err, local.ErrMaster) {
		t.Errorf("a variable was rotated: %v", err)
	}
}

func TestDamagedKeysets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	b := open(t, dir)
	wrapOne(t, b)
	shut(t, b)
	file := filepath.Join(dir, "wrap.keyset")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	middle := len(good) / 2
	for name, content := range map[string][]byte{
		"empty":            {},
		"cut off":          good[:middle],
		"a changed byte":   append(append(bytes.Clone(good[:middle]), good[middle]^1), good[middle+1:]...),
		"a format to come": bytes.Replace(good, []byte(`"format":1`), []byte(`"format":2`), 1),
		"another master":   bytes.Replace(good, []byte(`"master":"`), []byte(`"master":"0`), 1),
	} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := local.Open(dir, local.Master{File: filepath.Join(dir, "master.key")}, local.Options{})
		if !errors.Is(err, local.ErrDamaged) && !errors.Is(err, local.ErrMaster) || !strings.Contains(err.Error(), "wrap.keyset") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "other.keyset"), good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Open(dir, local.Master{File: filepath.Join(dir, "master.key")}, local.Options{}); !errors.Is(err, local.ErrDamaged) {
		t.Errorf("a keyset under another name: %v", err)
	}
}

func TestOneProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	open(t, dir)
	_, err := local.Open(dir, local.Master{File: filepath.Join(dir, "master.key")}, local.Options{})
	if _, ok := errors.AsType[*filelock.HeldError](err); !ok {
		t.Errorf("opened twice: %v", err)
	}
}

// FuzzKeyset lays anything down as a keyset: it is refused by name, or is one
// that was sealed under the master key and works.
func FuzzKeyset(f *testing.F) {
	m := local.Master{Variable: base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1, 2}, 16))}
	dir := filepath.Join(f.TempDir(), "keys")
	b, err := local.Open(dir, m, local.Options{})
	if err != nil {
		f.Fatal(err)
	}
	if _, _, err := b.Ensure(f.Context(), "mac", keys.HMAC); err != nil {
		f.Fatal(err)
	}
	if err := b.Close(); err != nil {
		f.Fatal(err)
	}
	file := filepath.Join(dir, "mac.keyset")
	good, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"format":1,"master":"","sealed":""}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "mac.keyset"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := local.Open(dir, m, local.Options{})
		if err != nil {
			if !errors.Is(err, local.ErrDamaged) && !errors.Is(err, local.ErrMaster) || !strings.Contains(err.Error(), "mac.keyset") {
				t.Fatal(err)
			}
			return
		}
		defer b.Close()
		if _, err := b.MAC(t.Context(), "mac", 0, [][]byte{content}); err != nil {
			t.Fatalf("opened %q: %v", content, err)
		}
	})
}

// TestFailedWrite shows that a key which could not be written is as it was.
func TestFailedWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	b := open(t, dir)
	k := wrapOne(t, b)
	file := filepath.Join(dir, "wrap.keyset")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(file, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Rotate(t.Context(), "wrap"); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("rotated: %v", err)
	}
	if key, err := b.Describe(t.Context(), "wrap"); err != nil || key.Latest != 1 {
		t.Errorf("%+v, %v", key, err)
	}
	unwrapOne(t, b, k)
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if key, err := b.Rotate(t.Context(), "wrap"); err != nil || key.Latest != 2 {
		t.Errorf("%+v, %v", key, err)
	}
}
