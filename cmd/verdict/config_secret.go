package main

import (
	"iter"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/bundles/signature"
	"github.com/verdict-pdp/verdict/internal/secret"
	"github.com/verdict-pdp/verdict/keys/local"
)

// minToken is the least length of a bearer token.
const minToken = 16

// passphraseKey is the key of the secret that the embedded ring is sealed with.
const passphraseKey = "keys.local.passphrase"

// SecretsConfig is the secrets part.
type SecretsConfig struct {
	// How often files and Vault are looked at for secrets that have changed.
	Refresh time.Duration `key:"refresh"`
}

// Secret is a value of the configuration that nobody may see: a reference, as
// secret.Parse reads it, or the secret itself. It prints the reference only.
type Secret string

// String gives the reference, and secret.Redacted for a secret itself.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	r, err := secret.Parse(string(s))
	if err != nil {
		return secret.Redacted
	}
	return r.String()
}

// GoString keeps the secret out of %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText keeps the secret out of JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// secrets gives each secret that is set, with its key.
func (c *Config) secrets() iter.Seq2[string, Secret] {
	return func(yield func(string, Secret) bool) {
		for f := range c.fields() {
			if !eachSecret(f.value, f.key, yield) {
				return
			}
		}
	}
}

func eachSecret(v reflect.Value, key string, yield func(string, Secret) bool) bool {
	if s, ok := v.Interface().(Secret); ok {
		return s == "" || yield(key, s)
	}
	switch {
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		for i := range v.Len() {
			if !eachSecret(v.Index(i), key+"["+strconv.Itoa(i)+"]", yield) {
				return false
			}
		}
	case isSection(v.Type()):
		for t, value := range v.Fields() {
			if name := t.Tag.Get("key"); name != "" && !eachSecret(value, key+"."+name, yield) {
				return false
			}
		}
	}
	return true
}

// secretRequests say what each secret must be like. A secret without which
// nothing works has to be there at the start; one that protects what comes in
// later may come later too.
func (c *Config) secretRequests() []secret.Request {
	requests := make([]secret.Request, 0, 4)
	add := func(key string, s Secret, rule secret.Rule, needed bool) {
		if r, err := secret.Parse(string(s)); err == nil && s != "" { // else validate has refused it
			requests = append(requests, secret.Request{Key: key, Reference: r, Rule: rule, Needed: needed})
		}
	}
	for i, k := range c.Bundles.VerificationKeys {
		add(at("bundles.verification_keys", i, "secret"), k.Secret, secret.Rule{Length: signature.Algorithm(k.Algorithm).SecretLength()}, false)
	}
	for i, s := range c.Bundles.Sources {
		add(at("bundles.sources", i, "token"), s.Token, secret.Rule{Length: minToken, Line: true}, false)
	}
	if c.Keys.Provider == "local" {
		add(passphraseKey, c.Keys.Local.Passphrase, secret.Rule{Length: local.MinPassphrase, EachLine: true}, true)
	}
	return requests
}

// readsVault tells whether a secret stands in Vault.
func (c *Config) readsVault() bool {
	for _, s := range c.secrets() {
		if r, err := secret.Parse(string(s)); err == nil && r.Source() == secret.Vault {
			return true
		}
	}
	return false
}

// secrets checks the references, and the secrets that are written out.
func (r *checker) secrets() {
	r.duration("secrets.refresh", r.config.Secrets.Refresh, time.Second, 24*time.Hour)
	for key, s := range r.config.secrets() {
		if _, err := secret.Parse(string(s)); err != nil {
			r.fail(key, "%v", err)
		}
	}
	for _, request := range r.config.secretRequests() {
		if request.Reference.Source() != secret.Inline {
			continue
		}
		if err := request.Rule.Check([]byte(r.config.secretText(request.Key))); err != nil {
			r.fail(request.Key, "%v", err)
		}
	}
	if r.config.readsVault() && r.config.Keys.Provider != "vault" {
		r.url("keys.vault.address", r.config.Keys.Vault.Address)
		r.vaultAuth(&r.config.Keys.Vault.Auth)
	}
}

// secretText gives what stands in the configuration under a key.
func (c *Config) secretText(key string) string {
	for k, s := range c.secrets() {
		if k == key {
			return string(s)
		}
	}
	return ""
}

// listKey is the key of the list that a key stands in, or the key itself: places
// are known of whole lists.
func listKey(key string) string {
	list, _, _ := strings.Cut(key, "[")
	return list
}

// sameSecrets tells whether the secrets under one field are the same in both,
// which what is printed of them does not tell.
func sameSecrets(a, b reflect.Value) bool {
	list := func(v reflect.Value) (all []string) {
		eachSecret(v, "", func(key string, s Secret) bool {
			all = append(all, key+"="+string(s))
			return true
		})
		return all
	}
	return reflect.DeepEqual(list(a), list(b))
}
