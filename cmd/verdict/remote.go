package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// maxRemoteError is how much of a server's error is shown.
const maxRemoteError = 4 << 10

// remoteFlags are the flags of commands that can ask a running server.
type remoteFlags struct {
	server, tokenFile, caFile string
}

func (f *remoteFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.server, "server", "", "ask the server at `URL` instead of reading the data folder (environment VERDICT_SERVER)")
	fs.StringVar(&f.tokenFile, "token-file", "", "`FILE` with the token for --server (else environment VERDICT_TOKEN, else DIR/admin.token)")
	fs.StringVar(&f.caFile, "ca-file", "", "`FILE` with the CA certificates to trust for the server, PEM")
}

// remote is a running server, and who we are to it.
type remote struct {
	base   *url.URL
	token  string
	client *http.Client
}

// connect finds the server and the token; nil when no server is named. An empty
// dataDir has no token.
func (f *remoteFlags) connect(p *process, dataDir string) (*remote, error) {
	server := f.server
	if server == "" {
		server = lookupEnv(p.environ, "VERDICT_SERVER")
	}
	if server == "" {
		return nil, nil
	}
	base, err := url.Parse(server)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("--server %s: write a URL such as http://127.0.0.1:8181", server)
	}
	r := &remote{base: base, token: lookupEnv(p.environ, "VERDICT_TOKEN")}
	file := f.tokenFile
	if file == "" && r.token == "" && dataDir != "" {
		file = filepath.Join(dataDir, "admin.token")
	}
	if file != "" {
		raw, err := os.ReadFile(file)
		if err != nil && (f.tokenFile != "" || !errors.Is(err, os.ErrNotExist)) {
			return nil, fmt.Errorf("read token: %w", err)
		}
		r.token = strings.TrimSpace(string(raw))
	}
	if r.client, err = newHTTPClient(f.caFile); err != nil {
		return nil, err
	}
	return r, nil
}

func newHTTPClient(caFile string) (*http.Client, error) {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute,
	}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read authorities: %s holds no certificate", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport}, nil
}

// get asks for a path and returns the body of a 200.
func (r *remote) get(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	u := r.base.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", u.Redacted(), err)
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRemoteError))
	if err != nil {
		return nil, fmt.Errorf("%s answered %s", u.Path, resp.Status)
	}
	return nil, fmt.Errorf("%s answered %s: %s", u.Path, resp.Status, strings.TrimSpace(string(body)))
}

func lookupEnv(environ []string, name string) string {
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}
