package cert_test

import (
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
	"github.com/verdict-pdp/verdict/keys/cert"
)

// TestVaultPKI signs and revokes with a real server and the policy in deploy.
func TestVaultPKI(t *testing.T) {
	t.Parallel()
	server := vaulttest.Dev(t)
	mount := server.Mount("pki", nil)
	server.Do(http.MethodPost, mount+"/root/generate/internal", map[string]any{"common_name": "root", "key_type": "ec", "key_bits": 256, "ttl": "24h"})
	for role, client := range map[string]bool{"verdict-server": false, "verdict-client": true} {
		server.Do(http.MethodPost, mount+"/roles/"+role, map[string]any{
			"allowed_domains": "test", "allow_subdomains": true, "allowed_uri_sans": "spiffe://shop.test/*", "allow_ip_sans": true,
			"require_cn": false, "server_flag": !client, "client_flag": client, "key_type": "any", "max_ttl": "2h",
		})
	}
	policy, err := os.ReadFile("../../deploy/vault/verdict-pki.hcl")
	if err != nil {
		t.Fatal(err)
	}
	token := server.Login([]string{server.Policy(strings.ReplaceAll(string(policy), `"pki/`, `"`+mount+`/`))}, nil)
	proxy := vaulttest.NewProxy(t, server.Address)
	client, err := vault.New(vault.Options{Address: proxy.URL, Auth: vault.Auth{Method: vault.Token, TokenFile: vaulttest.Write(t, token)}})
	if err != nil {
		t.Fatal(err)
	}
	pki, err := cert.NewVaultPKI(client, cert.VaultPKIOptions{Mount: mount, ServerRole: "verdict-server", ClientRole: "verdict-client"})
	if err != nil {
		t.Fatal(err)
	}
	i := newInventory(t, nil)
	i.now.add(time.Since(i.now.Now()))
	r := i.open(t, func(o *cert.RegistryOptions) { o.Authority = pki })
	var last *x509.Certificate
	for name, q := range map[string]cert.IssueRequest{
		"a name":    {CSR: csr(t, nil), Type: cert.Server, TTL: time.Hour},
		"an id":     {CSR: csr(t, names("", "spiffe://shop.test/one", "")), Type: cert.Client, TTL: time.Hour},
		"all names": {CSR: csr(t, names("api.test a.svc.test", "spiffe://shop.test/ns/a", "127.0.0.1")), Type: cert.Server, TTL: time.Hour},
	} {
		issued, err := r.Issue(t.Context(), q)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		last = parse(t, issued.Certificate)
		if life := time.Until(last.NotAfter); issued.Type != q.Type || life > time.Hour || life < 50*time.Minute {
			t.Errorf("%s: %+v", name, issued.Info)
		}
	}
	info, err := r.Revoke(t.Context(), cert.RevokeRequest{Serial: cert.SerialText(last.SerialNumber)})
	if err != nil || info.Published == nil || !*info.Published {
		t.Errorf("%+v, %v", info, err)
	}
	answer := server.Do(http.MethodGet, mount+"/cert/"+colons(info.Serial), nil)
	if answer["revocation_time"] == nil || answer["revocation_time"] == float64(0) {
		t.Errorf("Vault does not know that it is revoked: %v", answer["revocation_time"])
	}

	// Our own certificate, while Vault is well and while it is not.
	source, err := cert.NewIssued(pki, cert.OwnOptions{Names: []string{"localhost.test", "127.0.0.1"}, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	k := newKeeper(t, cert.KeeperSettings{Source: source}, cert.KeeperOptions{})
	cert.Step(k)
	if s := k.Status(); s.State != "ok" || s.Source != "vault" {
		t.Fatalf("%+v", s)
	}
	proxy.Cut()
	_, err = r.Issue(t.Context(), cert.IssueRequest{CSR: csr(t, nil), Type: cert.Server})
	if e, ok := errors.AsType[*cert.Error](err); !ok || e.Code != cert.CodeUnavailable || strings.Contains(err.Error(), token) {
		t.Errorf("without Vault: %v", err)
	}
}

func colons(serial string) string {
	var parts []string
	for i := 0; i < len(serial); i += 2 {
		parts = append(parts, serial[i:i+2])
	}
	return strings.Join(parts, ":")
}
