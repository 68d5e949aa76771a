package authzen_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/authzen"
)

// TestMetadata is fact 15: the document names the base that the caller has used,
// and nothing that only a header says.
func TestMetadata(t *testing.T) {
	addr := func(text string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, tt := range []struct {
		name        string
		public      string
		local, host string
		secure      bool
		path        string // behind the well-known one
		status      int    // 0: 200
		base        string // of the endpoints
		identifier  string // empty: the base
	}{
		{name: "the address", local: "192.0.2.1:8443", host: "192.0.2.1:8443", secure: true, base: "https://192.0.2.1:8443"},
		{name: "the default port", local: "192.0.2.1:443", host: "192.0.2.1", secure: true, base: "https://192.0.2.1"},
		{name: "IPv6", local: "[2001:db8::1]:8443", host: "[2001:db8::1]:8443", secure: true, base: "https://[2001:db8::1]:8443"},
		{name: "localhost", local: "127.0.0.1:8443", host: "localhost:8443", secure: true, base: "https://localhost:8443"},
		{name: "localhost that is not", local: "192.0.2.1:8443", host: "localhost:8443", secure: true, base: "https://192.0.2.1:8443"},
		{name: "another name", local: "192.0.2.1:8443", host: "evil.example", secure: true, base: "https://192.0.2.1:8443"},
		{name: "another port", local: "127.0.0.1:8443", host: "localhost:1", secure: true, base: "https://127.0.0.1:8443"},
		{name: "strange host", local: "127.0.0.1:8443", host: "127.0.0.1:8443/x?y#z", secure: true, base: "https://127.0.0.1:8443"},
		{name: "plaintext in development", local: "127.0.0.1:8181", host: "127.0.0.1:8181", base: "http://127.0.0.1:8181"},
		{name: "plaintext elsewhere", local: "192.0.2.1:8181", host: "192.0.2.1:8181", status: 404},
		{name: "public", public: "https://pdp.example/", local: "192.0.2.1:8181", host: "192.0.2.1:8181", base: "https://pdp.example"},
		{name: "public and plain", public: "http://pdp.example", local: "192.0.2.1:8181", host: "192.0.2.1:8181", status: 404},
		{name: "tenant", public: "https://pdp.example", local: "192.0.2.1:8181", path: "/tenant1", base: "https://pdp.example", identifier: "https://pdp.example/tenant1"},
		{name: "public with a path", public: "https://gw.example/pdp", local: "192.0.2.1:8181", path: "/pdp", base: "https://gw.example/pdp"},
		{name: "tenant that is none", public: "https://pdp.example", local: "192.0.2.1:8181", path: "/a%22b", status: 404},
		{name: "dots", public: "https://pdp.example", local: "192.0.2.1:8181", path: "/%2e%2e", status: 404},
		{name: "long tenant", public: "https://pdp.example", local: "192.0.2.1:8181", path: "/" + strings.Repeat("x", 129), status: 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStand(t, setup{Options: authzen.Options{PublicURL: tt.public}})
			r := httptest.NewRequest(http.MethodGet, authzen.PathMetadata+tt.path, nil)
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, addr(tt.local)))
			r.Host = tt.host
			if tt.secure {
				r.TLS = &tls.ConnectionState{}
			}
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			doc := decode(t, w)
			if tt.status != 0 {
				if w.Code != tt.status {
					t.Errorf("%d %v", w.Code, doc)
				}
				return
			}
			if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "max-age=300" {
				t.Errorf("%d %v", w.Code, w.Header())
			}
			if tt.identifier != "" {
				if doc["policy_decision_point"] != tt.identifier {
					t.Errorf("identifier %v, want %s", doc["policy_decision_point"], tt.identifier)
				}
				doc["policy_decision_point"] = tt.base
			}
			checkMetadata(t, doc, tt.base)
		})
	}
}

// TestMetadataHead answers HEAD as GET, over a real connection.
func TestMetadataHead(t *testing.T) {
	s := newStand(t, setup{})
	server := httptest.NewTLSServer(s.handler)
	defer server.Close()
	res, err := server.Client().Head(server.URL + authzen.PathMetadata)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); res.StatusCode != 200 || len(body) > 0 || err != nil {
		t.Errorf("%d %q %v", res.StatusCode, body, err)
	}
}
