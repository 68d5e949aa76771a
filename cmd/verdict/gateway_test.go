package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/verdict-pdp/verdict/internal/components"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// gatewayPolicy decides by the path and the token; what is behind /ip is open to
// one address only, so that a forged one shows.
const gatewayPolicy = `package envoy.authz

http := input.attributes.request.http

path := input.parsed_path

default allow := false

allow if path[0] == "public"

allow := {
	"allowed": true, "headers": {"x-user": "ada"}, "response_headers_to_add": {"x-seen": "yes"},
	"request_headers_to_remove": ["x-secret"],
} if {
	path[0] == "private"
	http.headers.authorization == "Bearer good"
}

allow := {"allowed": false, "body": "go away", "http_status": 404, "headers": {"x-why": "gone"}} if path[0] == "gone"

allow := {
	"allowed": true, "headers": {"x-role": ["clerk", "auditor"], "x-team": ["north"]},
	"response_headers_to_add": [{"x-note": ["one", "two"]}],
	"query_parameters_to_set": {"tenant": "north", "role": ["a", "b"]}, "query_parameters_to_remove": ["admin"],
} if {
	path[0] == "lists"
}

allow := {"allowed": false, "headers": {"x-note": ["one", "two"]}} if path[0] == "refused"

allow := {"allowed": true, "headers": {"x-name": input.parsed_query.name[0]}} if path[0] == "named"

allow if {
	path[0] == "ip"
	input.context.network.ip == "10.9.9.9"
}

allow if input.parsed_body.ok == true

allow if {
	path[0] == "long"
	input.truncated_body
}

allow if {
	path[0] == "number"
	to_number(path[1]) % 3 == 0
}
`

// upstream is the service behind a gateway: it answers with the headers that it
// got.
func upstream(t testing.TB) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		r.Header.Set("X-Asked-Uri", r.RequestURI)
		_ = json.NewEncoder(w).Encode(r.Header)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// gateway is a gateway in front of a service, and the verdict that it asks.
type gateway struct {
	testing.TB
	*servertest.Server
	addr, checks, http string
	client             *http.Client
	options            servertest.Options
}

// newGateway starts a server whose addresses stay when it is started again; binary
// is as in servertest.Options.
func newGateway(t testing.TB, binary string) *gateway {
	t.Helper()
	g := &gateway{TB: t, addr: components.Address(t), checks: components.Address(t), http: components.Address(t), client: servertest.NewClient(nil)}
	bundle := testBundle(t, gatewayPolicy)
	g.options = servertest.Options{
		Dir: filepath.Join(t.TempDir(), "data"), Strict: true, Binary: binary,
		Args: []string{
			"--standard-policies=false", "--bundle", bundle, "--set", "limits.evaluation=20s",
			"--grpc-addr", g.checks, "--addr", g.http,
		},
	}
	g.Server = servertest.Start(t, g.options)
	t.Cleanup(g.client.CloseIdleConnections)
	return g
}

// ask sends a request to the gateway and gives status, headers and what the
// upstream saw.
func (g *gateway) ask(method, path, body string, headers ...string) (int, http.Header, http.Header, string) {
	g.Helper()
	u := &url.URL{Scheme: "http", Host: g.addr, Opaque: "//" + g.addr + path}
	r := &http.Request{Method: method, URL: u, Header: http.Header{}, Host: "shop.example"}
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	res, err := g.client.Do(r)
	if err != nil {
		g.Errorf("%s %s: %v", method, path, err)
		return 0, nil, nil, ""
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body)
	var seen http.Header
	if res.StatusCode == http.StatusOK {
		if err := json.Unmarshal(raw, &seen); err != nil {
			g.Errorf("%s %s: the upstream answers %q", method, path, raw)
		}
	}
	return res.StatusCode, res.Header, seen, string(raw)
}

// expect asks and compares the status.
func (g *gateway) expect(status int, method, path string, headers ...string) {
	g.Helper()
	if got, _, _, body := g.ask(method, path, "", headers...); got != status {
		g.Errorf("%s %s %q: got %d, want %d: %s", method, path, headers, got, status, body)
	}
}

// stopped kills the server and checks that the gateway lets nobody in; again
// starts it, and the gateway recovers by itself.
func (g *gateway) stopped() {
	g.Helper()
	g.Kill()
	for range 20 {
		if status, _, _, _ := g.ask("GET", "/public", ""); status == http.StatusOK {
			g.Error("the gateway let a request in with verdict down")
		}
	}
	g.Server = servertest.Start(g.TB, g.options)
	if !g.Eventually(func() error {
		if status, _, _, _ := g.ask("GET", "/public", ""); status != http.StatusOK {
			return fmt.Errorf("got %d", status)
		}
		return nil
	}) {
		g.Error("the gateway does not recover")
	}
}

// records stops the server and counts the records of an edge.
func (g *gateway) records(edge string) (n int) {
	g.Helper()
	g.Stop()
	for _, r := range readLog(g.TB, g.Dir) {
		if strings.Contains(string(r.raw), `"edge":"`+edge+`"`) {
			n++
		}
	}
	verifyFolder(g.TB, g.Dir)
	return n
}

func TestEnvoy(t *testing.T) {
	t.Parallel()
	program := components.Path(t, "envoy")
	g, service := newGateway(t, servertest.Plain(t)), upstream(t)
	port := func(addr string) string { return "port_value: " + addr[strings.LastIndexByte(addr, ':')+1:] }
	dir := t.TempDir()
	config := components.Configure(t, "../../deploy/envoy/envoy.yaml",
		"port_value: 10000", port(g.addr), "port_value: 9191", port(g.checks), "port_value: 8080", port(service), "timeout: 1s", "timeout: 30s")
	write(t, filepath.Join(dir, "envoy.yaml"), config)
	components.Start(t, dir, g.addr, program, "-c", "envoy.yaml", "--concurrency", "1", "-l", "warn", "--use-dynamic-base-id")
	if !g.Eventually(func() error {
		if status, _, _, body := g.ask("GET", "/public", ""); status != http.StatusOK {
			return fmt.Errorf("got %d %s", status, body)
		}
		return nil
	}) {
		t.Fatal("Envoy lets nobody in")
	}

	status, header, seen, _ := g.ask("GET", "/private/a?b=c", "", "Authorization", "Bearer good", "X-Secret", "s", "X-User", "forged")
	if status != 200 || seen.Get("X-User") != "ada" || seen["X-Secret"] != nil || header.Get("X-Seen") != "yes" || header.Get("X-Decision-Id") == "" {
		t.Errorf("allowed: got %d %v, the upstream saw %v", status, header, seen)
	}
	status, header, _, body := g.ask("GET", "/gone", "")
	if status != 404 || body != "go away" || header.Get("X-Why") != "gone" || header.Get("X-Decision-Id") == "" {
		t.Errorf("denied: got %d %v %q", status, header, body)
	}
	status, header, _, _ = g.ask("GET", "/private", "")
	if status != 403 || header.Get("X-Decision-Id") == "" {
		t.Errorf("denied: got %d %v", status, header)
	}
	long := `{"ok": true, "pad": "` + strings.Repeat("x", 20_000) + `"}`
	for _, tt := range []struct {
		path, body string
		want       int
	}{{"/body", `{"ok": true}`, 200}, {"/body", `{"ok": false}`, 403}, {"/body", `{"ok": `, 400}, {"/body", long, 403}, {"/long", long, 200}, {"/long", `{}`, 403}} {
		if got, _, _, _ := g.ask("POST", tt.path, tt.body, "Content-Type", "application/json"); got != tt.want {
			t.Errorf("body %.30s: got %d, want %d", tt.body, got, tt.want)
		}
	}
	g.rewrites()
	g.expect(403, "GET", "/ip", "X-Forwarded-For", "10.9.9.9")
	g.expect(403, "GET", "/private/../gone/../private")
	g.expect(400, "GET", "/public%2F..%2Fprivate")
	wrong, asked := g.load(10_000)
	if wrong > 0 {
		t.Errorf("%d of %d answers under load are wrong", wrong, asked)
	}
	g.killedUnderLoad()
	if n := g.records("extauthz"); n < asked {
		t.Errorf("%d checks are recorded, %d were answered", n, asked)
	}
}

// rewrites asks for what Envoy is told to change: several values of one header,
// the query, and a header that is none, with which Envoy asks no upstream.
func (g *gateway) rewrites() {
	g.Helper()
	status, header, seen, body := g.ask("GET", "/lists?admin=1&tenant=south&x=1", "", "X-Role", "admin")
	if status != 200 || strings.Join(seen["X-Role"], ",") != "clerk,auditor" || !slices.Equal(seen["X-Team"], []string{"north"}) ||
		!slices.Equal(header["X-Note"], []string{"one", "two"}) {
		g.Errorf("lists: got %d, notes %q, the upstream saw %v %s", status, header["X-Note"], seen, body)
	}
	if got := seen.Get("X-Asked-Uri"); got != "/lists?role=b&tenant=north&x=1" {
		g.Errorf("lists: the upstream was asked for %q", got) // Envoy keeps the last value of a parameter
	}
	if status, header, _, _ := g.ask("GET", "/refused", ""); status != 403 || !slices.Equal(header["X-Note"], []string{"one", "two"}) {
		g.Errorf("refused: got %d, notes %q", status, header["X-Note"])
	}
	if status, _, seen, _ := g.ask("GET", "/named?name=ada", ""); status != 200 || seen.Get("X-Name") != "ada" {
		g.Errorf("a name: got %d, the upstream saw %v", status, seen)
	}
	for _, name := range []string{"a%0D%0AX-Admin:%201", "a%0AX-Admin:%201", "a%00"} {
		if status, _, seen, body := g.ask("GET", "/named?name="+name, ""); status != 503 {
			g.Errorf("a name %s: got %d, the upstream saw %v %s", name, status, seen, body)
		}
	}
}

// load asks n times with 16 clients, one in three allowed, and counts the wrong
// answers.
func (g *gateway) load(n int) (wrong, asked int) {
	var next, bad atomic.Int64
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(n) {
					return
				}
				status, _, _, _ := g.ask("GET", fmt.Sprintf("/number/%d", i), "")
				if (status == 200) != (i%3 == 0) || status != 200 && status != 403 {
					bad.Add(1)
				}
			}
		})
	}
	group.Wait()
	return int(bad.Load()), n
}

// killedUnderLoad kills the server while it is asked: nobody who must not gets
// in, before, while or after.
func (g *gateway) killedUnderLoad() {
	var stop atomic.Bool
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for !stop.Load() {
				if status, _, _, _ := g.ask("GET", "/number/1", ""); status == http.StatusOK {
					g.Error("a request was let in that must not be")
				}
			}
		})
	}
	g.stopped()
	stop.Store(true)
	group.Wait()
}

func TestNginx(t *testing.T) {
	t.Parallel()
	program := components.Path(t, "nginx")
	g, service := newGateway(t, ""), upstream(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "nginx.conf"), components.Configure(t, "../../deploy/nginx/nginx.conf",
		"127.0.0.1:8000", g.addr, "127.0.0.1:8181", g.http, "127.0.0.1:8080", service))
	components.Start(t, dir, g.addr, program, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	g.forward()
	g.stopped()
	if n := g.records("forwardauth"); n < 10 {
		t.Errorf("%d checks are recorded", n)
	}
}

func TestCaddy(t *testing.T) {
	t.Parallel()
	program := components.Path(t, "caddy")
	g, service := newGateway(t, ""), upstream(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "Caddyfile"), components.Configure(t, "../../deploy/caddy/Caddyfile",
		"127.0.0.1:8000", g.addr, "127.0.0.1:8181", g.http, "127.0.0.1:8080", service))
	components.Start(t, dir, g.addr, program, "run", "--config", "Caddyfile", "--adapter", "caddyfile")
	g.forward()
	g.stopped()
	if n := g.records("forwardauth"); n < 10 {
		t.Errorf("%d checks are recorded", n)
	}
}

// forward asks what every gateway with forward authentication must answer.
func (g *gateway) forward() {
	g.Helper()
	g.expect(200, "GET", "/public?x=1")
	g.expect(200, "POST", "/public")
	g.expect(401, "GET", "/private")
	g.expect(403, "GET", "/private", "Authorization", "Bearer bad")
	status, header, seen, _ := g.ask("GET", "/private", "", "Authorization", "Bearer good", "X-User", "forged", "X-Verdict-Subject", "forged")
	if status != 200 || seen.Get("X-User") != "ada" || seen.Get("X-Verdict-Subject") != "" {
		g.Errorf("got %d %v, the upstream saw %v", status, header, seen)
	}
	for _, forged := range [][]string{
		{"X-Forwarded-For", "10.9.9.9"}, {"X-Real-IP", "10.9.9.9"}, {"Forwarded", "for=10.9.9.9"},
	} {
		g.expect(401, "GET", "/ip", forged...)
	}
	for _, forged := range [][]string{
		{"X-Original-URI", "/public"},
		{"X-Original-URI", "/public", "X-Original-Method", "GET"},
		{"X-Forwarded-Uri", "/public"},
		{"X-Forwarded-Uri", "/public", "X-Forwarded-Method", "GET"},
		{"X-Original-URI", "/public", "X-Forwarded-Uri", "/public"},
		{"X-Original-Url", "/public"},
		{"X-Rewrite-Url", "/public"},
	} {
		if status, _, _, _ := g.ask("GET", "/private", "", forged...); status == http.StatusOK {
			g.Errorf("%q opened /private", forged)
		}
	}
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
