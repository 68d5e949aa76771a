package secret_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/verdict-pdp/verdict/internal/secret"
)

// good are secrets made by chance.
const (
	good  = "q7Zs0bF3mXv9Tt1LkQ5wHc8RjYp2NdGe"
	other = "Wm4xVb8KzP1sYh6TrQ0cLj9FgNd3Ue7A"
)

// kv is a Vault in memory.
type kv struct {
	fields map[string]any
	err    error
}

func (k *kv) Read(_ context.Context, mount, path string) (map[string]any, error) {
	if k.err != nil {
		return nil, k.err
	}
	if mount != "secret" || path != "verdict/ci" {
		return nil, errors.New("no secret of that path")
	}
	return k.fields, nil
}

func parse(t testing.TB, text string) secret.Reference {
	t.Helper()
	r, err := secret.Parse(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return r
}

// write writes a file and gives its path.
func write(t testing.TB, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.WriteFile(name, []byte(text), 0o600), os.Chmod(name, mode)); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestParse(t *testing.T) {
	for text, want := range map[string]secret.Source{
		"env:HOME":                           secret.Environment,
		"file:/run/secrets/token":            secret.File,
		"vault:secret/verdict/ci#token":      secret.Vault,
		"vault:kv-2/a.b/c_d/e f#client_id":   secret.Vault,
		good:                                 secret.Inline,
		"https://user:password@host.example": secret.Inline,
	} {
		r, err := secret.Parse(text)
		if err != nil || r.Source() != want {
			t.Errorf("%q: %v %v", text, r.Source(), err)
			continue
		}
		if want == secret.Inline {
			text = secret.Redacted
		}
		if r.String() != text || fmt.Sprintf("%v %+v %#v", r, r, r) != text+" "+text+" "+text {
			t.Errorf("%q prints %#v", text, r)
		}
	}
	for _, text := range []string{
		"", "env:", "env:1A", "env:A B", "env:A=B", "ENV:HOME", "env:" + strings.Repeat("A", 300),
		"file:", "file:token", "file:./token", "File:/a", "file:/a\x00b",
		"vault:", "vault:secret", "vault:secret/a", "vault:secret/a#", "vault:secret/#f", "vault:/a#f", "vault:secret/../sys/raw#f",
		"vault:secret/a//b#f", "vault:secret/a/#f", "vault:secret/a?list=true#f", "vault:secret/a#f#g", "Vault:secret/a#f", "vault:secret/%2e%2e/a#f",
		"${TOKEN}", "$(cat token)", strings.Repeat("a", 5000),
	} {
		r, err := secret.Parse(text)
		if err == nil {
			t.Errorf("%q is taken as %v", text, r)
		}
		if text != "" && len(text) > 12 && err != nil && strings.Contains(err.Error(), text) {
			t.Errorf("the error repeats it: %v", err)
		}
	}
}

func TestStrength(t *testing.T) {
	for value, want := range map[string]string{
		"":                                    "is empty",
		"changeme":                            "everybody tries first",
		"ChangeMe!":                           "everybody tries first",
		"change-me":                           "everybody tries first",
		"password":                            "everybody tries first",
		"secret":                              "everybody tries first",
		"default":                             "everybody tries first",
		"admin":                               "everybody tries first",
		"letmein":                             "everybody tries first",
		"qwerty":                              "everybody tries first",
		"123456":                              "everybody tries first",
		"password123456password123456secret!": "everybody tries first",
		"my-super-secret-password-for-tests":  "everybody tries first",
		"x9Kq2":                               "has 5 bytes, want at least 32",
		good[:31]:                             "has 31 bytes, want at least 32",
		strings.Repeat("a", 40):               "too regular",
		strings.Repeat("ab", 30):              "too regular",
		strings.Repeat(good[:8], 5):           "too regular",
		"abcdefghijklmnopqrstuvwxyzABCDEFGH":  "too regular",
		good:                                  "",
		"5f2b8c1e9a7d4036f1c82e5b7a9d0346":    "",
		"correct horse battery staple, twice": "",
	} {
		err := secret.Rule{Length: 32}.Check([]byte(value))
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", value, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %s", value, err, want)
		case err != nil && len(value) > 8 && strings.Contains(err.Error(), value):
			t.Errorf("the error repeats it: %v", err)
		}
	}
	if err := (secret.Rule{Line: true}).Check([]byte(good + "\n" + other)); err == nil {
		t.Error("two lines are taken for a token")
	}
	lines := secret.Rule{Length: 16, EachLine: true}
	if err := lines.Check([]byte(good + "\n" + other + "\n")); err != nil {
		t.Errorf("two lines: %v", err)
	}
	if err := lines.Check([]byte(good + "\nchangeme\n")); err == nil || !strings.Contains(err.Error(), "has a line that is a default") {
		t.Errorf("a weak line: %v", err)
	}
	if err := (secret.Rule{}).Check([]byte("q7Zs0bF3mXv")); err == nil {
		t.Error("11 bytes are taken")
	}
}

func TestSources(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	vault := &kv{fields: map[string]any{"token": good, "number": 5}}
	env := map[string]string{"GOOD": good, "EMPTY": "", "WEAK": "changeme"}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	for _, tt := range []struct{ reference, want string }{
		{good, ""},
		{"env:GOOD", ""},
		{"file:" + write(t, good, 0o600), ""},
		{"file:" + write(t, good+"\n", 0o400), ""},
		{"file:" + write(t, good+"\r\n", 0o600), ""},
		{"vault:secret/verdict/ci#token", ""},

		{"changeme", "the.key: is a default"},
		{"env:WEAK", "the.key: is a default"},
		{"env:EMPTY", "the.key: is empty"},
		{"env:ABSENT", "the.key: the environment has no ABSENT"},
		{"file:" + write(t, good, 0o640), "has mode 0640, want 0600"},
		{"file:" + write(t, good, 0o604), "has mode 0604, want 0600"},
		{"file:" + write(t, "changeme", 0o600), "the.key: is a default"},
		{"file:" + write(t, strings.Repeat(good, 3000), 0o600), "longer than 65536 bytes"},
		{"file:/nowhere/at/all", "no such file"},
		{"file:" + t.TempDir(), "not a regular file"},
		{"file:" + pipe, "not a regular file"},
		{"vault:secret/verdict/ci#absent", "no text in the field absent"},
		{"vault:secret/verdict/ci#number", "no text in the field number"},
		{"vault:secret/other#token", "no secret of that path"},
	} {
		store := secret.NewStore(secret.Options{Lookup: lookup, KV: vault})
		set, err := store.Prepare(t.Context(), []secret.Request{{Key: "the.key", Reference: parse(t, tt.reference)}})
		if tt.want == "" {
			if err != nil || string(set.Value("the.key")) != good {
				t.Errorf("%s: %v", tt.reference, err)
			}
			continue
		}
		var named *secret.Error
		if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.As(err, &named) || named.Key != "the.key" {
			t.Errorf("%s: %v, want %s", tt.reference, err, tt.want)
		}
	}
	store := secret.NewStore(secret.Options{Lookup: lookup})
	if _, err := store.Prepare(t.Context(), []secret.Request{{Key: "k", Reference: parse(t, "vault:secret/verdict/ci#token")}}); err == nil || !strings.Contains(err.Error(), "keys.vault.address") {
		t.Errorf("without a Vault: %v", err)
	}
}

// What a holder has changes with its source, and stays while the source is
// wrong.
func TestRefresh(t *testing.T) {
	name := write(t, good, 0o600)
	vault := &kv{fields: map[string]any{"token": good}}
	store := secret.NewStore(secret.Options{KV: vault})
	set, err := store.Prepare(t.Context(), []secret.Request{
		{Key: "file", Reference: parse(t, "file:"+name)},
		{Key: "vault", Reference: parse(t, "vault:secret/verdict/ci#token")},
		{Key: "inline", Reference: parse(t, good)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if store.Get("file") != nil {
		t.Error("it is there before it is committed")
	}
	set.Commit()
	held := store.Get("file")
	want := func(key, value string) {
		t.Helper()
		if got, err := store.Get(key).Token(); err != nil || got != value {
			t.Errorf("%s is another: %v", key, err)
		}
	}
	refresh := func(changed []string, failed int) {
		t.Helper()
		got, errs := store.Refresh(t.Context())
		slices.Sort(got)
		if !slices.Equal(got, changed) || len(errs) != failed {
			t.Errorf("changed %v, want %v; failed %v, want %d", got, changed, errs, failed)
		}
	}
	refresh(nil, 0)
	if err := os.WriteFile(name, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	vault.fields["token"] = other
	refresh([]string{"file", "vault"}, 0)
	want("file", other)
	want("vault", other)
	want("inline", good)

	if err := os.WriteFile(name, []byte("changeme"), 0o600); err != nil {
		t.Fatal(err)
	}
	vault.err = secret.ErrUnavailable
	refresh(nil, 2)
	want("file", other)
	want("vault", other)

	// A new configuration with the same reference leaves the holder's secret.
	if err := os.WriteFile(name, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err = store.Prepare(t.Context(), []secret.Request{{Key: "file", Reference: parse(t, "file:"+name)}})
	if err != nil {
		t.Fatal(err)
	}
	want("file", other)
	if string(set.Value("file")) != good || set.Get("file") != held {
		t.Error("the set has another secret")
	}
	set.Commit()
	want("file", good)
	if store.Get("vault") != nil || store.Get("file") != held {
		t.Error("the store is not as it was prepared")
	}
}

// A Vault that does not answer is an error for what is needed only.
func TestUnavailable(t *testing.T) {
	vault := &kv{err: fmt.Errorf("sealed: %w", secret.ErrUnavailable)}
	store := secret.NewStore(secret.Options{KV: vault})
	request := secret.Request{Key: "token", Reference: parse(t, "vault:secret/verdict/ci#token"), Needed: true}
	if _, err := store.Prepare(t.Context(), []secret.Request{request}); !errors.Is(err, secret.ErrUnavailable) {
		t.Errorf("needed: %v", err)
	}
	request.Needed = false
	set, err := store.Prepare(t.Context(), []secret.Request{request})
	if err != nil {
		t.Fatal(err)
	}
	set.Commit()
	if _, err := store.Get("token").Token(); !errors.Is(err, secret.ErrUnavailable) || !strings.Contains(err.Error(), "vault:secret/verdict/ci#token") {
		t.Errorf("token: %v", err)
	}
	want := []secret.Status{{Key: "token", Reference: "vault:secret/verdict/ci#token", Missing: true, Problem: "sealed: secret_unavailable"}}
	if got := store.Status(); !slices.Equal(got, want) {
		t.Errorf("status %+v", got)
	}
	if _, failed := store.Refresh(t.Context()); len(failed) != 0 {
		t.Errorf("what was known is told again: %v", failed)
	}
	vault.err, vault.fields = nil, map[string]any{"token": good}
	if changed, failed := store.Refresh(t.Context()); len(changed) != 1 || len(failed) != 0 || store.Status()[0].Problem != "" || store.Status()[0].Missing {
		t.Errorf("changed %v, failed %v, status %+v", changed, failed, store.Status())
	}
}

// No way of printing tells a secret.
func TestRedacted(t *testing.T) {
	store := secret.NewStore(secret.Options{})
	set, err := store.Prepare(t.Context(), []secret.Request{{Key: "k", Reference: parse(t, good)}})
	if err != nil {
		t.Fatal(err)
	}
	set.Commit()
	s := store.Get("k")
	encoded, err := json.Marshal(map[string]any{"s": s, "list": []any{s}})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(encoded), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s, s), fmt.Sprint([]any{s}), s.LogValue().String()} {
		if strings.Contains(text, good) || !strings.Contains(text, secret.Redacted) {
			t.Errorf("printed as %s", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"env:A", "file:/a/b", "vault:secret/a/b#c", "changeme", "vault:a/../b#c", "file:/../x", "ENV:a", "${A}", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := secret.Parse(text)
		if err != nil {
			if r != (secret.Reference{}) {
				t.Errorf("%q is refused and gives %#v", text, r)
			}
			return
		}
		if r.Source() == secret.Inline {
			return
		}
		again, err := secret.Parse(r.String())
		if err != nil || again != r {
			t.Errorf("%q is printed as %q, which is %v: %v", text, r, again, err)
		}
		if r.Source() == secret.Vault && strings.Contains(r.String(), "..") && strings.Contains(r.String(), "/../") {
			t.Errorf("%q leaves its mount", text)
		}
	})
}

func FuzzStrength(f *testing.F) {
	for _, seed := range []string{good, "changeme", "", "aaaaaaaaaaaaaaaa", "\xff\xfe", "password"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if err := (secret.Rule{Length: 16}).Check(value); err == nil && len(value) < 16 {
			t.Errorf("%q is taken", value)
		}
	})
}
