package forwardauth_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/forwardauth"
	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/internal/pointtest"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// The answer of the policy echoes what it was asked about, so that a test sees
// which of several headers was believed.
const policy = `package envoy.authz

http := input.attributes.request.http

seen := sprintf("%s %s %s", [http.method, http.path, object.get(input, ["context", "network", "ip"], "-")])

allow := {"allowed": allowed, "headers": {"x-seen": seen, "x-host": http.host}} if {
	not input.parsed_path[0] in {"undefined", "plain", "status", "shape", "error"}
}

default allowed := false

allowed if input.parsed_path[0] == "public"

allowed if http.headers.authorization == "Bearer good"

allow := false if input.parsed_path[0] == "plain"

allow := {"allowed": false, "http_status": to_number(input.parsed_path[1]), "body": "no"} if input.parsed_path[0] == "status"

allow := {"allowed": "yes"} if input.parsed_path == ["shape"]

allow := {"allowed": true, "headers": {"x y": "bad"}} if input.parsed_path == ["shape", "header"]

allow := 1 if input.parsed_path[0] == "error"

allow := 2 if input.parsed_path[0] == "error"
`

type server struct {
	*httptest.Server
	*pointtest.Point
}

func start(t testing.TB, p *pointtest.Point, point *pdp.PDP, gate api.GateOptions, o forwardauth.Options) *server {
	t.Helper()
	g := pointtest.Gate(t, gate)
	router := chi.NewRouter()
	forwardauth.New(point, o).Mount(router, g.Require)
	s := &server{Server: httptest.NewServer(g.Stack(api.Main, router)), Point: p}
	t.Cleanup(s.Close)
	return s
}

func usual(t testing.TB) *server {
	t.Helper()
	p := pointtest.New(t, policy)
	return start(t, p, p.PDP, api.GateOptions{}, forwardauth.Options{})
}

// ask sends a request as it stands, since a client would clean it first.
func (s *server) ask(t testing.TB, method, target string, headers ...string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: verdict\r\nConnection: close\r\n", method, target)
	for i := 0; i < len(headers); i += 2 {
		fmt.Fprintf(conn, "%s: %s\r\n", headers[i], headers[i+1])
	}
	fmt.Fprint(conn, "\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestForward(t *testing.T) {
	s := usual(t)
	const token = "Bearer good"
	for _, tt := range []struct {
		name, method, target string
		headers              []string
		status               int
		seen                 string // what the policy was asked about
	}{
		{name: "nginx, allowed", target: "/authz/forward", headers: []string{"X-Original-Method", "POST", "X-Original-URI", "/a?x=1", "Authorization", token}, status: 200, seen: "POST /a?x=1 127.0.0.1"},
		{name: "nginx, no token", target: "/authz/forward", headers: []string{"X-Original-Method", "GET", "X-Original-URI", "/a"}, status: 401, seen: "GET /a 127.0.0.1"},
		{name: "nginx, wrong token", target: "/authz/forward", headers: []string{"X-Original-Method", "GET", "X-Original-URI", "/a", "Authorization", "Bearer bad"}, status: 403, seen: "GET /a 127.0.0.1"},
		{name: "nginx, public", target: "/authz/forward", headers: []string{"X-Original-Method", "GET", "X-Original-URI", "/public"}, status: 200, seen: "GET /public 127.0.0.1"},
		{name: "nginx without the method", target: "/authz/forward", headers: []string{"X-Original-URI", "/public"}, status: 200, seen: "GET /public 127.0.0.1"},
		{name: "caddy", target: "/authz/forward?x=1", headers: []string{"X-Forwarded-Method", "PUT", "X-Forwarded-Uri", "/public?x=1", "X-Forwarded-For", "192.0.2.9"}, status: 200, seen: "PUT /public?x=1 192.0.2.9"},
		{name: "caddy's query says nothing", target: "/authz/forward?path=/public", headers: []string{"X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/a"}, status: 401, seen: "GET /a 127.0.0.1"},
		{name: "envoy", method: "DELETE", target: "/authz/forward/public?x=1", status: 200, seen: "DELETE /public?x=1 127.0.0.1"},
		{name: "envoy, root", target: "/authz/forward/", status: 401, seen: "GET / 127.0.0.1"},
		{name: "envoy, two slashes", target: "/authz/forward//public", status: 200, seen: "GET //public 127.0.0.1"},
		{name: "envoy, dots", target: "/authz/forward/public/../a", status: 200, seen: "GET /public/../a 127.0.0.1"},
		{name: "envoy, dots that lead out", target: "/authz/forward/../../health", status: 401, seen: "GET /../../health 127.0.0.1"},
		{name: "envoy, escaped slash", target: "/authz/forward/public%2Fb", status: 200, seen: "GET /public%2Fb 127.0.0.1"},
		{name: "both families", target: "/authz/forward", headers: []string{"X-Original-Method", "GET", "X-Original-URI", "/public", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/public"}, status: 403},
		{name: "a forged original URI beside caddy", target: "/authz/forward", headers: []string{"X-Original-URI", "/public", "X-Forwarded-Method", "GET", "X-Forwarded-Uri", "/a"}, status: 403},
		{name: "methods of both, one URI", target: "/authz/forward", headers: []string{"X-Original-Method", "GET", "X-Forwarded-Method", "POST", "X-Forwarded-Uri", "/public"}, status: 200, seen: "POST /public 127.0.0.1"},
		{name: "a URI twice", target: "/authz/forward", headers: []string{"X-Original-URI", "/public", "X-Original-URI", "/a"}, status: 403},
		{name: "a method twice", target: "/authz/forward", headers: []string{"X-Original-URI", "/public", "X-Original-Method", "GET", "X-Original-Method", "POST"}, status: 403},
		{name: "path and header", target: "/authz/forward/public", headers: []string{"X-Original-URI", "/public"}, status: 403},
		{name: "root and header", target: "/authz/forward/", headers: []string{"X-Forwarded-Uri", "/public"}, status: 403},
		{name: "a URI that is absolute", target: "/authz/forward", headers: []string{"X-Original-URI", "http://host/public"}, status: 403},
		{name: "no path at all", target: "/authz/forward", status: 400},
		{name: "a query is no path", target: "/authz/forward?a=/public", status: 400},
		{name: "malformed path", target: "/authz/forward", headers: []string{"X-Original-URI", "/public/%zz"}, status: 403},
		{name: "plain denial", target: "/authz/forward/plain", status: 401},
		{name: "plain denial with a token", target: "/authz/forward/plain", headers: []string{"Authorization", "Bearer x"}, status: 403},
		{name: "status 401 with a token", target: "/authz/forward/status/401", headers: []string{"Authorization", "Bearer x"}, status: 401},
		{name: "status 403 without", target: "/authz/forward/status/403", status: 403},
		{name: "status 302", target: "/authz/forward/status/302", status: 401},
		{name: "status 200 of a denial", target: "/authz/forward/status/200", headers: []string{"Authorization", "Bearer x"}, status: 403},
		{name: "undefined", target: "/authz/forward/undefined", status: 503},
		{name: "evaluation error", target: "/authz/forward/error", status: 503},
		{name: "result of the wrong shape", target: "/authz/forward/shape", status: 503},
		{name: "header that is none", target: "/authz/forward/shape/header", status: 503},
		{name: "forwarded for", target: "/authz/forward/public", headers: []string{"X-Forwarded-For", "10.1.1.1, 192.0.2.9, 127.0.0.1", "X-Forwarded-Host", "shop"}, status: 200, seen: "GET /public 192.0.2.9"},
		{name: "forwarded for garbage", target: "/authz/forward/public", headers: []string{"X-Forwarded-For", "10.1.1.1, none"}, status: 200, seen: "GET /public -"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.method == "" {
				tt.method = "GET"
			}
			res := s.ask(t, tt.method, tt.target, tt.headers...)
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != tt.status || tt.seen != "" && res.Header.Get("X-Seen") != tt.seen {
				t.Errorf("got %d, asked about %q: %s", res.StatusCode, res.Header.Get("X-Seen"), body)
			}
			if _, ok := res.Header["X-Verdict-Subject"]; !ok {
				t.Error("the answer does not overwrite a forged subject")
			}
			if (res.StatusCode == http.StatusUnauthorized) != (res.Header.Get("WWW-Authenticate") != "") {
				t.Errorf("got challenge %q", res.Header.Get("WWW-Authenticate"))
			}
			rec := s.Record(t, res.Header.Get("X-Decision-Id"))
			if rec["edge"] != "forwardauth" || rec["path"] != "envoy/authz/allow" {
				t.Errorf("got record %v", rec)
			}
			if granted := rec["event"] == "permission_granted"; granted != (tt.status == 200) && tt.name != "header that is none" {
				t.Errorf("answered %d, recorded %v", tt.status, rec["event"])
			}
		})
	}
}

// TestSecretsInQuery wants a masked parameter to stand nowhere in the record.
func TestSecretsInQuery(t *testing.T) {
	p := pointtest.New(t, policy)
	point := pdp.New(p.Engine(), p.Log, pdp.Options{MaskKeys: mask.NewKeys([]string{"access_token"})})
	s := start(t, p, point, api.GateOptions{}, forwardauth.Options{})
	for _, header := range []string{"X-Original-URI", "X-Forwarded-Uri"} {
		res := s.ask(t, http.MethodGet, "/authz/forward", header, "/plain?access_token=hunter2&x=1")
		record := fmt.Sprint(s.Record(t, res.Header.Get("X-Decision-Id")))
		if strings.Contains(record, "hunter2") || !strings.Contains(record, "parsed_query:map[access_token:*** x:[1]]") {
			t.Errorf("%s: %s", header, record)
		}
	}
}

func TestUntrusted(t *testing.T) {
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	p := pointtest.New(t, policy)
	s := start(t, p, p.PDP, api.GateOptions{Dev: true}, forwardauth.Options{TrustedProxies: elsewhere})
	forged := []string{"X-Original-URI", "/public", "X-Forwarded-Uri", "/public", "X-Forwarded-For", "10.0.0.1", "X-Forwarded-Host", "h", "X-Original-Method", "PUT"}
	if res := s.ask(t, "GET", "/authz/forward", forged...); res.StatusCode != http.StatusBadRequest {
		t.Errorf("got %d", res.StatusCode)
	}
	res := s.ask(t, "GET", "/authz/forward/a", forged...)
	if got := res.Header.Get("X-Seen") + " " + res.Header.Get("X-Host"); res.StatusCode != http.StatusUnauthorized || got != "GET /a 127.0.0.1 verdict" {
		t.Errorf("got %d, asked about %q", res.StatusCode, got)
	}
	rec := s.Record(t, res.Header.Get("X-Decision-Id"))
	if text := fmt.Sprint(rec["input"]); strings.Contains(text, "x-forwarded") || strings.Contains(text, "x-original") {
		t.Errorf("the policy was told %s", text)
	}

	s = start(t, p, p.PDP, api.GateOptions{Settings: api.AccessSettings{TrustedPeers: elsewhere}}, forwardauth.Options{TrustedProxies: elsewhere})
	if res := s.ask(t, "GET", "/authz/forward/public", "Authorization", "Bearer good"); res.StatusCode != http.StatusForbidden || res.Header.Get("X-Decision-Id") != "" {
		t.Errorf("a peer that may not ask got %d", res.StatusCode)
	}
}

func TestBody(t *testing.T) {
	p := pointtest.New(t, "package envoy.authz\n\nallow := input.parsed_body.ok")
	s := start(t, p, p.PDP, api.GateOptions{Settings: api.AccessSettings{RequestBody: 1000}}, forwardauth.Options{})
	for body, want := range map[string]int{
		`{"ok": true}`: 200, `{"ok": false}`: 401, `{"ok": `: 403, `{"ok": true, "x": "` + strings.Repeat("x", 2000) + `"}`: 403,
	} {
		res, err := http.Post(s.URL+"/authz/forward/a", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%.20s: got %d", body, res.StatusCode)
		}
		if rec := s.Record(t, res.Header.Get("X-Decision-Id")); rec["edge"] != "forwardauth" {
			t.Errorf("%.20s: got record %v", body, rec)
		}
	}
	large := strings.Repeat("x", 2000) // belongs to the request asked about, which a header names
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/authz/forward", strings.NewReader(large))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Original-URI", "/a")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if id := res.Header.Get("X-Decision-Id"); res.StatusCode != http.StatusServiceUnavailable || s.Record(t, id)["error"] != nil {
		t.Errorf("a body that is not looked at: got %d", res.StatusCode)
	}
}

func TestUnrecorded(t *testing.T) {
	engine, err := eval.New(eval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, nil, pdp.New(engine, pointtest.Lost{}, pdp.Options{}), api.GateOptions{}, forwardauth.Options{})
	res := s.ask(t, "GET", "/authz/forward/public")
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || res.Header.Get("X-Decision-Id") != "" {
		t.Errorf("got %d %v", res.StatusCode, res.Header)
	}
}

func TestMethodsAnswered(t *testing.T) {
	s := usual(t)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} {
		if res := s.ask(t, method, "/authz/forward/public"); res.StatusCode != http.StatusOK {
			t.Errorf("%s: got %d", method, res.StatusCode)
		}
	}
}

// FuzzForwarded sends whatever headers and targets a client or gateway may
// think of: every answer is one of those that gateways know, and only what the
// policy allows is 200.
func FuzzForwarded(f *testing.F) {
	f.Add("GET", "/authz/forward", "GET", "/public", "", "", "192.0.2.1", "h")
	f.Add("PUT", "/authz/forward/a?b", "", "", "GET", "/a%2Fb;c", "::1, x", "h:1")
	f.Add("GET", "/authz/forward//", "", "*", "", "//", "", "")
	p := pointtest.New(f, policy)
	g := pointtest.Gate(f, api.GateOptions{})
	router := chi.NewRouter()
	forwardauth.New(p.PDP, forwardauth.Options{}).Mount(router, g.Require)
	h := g.Stack(api.Main, router)
	f.Fuzz(func(t *testing.T, method, target, om, ou, fm, fu, ff, fh string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n")))
		if err != nil || !strings.HasPrefix(r.URL.Path, "/authz/forward") {
			t.Skip()
		}
		r.Method, r.RemoteAddr = method, "127.0.0.1:1"
		for name, value := range map[string]string{
			"X-Original-Method": om, "X-Original-Uri": ou, "X-Forwarded-Method": fm, "X-Forwarded-Uri": fu, "X-Forwarded-For": ff, "X-Forwarded-Host": fh,
		} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch w.Code {
		case 200:
			if !strings.Contains(w.Header().Get("X-Seen"), "public") {
				t.Errorf("allowed, asked about %q", w.Header().Get("X-Seen"))
			}
		case 400, 401, 403, 503:
		case 307, 404, 405: // other paths that begin so, and methods that HTTP does not know
		default:
			t.Errorf("got %d", w.Code)
		}
	})
}
