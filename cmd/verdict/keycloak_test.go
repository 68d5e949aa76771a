package main_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/components"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// keycloakRealm has a client whose access tokens are for verdict, and a user with
// a role.
const keycloakRealm = `{
	"realm": "shop", "enabled": true, "sslRequired": "none",
	"roles": {"realm": [{"name": "clerk"}]},
	"clients": [{
		"clientId": "web", "secret": "web-secret", "publicClient": false, "directAccessGrantsEnabled": true,
		"protocolMappers": [
			{"name": "verdict", "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper",
				"config": {"included.custom.audience": "verdict", "access.token.claim": "true", "id.token.claim": "false"}},
			{"name": "roles", "protocol": "openid-connect", "protocolMapper": "oidc-usermodel-realm-role-mapper",
				"config": {"claim.name": "roles", "multivalued": "true", "jsonType.label": "String", "access.token.claim": "true"}}
		]
	}],
	"users": [{
		"username": "alice", "enabled": true, "email": "alice@example.org", "emailVerified": true, "firstName": "Alice", "lastName": "Example",
		"credentials": [{"type": "password", "value": "alice-password"}], "realmRoles": ["clerk"]
	}]
}`

// keycloak is a real OpenID provider.
type keycloak struct {
	t      testing.TB
	url    string
	client *http.Client
	admin  string
}

func startKeycloak(t testing.TB) *keycloak {
	t.Helper()
	program, addr := components.Path(t, "keycloak"), components.Address(t)
	k := &keycloak{t: t, url: "http://" + addr, client: servertest.NewClient(nil)}
	t.Cleanup(k.client.CloseIdleConnections)
	components.Start(t, t.TempDir(), addr, "env",
		"KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD=admin-password",
		"JAVA_OPTS_APPEND=-XX:TieredStopAtLevel=1 -Dquarkus.transaction-manager.object-store.directory="+t.TempDir(),
		program, "start", "--optimized", "--cache=local", "--http-enabled=true", "--http-host=127.0.0.1", "--http-port="+addr[strings.LastIndexByte(addr, ':')+1:], "--hostname="+k.url)
	k.admin = k.tokens("master", url.Values{"client_id": {"admin-cli"}, "username": {"admin"}, "password": {"admin-password"}})["access_token"]
	k.post("/admin/realms", keycloakRealm)
	return k
}

// tokens logs a user in.
func (k *keycloak) tokens(realm string, form url.Values) map[string]string {
	k.t.Helper()
	form.Set("grant_type", "password")
	res, err := k.client.PostForm(k.url+"/realms/"+realm+"/protocol/openid-connect/token", form)
	if err != nil {
		k.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body)
	var all map[string]any
	if err := json.Unmarshal(raw, &all); err != nil || res.StatusCode != http.StatusOK {
		k.t.Fatalf("Keycloak gives no token: %d %s", res.StatusCode, raw)
	}
	out := map[string]string{}
	for name, v := range all {
		out[name] = fmt.Sprint(v)
	}
	return out
}

// alice logs the user in.
func (k *keycloak) alice() map[string]string {
	k.t.Helper()
	return k.tokens("shop", url.Values{
		"client_id": {"web"}, "client_secret": {"web-secret"}, "username": {"alice"}, "password": {"alice-password"}, "scope": {"openid"},
	})
}

// post makes something over the admin API.
func (k *keycloak) post(path, body string) {
	k.t.Helper()
	r, err := http.NewRequest(http.MethodPost, k.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		k.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+k.admin)
	r.Header.Set("Content-Type", "application/json")
	res, err := k.client.Do(r)
	if err != nil {
		k.t.Fatal(err)
	}
	defer res.Body.Close()
	if raw, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusCreated {
		k.t.Fatalf("POST %s: %d %s", path, res.StatusCode, raw)
	}
}

// partOf is a part of a token, decoded.
func partOf(t testing.TB, token string, i int) map[string]any {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestKeycloak takes the tokens of a real OpenID provider, before and after it
// has another key, and those only that are meant for verdict.
func TestKeycloak(t *testing.T) {
	t.Parallel()
	k := startKeycloak(t)
	issuer := k.url + "/realms/shop"
	config, bundle := filepath.Join(t.TempDir(), "verdict.yaml"), testBundle(t)
	write(t, filepath.Join(bundle, "data.json"), tableData)
	write(t, config, fmt.Sprintf(`
extauthz: {path: verdict/authz/http}
authn:
  issuers:
  - {issuer: %q, audience: verdict, algorithms: [RS256], jwks_url: %q, scopes: {claim: /realm_access/roles, map: {clerk: [decide]}}}
`, issuer, issuer+"/protocol/openid-connect/certs"))
	s := servertest.Start(t, servertest.Options{Strict: true, Args: []string{"--bundle", bundle, "--config", config, "--set", "limits.evaluation=20s"}})
	ask := func(when, token string, want int) {
		t.Helper()
		a := s.Do(servertest.Request{Path: "/authz/forward", Token: token, Header: map[string]string{
			"X-Original-Method": "GET", "X-Original-URI": "/orders", "X-Forwarded-Host": "needs.example",
		}})
		if a.Status != want {
			t.Errorf("%s: forward auth answers %d %s, want %d", when, a.Status, a.Body, want)
		}
		if sub := partOf(t, token, 1)["sub"]; want == http.StatusOK && a.Header.Get("X-Verdict-Subject") != sub {
			t.Errorf("%s: the subject is %q, want %v", when, a.Header.Get("X-Verdict-Subject"), sub)
		}
		if a := s.Do(servertest.Request{Path: "/v1/data/app/allow", Token: token, Body: `{"input": {}}`}); a.Status != want {
			t.Errorf("%s: the data API answers %d %s, want %d", when, a.Status, a.Body, want)
		}
	}
	first := k.alice()
	ask("an access token", first["access_token"], http.StatusOK)
	ask("an ID token", first["id_token"], http.StatusUnauthorized)
	ask("a refresh token", first["refresh_token"], http.StatusUnauthorized)

	k.post("/admin/realms/shop/components", `{"name": "next", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
		"config": {"priority": ["1000"], "enabled": ["true"], "active": ["true"], "keySize": ["2048"], "algorithm": ["RS256"]}}`)
	second := k.alice()["access_token"]
	if old, next := partOf(t, first["access_token"], 0)["kid"], partOf(t, second, 0)["kid"]; old == next {
		t.Fatalf("Keycloak has no other key: %v", next)
	}
	ask("another key", second, http.StatusOK)
	ask("the first key beside it", k.alice()["access_token"], http.StatusOK)
	s.Stop()
	if n := count(readLog(t, s.Dir), "key_rotation"); n != 2 {
		t.Errorf("%d changes of keys are recorded", n)
	}
}
