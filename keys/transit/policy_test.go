package transit_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/transit"
)

// operation is something that verdict does with its keys.
type operation struct {
	name string
	run  func(ctx context.Context, g *grant) error
}

// grant is a backend that may do what a policy says.
type grant struct {
	*transit.Backend
	client  *vault.Client
	mount   string
	wrapped keys.DataKey // under verdict-internal
	tag     keys.Tag     // by verdict-top_secret-mac
}

const tenant = "tenant" // context of every data key here

// classKeys are the keys of the classes by their types here: what a policy
// allows does not depend on them, and AES is quick. All are imported, so that
// they take further versions by import.
func classKeys() map[string]keys.Type {
	return map[string]keys.Type{
		"internal": keys.AES256, "confidential": keys.AES256, "restricted": keys.AES256, "top_secret": keys.AES256, "top_secret-mac": keys.HMAC,
	}
}

// material is a key of 32 bytes.
func material() []byte { return bytes.Repeat([]byte{7}, 32) }

// use is what verdict does every day; each operation is named with the path
// that allows it.
func use() []operation {
	one := [][]byte{[]byte(tenant)}
	return []operation{
		{"auth/token/lookup-self", func(ctx context.Context, g *grant) error {
			return g.client.Do(ctx, vault.Call{Operation: "self", Path: "auth/token/lookup-self"}, nil)
		}},
		{"auth/token/renew-self", func(ctx context.Context, g *grant) error {
			return g.client.Do(ctx, vault.Call{Operation: "renew", Method: vault.Put, Path: "auth/token/renew-self"}, nil)
		}},
		{"transit/encrypt/verdict-*", func(ctx context.Context, g *grant) error {
			_, err := g.DataKeys(ctx, "verdict-internal", one)
			return err
		}},
		{"transit/decrypt/verdict-*", func(ctx context.Context, g *grant) error {
			_, err := g.Unwrap(ctx, "verdict-internal", []keys.Sealed{{WrappedKey: g.wrapped.Wrapped, Context: []byte(tenant)}})
			return err
		}},
		{"transit/rewrap/verdict-*", func(ctx context.Context, g *grant) error {
			_, err := g.Rewrap(ctx, "verdict-internal", []keys.Sealed{{WrappedKey: g.wrapped.Wrapped, Context: []byte(tenant)}})
			return err
		}},
		{"transit/sign/verdict-*", func(ctx context.Context, g *grant) error {
			_, err := g.Sign(ctx, "verdict-jwt", 0, keys.EdDSA, one)
			return err
		}},
		{"transit/hmac/verdict-*", func(ctx context.Context, g *grant) error {
			_, err := g.MAC(ctx, "verdict-top_secret-mac", 0, one)
			return err
		}},
		{"transit/verify/verdict-*", func(ctx context.Context, g *grant) error {
			_, err := g.VerifyMAC(ctx, "verdict-top_secret-mac", []keys.MACCheck{{Message: []byte(tenant), Tag: g.tag}})
			return err
		}},
		{"transit/keys", func(ctx context.Context, g *grant) error {
			_, err := g.List(ctx, "verdict-")
			return err
		}},
	}
}

// manage is the life of one key.
func manage(name string, t keys.Type) []operation {
	key := "verdict-" + name
	return []operation{
		{"transit/keys/" + key + "/import_version", func(ctx context.Context, g *grant) error {
			_, err := g.Import(ctx, key, t, material())
			return err
		}},
		{"transit/keys/" + key + "/rotate", func(ctx context.Context, g *grant) error {
			// The key was imported, which Vault says once the call is allowed.
			err := g.client.Do(ctx, vault.Call{Operation: "rotate", Method: vault.Put, Path: g.mount + "/keys/" + key + "/rotate"}, nil)
			if vault.KindOf(err) == vault.Failed && strings.Contains(err.Error(), "does not allow rotation") {
				return nil
			}
			return err
		}},
		{"transit/keys/" + key + "/config", func(ctx context.Context, g *grant) error {
			k, err := g.Describe(ctx, key)
			if err == nil {
				_, err = g.SetMinimums(ctx, key, keys.Minimums{Decrypt: k.Latest, Encrypt: k.Latest})
			}
			return err
		}},
		{"transit/keys/" + key + "/trim", func(ctx context.Context, g *grant) error {
			_, err := g.Trim(ctx, key)
			return err
		}},
	}
}

// shipped reads a policy of deploy/vault, for a mount.
func shipped(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "vault", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// policyRig is a mount with all of verdict's keys in it.
type policyRig struct {
	server *vaulttest.Server
	mount  string
	root   *transit.Backend
}

func newPolicyRig(t *testing.T) *policyRig {
	t.Helper()
	r := &policyRig{server: vaulttest.Dev(t)}
	r.root, _, r.mount = backend(t, r.server, nil)
	for name, k := range classKeys() {
		if _, err := r.root.Import(t.Context(), "verdict-"+name, k, material()); err != nil {
			t.Fatal(err)
		}
	}
	for name, typ := range map[string]keys.Type{"verdict-jwt": keys.Ed25519, "other": keys.AES256} {
		if _, _, err := r.root.Ensure(t.Context(), name, typ); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// as gives a backend that may do what a policy says.
func (r *policyRig) as(t *testing.T, policy string) *grant {
	t.Helper()
	policy = strings.ReplaceAll(policy, `"transit/`, `"`+r.mount+`/`)
	policy = strings.ReplaceAll(policy, `"transit"`, `"`+r.mount+`"`)
	token := r.server.Login([]string{r.server.Policy(policy)}, nil)
	client, err := vault.New(vault.Options{Address: r.server.Address, Auth: vault.Auth{Method: vault.Token, TokenFile: vaulttest.Write(t, token)}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := transit.New(client, transit.Options{Mount: r.mount})
	if err != nil {
		t.Fatal(err)
	}
	g := &grant{Backend: b, client: client, mount: r.mount}
	made, err := r.root.DataKeys(t.Context(), "verdict-internal", [][]byte{[]byte(tenant)})
	if err != nil || made[0].Err != nil {
		t.Fatal(err, made)
	}
	tags, err := r.root.MAC(t.Context(), "verdict-top_secret-mac", 0, [][]byte{[]byte(tenant)})
	if err != nil || tags[0].Err != nil {
		t.Fatal(err, tags)
	}
	g.wrapped, g.tag = made[0], tags[0]
	return g
}

// denied runs operations and gives the names of those that Vault refused.
func denied(t *testing.T, g *grant, operations []operation) []string {
	t.Helper()
	var names []string
	for _, op := range operations {
		err := op.run(t.Context(), g)
		unavailable, ok := errors.AsType[*keys.UnavailableError](err)
		switch {
		case err == nil:
		case ok && unavailable.Reason == keys.ReasonDenied, vault.KindOf(err) == vault.Denied:
			names = append(names, op.name)
		default:
			t.Errorf("%s: %v", op.name, err)
		}
	}
	return names
}

// TestPolicyIsMinimal takes each path out of the policies in turn: something
// that has a name does not work then.
func TestPolicyIsMinimal(t *testing.T) {
	t.Parallel()
	r := newPolicyRig(t)
	for file, operations := range map[string]func(path string) []operation{
		"verdict.hcl": func(string) []operation { return append(use(), creates()...) },
		// Of the keys, the one that the path is about.
		"verdict-no-create.hcl": func(path string) []operation {
			key := "internal"
			if rest, ok := strings.CutPrefix(path, "transit/keys/verdict-"); ok && rest != "*" {
				key, _, _ = strings.Cut(rest, "/")
			}
			return append(use(), manage(key, classKeys()[key])...)
		},
	} {
		t.Run(file, func(t *testing.T) {
			policy := shipped(t, file)
			all := operations("")
			for name, typ := range classKeys() {
				if file == "verdict-no-create.hcl" && name != "internal" {
					all = append(all, manage(name, typ)...)
				}
			}
			if refused := denied(t, r.as(t, policy), all); len(refused) != 0 {
				t.Fatalf("the policy does not allow %q", refused)
			}
			for _, match := range regexp.MustCompile(`(?m)^path "([^"]+)".*\n`).FindAllStringSubmatch(policy, -1) {
				path := match[1]
				less := strings.Replace(policy, match[0], "", 1)
				got, want := denied(t, r.as(t, less), operations(path)), breaks(path, operations(path))
				slices.Sort(got)
				slices.Sort(want)
				if len(got) == 0 || !slices.Equal(got, want) {
					t.Errorf("without %s these are refused:\n%q\nwant\n%q", path, got, want)
				}
			}
		})
	}
}

// breaks names the operations that do not work without a path.
func breaks(path string, operations []operation) []string {
	switch path {
	case "transit/wrapping_key":
		return append(named(operations, "/import_version"), named(operations, "import a key")...)
	case "auth/token/lookup-self": // without it a token file cannot be used at all
		return names(operations)
	case "transit/keys/verdict-*": // without it no key is known
		return slices.DeleteFunc(names(operations), func(n string) bool {
			return strings.HasPrefix(n, "auth/") || n == "transit/keys" || strings.HasSuffix(n, "/rotate")
		})
	}
	return []string{path}
}

func names(operations []operation) []string { return named(operations, "") }

func named(operations []operation, suffix string) []string {
	var found []string
	for _, op := range operations {
		if strings.HasSuffix(op.name, suffix) {
			found = append(found, op.name)
		}
	}
	return found
}

// creates is what the policy that creates keys has to allow.
func creates() []operation {
	return []operation{
		{"create a key", func(ctx context.Context, g *grant) error {
			_, _, err := g.Ensure(ctx, "verdict-"+vaulttest.Name(), keys.AES256)
			return err
		}},
		{"rotate a key", func(ctx context.Context, g *grant) error {
			_, err := g.Rotate(ctx, "verdict-jwt")
			return err
		}},
		{"import a key", func(ctx context.Context, g *grant) error {
			_, err := g.Import(ctx, "verdict-"+vaulttest.Name(), keys.AES256, material())
			return err
		}},
		{"retire versions", func(ctx context.Context, g *grant) error {
			k, err := g.Describe(ctx, "verdict-jwt")
			if err == nil {
				_, err = g.SetMinimums(ctx, "verdict-jwt", keys.Minimums{Decrypt: k.Latest, Encrypt: k.Latest})
			}
			if err == nil {
				_, err = g.Trim(ctx, "verdict-jwt")
			}
			return err
		}},
	}
}

// TestPolicyIsNarrow asks for what no policy of verdict's may allow.
func TestPolicyIsNarrow(t *testing.T) {
	t.Parallel()
	r := newPolicyRig(t)
	ctx := t.Context()
	for _, file := range []string{"verdict.hcl", "verdict-no-create.hcl"} {
		g := r.as(t, shipped(t, file))
		for what, call := range map[string]vault.Call{
			"delete a key":            {Method: vault.Delete, Path: "/keys/verdict-internal"},
			"export a key":            {Path: "/export/encryption-key/verdict-internal"},
			"back a key up":           {Path: "/backup/verdict-internal"},
			"read another's key":      {Path: "/keys/other"},
			"rotate another's key":    {Method: vault.Put, Path: "/keys/other/rotate"},
			"decrypt with another's":  {Method: vault.Put, Path: "/decrypt/other"},
			"configure the engine":    {Method: vault.Put, Path: "/config/keys"},
			"a plaintext data key":    {Method: vault.Put, Path: "/datakey/plaintext/verdict-internal"},
			"read the engine's mount": {Path: "/config/keys"},
		} {
			call.Operation, call.Path = "narrow", r.mount+call.Path
			if err := g.client.Do(ctx, call, nil); vault.KindOf(err) != vault.Denied {
				t.Errorf("%s: %s: %v", file, what, err)
			}
		}
		if status, _ := r.server.Try("", http.MethodGet, r.mount+"/keys/verdict-internal", nil); status != http.StatusForbidden {
			t.Errorf("without a token: %d", status)
		}
		// A missing key is not made by the way, and is said to be missing.
		if _, err := g.Describe(ctx, "verdict-missing"); !errors.Is(err, keys.ErrKeyUnknown) {
			t.Errorf("%s: a missing key: %v", file, err)
		}
	}
	g := r.as(t, shipped(t, "verdict-no-create.hcl"))
	for _, typ := range []keys.Type{keys.AES256, keys.RSA4096, keys.Ed25519, keys.HMAC} {
		_, _, err := g.Ensure(ctx, "verdict-new", typ)
		if e, ok := errors.AsType[*keys.UnavailableError](err); !ok || e.Reason != keys.ReasonDenied {
			t.Errorf("create a %s key: %v", typ, err)
		}
	}
	if _, err := g.Import(ctx, "verdict-new", keys.AES256, make([]byte, 32)); !errors.Is(err, keys.ErrUnavailable) {
		t.Errorf("import a new key: %v", err)
	}
}
