package vault_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
)

// rig is a client of a real server, with a proxy between them.
type rig struct {
	server *vaulttest.Server
	proxy  *vaulttest.Proxy
	client *vault.Client
	kv     string
	token  string
	file   string

	mu     sync.Mutex
	events []vault.Event
	log    bytes.Buffer
}

const kvPolicy = `path "KV/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }`

func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func newRig(t *testing.T, server *vaulttest.Server, change func(*vault.Options)) *rig {
	t.Helper()
	r := &rig{server: server, proxy: vaulttest.NewProxy(t, server.Address), kv: server.Mount("kv", nil)}
	r.token = server.Login([]string{server.Policy(strings.ReplaceAll(kvPolicy, "KV", r.kv))}, nil)
	r.file = vaulttest.Write(t, r.token)
	o := vault.Options{
		Address: r.proxy.URL, Timeout: 20 * time.Second, Probe: 500 * time.Millisecond,
		Auth:    vault.Auth{Method: vault.Token, TokenFile: r.file},
		Observe: r.observe, Logger: zerolog.New(r),
	}
	if change != nil {
		change(&o)
	}
	var err error
	if r.client, err = vault.New(o); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) observe(e vault.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *rig) count(kind vault.EventKind) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// run runs the client until the test ends.
func (r *rig) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.client.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func (r *rig) put(ctx context.Context, value string) error {
	return r.client.Do(ctx, vault.Call{Operation: "put", Method: vault.Put, Path: r.kv + "/a", Body: map[string]string{"value": value}}, nil)
}

func (r *rig) get(ctx context.Context) (string, error) {
	var out struct{ Value string }
	err := r.client.Do(ctx, vault.Call{Operation: "get", Path: r.kv + "/a"}, &out)
	return out.Value, err
}

func (r *rig) want(t *testing.T, kind vault.Kind) *vault.Error {
	t.Helper()
	_, err := r.get(t.Context())
	if vault.KindOf(err) != kind {
		t.Fatalf("the call gave %v, want %s", err, kind)
	}
	if err == nil {
		return nil
	}
	if strings.Contains(err.Error(), r.token) || strings.Contains(err.Error(), "http://") {
		t.Errorf("the error tells too much: %v", err)
	}
	e, ok := errors.AsType[*vault.Error](err)
	if !ok {
		t.Fatalf("the error is a %T", err)
	}
	return e
}

// brief gives calls a time that a test can wait for.
func brief(o *vault.Options) { o.Timeout = 2 * time.Second }

// clock is one that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after a minute: %s", what)
		}
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t, vaulttest.Dev(t), nil)
	ctx := t.Context()
	if err := r.put(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if got, err := r.get(ctx); got != "x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	var names struct{ Keys []string }
	if err := r.client.Do(ctx, vault.Call{Operation: "list", Method: vault.List, Path: r.kv + "/"}, &names); err != nil || len(names.Keys) != 1 {
		t.Errorf("list: %v, %v", names, err)
	}
	if err := r.client.Do(ctx, vault.Call{Operation: "delete", Method: vault.Delete, Path: r.kv + "/a"}, nil); err != nil {
		t.Error(err)
	}
	r.want(t, vault.NotFound)
	err := r.client.Do(ctx, vault.Call{Operation: "elsewhere", Path: "sys/mounts"}, nil)
	if vault.KindOf(err) != vault.Denied {
		t.Errorf("a path that the policy does not have: %v", err)
	}
	if r.count(vault.TokenLost) != 0 {
		t.Error("a refused path was taken for a lost token")
	}
	if s := r.client.Status(); s.State != vault.Healthy || !s.LoggedIn || s.TokenExpires == nil {
		t.Errorf("status %+v", s)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r.client.Collectors()...)
	families, err := registry.Gather()
	if err != nil || len(families) < 6 {
		t.Errorf("metrics: %d, %v", len(families), err)
	}
}

func TestEnvironmentIsNotUsed(t *testing.T) {
	server := vaulttest.Dev(t)
	for name, value := range map[string]string{
		"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_AGENT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": "other", "VAULT_NAMESPACE": "other",
		"VAULT_WRAP_TTL": "60s", "VAULT_HEADERS": `{"X-Other": "1"}`, "VAULT_MAX_RETRIES": "9", "VAULT_SKIP_VERIFY": "true",
		"VAULT_HTTP_PROXY": "http://127.0.0.1:1", "VAULT_PROXY_ADDR": "http://127.0.0.1:1", "VAULT_RATE_LIMIT": "1:1",
		"VAULT_CLIENT_TIMEOUT": "1", "HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1",
	} {
		t.Setenv(name, value)
	}
	r := newRig(t, server, nil)
	if err := r.put(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	r.want(t, vault.Healthy)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	r := newRig(t, vaulttest.Dev(t), brief)
	r.run(t)
	if err := r.put(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	page := http.Header{"Location": {"http://192.0.2.1/v1/other"}, "Retry-After": {"1"}}
	for _, tt := range []struct {
		name  string
		fault func()
		want  vault.Kind
	}{
		{"connections are cut", r.proxy.Cut, vault.Unreachable},
		{"an hour of latency", func() { r.proxy.Delay(time.Hour) }, vault.Timeout},
		{"429", func() { r.proxy.Answer("/v1/", 429, page, `{"errors":["request path: rate limit quota exceeded"]}`) }, vault.RateLimited},
		{"429 without end", func() { r.proxy.Answer("/v1/"+r.kv, 429, nil, "") }, vault.RateLimited},
		{"sealed", func() { r.proxy.Answer("/v1/"+r.kv, 503, nil, `{"errors":["Vault is sealed"]}`) }, vault.Sealed},
		{"a gateway without a Vault", func() { r.proxy.Answer("/v1/"+r.kv, 502, nil, `<html>`) }, vault.Unreachable},
		{"a standby sends us on", func() { r.proxy.Answer("/v1/"+r.kv, 307, page, ``) }, vault.Standby},
		{"a performance standby", func() { r.proxy.Answer("/v1/"+r.kv, 473, nil, ``) }, vault.Standby},
		{"its own error", func() { r.proxy.Answer("/v1/"+r.kv, 500, nil, `{"errors":["boom hvs.CAESINOTATOKEN"]}`) }, vault.Failed},
		{"another program", func() { r.proxy.Answer("/v1/"+r.kv, 200, nil, `<html>hello</html>`) }, vault.Failed},
		{"a wrong request", func() { r.proxy.Answer("/v1/"+r.kv, 400, nil, `{"errors":["no"]}`) }, vault.Refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.fault()
			e := r.want(t, tt.want)
			if strings.Contains(e.Error(), "hvs.") {
				t.Errorf("a token is in %v", e)
			}
			if e.Unavailable() {
				eventually(t, "the state is seen", func() bool { return r.client.Status().State == tt.want || r.client.Status().State == vault.Healthy })
			}
			r.proxy.Heal()
			eventually(t, "it works again", func() bool { _, err := r.get(t.Context()); return err == nil })
			eventually(t, "the state is healthy", func() bool { return r.client.Status().State == vault.Healthy })
		})
	}
}

// A Vault that is gone costs one connection now and then, not one a call.
func TestBreaker(t *testing.T) {
	t.Parallel()
	now := &clock{now: time.Now()}
	r := newRig(t, vaulttest.Dev(t), func(o *vault.Options) { o.Now = now.Now })
	if err := r.put(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	r.proxy.Answer("/v1/", 503, nil, `{"errors":["Vault is sealed"]}`)
	r.want(t, vault.Sealed)
	for _, asked := range []int{0, 1, 1} {
		before := r.proxy.Requests()
		for range 1000 {
			r.want(t, vault.Sealed)
		}
		if got := r.proxy.Requests() - before; got != asked {
			t.Errorf("1000 calls asked a sealed Vault %d times, want %d", got, asked)
		}
		now.add(500 * time.Millisecond) // as long as the breaker is ever open
	}
}

// A slow Vault has three calls' patience, then calls are refused at once.
func TestSlow(t *testing.T) {
	t.Parallel()
	now := &clock{now: time.Now()}
	r := newRig(t, vaulttest.Dev(t), func(o *vault.Options) { brief(o); o.Now = now.Now })
	if err := r.put(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	r.proxy.Delay(time.Hour)
	for range 3 {
		r.want(t, vault.Timeout)
	}
	before := r.proxy.Requests()
	if e := r.want(t, vault.Timeout); r.proxy.Requests() != before || e.RetryAfter <= 0 {
		t.Errorf("the fourth call asked %d times, retry after %v", r.proxy.Requests()-before, e.RetryAfter)
	}
	r.proxy.Heal()
	now.add(500 * time.Millisecond)
	eventually(t, "a call on trial closes the breaker, without Run", func() bool { _, err := r.get(t.Context()); return err == nil })
}

// The caller's haste says nothing about Vault.
func TestCallersDeadline(t *testing.T) {
	t.Parallel()
	r := newRig(t, vaulttest.Dev(t), nil)
	if err := r.put(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	r.proxy.Delay(200 * time.Millisecond)
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := r.get(ctx); vault.KindOf(err) != vault.Timeout && !errors.Is(err, context.DeadlineExceeded) { // of the context, before it is asked
			t.Errorf("got %v", err)
		}
		cancel()
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		if _, err := r.get(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	r.want(t, vault.Healthy)
}

// What may have been done is not done twice.
func TestOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, vaulttest.Dev(t), nil)
	if err := r.put(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	r.proxy.LoseAnswers("/v1/" + r.kv)
	before := r.proxy.Requests()
	err := r.client.Do(t.Context(), vault.Call{Operation: "put", Method: vault.Put, Path: r.kv + "/a", Body: map[string]string{"value": "y"}, Once: true}, nil)
	if made := r.proxy.Requests() - before; vault.KindOf(err) != vault.Unreachable || made != 1 {
		t.Errorf("%d calls: %v", made, err)
	}
	r.proxy.Heal()
	eventually(t, "it was done all the same", func() bool { got, err := r.get(t.Context()); return err == nil && got == "y" })
}

func TestSealAndRestart(t *testing.T) {
	t.Parallel()
	server := vaulttest.File(t)
	r := newRig(t, server, nil)
	r.run(t)
	if err := r.put(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	server.Seal()
	r.want(t, vault.Sealed)
	server.Unseal()
	eventually(t, "unsealed", func() bool { _, err := r.get(t.Context()); return err == nil })

	server.Stop()
	r.want(t, vault.Unreachable)
	server.Start()
	eventually(t, "started, sealed", func() bool { return r.client.Status().State == vault.Sealed })
	r.want(t, vault.Sealed)
	server.Unseal()
	eventually(t, "unsealed again", func() bool { got, err := r.get(t.Context()); return err == nil && got == "x" })
	if r.count(vault.StateChanged) < 4 {
		t.Errorf("events %+v", r.events)
	}
}

// A client whose Vault is sealed at its start works when it is not any more.
func TestSealedAtStart(t *testing.T) {
	t.Parallel()
	server := vaulttest.File(t)
	r := newRig(t, server, nil)
	server.Seal()
	r.run(t)
	eventually(t, "sealed", func() bool { return r.client.Status().State == vault.Sealed })
	server.Unseal()
	eventually(t, "logged in", func() bool { return r.client.Status().LoggedIn })
	if err := r.put(t.Context(), "x"); err != nil {
		t.Error(err)
	}
}

func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	server := vaulttest.Dev(t)
	r := newRig(t, server, nil)
	if err := r.put(t.Context(), "canary-value"); err != nil {
		t.Fatal(err)
	}
	r.run(t)
	server.Revoke(r.token)
	_, err := r.get(t.Context())
	if vault.KindOf(err) != vault.Denied {
		t.Fatalf("with a revoked token: %v", err)
	}
	eventually(t, "the login fails", func() bool { return r.count(vault.LoginFailed) > 0 })
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		r.log.WriteString(e.Detail)
	}
	if text := r.log.String() + err.Error(); strings.Contains(text, r.token) || strings.Contains(text, "canary-value") {
		t.Errorf("a secret is in %s", text)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	token := vault.Auth{Method: vault.Token, TokenFile: "f"}
	for _, tt := range []struct {
		name string
		o    vault.Options
		want string
	}{
		{"no address", vault.Options{Auth: token}, "not an http"},
		{"another scheme", vault.Options{Address: "ftp://x", Auth: token}, "not an http"},
		{"a password", vault.Options{Address: "https://u:hunter2@x", Auth: token}, "has a user"},
		{"no way to log in", vault.Options{Address: "https://x"}, `unknown way ""`},
		{"another way", vault.Options{Address: "https://x", Auth: vault.Auth{Method: "ldap"}}, `unknown way "ldap"`},
		{"no token file", vault.Options{Address: "https://x", Auth: vault.Auth{Method: vault.Token}}, "needs a token file"},
		{"no role", vault.Options{Address: "https://x", Auth: vault.Auth{Method: vault.Kubernetes, JWTFile: "f"}}, "needs a role"},
		{"no authorities", vault.Options{Address: "https://x", CAFile: "/nonexistent", Auth: token}, "no such file"},
		{"no certificate in the file", vault.Options{Address: "https://x", CAFile: "vault_test.go", Auth: token}, "holds no certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := vault.New(tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// replace writes a file anew.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
