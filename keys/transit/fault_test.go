package transit_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/keystest"
	"github.com/verdict-pdp/verdict/keys/transit"
)

// holder is a backend whose key has wrapped something.
type holder struct {
	*testing.T
	b       *transit.Backend
	name    string
	context []byte
	made    keys.DataKey
}

func prepare(t *testing.T, b *transit.Backend) *holder {
	t.Helper()
	u := &holder{T: t, b: b, name: "verdict-confidential", context: []byte("tenant")}
	if _, _, err := b.Ensure(t.Context(), u.name, keys.AES256); err != nil {
		t.Fatal(err)
	}
	made, err := b.DataKeys(t.Context(), u.name, [][]byte{u.context})
	if err != nil || made[0].Err != nil {
		t.Fatal(err, made)
	}
	u.made = made[0]
	return u
}

// all makes every kind of call and gives their errors.
func (u *holder) all() map[string]error {
	ctx := u.Context()
	sealed := []keys.Sealed{{WrappedKey: u.made.Wrapped, Context: u.context}}
	errs := map[string]error{}
	_, errs["data keys"] = u.b.DataKeys(ctx, u.name, [][]byte{u.context})
	_, errs["unwrap"] = u.b.Unwrap(ctx, u.name, sealed)
	_, errs["rewrap"] = u.b.Rewrap(ctx, u.name, sealed)
	_, errs["describe"] = u.b.Describe(ctx, u.name)
	return errs
}

// fails wants every kind of call to end, with the reason.
func (u *holder) fails(reason keys.Reason) {
	u.Helper()
	for range 2 { // the second time the breaker is open
		_, err := u.b.DataKeys(u.Context(), u.name, [][]byte{u.context})
		u.wants("data keys", err, reason)
	}
	for what, err := range u.all() {
		u.wants(what, err, reason)
	}
}

func (u *holder) wants(what string, err error, reason keys.Reason) {
	u.Helper()
	if e, ok := errors.AsType[*keys.UnavailableError](err); !ok || e.Reason != reason {
		u.Errorf("%s: %v, want %s", what, err, reason)
	}
}

// works waits until what was wrapped can be unwrapped.
func (u *holder) works() {
	u.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		opened, err := u.b.Unwrap(u.Context(), u.name, []keys.Sealed{{WrappedKey: u.made.Wrapped, Context: u.context}})
		if err == nil && opened[0].Err == nil && bytes.Equal(opened[0].Plaintext, u.made.Plaintext) {
			return
		}
		if time.Now().After(deadline) {
			u.Fatalf("it does not work again: %v", err)
		}
	}
}

func run(t *testing.T, client *vault.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }() // ended by the clean-up
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestSealedAndStartedAgain(t *testing.T) {
	t.Parallel()
	server := vaulttest.File(t)
	b, client, _ := backend(t, server, nil)
	run(t, client)
	u := prepare(t, b)
	if _, err := b.Rotate(t.Context(), u.name); err != nil {
		t.Fatal(err)
	}
	server.Seal()
	u.fails(keys.ReasonSealed)
	if s := b.State(); s.Reason != keys.ReasonSealed {
		t.Errorf("state %+v", s)
	}
	server.Unseal()
	u.works()
	server.Stop()
	u.fails(keys.ReasonUnreachable)
	server.Start()
	for deadline := time.Now().Add(time.Minute); b.State().Reason != keys.ReasonSealed && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	u.fails(keys.ReasonSealed)
	server.Unseal()
	u.works()
	if k, err := b.Describe(t.Context(), u.name); err != nil || k.Latest != 2 {
		t.Errorf("after the restart: %+v, %v", k, err)
	}
	if s := b.State(); s.Reason != "" {
		t.Errorf("state %+v", s)
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	server := vaulttest.Dev(t)
	for _, tt := range []struct {
		name   string
		fault  func(*vaulttest.Proxy)
		reason keys.Reason
	}{
		{"cut", (*vaulttest.Proxy).Cut, keys.ReasonUnreachable},
		{"an hour of latency", func(p *vaulttest.Proxy) { p.Delay(time.Hour) }, keys.ReasonTimeout},
		{"429", func(p *vaulttest.Proxy) {
			p.Answer("/v1/", http.StatusTooManyRequests, http.Header{"Retry-After": {"1"}}, `{"errors":["rate limit quota exceeded"]}`)
		}, keys.ReasonRateLimited},
		{"standby", func(p *vaulttest.Proxy) {
			p.Answer("/v1/", http.StatusTemporaryRedirect, http.Header{"Location": {"http://192.0.2.1/"}}, "")
		}, keys.ReasonStandby},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := vaulttest.NewProxy(t, server.Address)
			b, client, _ := backend(t, server, func(o *vault.Options) { o.Address, o.Timeout = p.URL, 3*time.Second })
			u := prepare(t, b)
			tt.fault(p)
			u.fails(tt.reason)
			if s := b.State(); s.Reason != tt.reason || s.Detail == "" || s.Since.IsZero() {
				t.Errorf("state %+v", s)
			}
			p.Heal()
			run(t, client)
			u.works()
		})
	}
}

func TestTokenRevoked(t *testing.T) {
	t.Parallel()
	server := vaulttest.Dev(t)
	token := server.Login([]string{"root"}, nil)
	file := vaulttest.Write(t, token)
	b, _, _ := backend(t, server, func(o *vault.Options) { o.Auth.TokenFile = file })
	u := prepare(t, b)
	server.Revoke(token)
	u.fails(keys.ReasonDenied)
}

// A key that somebody deletes is unknown at once, and is not made anew by the
// way: what it wrapped would be lost behind a new key of the same name.
func TestDeleted(t *testing.T) {
	t.Parallel()
	server := vaulttest.Dev(t)
	b, _, mount := backend(t, server, nil)
	u := prepare(t, b)
	server.Do(http.MethodPost, mount+"/keys/"+u.name+"/config", map[string]any{"deletion_allowed": true})
	server.Do(http.MethodDelete, mount+"/keys/"+u.name, nil)
	for what, err := range u.all() {
		if !errors.Is(err, keys.ErrKeyUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, created, err := b.Ensure(t.Context(), u.name, keys.Ed25519); err != nil || !created {
		t.Errorf("another key of that name: %v, %v", created, err)
	}
	if _, err := b.DataKeys(t.Context(), u.name, [][]byte{u.context}); !errors.Is(err, keys.ErrUnsupported) {
		t.Errorf("with a key of another type: %v", err)
	}
}

// The ring over a Vault that changes behind its back.
func TestRingAndMinimums(t *testing.T) {
	t.Parallel()
	server := vaulttest.Dev(t)
	b, _, mount := backend(t, server, nil)
	ring, _ := keystest.Ring(t, b, keys.Options{Prefix: "verdict-"})
	ctx, where := t.Context(), keys.Context{Tenant: "a"}
	text, err := ring.EncryptOne(ctx, keys.By{}, keys.Value{Class: keys.Restricted, Data: []byte("value"), Context: where})
	if err != nil {
		t.Fatal(err)
	}
	key := mount + "/keys/verdict-restricted"
	server.Do(http.MethodPost, key+"/rotate", nil)
	server.Do(http.MethodPost, key+"/config", map[string]any{"min_decryption_version": 2, "min_encryption_version": 2})
	server.Do(http.MethodPost, key+"/trim", map[string]any{"min_available_version": 2})
	if _, err := ring.DecryptOne(ctx, keys.By{}, keys.Ciphertext{Text: text, Context: where}); !errors.Is(err, keys.ErrVersionDisallowed) {
		t.Errorf("a trimmed version: %v", err)
	}
}
