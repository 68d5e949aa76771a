package pull_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/bundles/pull"
	"github.com/verdict-pdp/verdict/bundles/signature"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/storage/state"
)

const limit = 256 << 10 // bytes of an archive

// service is the real one, over a new folder.
func service(t *testing.T, l *log, v bundles.Verifier) (*bundles.Service, *eval.Engine, string) {
	t.Helper()
	dir := t.TempDir()
	engine, err := eval.New(eval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := state.Open(filepath.Join(dir, "state"), state.Options{Command: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	bucket, err := store.Bucket(bundles.BucketName)
	if err != nil {
		t.Fatal(err)
	}
	s, err := bundles.Open(t.Context(), bundles.Options{
		Dir: filepath.Join(dir, "bundles"), Engine: engine, Bucket: bucket, Recorder: l, Verifier: v,
		Limits: bundles.Limits{Packed: limit, Unpacked: 4 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, engine, filepath.Join(dir, "bundles")
}

// packed makes a bundle whose rule tells its revision.
func packed(t *testing.T, revision string, more map[string]string) []byte {
	t.Helper()
	files := map[string]string{
		".manifest": fmt.Sprintf(`{"revision": %q, "roots": ["app"]}`, revision),
		"app.rego":  fmt.Sprintf("package app\n\nrevision := %q\n", revision),
	}
	maps.Copy(files, more)
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	tw := tar.NewWriter(gz)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(files[name])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// once asks a source until its first look is over.
func once(t *testing.T, p *pull.Puller, s pull.Source) pull.Status {
	t.Helper()
	commit, err := p.Prepare([]pull.Source{s})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	for ctx.Err() == nil {
		if p.Status()[0].NextRequest != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return p.Status()[0]
}

// noise never ends.
type noise struct{}

// Read implements io.Reader.
func (noise) Read(p []byte) (int, error) { return rand.Read(p) }

// TestBadServers: whatever a server does, what is active stays, nothing is left
// on disk, and the status tells why without a secret.
func TestBadServers(t *testing.T) {
	var strayed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed.Add(1) }))
	defer elsewhere.Close()
	good := packed(t, "r2", nil)
	send := func(body []byte, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			_, _ = w.Write(body) // who reads may leave
		}
	}
	endless := func(head []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(head)
			_, _ = io.Copy(w, noise{}) // until who reads leaves
		}
	}
	for name, tt := range map[string]struct {
		serve http.HandlerFunc
		state pull.State
		want  string
	}{
		"500":          {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 500) }, pull.StateFailing, "500 Internal"},
		"404":          {http.NotFound, pull.StateFailing, "404 Not Found"},
		"401":          {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, pull.StateFailing, "401 Unauthorized"},
		"partial":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206) }, pull.StateFailing, "206 Partial"},
		"no content":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, pull.StateFailing, "204 No Content"},
		"304":          {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, pull.StateFailing, "without an ETag"},
		"another host": {http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP, pull.StateFailing, "another host"},
		"in circles":   {http.RedirectHandler("/again", http.StatusFound).ServeHTTP, pull.StateFailing, "more than 5 redirects"},
		"10 GB told": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10000000000")
			_, _ = w.Write(good)
		}, pull.StateFailing, "10000000000 bytes"},
		"endless":      {endless(nil), pull.StateRefused, "gzip"},
		"endless gzip": {endless([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x00\xff\xff\x00\x00")), pull.StateRefused, "gate archive"},
		"garbage gzip": {send(append([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"), bytes.Repeat([]byte{0x55}, 500)...)), pull.StateRefused, "gate archive"},
		"cut off":      {send(good[:len(good)/2]), pull.StateRefused, "gate archive"},
		"cut off early": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "500")
			_, _ = w.Write(good[:100])
		}, pull.StateFailing, "unexpected EOF"},
		"empty":        {send(nil), pull.StateRefused, "gate archive"},
		"HTML":         {send([]byte("<html>sign in</html>")), pull.StateFailing, "no bundle but text/html"},
		"JSON":         {send([]byte("{}"), "Content-Type", "application/problem+json"), pull.StateFailing, "no bundle but application/problem+json"},
		"text in gzip": {send([]byte("a plain text"), "Content-Type", "application/gzip"), pull.StateRefused, "not a gzipped tarball"},
		"coding":       {send(good, "Content-Encoding", "gzip"), pull.StateFailing, "Content-Encoding"},
		"bomb":         {send(packed(t, "r2", map[string]string{"data.json": strings.Repeat(" ", 5<<20)})), pull.StateRefused, "bytes unpacked"},
		"large":        {send(append(slices.Clone(good), make([]byte, limit)...)), pull.StateRefused, "gate archive"},
		"no policy":    {send(packed(t, "r2", map[string]string{"app.rego": "package app\n\nx := y"})), pull.StateRefused, "gate compile"},
		"wrong root":   {send(packed(t, "r2", map[string]string{"app.rego": "package other\n"})), pull.StateRefused, "gate manifest"},
		"header":       {send(good, "X-Large", strings.Repeat("x", 100<<10)), pull.StateFailing, "header"},
		"hangs up":     {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, pull.StateFailing, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(tt.serve)
			defer server.Close()
			l := &log{}
			s, engine, dir := service(t, l, bundles.Unsigned{Allow: true})
			if _, err := s.Push(t.Context(), bundles.PushRequest{Name: "app", Body: bytes.NewReader(packed(t, "r1", nil))}); err != nil {
				t.Fatal(err)
			}
			p, err := pull.New(s, l, pull.Options{MaxPacked: limit})
			if err != nil {
				t.Fatal(err)
			}
			token := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(token, []byte("hidden\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			before := engine.Active()
			got := once(t, p, pull.Source{Name: "app", URL: server.URL + "/x?sig=hidden", TokenFile: token})
			if got.State != tt.state || !strings.Contains(got.LastError, tt.want) {
				t.Errorf("%s: %s, want %s: %s", got.State, got.LastError, tt.state, tt.want)
			}
			if engine.Active() != before {
				t.Error("something else is active")
			}
			if left, err := filepath.Glob(filepath.Join(dir, "incoming", "*")); err != nil || len(left) > 0 {
				t.Errorf("left on disk: %v %v", left, err)
			}
			if text := fmt.Sprintf("%+v %+v", got, l.records); strings.Contains(text, "hidden") {
				t.Errorf("a secret in %s", text)
			}
			if last := l.records[len(l.records)-1]; last.RequestedBy != "source:app" || last.Message == "" {
				t.Errorf("the last record is %+v", last)
			}
		})
	}
	t.Cleanup(func() {
		if n := strayed.Load(); n > 0 {
			t.Errorf("the other host was asked %d times", n)
		}
	})
}

// TestWrongSignature: a pulled bundle needs a signature as a pushed one does.
func TestWrongSignature(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(packed(t, "r1", map[string]string{".signatures.json": `{"signatures": ["eyJhbGciOiJFUzI1NiJ9.e30.AAAA"]}`}))
	}))
	defer server.Close()
	l := &log{}
	s, _, _ := service(t, l, bundles.NewTrust(signature.Options{}))
	p, err := pull.New(s, l, pull.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := once(t, p, pull.Source{Name: "app", URL: server.URL}); got.State != pull.StateRefused || !strings.Contains(got.LastError, "gate signature") {
		t.Errorf("status %+v", got)
	}
}

// TestPulled: what came by a pull is active, says where it came from, and is no
// push again when the process starts anew.
func TestPulled(t *testing.T) {
	body := packed(t, "r1", nil)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bundles/app" {
			http.Redirect(w, r, "/real", http.StatusTemporaryRedirect) // on the same host it is followed
			return
		}
		_, _ = w.Write(body)
	}))
	defer server.Close()
	l := &log{}
	s, _, _ := service(t, l, bundles.Unsigned{Allow: true})
	for round := range 2 {
		p, err := pull.New(s, l, pull.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := once(t, p, pull.Source{Name: "app", URL: server.URL}); got.State != pull.StateOK || !got.Current || got.Revision != "r1" || got.Bytes != int64(len(body)) {
			t.Errorf("round %d: %+v", round, got)
		}
		if len(l.records) != 2 || !strings.Contains(string(l.records[0].Details), `"source":"`+server.URL+`/bundles/app"`) || l.records[1].RequestedBy != "source:app" {
			t.Errorf("round %d: records %+v", round, l.records)
		}
	}
	r, err := s.Revision(t.Context(), "app", "r1")
	if err != nil || r.PushedFrom != server.URL+"/bundles/app" || r.PushedBy != "source:app" {
		t.Errorf("revision %+v %v", r, err)
	}
}

// TestCredentials: the token is read for each request, the client's certificate
// for each connection, and the server's is checked.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	certificate := func(name string) (certFile, keyFile string) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, &x509.Certificate{}, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
			write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	}
	var seen []string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization")+" "+r.TLS.PeerCertificates[0].Subject.CommonName)
		_, _ = w.Write(packed(t, "r1", nil))
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()
	l := &log{}
	s, _, _ := service(t, l, bundles.Unsigned{Allow: true})
	p, err := pull.New(s, l, pull.Options{})
	if err != nil {
		t.Fatal(err)
	}
	src := pull.Source{Name: "app", URL: server.URL, TokenFile: write("token", []byte("one"))}
	src.CertFile, src.KeyFile = certificate("first")
	if got := once(t, p, src); got.State != pull.StateFailing || !strings.Contains(got.LastError, "certificate") {
		t.Errorf("an unknown authority: %+v", got)
	}
	src.CAFile = write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	if got := once(t, p, src); got.State != pull.StateOK {
		t.Errorf("status %+v", got)
	}
	write("token", []byte("two"))
	certificate("second")
	src.MaxDelay = time.Hour // another source, which has connections of its own
	if got := once(t, p, src); got.State != pull.StateOK {
		t.Errorf("status %+v", got)
	}
	if want := []string{"Bearer one first", "Bearer two second"}; !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
}
