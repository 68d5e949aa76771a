package vault_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
)

func TestTokenIsRevoked(t *testing.T) {
	t.Parallel()
	server := vaulttest.Dev(t)
	r := newRig(t, server, nil)
	if err := r.put(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	// The new token lies in the file already, as an agent leaves it.
	next := server.Login([]string{server.Policy(strings.ReplaceAll(kvPolicy, "KV", r.kv))}, nil)
	replace(t, r.file, next)
	server.Revoke(r.token)
	r.want(t, vault.Healthy) // one login and one more try, inside of the call
	if r.count(vault.TokenLost) != 1 || r.count(vault.LoggedIn) != 2 {
		t.Errorf("events %+v", r.events)
	}
	// Nothing new in the file: denied, and Vault is not asked without end.
	server.Revoke(next)
	before := r.proxy.Requests()
	for range 50 {
		r.want(t, vault.Denied)
	}
	if asked := r.proxy.Requests() - before; asked > 15 {
		t.Errorf("50 calls asked Vault %d times", asked)
	}
	if s := r.client.Status(); s.State != vault.Denied || s.LoggedIn {
		t.Errorf("status %+v", s)
	}
}

func TestAppRole(t *testing.T) {
	t.Parallel()
	server := vaulttest.Dev(t)
	mount := server.Auth("approle")
	r := newRig(t, server, nil)
	policy := server.Policy(strings.ReplaceAll(kvPolicy, "KV", r.kv))
	role := "auth/" + mount + "/role/verdict"
	server.Do(http.MethodPost, role, map[string]any{
		"token_policies": policy, "token_ttl": "2s", "token_max_ttl": "5s", "token_no_default_policy": true,
	})
	roleID := server.Do(http.MethodGet, role+"/role-id", nil)["role_id"].(string)
	secretID := server.Do(http.MethodPost, role+"/secret-id", nil)["secret_id"].(string)
	auth := vault.Auth{Method: vault.AppRole, Mount: mount, RoleIDFile: vaulttest.Write(t, roleID), SecretIDFile: vaulttest.Write(t, secretID)}

	t.Run("tokens of 2 s, renewed to 5 s, and then new ones", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, server, func(o *vault.Options) { o.Auth = auth })
		r.run(t)
		eventually(t, "logged in", func() bool { return r.client.Status().LoggedIn })
		first := r.client.Status().TokenExpires
		eventually(t, "renewed", func() bool {
			s := r.client.Status()
			return r.count(vault.LoggedIn) == 1 && s.TokenExpires != nil && s.TokenExpires.After(*first) || r.count(vault.LoggedIn) > 1
		})
		eventually(t, "a second login, after the longest life", func() bool { return r.count(vault.LoggedIn) >= 2 })
		if r.count(vault.TokenLost) != 0 || r.count(vault.LoginFailed) != 0 {
			t.Errorf("events %+v", r.events)
		}
	})
	t.Run("wrong secret id", func(t *testing.T) {
		t.Parallel()
		wrong := auth
		wrong.SecretIDFile = vaulttest.Write(t, "5a7a3bd0-0000-4000-8000-000000000000")
		r := newRig(t, server, func(o *vault.Options) { o.Auth = wrong })
		if e := r.want(t, vault.Denied); e.Operation != "login" {
			t.Errorf("got %v", e)
		}
	})
	t.Run("no file", func(t *testing.T) {
		t.Parallel()
		wrong := auth
		wrong.RoleIDFile = "/nonexistent"
		r := newRig(t, server, func(o *vault.Options) { o.Auth = wrong })
		r.want(t, vault.Denied)
	})
	t.Run("not mounted", func(t *testing.T) {
		t.Parallel()
		wrong := auth
		wrong.Mount = "nowhere"
		r := newRig(t, server, func(o *vault.Options) { o.Auth = wrong })
		r.want(t, vault.Denied)
	})
	t.Run("wrapped", func(t *testing.T) {
		t.Parallel()
		wrapped := auth
		wrapped.SecretIDWrapped, wrapped.SecretIDFile = true, vaulttest.Write(t, server.Wrap(role+"/secret-id", nil))
		r := newRig(t, server, func(o *vault.Options) { o.Auth = wrapped })
		if err := r.client.Do(t.Context(), vault.Call{Operation: "self", Path: "auth/token/lookup-self"}, nil); err != nil {
			t.Fatal(err)
		}
		// The wrapping is used up; the secret id is remembered for the next login.
		var self struct{ ID string }
		if err := r.client.Do(t.Context(), vault.Call{Operation: "self", Path: "auth/token/lookup-self"}, &self); err != nil {
			t.Fatal(err)
		}
		server.Revoke(self.ID)
		if err := r.client.Do(t.Context(), vault.Call{Operation: "self", Path: "auth/token/lookup-self"}, nil); err != nil {
			t.Errorf("a second login: %v", err)
		}
		// Somebody who has only the used wrapping learns nothing, and it is said.
		second := newRig(t, server, func(o *vault.Options) { o.Auth = wrapped })
		if e := second.want(t, vault.Denied); !strings.Contains(e.Error(), "opened by somebody else") {
			t.Errorf("got %v", e)
		}
	})
	t.Run("wrapped by somebody else", func(t *testing.T) {
		t.Parallel()
		wrapped := auth
		wrapped.SecretIDWrapped, wrapped.SecretIDFile = true, vaulttest.Write(t, server.Wrap("sys/wrapping/wrap", map[string]any{"secret_id": secretID}))
		r := newRig(t, server, func(o *vault.Options) { o.Auth = wrapped })
		if e := r.want(t, vault.Denied); !strings.Contains(e.Error(), "may have been replaced") {
			t.Errorf("got %v", e)
		}
	})
}

func TestJWT(t *testing.T) {
	t.Parallel()
	server := vaulttest.Dev(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mount := server.Auth("jwt")
	r := newRig(t, server, nil)
	policy := server.Policy(strings.ReplaceAll(kvPolicy, "KV", r.kv))
	server.Do(http.MethodPost, "auth/"+mount+"/config", map[string]any{"jwt_validation_pubkeys": publicPEM(t, key)})
	server.Do(http.MethodPost, "auth/"+mount+"/role/verdict", map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": "vault", "token_policies": policy,
	})
	sign := func(audience string) string {
		text, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
			"sub": "verdict", "aud": audience,
			"nbf": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		}).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	file := vaulttest.Write(t, sign("another"))
	kv := r.kv
	r = newRig(t, server, func(o *vault.Options) {
		o.Auth = vault.Auth{Method: vault.JWT, Mount: mount, Role: "verdict", JWTFile: file}
	})
	r.kv = kv
	r.want(t, vault.Denied)
	replace(t, file, sign("vault")) // the file is read again at each login
	eventually(t, "logged in", func() bool { return r.put(t.Context(), "x") == nil })
}

func publicPEM(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// Kubernetes reviews the tokens of pods; here a server does that in its place.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	var valid atomic.Value // the token that the pod has now
	valid.Store("")
	reviewer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct{ Token string } `json:"spec"`
		}
		_ = json.NewDecoder(r.Body).Decode(&review)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
			"status": map[string]any{
				"authenticated": review.Spec.Token == valid.Load().(string),
				"user":          map[string]any{"username": "system:serviceaccount:default:verdict", "uid": "u-1"},
			},
		})
	}))
	t.Cleanup(reviewer.Close)
	server := vaulttest.Dev(t)
	mount := server.Auth("kubernetes")
	r := newRig(t, server, nil)
	policy := server.Policy(strings.ReplaceAll(kvPolicy, "KV", r.kv))
	server.Do(http.MethodPost, "auth/"+mount+"/config", map[string]any{
		"kubernetes_host": reviewer.URL, "token_reviewer_jwt": "reviewer", "kubernetes_ca_cert": publicCert(t), "disable_iss_validation": true,
	})
	server.Do(http.MethodPost, "auth/"+mount+"/role/verdict", map[string]any{
		"bound_service_account_names": "verdict", "bound_service_account_namespaces": "default", "token_policies": policy,
	})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pod := func(id string) string {
		text, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
			"jti": id, "sub": "system:serviceaccount:default:verdict", "iss": "kubernetes/serviceaccount",
			"nbf": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix(),
			"kubernetes.io": map[string]any{"namespace": "default", "serviceaccount": map[string]any{"name": "verdict", "uid": "u-1"}},
		}).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	file := vaulttest.Write(t, pod("1"))
	kv := r.kv
	r = newRig(t, server, func(o *vault.Options) {
		o.Auth = vault.Auth{Method: vault.Kubernetes, Mount: mount, Role: "verdict", JWTFile: file}
	})
	r.kv = kv
	r.want(t, vault.Denied)
	next := pod("2")
	valid.Store(next)
	replace(t, file, next) // as the kubelet does
	eventually(t, "logged in", func() bool { return r.put(t.Context(), "x") == nil })
}

// publicCert is some authority: the reviewer has none.
func publicCert(t *testing.T) string {
	t.Helper()
	file, _ := selfSigned(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	server := vaulttest.TLS(t)
	mount := server.Auth("cert")
	certFile, keyFile := selfSigned(t)
	text, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	kv := server.Mount("kv", nil)
	server.Do(http.MethodPost, "auth/"+mount+"/certs/verdict", map[string]any{
		"certificate": string(text), "token_policies": server.Policy(strings.ReplaceAll(kvPolicy, "KV", kv)),
	})
	o := vault.Options{
		Address: server.Address, CAFile: server.CAFile,
		Auth: vault.Auth{Method: vault.Certificate, Mount: mount, Role: "verdict", CertFile: certFile, KeyFile: keyFile},
	}
	client, err := vault.New(o)
	if err != nil {
		t.Fatal(err)
	}
	put := vault.Call{Operation: "put", Method: vault.Put, Path: kv + "/a", Body: map[string]string{"value": "x"}}
	if err := client.Do(t.Context(), put, nil); err != nil {
		t.Error(err)
	}
	o.Auth.CertFile, o.Auth.KeyFile = selfSigned(t)
	if client, err = vault.New(o); err != nil {
		t.Fatal(err)
	}
	if err := client.Do(t.Context(), put, nil); vault.KindOf(err) != vault.Denied {
		t.Errorf("with another certificate: %v", err)
	}
	o.CAFile = ""
	if client, err = vault.New(o); err != nil {
		t.Fatal(err)
	}
	if err := client.Do(t.Context(), put, nil); vault.KindOf(err) != vault.Unreachable || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without Vault's authority: %v", err)
	}
}

// selfSigned makes a client certificate.
func selfSigned(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "verdict"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return vaulttest.Write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		vaulttest.Write(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})))
}
