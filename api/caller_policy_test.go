package api_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/tokens"
)

// policy is a caller policy that a test sets.
type policy struct {
	generation uint64
	answer     api.CallerAnswer
	err        error
	asked      []api.CallerQuestion
}

func (p *policy) Generation() uint64 { return p.generation }

func (p *policy) MayCall(_ context.Context, q *api.CallerQuestion) (api.CallerAnswer, error) {
	p.asked = append(p.asked, *q)
	a := p.answer
	a.Generation = p.generation
	return a, p.err
}

func TestCallerPolicy(t *testing.T) {
	p := &policy{}
	store := newStore(t, tokens.Options{})
	a, b := secretOf(t, store, "a", "decide"), secretOf(t, store, "b", "decide")
	g := newGate(t, store, api.GateOptions{Policy: p})
	handler := func(c api.Class) http.Handler {
		return g.Stack(api.Main, g.Require(api.Route{Class: c, Handler: "test", Error: plain})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	}
	decide, query, health := handler(api.ClassDecide), handler(api.ClassQuery), handler(api.ClassHealth)
	step := func(name string, h http.Handler, token string, status, asked int) {
		t.Helper()
		w := do(h, request("POST", "/v1/data/x%2Fy", token))
		if w.Code != status || len(p.asked) != asked {
			t.Errorf("%s: %d (%s), asked %d times; want %d, %d", name, w.Code, w.Body, len(p.asked), status, asked)
		}
	}
	p.answer = api.CallerAnswer{Allowed: true, Cacheable: true}
	step("first", decide, a, 200, 1)
	if q := p.asked[0]; q.Caller.Name != "a" || q.Class != api.ClassDecide || q.Method != "POST" || q.Path != "/v1/data/x%2Fy" || q.ClientIP != "192.0.2.1" {
		t.Errorf("question %+v", q)
	}
	step("kept", decide, a, 200, 1)
	step("another caller", decide, b, 200, 2)
	step("another class", query, a, 200, 3)
	step("without a scope it is not asked", handler(api.ClassAdmin), a, 403, 3)
	step("without a token it is not asked", decide, "", 401, 3)
	step("health is not asked about", health, "", 200, 3)

	p.answer = api.CallerAnswer{Reason: "closed today"}
	step("still kept", decide, a, 200, 3)
	p.generation++
	step("another snapshot", decide, a, 403, 4)
	step("not cacheable", decide, a, 403, 5)
	p.err = errors.New("division by zero")
	step("an error refuses", decide, a, 500, 6)
	p.answer, p.err = api.CallerAnswer{Allowed: true}, nil
	step("an error is not kept", decide, a, 200, 7)

	// A token that comes back under its name is another caller.
	p.answer.Cacheable = true
	step("to be kept", decide, a, 200, 8)
	if _, err := store.Revoke(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	again := secretOf(t, store, "a", "decide")
	step("revoked", decide, a, 401, 8)
	step("made again", decide, again, 200, 9)

	// Who is nobody is told that a credential may help.
	g = newGate(t, store, api.GateOptions{Policy: p, Dev: true})
	p.answer = api.CallerAnswer{Reason: "members only"}
	step("an open route", handler(api.ClassDecide), "", 401, 10)
}

// Two certificates may have one name and different scopes.
func TestCallerPolicyTellsCertificatesApart(t *testing.T) {
	p := &policy{answer: api.CallerAnswer{Allowed: true, Cacheable: true}}
	g := newGate(t, newStore(t, tokens.Options{}), api.GateOptions{Policy: p, Settings: api.AccessSettings{
		Certificates: []api.CertificateRule{
			{SAN: "a.test", Name: "svc", Scopes: []string{"decide"}},
			{SAN: "b.test", Name: "svc", Scopes: []string{"decide", "admin"}},
		},
	}})
	h := g.Stack(api.Main, g.Require(api.Route{Class: api.ClassDecide, Handler: "test"})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	for i, name := range []string{"a.test", "b.test", "a.test", "b.test"} {
		leaf := &x509.Certificate{DNSNames: []string{name}, NotAfter: time.Now().AddDate(100, 0, 0)}
		r := request("GET", "/", "")
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
		if w := do(h, r); w.Code != http.StatusOK || len(p.asked) != min(i+1, 2) {
			t.Errorf("%d: %d (%s), asked %d times", i, w.Code, w.Body, len(p.asked))
		}
	}
}

func TestCallerPolicyKeepsBounded(t *testing.T) {
	p := &policy{answer: api.CallerAnswer{Allowed: true, Cacheable: true}}
	store := newStore(t, tokens.Options{})
	g := newGate(t, store, api.GateOptions{Policy: p})
	h := g.Stack(api.Main, g.Require(api.Route{Class: api.ClassDecide, Handler: "test"})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	secret := secretOf(t, store, "a", "decide")
	for range 3 {
		commit, err := g.Prepare(api.AccessSettings{}) // other settings, another key
		if err != nil {
			t.Fatal(err)
		}
		commit()
		do(h, request("GET", "/", secret))
		do(h, request("GET", "/", secret))
	}
	if len(p.asked) != 3 {
		t.Errorf("asked %d times", len(p.asked))
	}
}
