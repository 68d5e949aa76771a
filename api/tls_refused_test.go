package api_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/tokens"
	"github.com/verdict-pdp/verdict/keys/cert"
)

// TestRevokedOnAnOpenConnection takes a certificate back whose connection is
// open: nothing is answered on it any more, with a token neither, on routes that
// are open neither, and over gRPC as over HTTP.
func TestRevokedOnAnOpenConnection(t *testing.T) {
	dir := t.TempDir()
	a := newAuthority(t, "a")
	crt, key := a.write(dir, time.Time{})
	ca := filepath.Join(dir, "ca.crt")
	a.file(ca, "CERTIFICATE", a.cert.Raw)
	var revoked atomic.Pointer[x509.Certificate]
	k := keeper(t, cert.KeeperSettings{Source: cert.NewFiles(crt, key, nil), Clients: cert.ClientSettings{CAFile: ca}}, cert.KeeperOptions{
		Revoked: func(c *x509.Certificate) bool { r := revoked.Load(); return r != nil && r.Equal(c) },
	})
	store := newStore(t, tokens.Options{})
	secret := secretOf(t, store, "pep", "decide")
	g := newGate(t, store, api.GateOptions{Certificates: k, Settings: api.AccessSettings{Open: []string{"decide"}}})
	s, _ := start(t, g, everything(g, api.ClassDecide, ok), api.ServerOptions{Addr: "127.0.0.1:0", TLS: k.Config})
	url := "https://" + s.Addr(api.Main).String() + "/"
	shown := a.client("pep-1")
	leaf, err := x509.ParseCertificate(shown.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	http1 := func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }
	two, one, other := a.over(shown, nil), a.over(shown, http1), a.over(a.client("pep-2"), nil)
	peer := api.NewPeerConn(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf, a.cert}},
	})
	for _, c := range []*http.Client{two, one, other} {
		if got := fetch(t, c, url, ""); got != "" {
			t.Fatal(got)
		}
	}
	if _, err := g.AdmitPeer(t.Context(), peer, "/x"); err != nil {
		t.Fatal(err)
	}
	revoked.Store(leaf)
	for name, c := range map[string]*http.Client{"HTTP/2": two, "HTTP/1.1": one} {
		for _, token := range []string{"", secret} {
			// The connection is closed with the first answer; another is not begun.
			got := fetch(t, c, url, token)
			if !strings.HasPrefix(got, "certificate_refused: ") && !strings.HasPrefix(got, "error ") {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
	if _, err := g.AdmitPeer(t.Context(), peer, "/x"); err == nil || err.Code != api.CodeCertificate {
		t.Errorf("gRPC: %v", err)
	}
	if got := fetch(t, other, url, ""); got != "" {
		t.Errorf("another certificate: %q", got)
	}
}

// TestFailedHandshakes counts handshakes that fail, by why, and records them.
func TestFailedHandshakes(t *testing.T) {
	dir := t.TempDir()
	a, strangers := newAuthority(t, "a"), newAuthority(t, "strangers")
	crt, key := a.write(dir, time.Time{})
	ca := filepath.Join(dir, "ca.crt")
	a.file(ca, "CERTIFICATE", a.cert.Raw)
	k := keeper(t, cert.KeeperSettings{Source: cert.NewFiles(crt, key, nil), Clients: cert.ClientSettings{CAFile: ca}}, cert.KeeperOptions{})
	sink := &handshakeSink{}
	g := devGate(t, api.AccessSettings{})
	s, stop := start(t, g, everything(g, api.ClassDecide, ok), api.ServerOptions{
		Addr: "127.0.0.1:0", TLS: k.Config, Refusals: api.NewRefusalLog(sink, api.RefusalOptions{}),
	})
	url := "https://" + s.Addr(api.Main).String() + "/"
	for want, client := range map[string]*http.Client{
		"unknown_authority": a.over(strangers.client("x"), nil),
		"refused_by_client": strangers.over(nil, nil),
		"version":           a.over(nil, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }),
	} {
		if got := fetch(t, client, url, ""); !strings.HasPrefix(got, "error ") {
			t.Errorf("%s: %q", want, got)
		}
	}
	conn, err := net.Dial("tcp", s.Addr(api.Main).String())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	// Connections are told of after they have ended.
	counted := failedHandshakes(t, s)
	for deadline := time.Now().Add(time.Minute); len(counted)+sink.len() < 7 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		counted = failedHandshakes(t, s)
	}
	stop()
	for _, reason := range []string{"unknown_authority", "refused_by_client", "version", "aborted"} {
		if counted[reason] != 1 {
			t.Errorf("counted: %v", counted)
		}
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	if len(sink.list) != 3 {
		t.Errorf("%d are recorded: %+v", len(sink.list), sink.list)
	}
	for _, r := range sink.list {
		if r.Code != api.CodeHandshake || r.Listener != api.Main || !r.Client.Addr.IsLoopback() {
			t.Errorf("%+v", r)
		}
	}
}

// failedHandshakes gives what a server has counted, by reason.
func failedHandshakes(t *testing.T, s *api.Server) map[string]float64 {
	t.Helper()
	counted := map[string]float64{}
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "verdict_tls_handshake_failures_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" {
					counted[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	return counted
}

type handshakeSink struct {
	mu   sync.Mutex
	list []api.Refusal
}

func (s *handshakeSink) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list)
}

func (s *handshakeSink) Record(_ context.Context, r api.Refusal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, r)
	return nil
}
