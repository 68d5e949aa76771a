package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
)

// planted is a server with a canary in every place that a secret can be in.
type planted struct {
	*testing.T
	canaries
	s     *servertest.Server
	token string // of a caller that may encrypt and decrypt

	decider, admin string // tokens
}

// TestCanaries: no key, token or plaintext is in a log, an error, a metric, a
// record, a file or the output of a crash.
func TestCanaries(t *testing.T) {
	t.Parallel()
	for _, ring := range []string{"passphrase", "master key", "vault"} {
		t.Run(ring, func(t *testing.T) {
			t.Parallel()
			c := canaries{}
			dir := policyFolder(t)
			args, env := plant(t, c, dir, ring)
			p := &planted{T: t, canaries: c}
			data := filepath.Join(t.TempDir(), "data")
			p.token = newToken(t, data, "caller", "keys:encrypt", "keys:decrypt", "decide")
			p.decider = newToken(t, data, "decider", "decide")
			s := servertest.Start(t, servertest.Options{Dir: data, Args: args, Env: append(env, "GOTRACEBACK=all"), Crashes: true})
			p.s, p.admin = s, s.AdminToken()
			c["admin token"], c["caller's token"], c["decider's token"] = []byte(p.admin), []byte(p.token), []byte(p.decider)
			p.encrypt()
			p.refused()
			p.decisions()
			p.views()
			s.Signal(syscall.SIGHUP)
			p.crash()
			c.search(t, "standard error", []byte(s.Stderr()))
			c.search(t, "standard output", []byte(s.Stdout()))
			if n := c.searchFolder(t, s.Dir, map[string]string{"admin.token": "admin token"}); n < 5 {
				t.Errorf("%d files are searched only", n)
			}
		})
	}
}

// plant gives arguments and environment with secrets in them.
func plant(t *testing.T, c canaries, dir, ring string) (args, env []string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyPair(t, dir, key, key.Public())
	c.addKey(t, "private key", filepath.Join(dir, "private.pem"))
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		secretFile(t, file, text)
		return file
	}
	args = append(args, "--standard-policies=true",
		"--set", fmt.Sprintf("bundles.verification_keys=[{id: ci, algorithm: HS256, secret: 'file:%s'}]", write("hmac", c.add("HS256 secret")+c.add("its end"))),
		"--set", "bundles.sources=[{name: away, url: 'http://127.0.0.1:1', token: 'env:SOURCE_TOKEN', polling: {min_delay: 1s, max_delay: 1s}}]")
	env = append(env, "SOURCE_TOKEN="+c.add("source token"), "UNUSED="+c.add("variable of the environment"))
	switch ring {
	case "passphrase":
		args = append(args, "--set", "keys.local.passphrase=file:"+write("passphrase", c.add("passphrase")))
	case "master key":
		raw := make([]byte, 32)
		_, _ = rand.Read(raw) // never fails
		c["master key"] = raw
		env = append(env, "MASTER="+base64.StdEncoding.EncodeToString(raw))
		args = append(args, "--set", "keys.local.master_key_env=MASTER")
	case "vault":
		vault := vaulttest.Dev(t)
		token := vault.Login([]string{"root"}, map[string]any{"id": c.add("Vault token"), "no_default_policy": false})
		mount := vault.Transit()
		// Making an RSA key takes longer than a request may wait for Vault.
		vault.Do(http.MethodPost, mount+"/keys/verdict-top_secret", map[string]any{"type": "rsa-4096"})
		args = append(args, "--set", "keys.provider=vault", "--set", "keys.vault.mount="+mount, "--set", "keys.vault.address="+vault.Address,
			"--set", "keys.vault.auth.token_file="+write("vault-token", token))
	}
	return args, env
}

// ask sends a request; what is refused must not repeat a secret.
func (p *planted) ask(want int, q servertest.Request) *servertest.Answer {
	p.Helper()
	a := p.s.Do(q)
	if want != 0 && a.Status != want {
		p.Errorf("%s: %d, want %d: %s", q.Path, a.Status, want, a.Body)
	}
	if a.Status >= 400 {
		p.search(p.T, "the answer of "+q.Path, append(a.Body, fmt.Sprint(a.Header)...))
	}
	return a
}

// encrypt encrypts and opens values of every class, and fails to.
func (p *planted) encrypt() {
	p.Helper()
	call := func(want int, path string, body any) map[string]any {
		p.Helper()
		a := p.ask(want, servertest.Request{Path: "/api/v1/" + path, Body: body, Token: p.token})
		if a.Status != http.StatusOK {
			return nil
		}
		return a.JSON(p.T)
	}
	classes := []string{"internal", "confidential", "restricted"}
	if !servertest.Race() {
		classes = append(classes, "top_secret") // RSA keys of 4096 bits are made
	}
	at := map[string]any{"tenant": "north", "type": "customer", "id": "c-1", "pointer": "/card"}
	for _, class := range classes {
		plain := p.add("plaintext " + class)
		sealed := call(http.StatusOK, "encrypt", map[string]any{"classification": class, "plaintext": plain, "context": at})
		opened := call(http.StatusOK, "decrypt", map[string]any{"ciphertext": sealed["ciphertext"], "context": at})
		if opened["plaintext"] != plain {
			p.Errorf("%s does not open", class)
		}
		call(http.StatusUnprocessableEntity, "decrypt", map[string]any{"ciphertext": sealed["ciphertext"], "context": map[string]any{"tenant": "south"}})
		text, _ := sealed["ciphertext"].(string)
		if len(text) < 8 {
			p.Fatalf("%s is not encrypted", class)
		}
		call(0, "decrypt", map[string]any{"ciphertext": text[:len(text)-8], "context": at})
		call(http.StatusOK, "reencrypt", map[string]any{"ciphertext": text, "context": at})
	}
	document := map[string]any{"ssn": p.add("field"), "other": p.add("field that stays")}
	whose := map[string]any{"tenant": "north", "type": "customer", "id": "c-1"}
	call(http.StatusOK, "encrypt", map[string]any{"document": document, "fields": map[string]any{"/ssn": "restricted"}, "context": whose})
	call(0, "encrypt", map[string]any{"document": document, "fields": map[string]any{"/none": "restricted"}, "context": whose})
	call(0, "encrypt", map[string]any{"classification": "public", "plaintext": p.add("plaintext of no class")})
	call(0, "encrypt", map[string]any{"classification": p.add("plaintext as the class"), "plaintext": "x"})
	call(0, "encrypt", map[string]any{"classification": "internal", "plaintext": []string{p.add("plaintext in a list")}})
	call(0, "encrypt", map[string]any{"classification": "internal", "plaintext_base64": "!" + p.add("plaintext that is no base64")})
	call(0, "encrypt", `{"classification": "internal", "plaintext": "`+p.add("plaintext cut short"))
	// The name of a member comes back to who sent it, and goes nowhere else.
	p.s.Do(servertest.Request{Path: "/api/v1/encrypt", Token: p.token, Body: `{"classification": "internal", "` + p.add("plaintext as a member") + `": 1}`})
	call(0, "decrypt", map[string]any{"ciphertext": p.add("plaintext as a ciphertext")})
	call(0, "decrypt", map[string]any{"ciphertext": "vd1." + p.add("plaintext as the rest of one")})
	for _, class := range classes {
		p.ask(http.StatusForbidden, servertest.Request{
			Path: "/api/v1/encrypt", Token: p.decider,
			Body: map[string]any{"classification": class, "plaintext": p.add("plaintext of one who may not " + class)},
		})
	}
}

// refused brings credentials that are not good, everywhere that one can be.
func (p *planted) refused() {
	p.Helper()
	for _, path := range []string{"/api/v1/status", "/v1/policies", "/api/v1/bundles", "/api/v1/keys", "/v1/config"} {
		p.ask(http.StatusUnauthorized, servertest.Request{Path: path, Token: p.add("wrong token at " + path)})
	}
	basic := base64.StdEncoding.EncodeToString([]byte("admin:" + p.add("basic password")))
	p.ask(http.StatusUnauthorized, servertest.Request{Path: "/api/v1/status", Header: map[string]string{"Authorization": "Basic " + basic}})
	p.ask(http.StatusUnauthorized, servertest.Request{Path: "/api/v1/status", Header: map[string]string{"Authorization": "Bearer " + strings.Repeat("x", 5000) + p.add("end of a long token")}})
	p.ask(http.StatusUnauthorized, servertest.Request{Path: "/api/v1/status?access_token=" + p.add("token in a query")})
	p.ask(0, servertest.Request{Path: "/api/v1/bundles/app", Method: http.MethodPut, Token: p.admin, Body: p.add("token as a bundle")})
}

// decisions asks with secrets where the log masks them.
func (p *planted) decisions() {
	p.Helper()
	p.ask(http.StatusOK, servertest.Request{
		Path: "/v1/data/verdict/authz/decision", Token: p.token, Header: map[string]string{"Cookie": "session=" + p.add("cookie")},
		Body: map[string]any{"input": map[string]any{
			"subject": map[string]any{"type": "user", "id": "ana", "properties": map[string]any{"password": p.add("password in an input")}},
			"context": map[string]any{"headers": map[string]any{"Authorization": "Bearer " + p.add("token in an input")}},
		}},
	})
	p.ask(0, servertest.Request{Path: "/authz/forward", Header: map[string]string{
		"X-Original-Method": "GET", "X-Original-URI": "/orders?access_token=" + p.add("token in an original URI"),
		"Authorization": "Bearer " + p.add("token of an original request"), "Cookie": "session=" + p.add("cookie of an original request"),
		"X-Api-Key": p.add("API key of an original request"),
	}})
}

// views looks at all that tells of the server.
func (p *planted) views() {
	p.Helper()
	for _, path := range []string{
		"/metrics", "/health", "/api/v1/status", "/v1/config", "/v1/status", "/api/v1/keys", "/api/v1/bundles", "/api/v1/openapi.json",
		"/.well-known/authzen-configuration", "/.well-known/jwks.json", "/api/v1/audit/records?limit=1000",
	} {
		p.search(p.T, path, p.ask(0, servertest.Request{Path: path, Token: p.admin}).Body)
	}
}

// crash ends the server with the stacks of all goroutines, while it works.
func (p *planted) crash() {
	p.Helper()
	var asking sync.WaitGroup
	for n := range 4 {
		plain := p.add(fmt.Sprint("plaintext while it crashes ", n))
		asking.Go(func() {
			for range 10_000 {
				if _, err := p.s.Try(servertest.Request{
					Path: "/api/v1/encrypt", Token: p.token, Body: map[string]any{"classification": "restricted", "plaintext": plain},
				}); err != nil {
					return // it is gone
				}
			}
		})
	}
	if !p.s.Eventually(func() error {
		if p.s.Metric(`verdict_encryption_values_total{classification="restricted",operation="encrypt",outcome="ok"}`) > 20 {
			return nil
		}
		return os.ErrProcessDone
	}) {
		p.Error("nothing is encrypted")
	}
	p.s.Signal(syscall.SIGQUIT)
	p.s.Wait()
	asking.Wait()
	if dump := p.s.Stderr(); !strings.Contains(dump, "SIGQUIT") || strings.Count(dump, "\ngoroutine ") < 10 {
		p.Errorf("no stacks in the output of the crash")
	}
}

// TestCanariesAtStart: what is wrong with a secret is said without it.
func TestCanariesAtStart(t *testing.T) {
	t.Parallel()
	c := canaries{}
	dir := policyFolder(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyPair(t, dir, key, key.Public())
	private := filepath.Join(dir, "private.pem")
	c.addKey(t, "private key", private)
	text, secretText := filepath.Join(dir, "text"), c.add("secret")
	secretFile(t, text, secretText)
	config := filepath.Join(dir, "verdict.yaml")
	secretFile(t, config, "keys:\n  local:\n    passphrase: "+c.add("passphrase")+"\n   broken: [\n")
	for name, args := range map[string][]string{
		"a private key to verify with": {"--set", "bundles.verification_keys=[{id: ci, algorithm: ES256, file: '" + private + "'}]"},
		"a secret that is short":       {"--set", "bundles.verification_keys=[{id: ci, algorithm: HS512, secret: '" + c.add("short secret") + "'}]"},
		"no master key":                {"--set", "keys.local.master_key_file=" + text},
		"a token of two lines":         {"--set", "bundles.sources=[{name: a, url: 'http://127.0.0.1:1', token: '" + c.add("token") + " x'}]"},
		"a password in a URL":          {"--set", "keys.vault.address=https://u:" + c.add("password in a URL") + "@vault.example"},
		"a file that is no YAML":       {"--config", config},
		"a secret where none belongs":  {"--set", "keys.local.passphrase.x=" + c.add("misplaced secret")},
	} {
		s := servertest.Launch(t, servertest.Options{Args: args})
		if code := s.Wait(); code != 2 {
			t.Errorf("%s: exit %d\n%s", name, code, s.Stderr())
		}
		c.search(t, name, []byte(s.Stderr()+s.Stdout()))
	}
}
