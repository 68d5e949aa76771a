package cert

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/internal/vault"
)

// signPatience is what signing may take: some authorities have RSA keys.
const signPatience = 5 * time.Second

// VaultPKI is Vault's PKI engine. Keys are made by whoever asks: only signing
// requests go to Vault.
type VaultPKI struct {
	client *vault.Client
	o      VaultPKIOptions
}

// VaultPKIOptions say where the engine is and which roles sign.
type VaultPKIOptions struct {
	// Mount is where the engine is mounted; empty: pki.
	Mount string
	// ServerRole and ClientRole are the roles for certificates of servers and
	// clients; empty: none of that type are signed.
	ServerRole, ClientRole string
}

// NewVaultPKI makes an authority. Vault is not asked yet.
func NewVaultPKI(client *vault.Client, o VaultPKIOptions) (*VaultPKI, error) {
	if o.Mount == "" {
		o.Mount = "pki"
	}
	o.Mount = strings.Trim(o.Mount, "/")
	for _, part := range []string{o.Mount, o.ServerRole, o.ClientRole} {
		if strings.ContainsAny(part, "?#%\\ ") || strings.Contains(part, "..") {
			return nil, fmt.Errorf("%q is not a path in Vault", part)
		}
	}
	if strings.Contains(o.ServerRole+o.ClientRole, "/") {
		return nil, errors.New("the name of a role in Vault has no slash")
	}
	return &VaultPKI{client: client, o: o}, nil
}

// Name implements Authority.
func (v *VaultPKI) Name() string { return "vault" }

// Sign implements Authority.
func (v *VaultPKI) Sign(ctx context.Context, r Request) ([]*x509.Certificate, error) {
	role := v.o.ServerRole
	if r.Type == Client {
		role = v.o.ClientRole
	}
	if role == "" {
		return nil, &Error{Code: CodeIssuerRefused, Field: "type", Message: fmt.Sprintf("no role of Vault signs certificates for use as %s", r.Type)}
	}
	names := sansOfCSR(r.CSR)
	body := map[string]any{
		"csr":         string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: r.CSR.Raw})),
		"common_name": r.CSR.Subject.CommonName, "exclude_cn_from_sans": true,
		"alt_names": strings.Join(names.DNS, ","), "ip_sans": strings.Join(names.IP, ","), "uri_sans": strings.Join(names.URI, ","),
		"ttl": fmt.Sprintf("%ds", int64(r.TTL/time.Second)), "format": "pem",
	}
	var answer struct {
		Certificate string   `json:"certificate"`
		IssuingCA   string   `json:"issuing_ca"`
		Chain       []string `json:"ca_chain"`
	}
	err := v.client.Do(ctx, vault.Call{
		Operation: "pki_sign", Method: vault.Put, Path: v.o.Mount + "/sign/" + role, Body: body, Patience: signPatience, Once: true,
	}, &answer)
	if err != nil {
		return nil, v.refusal(err)
	}
	if len(answer.Chain) == 0 {
		answer.Chain = []string{answer.IssuingCA}
	}
	chain, err := parseChain([]byte(answer.Certificate + "\n" + strings.Join(answer.Chain, "\n")))
	if err != nil {
		return nil, fmt.Errorf("read what Vault signed: %w", err)
	}
	return withoutRoot(chain), nil
}

// refusal tells an answer that will not change from one that may.
func (v *VaultPKI) refusal(err error) error {
	if e, ok := errors.AsType[*vault.Error](err); ok && (e.Kind == vault.Refused || e.Kind == vault.NotFound) {
		return &Error{Code: CodeIssuerRefused, Message: e.Error()}
	}
	return err
}

// withoutRoot leaves out what signed itself: who believes it has it.
func withoutRoot(chain []*x509.Certificate) []*x509.Certificate {
	kept := chain[:1]
	for _, c := range chain[1:] {
		if string(c.RawIssuer) != string(c.RawSubject) {
			kept = append(kept, c)
		}
	}
	return kept
}

// Revoke implements Authority.
func (v *VaultPKI) Revoke(ctx context.Context, leaf *x509.Certificate) error {
	err := v.client.Do(ctx, vault.Call{
		Operation: "pki_revoke", Method: vault.Put, Path: v.o.Mount + "/revoke",
		Body: map[string]any{"serial_number": colons(leaf.SerialNumber)},
	}, nil)
	if err != nil {
		return v.refusal(err)
	}
	return nil
}

// colons is a serial number as Vault writes it.
func colons(n *big.Int) string {
	text := SerialText(n)
	var b strings.Builder
	for i := 0; i < len(text); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(text[i : i+2])
	}
	return b.String()
}
