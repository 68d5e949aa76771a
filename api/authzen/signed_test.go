package authzen_test

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/verdict-pdp/verdict/api/authzen"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/jose"
	"github.com/verdict-pdp/verdict/keys/keystest"
)

// counted counts what is signed, and fails on demand.
type counted struct {
	*jose.Signer
	calls int
	err   error
}

func (c *counted) Sign(ctx context.Context, typ string, claims jwt.Claims) (string, error) {
	if c.calls++; c.err != nil {
		return "", c.err
	}
	return c.Signer.Sign(ctx, typ, claims)
}

// notary is a signer with a key.
func notary(t *testing.T, now func() time.Time) (*counted, *ecdsa.PublicKey) {
	t.Helper()
	ring, _ := keystest.Ring(t, keystest.Local(t), keys.Options{Now: now})
	key, err := ring.EnsureKey(t.Context(), keys.By{}, ring.ID("jwt"), keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jose.NewSigner(ring, ring.ID("jwt"), keys.ES256, jose.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	public, ok := key.Versions[0].Public.(*ecdsa.PublicKey)
	if !ok {
		t.Fatal("no EC key")
	}
	return &counted{Signer: s}, public
}

func metadata(t *testing.T, h http.Handler, tenant string) map[string]any {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, authzen.PathMetadata+tenant, nil))
	var doc map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return doc
}

// The signed metadata has iss and the members of the document, and not itself.
func TestSignedMetadata(t *testing.T) {
	signer, public := notary(t, nil)
	h := newStand(t, setup{Options: authzen.Options{PublicURL: "https://pdp.example", Signer: signer}}).handler
	for tenant, issuer := range map[string]string{"": "https://pdp.example", "/north": "https://pdp.example/north"} {
		doc := metadata(t, h, tenant)
		token, _ := doc["signed_metadata"].(string)
		claims := jwt.MapClaims{}
		parsed, err := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(issuer), jwt.WithExpirationRequired()).
			ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return public, nil })
		if err != nil || parsed.Header["kid"] == nil {
			t.Fatalf("%q: %v", token, err)
		}
		want := maps.Clone(doc)
		delete(want, "signed_metadata")
		for _, own := range []string{"iss", "iat", "exp"} {
			delete(claims, own)
		}
		if want["policy_decision_point"] != issuer || !reflect.DeepEqual(map[string]any(claims), want) {
			t.Errorf("claims %v\nwant %v", claims, want)
		}
	}
}

// What it costs to sign is bounded, and a failure costs the document nothing.
func TestSignedMetadataBounds(t *testing.T) {
	now := time.Now()
	clock := func() time.Time { return now }
	signer, _ := notary(t, clock)
	h := newStand(t, setup{Options: authzen.Options{PublicURL: "https://pdp.example", Signer: signer, Now: clock}}).handler
	for range 50 {
		metadata(t, h, "")
	}
	if signer.calls != 1 {
		t.Errorf("signed %d times for one document", signer.calls)
	}
	for n := range 100 {
		metadata(t, h, fmt.Sprintf("/tenant-%d", n))
	}
	if signer.calls > 25 {
		t.Errorf("signed %d times in one moment", signer.calls)
	}
	now = now.Add(6 * time.Minute)
	before := signer.calls
	metadata(t, h, "")
	if signer.calls != before+1 {
		t.Errorf("an old signature is served")
	}
	now = now.Add(6 * time.Minute)
	signer.err = errors.New("sealed")
	before = signer.calls
	for range 10 {
		if doc := metadata(t, h, ""); doc["signed_metadata"] != nil || doc["policy_decision_point"] == nil {
			t.Errorf("document %v", doc)
		}
	}
	if signer.calls != before+1 {
		t.Errorf("asked %d times after a failure", signer.calls-before)
	}
	now, signer.err = now.Add(11*time.Second), nil
	if metadata(t, h, "")["signed_metadata"] == nil {
		t.Error("it is not signed again after the failure")
	}
}
