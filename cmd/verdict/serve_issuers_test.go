package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/verdict-pdp/verdict/internal/issuertest"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// tableData lets callers with a token ask under the standard policies: a rule
// for services that wants a token, and a role.
const tableData = `{"verdict": {
	"http": {"services": {"needs_jwt": {"hosts": ["needs.example"], "action": "allow", "require_mtls": false, "require_jwt": true}}},
	"rbac": {"roles": {"clerk": {"permissions": ["http.*", "order.read"]}}}
}}`

// outsideServer is a server that believes an issuer's tokens.
type outsideServer struct {
	*servertest.Server
	t      testing.TB
	key    *issuertest.Key
	issuer *issuertest.Server
	checks authv3.AuthorizationClient
	file   string
}

func outsideConfig(issuer, more string) string {
	return fmt.Sprintf(`
extauthz: {path: verdict/authz/http}
authn:
  issuers:
  - {issuer: %q, audience: verdict, algorithms: [ES256], jwks_url: %q, scopes: {claim: scope, map: {read: [decide], ops: ["audit:read"]}}}
%s`, issuer, issuer+"/keys", more)
}

func newOutsideServer(t testing.TB) *outsideServer {
	t.Helper()
	s := &outsideServer{t: t, key: issuertest.NewKey(t, "1", "ES256"), file: filepath.Join(t.TempDir(), "verdict.yaml")}
	s.issuer = issuertest.Serve(t, issuertest.Set(t, s.key))
	bundle := testBundle(t)
	write(t, filepath.Join(bundle, "data.json"), tableData)
	write(t, s.file, outsideConfig(s.issuer.URL, ""))
	s.Server = servertest.Start(t, servertest.Options{Strict: true, Args: []string{"--bundle", bundle, "--config", s.file, "--set", "limits.evaluation=20s"}})
	conn, err := grpc.NewClient(s.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s.checks = authv3.NewAuthorizationClient(conn)
	return s
}

// sign makes a token of the issuer for a clerk.
func (s *outsideServer) sign(members ...map[string]any) string {
	all := append([]map[string]any{{"scope": "read", "roles": []string{"clerk"}, "email": "alice@example.org"}}, members...)
	return s.key.Sign(issuertest.Claims(s.issuer.URL, "verdict", time.Now(), all...))
}

// envoy asks over ext_authz and gives the status that the client gets.
func (s *outsideServer) envoy(token string) int {
	s.t.Helper()
	headers := map[string]string{"cookie": "session=" + token}
	if token != "" {
		headers["authorization"] = "Bearer " + token
	}
	res, err := s.checks.Check(s.t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "192.0.2.7"}}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/orders", Host: "needs.example", Headers: headers,
		}},
	}})
	switch {
	case err != nil:
		s.t.Errorf("ext_authz: %v", err)
		return 0
	case res.GetOkResponse() != nil:
		return http.StatusOK
	}
	return int(res.GetDeniedResponse().GetStatus().GetCode())
}

// forward asks over forward authentication.
func (s *outsideServer) forward(token string) int {
	s.t.Helper()
	return s.Do(servertest.Request{Path: "/authz/forward", Token: token, Header: map[string]string{
		"X-Original-Method": "GET", "X-Original-URI": "/orders", "X-Forwarded-Host": "needs.example", "Cookie": "session=" + token,
	}}).Status
}

// edges asks through every edge, in this order: ext_authz, forward
// authentication, OPA's data API, AuthZEN, verdict's own API.
func (s *outsideServer) edges(token string) [5]int {
	s.t.Helper()
	question := map[string]any{
		"subject": map[string]any{"type": "user", "id": "bob", "properties": map[string]any{"roles": []string{"clerk"}}},
		"action":  map[string]any{"name": "read"}, "resource": map[string]any{"type": "order", "id": "1"},
	}
	return [5]int{
		s.envoy(token), s.forward(token),
		s.Do(servertest.Request{Path: "/v1/data/verdict/authz/decision", Token: token, Body: map[string]any{"input": question}}).Status,
		s.Do(servertest.Request{Path: "/access/v1/evaluation", Token: token, Body: question, Header: map[string]string{"Content-Type": "application/json"}}).Status,
		s.Do(servertest.Request{Path: "/api/v1/status", Token: token}).Status,
	}
}

// TestOutsideTokens asks through every edge with tokens of an outside issuer, and
// reads what of it is recorded.
func TestOutsideTokens(t *testing.T) {
	t.Parallel()
	s := newOutsideServer(t)
	stranger := issuertest.NewKey(t, "1", "ES256")
	good := s.sign()
	tokens := []string{good}
	for _, tt := range []struct {
		name, token string
		want        [5]int
	}{
		{"good", good, [5]int{200, 200, 200, 200, 403}},
		{"again", good, [5]int{200, 200, 200, 200, 403}},
		{"another scope", s.sign(map[string]any{"scope": "ops"}), [5]int{200, 200, 403, 403, 200}},
		{"no scope", s.sign(map[string]any{"scope": nil}), [5]int{200, 200, 403, 403, 403}},
		{"expired", s.sign(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), [5]int{401, 401, 401, 401, 401}},
		{"another audience", s.sign(map[string]any{"aud": "else"}), [5]int{401, 401, 401, 401, 401}},
		{"another's key", stranger.Sign(issuertest.Claims(s.issuer.URL, "verdict", time.Now())), [5]int{401, 401, 401, 401, 401}},
		{"none", "eyJhbGciOiJub25lIn0." + strings.Split(good, ".")[1] + ".", [5]int{401, 401, 401, 401, 401}},
		{"another issuer", s.sign(map[string]any{"iss": "https://else.example"}), [5]int{401, 401, 401, 401, 401}},
		{"opaque", "opaque-token-of-somebody", [5]int{401, 401, 401, 401, 401}},
	} {
		tokens = append(tokens, tt.token)
		if got := s.edges(tt.token); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
	if got, want := s.edges(""), [5]int{401, 401, 401, 401, 401}; got != want {
		t.Errorf("nothing: got %v, want %v", got, want)
	}
	name := func(result string) string {
		return fmt.Sprintf("verdict_issuer_tokens_total{issuer=%q,result=%q}", s.issuer.URL, result)
	}
	if verified, cached, expired := s.Metric(name("verified")), s.Metric(name("cached")), s.Metric(name("expired")); verified != 3 || cached != 17 || expired != 5 {
		t.Errorf("counted %v verified, %v cached, %v expired", verified, cached, expired)
	}
	s.Stop()
	s.records(tokens)
	verifyFolder(t, s.Dir)
}

// records checks what the log says of the tokens.
func (s *outsideServer) records(tokens []string) {
	s.t.Helper()
	list := readLog(s.t, s.Dir)
	facts, denied, callers := map[string]int{}, 0, 0
	for _, r := range list {
		var rec struct {
			Edge, Subject, Outcome string
			By                     string `json:"requested_by"`
			Error                  struct{ Code, Message string }
			Input                  struct {
				Context struct {
					JWT map[string]any `json:"jwt"`
				}
			}
		}
		if err := json.Unmarshal(r.raw, &rec); err != nil {
			s.t.Fatal(err)
		}
		if rec.Input.Context.JWT["email"] == "alice@example.org" && rec.Subject == "user:alice" {
			facts[rec.Edge]++
		}
		if rec.Error.Code == "token_refused" && rec.Outcome == "failure" && rec.Error.Message != "" && r.Event == "permission_denied" {
			denied++
		}
		if rec.By == s.issuer.URL+"#alice" && r.Type == "decision" {
			callers++
		}
		for _, token := range tokens {
			if strings.Contains(string(r.raw), token) || strings.Contains(string(r.raw), token[len(token)/2:]) {
				s.t.Errorf("a token is recorded: %s", r.raw)
			}
		}
	}
	if facts["extauthz"] != 4 || facts["forwardauth"] != 4 || denied != 8 || callers != 4 {
		s.t.Errorf("recorded: facts %v, %d denied, %d callers", facts, denied, callers)
	}
	if n := count(list, "key_rotation"); n != 1 {
		s.t.Errorf("%d changes of keys are recorded", n)
	}
	for _, token := range tokens {
		if strings.Contains(s.Stderr(), token) {
			s.t.Error("a token is logged")
		}
	}
}

// TestOutsideRotation has the issuer take another key, be away, and be replaced
// by SIGHUP.
func TestOutsideRotation(t *testing.T) {
	t.Parallel()
	s := newOutsideServer(t)
	want := func(when, token string, ext, data int) {
		t.Helper()
		if got := s.edges(token); got[0] != ext || got[2] != data {
			t.Errorf("%s: got %v, want %d and %d", when, got, ext, data)
		}
	}
	old := s.sign()
	want("at first", old, 200, 200)
	s.key = issuertest.NewKey(t, "2", "ES256")
	s.issuer.Publish(issuertest.Set(t, s.key))
	next := s.sign()
	want("another key", next, 200, 200)
	want("a kept token of the old key", old, 401, 401)
	s.issuer.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	want("the server is down", s.sign(map[string]any{"jti": "1"}), 200, 200)

	second := issuertest.NewKey(t, "2", "ES256")
	file := issuertest.File(t, issuertest.Set(t, second))
	more := fmt.Sprintf("  - {issuer: 'https://second.example', audience: shop, algorithms: [ES256], jwks_file: %q, scopes: {claim: groups, map: {g: [decide]}}}\n", file)
	token := second.Sign(issuertest.Claims("https://second.example", "shop", time.Now(), map[string]any{"groups": []string{"g"}, "roles": []string{"clerk"}}))
	want("a second issuer that is not configured", token, 401, 401)
	write(t, s.file, outsideConfig(s.issuer.URL, strings.Replace(more, file, file+"x", 1)))
	hangUp(t, s.Server, "the old one stays")
	want("a file that is not there", next, 200, 200)
	write(t, s.file, outsideConfig(s.issuer.URL, more))
	hangUp(t, s.Server, "read again\"")
	want("a second issuer", token, 200, 200)
	want("the first beside it", next, 200, 200)
	write(t, s.file, "extauthz: {path: verdict/authz/http}\nauthn: {issuers: []}\n")
	hangUp(t, s.Server, "read again\"")
	want("no issuer", token, 401, 401)
}

// TestTrustedProxies records the client that a trusted proxy names, and that of
// nobody else.
func TestTrustedProxies(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "verdict.yaml")
	write(t, file, "server: {open: [decide]}\n")
	s := servertest.Start(t, servertest.Options{Strict: true, Args: plain(t, "--config", file)})
	ask := func() {
		t.Helper()
		a := s.Do(servertest.Request{Path: "/v1/data/app/allow", Body: `{"input": {}}`, Header: map[string]string{
			"X-Forwarded-For": "198.51.100.1, 203.0.113.9", "X-Real-IP": "198.51.100.2",
		}})
		if a.Status != http.StatusOK {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	ask()
	for _, proxies := range []string{"[127.0.0.1]", "[127.0.0.1, 203.0.113.0/24]"} {
		write(t, file, "server: {open: [decide], trusted_proxies: "+proxies+"}\n")
		hangUp(t, s, "read again\"")
		ask()
	}
	s.Stop()
	var got []string
	for _, r := range readLog(t, s.Dir) {
		if m := regexp.MustCompile(`"client_ip":"([^"]*)"`).FindSubmatch(r.raw); m != nil && r.Type == "decision" {
			got = append(got, string(m[1]))
		}
	}
	if want := []string{"127.0.0.1", "203.0.113.9", "198.51.100.1"}; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("recorded %v, want %v", got, want)
	}
}

// TestOutsideTokensPage runs the commands of docs/outside-tokens.md with its
// configuration and its policy.
func TestOutsideTokensPage(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the page needs %s: %v", tool, err)
		}
	}
	t.Parallel()
	raw, err := os.ReadFile("../../docs/outside-tokens.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string) string {
		m := regexp.MustCompile("(?s)```" + kind + "\n(.*?)```").FindSubmatch(raw)
		if m == nil {
			t.Fatalf("the page has no %s", kind)
		}
		return string(m[1])
	}
	key := issuertest.NewKey(t, "1", "ES256")
	id := issuertest.Serve(t, issuertest.Set(t, key))
	config := filepath.Join(t.TempDir(), "verdict.yaml")
	write(t, config, strings.ReplaceAll(block("yaml"), "https://id.example.org", id.URL))
	bundle := testBundle(t, block("rego"), "package shop\n\nopen if input.day == \"monday\"\n")
	s := servertest.Start(t, servertest.Options{Strict: true, Args: []string{
		"--standard-policies=false", "--bundle", bundle, "--config", config, "--set", "forwardauth.path=shop/gateway/allow", "--set", "limits.evaluation=20s",
	}})
	claims := map[string]any{"scope": "orders.read", "roles": []string{"clerk"}, "tenant": "north"}
	token := key.Sign(issuertest.Claims(id.URL, "verdict", time.Now(), claims))
	expired := key.Sign(issuertest.Claims(id.URL, "verdict", time.Now().Add(-2*time.Hour), claims))
	commands := 0
	for _, console := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(raw), -1) {
		for _, part := range strings.Split("\n"+console[1], "\n$ ")[1:] {
			commands++
			command, want := splitPageCommand(part)
			cmd := exec.Command("bash", "-c", strings.ReplaceAll(command, "localhost:8181", strings.TrimPrefix(s.URL, "http://")))
			cmd.Env = append(os.Environ(), "TOKEN="+token, "EXPIRED="+expired)
			if got, err := cmd.Output(); err != nil || string(got) != want {
				t.Errorf("$ %s\ngot  %s%v\nwant %s", command, got, err, want)
			}
		}
	}
	if commands != 6 {
		t.Errorf("%d commands: the blocks are not found", commands)
	}
}
