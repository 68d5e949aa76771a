package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/verdict-pdp/verdict/internal/components"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestGRPCOverTLS asks for checks with and without client certificates.
func TestGRPCOverTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, outside := newAuthority(t, "ca"), newAuthority(t, "outside")
	cert, key, clients := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "clients.pem")
	ca.server(cert, key, ca.cert.NotAfter)
	ca.write(clients, "CERTIFICATE", ca.cert.Raw)
	config := filepath.Join(dir, "verdict.yaml")
	write(t, config, fmt.Sprintf(`
server: {tls: {cert_file: %q, key_file: %q, client_ca_file: %q}}
extauthz: {path: app/denied, trusted_peers: [192.0.2.1]}
authn: {certificates: [{san: "spiffe://test/envoy", name: envoy, scopes: []}]}
`, cert, key, clients))
	s := servertest.Start(t, servertest.Options{
		Strict: true, TLS: true, Client: servertest.NewClient(ca.client(nil, "")), Args: plain(t, "--config", config),
	})
	for _, tt := range []struct {
		name   string
		client *tls.Config
		code   codes.Code
	}{
		{"a listed certificate", ca.client(ca, "spiffe://test/envoy"), codes.OK},
		{"one that is not listed", ca.client(ca, "spiffe://test/stranger"), codes.PermissionDenied},
		{"none", ca.client(nil, ""), codes.PermissionDenied},
		{"one of another authority", ca.client(outside, "spiffe://test/envoy"), codes.Unavailable},
	} {
		conn, err := grpc.NewClient(s.GRPC, grpc.WithTransportCredentials(credentials.NewTLS(tt.client)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = authv3.NewAuthorizationClient(conn).Check(t.Context(), &authv3.CheckRequest{})
		if _ = conn.Close(); status.Code(err) != tt.code {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.code)
		}
	}
	s.Stop()
	list := readLog(t, s.Dir)
	if raw := string(last(t, list, "permission_denied").raw); !strings.Contains(raw, `"requested_by":"envoy"`) {
		t.Errorf("the record does not name the caller: %s", raw)
	}
	if n := count(list, "access_refused"); n != 3 { // the failed handshake too
		t.Errorf("%d refusals are recorded", n)
	}
}

// TestGRPCAddressTaken starts a server whose gRPC address somebody else has: it
// is an error where somebody gave it.
func TestGRPCAddressTaken(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := servertest.Launch(t, servertest.Options{Args: plain(t, "--grpc-addr", ln.Addr().String())})
	if code := s.Wait(); code != 2 || !strings.Contains(s.Stderr(), "server.grpc_addr") {
		t.Errorf("exit code %d, %s", code, s.Stderr())
	}
}

// TestEnvoyServices has one service call another through Envoy, which knows both
// by their certificates, under the standard policies.
func TestEnvoyServices(t *testing.T) {
	t.Parallel()
	program := components.Path(t, "envoy")
	dir, ca := t.TempDir(), newAuthority(t, "ca")
	service := upstream(t)
	identity := func(name string) string { return "spiffe://example.org/ns/shop/sa/" + name }
	id, err := url.Parse(identity("b"))
	if err != nil {
		t.Fatal(err)
	}
	cert, key := ca.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "b"}, URIs: []*url.URL{id}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ca.write(filepath.Join(dir, "cert.pem"), "CERTIFICATE", cert.Raw)
	ca.write(filepath.Join(dir, "key.pem"), "PRIVATE KEY", der)
	ca.write(filepath.Join(dir, "ca.pem"), "CERTIFICATE", ca.cert.Raw)

	bundle := t.TempDir()
	write(t, filepath.Join(bundle, "data.json"), `{"verdict": {"http": {"services": {"a_reads_b": {
		"source": {"service": "a", "namespace": "shop"}, "destination": {"service": "b"}, "action": "allow", "allowed_methods": ["GET"]}}}}}`)
	s := servertest.Start(t, servertest.Options{Args: []string{
		"--bundle", bundle, "--set", "extauthz.path=verdict/authz/http", "--set", "limits.evaluation=20s",
	}})
	addr := components.Address(t)
	port := func(addr string) string { return "port_value: " + addr[strings.LastIndexByte(addr, ':')+1:] }
	const tlsContext = `        - transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                tls_certificates: [{certificate_chain: {filename: cert.pem}, private_key: {filename: key.pem}}]
                validation_context: {trusted_ca: {filename: ca.pem}}
          filters:`
	write(t, filepath.Join(dir, "envoy.yaml"), components.Configure(t, "../../deploy/envoy/envoy.yaml",
		"port_value: 10000", port(addr), "port_value: 9191", port(s.GRPC), "port_value: 8080", port(service),
		"timeout: 1s", "timeout: 30s", "        - filters:", tlsContext))
	components.Start(t, dir, addr, program, "-c", "envoy.yaml", "--concurrency", "1", "-l", "warn", "--use-dynamic-base-id")

	ask := func(client *tls.Config, method string) int {
		t.Helper()
		c := servertest.NewClient(client)
		defer c.CloseIdleConnections()
		r, err := http.NewRequest(method, "https://"+addr+"/items/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(r)
		if err != nil {
			t.Errorf("%s: %v", method, err)
			return 0
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	for _, tt := range []struct {
		name, method string
		client       *tls.Config
		want         int
	}{
		{"a reads b", "GET", ca.client(ca, identity("a")), 200},
		{"a does not delete", "DELETE", ca.client(ca, identity("a")), 403},
		{"c does not read", "GET", ca.client(ca, identity("c")), 403},
		{"nobody without a certificate", "GET", ca.client(nil, ""), 401},
	} {
		if got := ask(tt.client, tt.method); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
	s.Stop()
	if raw := string(last(t, readLog(t, s.Dir), "permission_granted").raw); !strings.Contains(raw, `"subject":"service:`+identity("a")+`"`) {
		t.Errorf("the record does not name the subject: %s", raw)
	}
}
