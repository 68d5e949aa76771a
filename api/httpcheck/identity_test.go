package httpcheck_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/verdict-pdp/verdict/api/httpcheck"
	"github.com/verdict-pdp/verdict/identity/issuer"
	"github.com/verdict-pdp/verdict/internal/issuertest"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

const outsideIssuer = "https://id.example"

func verifier(t testing.TB) (*issuer.Verifier, *issuertest.Key) {
	t.Helper()
	k := issuertest.NewKey(t, "k", "ES256")
	v, err := issuer.New([]issuer.Config{{
		Issuer: outsideIssuer, Audience: "shop", Algorithms: []string{"ES256"}, JWKSFile: issuertest.File(t, issuertest.Set(t, k)),
	}}, issuer.Options{Wait: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return v, k
}

func withHeader(value string) *httpcheck.Check {
	return &httpcheck.Check{Request: &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Principal: "spiffe://example.org/ns/a/sa/b"},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/a", Headers: map[string]string{"authorization": value},
		}},
	}}}
}

// TestIdentify looks for the bearer token in headers of all kinds.
func TestIdentify(t *testing.T) {
	t.Parallel()
	v, k := verifier(t)
	good := k.Sign(issuertest.Claims(outsideIssuer, "shop", time.Now()))
	bad := k.Sign(issuertest.Claims(outsideIssuer, "else", time.Now()))
	foreign := k.Sign(issuertest.Claims("https://else.example", "shop", time.Now()))
	for _, tt := range []struct {
		name, header, subject, fault string
	}{
		{"good", "Bearer " + good, "alice", ""},
		{"another case", "bEARER   " + good + " ", "alice", ""},
		{"bad", "Bearer " + bad, "", "audience"},
		{"of another issuer", "Bearer " + foreign, "", ""},
		{"opaque", "Bearer abc", "", ""},
		{"no scheme", good, "", ""},
		{"another scheme", "DPoP " + good, "", ""},
		{"basic", "Basic YTpi", "", ""},
		{"none", "", "", ""},
		{"empty", "Bearer ", "", ""},
		{"twice", "Bearer " + good + ",Bearer " + good, "", "malformed"},
		{"beside an opaque one", "Bearer abc, Bearer " + good, "", "malformed"},
		{"behind basic", "Basic YTpi, Bearer " + good, "", "malformed"},
		{"a bad one behind an opaque one", "Bearer abc,Bearer " + bad, "", "malformed"},
		{"two opaque ones", "Bearer abc,Bearer def", "", ""},
		{"digest", `Digest username="a", realm="b"`, "", ""},
		{"many commas", strings.Repeat(",", 10_000), "", ""},
	} {
		c := withHeader(tt.header)
		fault := httpcheck.Identify(t.Context(), v, c)
		if fault == nil != (tt.fault == "") || fault != nil && (fault.Code != httpcheck.CodeToken || !fault.Denies || !strings.Contains(fault.Message, tt.fault)) {
			t.Errorf("%s: the fault is %+v, want %q", tt.name, fault, tt.fault)
		}
		subject := ""
		if c.Token != nil {
			subject = httpcheck.Subject(c)
		}
		if subject != tt.subject {
			t.Errorf("%s: the subject is %q, want %q", tt.name, subject, tt.subject)
		}
	}
	if fault := httpcheck.Identify(t.Context(), nil, withHeader("Bearer "+bad)); fault != nil {
		t.Errorf("without a verifier: %v", fault)
	}
}

// TestIdentifyRawHeaders finds the token where Envoy sends headers as they came.
func TestIdentifyRawHeaders(t *testing.T) {
	t.Parallel()
	v, k := verifier(t)
	good := k.Sign(issuertest.Claims(outsideIssuer, "shop", time.Now()))
	for headers, want := range map[string]string{
		`{"key":"authorization","value":"Bearer ` + good + `"}`:                                                                      "alice",
		`{"key":"Authorization","value":"Bearer ` + good + `"}`:                                                                      "alice",
		`{"key":"authorization","value":"Bearer ` + good + `"},{"key":"authorization","value":"Bearer ` + good + `"}`:                "fault",
		`{"key":"authorization","value":"Basic YTpi"},{"key":"x","value":"y"},{"key":"authorization","value":"Bearer ` + good + `"}`: "fault",
		`{"key":"x","value":"Bearer ` + good + `"}`:                                                                                  "",
	} {
		c := &httpcheck.Check{Request: request(t, `{"attributes":{"request":{"http":{"headerMap":{"headers":[`+headers+`]}}}}}`)}
		got := ""
		if httpcheck.Identify(t.Context(), v, c) != nil {
			got = "fault"
		} else if c.Token != nil {
			got = c.Token.Subject
		}
		if got != want {
			t.Errorf("%.60s: got %q, want %q", headers, got, want)
		}
	}
}

// TestIdentifyUnknownError denies when a verifier fails in a way of its own, and
// tells nothing of it.
func TestIdentifyUnknownError(t *testing.T) {
	t.Parallel()
	fault := httpcheck.Identify(t.Context(), broken{}, withHeader("Bearer a.b.c"))
	if fault == nil || strings.Contains(fault.Message, "secret") {
		t.Errorf("got %+v", fault)
	}
}

type broken struct{}

func (broken) Verify(context.Context, string) (*issuer.Token, error) {
	return nil, errors.New("a secret")
}

// TestTokenFacts builds the input for tokens of several claims.
func TestTokenFacts(t *testing.T) {
	t.Parallel()
	v, k := verifier(t)
	at := time.Now().Truncate(time.Second).Add(-time.Minute).UTC()
	for _, tt := range []struct {
		name             string
		claims           map[string]any
		subject, session string // JSON; empty: absent
	}{
		{
			"a person",
			map[string]any{
				"roles": []string{"clerk"}, "groups": []string{"g"}, "tenant": "t1", "amr": []string{"pwd", "mfa"}, "auth_time": at.Unix(), "client_id": "web",
			},
			`{"type": "user", "id": "alice", "properties": {"issuer": "https://id.example", "roles": ["clerk"], "groups": ["g"], "tenant": "t1"}}`,
			`{"amr": ["pwd", "mfa"], "last_verified_at": "` + at.Format(time.RFC3339) + `"}`,
		},
		{
			"a client on its own behalf",
			map[string]any{"sub": "batch", "client_id": "batch"},
			`{"type": "service", "id": "batch", "properties": {"issuer": "https://id.example"}}`, "",
		},
		{
			"claims of other types",
			map[string]any{"roles": "admin", "groups": []any{1}, "entitlements": []any{map[string]any{"value": "x"}}, "tenant": []string{"t"}, "amr": "mfa", "auth_time": "now"},
			`{"type": "user", "id": "alice", "properties": {"issuer": "https://id.example"}}`, "",
		},
		{
			"nobody",
			map[string]any{"sub": nil, "roles": []string{"admin"}},
			`{"type": "service", "id": "spiffe://example.org/ns/a/sa/b"}`, "",
		},
	} {
		c := withHeader("Bearer " + k.Sign(issuertest.Claims(outsideIssuer, "shop", time.Now(), tt.claims)))
		if fault := httpcheck.Identify(t.Context(), v, c); fault != nil {
			t.Fatalf("%s: %v", tt.name, fault)
		}
		input, err := httpcheck.NewInputs(eval.Limits{}).Input(c)
		if err != nil {
			t.Fatal(err)
		}
		got := document(t, input).(map[string]any)
		if want := decode(t, tt.subject); !reflect.DeepEqual(got["subject"], want) {
			t.Errorf("%s: the subject is %v, want %v", tt.name, got["subject"], want)
		}
		context := got["context"].(map[string]any)
		var session any
		if tt.session != "" {
			session = decode(t, tt.session)
		}
		if !reflect.DeepEqual(context["session"], session) {
			t.Errorf("%s: the session is %v, want %v", tt.name, context["session"], session)
		}
		if claims, _ := context["jwt"].(map[string]any); claims["iss"] != outsideIssuer || claims["exp"] == nil {
			t.Errorf("%s: the claims are %v", tt.name, claims)
		}
		if context["certificate"] == nil {
			t.Errorf("%s: the certificate is gone", tt.name)
		}
	}
}

// TestTokenLimits counts claims among the members of an input.
func TestTokenLimits(t *testing.T) {
	t.Parallel()
	v, k := verifier(t)
	c := withHeader("Bearer " + k.Sign(issuertest.Claims(outsideIssuer, "shop", time.Now(), map[string]any{"a": []any{[]any{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}})))
	if fault := httpcheck.Identify(t.Context(), v, c); fault != nil {
		t.Fatal(fault)
	}
	for _, limits := range []eval.Limits{{Members: 10}, {Depth: 4}} {
		if _, err := httpcheck.NewInputs(limits).Input(c); err == nil {
			t.Errorf("%+v is kept by nobody", limits)
		}
	}
	if _, err := httpcheck.NewInputs(eval.Limits{Members: 100, Depth: 8}).Input(c); err != nil {
		t.Error(err)
	}
}
