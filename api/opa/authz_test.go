package opa_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/opa"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// mirror is an authorization policy that answers with its input, but lets in
// who is let in by the header X-Open.
const mirror = `package system.authz

import rego.v1

shown := object.remove(input, ["headers"])

headers := object.remove(input.headers, ["Connection", "Content-Length", "Content-Encoding", "Content-Type"])

allow := {"allowed": true} if input.headers["X-Open"][0] == "yes"

else := input.body.verdict if input.body.verdict != null

else := 7 if input.headers["X-Odd"][0] == "number"

else := {"reason": "x"} if input.headers["X-Odd"][0] == "unsaid"

else := {"allowed": false, "reason": 7} if input.headers["X-Odd"][0] == "reason"

else := {"allowed": "yes"} if input.headers["X-Odd"][0] == "text"

else := conflict if input.headers["X-Odd"][0] == "conflict"

else := {"allowed": false, "reason": json.marshal({"input": shown, "headers": headers})} if not input.headers["X-Odd"]

conflict := 1 if true

conflict := 2 if true
`

// authzStand is a server with OPA's own modes whose refusals are kept.
type authzStand struct {
	*stand
	mu       sync.Mutex
	refusals []api.Refusal
}

// Record implements api.Refusals.
func (s *authzStand) Record(_ context.Context, r api.Refusal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals = append(s.refusals, r)
	return nil
}

func newAuthzStand(t *testing.T, policy string, o opa.Options) *authzStand {
	t.Helper()
	s := &authzStand{stand: newStand(t, o)}
	if policy != "" {
		s.put(t, "authz.rego", policy)
	}
	gate, err := api.NewGate(anyToken{}, api.GateOptions{Refusals: api.NewRefusalLog(s, api.RefusalOptions{})})
	if err != nil {
		t.Fatal(err)
	}
	s.api = opa.New(pdp.New(s.engine, s.log, pdp.Options{}), s.log, o)
	s.mount(gate)
	return s
}

func (s *stand) put(t *testing.T, id, text string) {
	t.Helper()
	m, err := eval.ParseModule(id, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.engine.Write(func(d *eval.Draft) error { return d.PutModule(m) }); err != nil {
		t.Fatal(err)
	}
}

// byToken are OPA's modes for bearer tokens.
func byToken() opa.Options {
	return opa.Options{
		PolicyWrites: true, OmitDecisionID: true,
		Authentication: opa.AuthenticationToken, Authorization: opa.AuthorizationBasic,
	}
}

// TestAuthzSameAsOPA compares what the authorization policy sees, and what
// becomes of what it says.
func TestAuthzSameAsOPA(t *testing.T) {
	file := filepath.Join(t.TempDir(), "authz.rego")
	if err := os.WriteFile(file, []byte(mirror), 0o600); err != nil {
		t.Fatal(err)
	}
	stand := newAuthzStand(t, "", byToken())
	stand.put(t, file, mirror) // errors name the file
	server := httptest.NewServer(stand.handler)
	defer server.Close()
	servers := pair{
		opa:     startOPA(t, "--authentication=token", "--authorization=basic", file),
		verdict: func() (net.Conn, error) { return net.Dial("tcp", server.Listener.Addr().String()) },
	}
	for _, q := range authzProbes() {
		servers.same(t, q)
	}
}

func authzProbes() []probe {
	var probes []probe
	for _, target := range []string{
		"/", "/health", "/health/live", "/metrics", "/v1/data", "/v1/data/a/b", "/v1/data/a%2Fb/c", "/v1/data/%C3%A9", "/v1/data/a%20b", "/v1/policies", "/v1/policies/a%2Fb/c",
		"/v1/compile", "/v1/compile/a%2Fb", "/v1/query?q=x%3D1&q=2&pretty", "/v1/config", "/v1/status", "/nosuch", "/v1", "/v1/nosuch/x", "/v0/data/x", "/v1/data/x/", "/v1/data?x&y=1&y=2&z=%zz",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"} {
			probes = append(probes, probe{method: method, target: target})
		}
	}
	for _, value := range []string{"", "Bearer", "Bearer ", "Bearer x", "bearer x", "BEARER x", "Bearer  x", "Bearer\tx", "Bearer x y", "Basic x", "Bearerx", "x Bearer y", "Bearer é"} {
		probes = append(probes, probe{method: "GET", target: "/v1/data", headers: []string{"Authorization: " + value}})
	}
	bodies := []string{`{}`, `{"input":{"a":1}}`, `[1]`, `null`, `1`, `"x"`, `{`, ` `, `{} x`, `{"a":1,"a":2}`, "a: 1\n", `{"n":12345678901234567890123}`, `{"input":null}`}
	for _, target := range []string{"/", "/v0/data/x", "/v1/data", "/v1/data/x", "/v1/query", "/v1/compile", "/v1/compile/x", "/v1/policies/x"} {
		for _, body := range bodies {
			for _, headers := range [][]string{nil, {"Content-Type: application/yaml"}, {"X-Open: yes"}, {"X-Open: yes", "Content-Type: text/yaml"}} {
				if strings.Contains(strings.Join(headers, ""), "X-Open") && (strings.Contains(target, "compile") || strings.Contains(target, "query") || body == `{"input":null}`) {
					continue // the same things in other words
				}
				probes = append(probes, probe{method: "POST", target: target, body: body, headers: headers})
			}
		}
	}
	for _, verdict := range []string{`true`, `false`, `1`, `"x"`, `[]`, `{}`, `{"allowed":true}`, `{"allowed":false}`, `{"allowed":1}`, `{"reason":"x"}`, `{"allowed":false,"reason":"because"}`, `{"allowed":false,"reason":{}}`, `{"allowed":true,"reason":"x"}`, `{"allowed":false,"reason":"%s %d"}`} {
		probes = append(probes, probe{method: "POST", target: "/v1/data/system/nosuch", body: `{"input":1,"verdict":` + verdict + `}`})
	}
	for _, odd := range []string{"number", "unsaid", "reason", "text", "conflict", "undefined"} {
		probes = append(probes, probe{method: "GET", target: "/v1/data", headers: []string{"X-Odd: " + odd}})
	}
	return append(probes,
		probe{method: "POST", target: "/v1/data/x", body: zip(`{"input":{"a":1}}`), headers: []string{"Content-Encoding: gzip"}},
		probe{method: "POST", target: "/v1/data/x", body: zip(`{"input":{"a":1}}`), headers: []string{"Content-Encoding: gzip", "X-Open: yes"}},
		probe{method: "POST", target: "/v1/data/x", body: `{"input":{"a":1}}`, chunked: true},
		probe{method: "POST", target: "/v1/data/x", body: `{"input":{"a":1}}`, chunked: true, headers: []string{"X-Open: yes"}},
		probe{method: "GET", target: "/v1/data", headers: []string{"X-Many: a", "X-Many: b", "x-lower: c"}},
	)
}

// What is refused is recorded, and the token is not, whatever the policy makes
// of it.
func TestAuthzRefusals(t *testing.T) {
	s := newAuthzStand(t, `package system.authz

default allow := {"allowed": false, "reason": "nobody"}

allow := {"allowed": false, "reason": sprintf("%s may not, said %s", [input.identity, input.identity])} if input.method == "PUT"

allow := true if {
	input.identity == "s3cr3t"
	input.method == "POST"
}

allow := input.identity if input.path == ["nosuch"]
`, byToken())
	for _, tt := range []struct {
		method, target, token string
		status                int
		body                  string
	}{
		{"GET", "/v1/data", "s3cr3t", 401, `"message": "nobody"`},
		{"PUT", "/v1/data/x", "s3cr3t", 401, `"message": "s3cr3t may not, said s3cr3t"`},
		{"GET", "/nosuch", "s3cr3t", 401, `"message": "request rejected by administrative policy"`},
		{"GET", "/health", "", 401, `"code": "unauthorized"`},
		{"GET", "/metrics", "", 401, `"code": "unauthorized"`},
		{"GET", "/v1/config", "", 401, `"code": "unauthorized"`},
		{"HEAD", "/v1/data", "", 405, ``},
		{"POST", "/v1/data/x", "s3cr3t", 200, `"warning"`},
		{"POST", "/v1/batch/data/x", "s3cr3t", 200, `batch_decision_id`},
	} {
		w := s.do(t, tt.method, tt.target, "", "Authorization", "Bearer "+tt.token)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
			t.Errorf("%s %s: %d %s", tt.method, tt.target, w.Code, w.Body)
		}
	}
	all, err := json.Marshal(s.refusals)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(all), "s3cr3t") {
		t.Errorf("a refusal has the token: %s", all)
	}
	var got []string
	for _, r := range s.refusals {
		got = append(got, r.Method+" "+r.Path+" "+r.Class.String()+": "+r.Message)
	}
	want := []string{
		"GET /v1/data decide: nobody", "PUT /v1/data/x data:write: *** may not, said ***",
		"GET /nosuch query: request rejected by administrative policy",
		"GET /health health: nobody", "GET /metrics metrics: nobody", "GET /v1/config status: nobody",
	}
	if !slices.Equal(got, want) {
		t.Errorf("refusals\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, record := range s.records(t, "decision") {
		if strings.Contains(record, "s3cr3t") {
			t.Errorf("a record has the token: %s", record)
		}
	}
}

// Without a policy nobody gets in.
func TestAuthzUndefined(t *testing.T) {
	s := newAuthzStand(t, "", byToken())
	for _, target := range []string{"/v1/data", "/health", "/nosuch"} {
		w := s.do(t, "GET", target, "")
		if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "authorization policy missing or undefined") {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	if len(s.refusals) != 3 || s.refusals[0].Status != http.StatusInternalServerError {
		t.Errorf("refusals %+v", s.refusals)
	}
}

// A policy is in force from the write on that brings it, also for whoever wrote
// it.
func TestAuthzFollowsPolicy(t *testing.T) {
	s := newAuthzStand(t, "package system.authz\n\nallow := true\n", byToken())
	s.must(t, http.StatusOK, "PUT", "/v1/policies/authz.rego", "package system.authz\n\ndefault allow := false\n\nallow if input.method == \"GET\"\n")
	s.must(t, http.StatusUnauthorized, "PUT", "/v1/policies/authz.rego", "package system.authz\n")
	s.must(t, http.StatusOK, "GET", "/v1/policies", "")
}

// Modes without authorization let everybody in; tls wants a certificate.
func TestAuthzOff(t *testing.T) {
	s := newAuthzStand(t, mirror, opa.Options{PolicyWrites: true, Authentication: opa.AuthenticationToken, Authorization: opa.AuthorizationOff})
	s.must(t, http.StatusNoContent, "PUT", "/v1/data/x", "1", "Authorization", "Basic nonsense")
	s.must(t, http.StatusOK, "GET", "/v1/policies", "", "Authorization", "nonsense")
	s.must(t, http.StatusNotFound, "GET", "/nosuch", "")
	s = newAuthzStand(t, mirror, opa.Options{Authentication: opa.AuthenticationTLS, Authorization: opa.AuthorizationOff})
	if w := s.must(t, http.StatusUnauthorized, "GET", "/v1/policies", ""); !strings.Contains(w.Body.String(), "a client certificate is required") {
		t.Error(w.Body)
	}
	if len(s.refusals) != 1 {
		t.Errorf("refusals %+v", s.refusals)
	}
}

// With tls the subject of the client certificate is the identity, and the
// policy may look into the certificate.
func TestAuthzTLS(t *testing.T) {
	s := newAuthzStand(t, `package system.authz

default allow := false

allow if {
	input.identity == "CN=ann,O=shop"
	input.client_certificates[0].Subject.CommonName == "ann"
}
`, opa.Options{Authentication: opa.AuthenticationTLS, Authorization: opa.AuthorizationBasic})
	ann, bob := clientCertificate(t, "ann"), clientCertificate(t, "bob")
	server := httptest.NewUnstartedServer(s.handler)
	server.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: x509.NewCertPool()}
	server.TLS.ClientCAs.AddCert(ann.Leaf)
	server.TLS.ClientCAs.AddCert(bob.Leaf)
	server.StartTLS()
	defer server.Close()
	for _, tt := range []struct {
		name   string
		certs  []tls.Certificate
		status int
	}{
		{"ann", []tls.Certificate{ann}, http.StatusOK}, {"bob", []tls.Certificate{bob}, http.StatusUnauthorized}, {"nobody", nil, http.StatusUnauthorized},
	} {
		client := server.Client()
		transport := client.Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.Certificates = tt.certs
		client.Transport = transport
		res, err := client.Get(server.URL + "/v1/policies")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close() // nothing of it is wanted
		if res.StatusCode != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, res.StatusCode, tt.status)
		}
		transport.CloseIdleConnections()
	}
	if len(s.refusals) != 2 || s.refusals[0].Caller.Name != "CN=bob,O=shop" {
		t.Errorf("refusals %+v", s.refusals)
	}
}

// clientCertificate is signed by itself.
func clientCertificate(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"shop"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
