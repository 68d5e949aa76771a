package vault

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

const (
	// maxAnswer is as much of an answer as is read; Vault's own limit of a
	// request is 32 MiB.
	maxAnswer = 64 << 20
	// maxFile bounds the files of tokens, ids and certificates.
	maxFile   = 1 << 20
	idleConns = 64
	maxConns  = 256
)

// errTooLong is returned when an answer is longer than anything that Vault
// answers here.
var errTooLong = errors.New("the answer is longer than 64 MiB")

// newTransport makes the one transport of a client. It takes nothing from the
// environment: no proxy, no VAULT_* variable.
func newTransport(o *Options) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := readFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read authorities of Vault's certificate: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(pem)) {
			return nil, fmt.Errorf("read authorities of Vault's certificate: %s holds no certificate", o.CAFile)
		}
	}
	if o.Auth.Method == Certificate {
		cert, key := o.Auth.CertFile, o.Auth.KeyFile
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert, key) // again at each handshake: the files are renewed
			return &pair, err
		}
	}
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: o.Timeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   o.Timeout,
		ResponseHeaderTimeout: max(o.Timeout, MaxPatience), // contexts end sooner
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConns:          idleConns,
		MaxIdleConnsPerHost:   idleConns,
		MaxConnsPerHost:       maxConns,
		ForceAttemptHTTP2:     true,
	}, nil
}

// bounded is a transport whose answers have an end.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxAnswer}
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

// newAPI makes a client of the library with a token, which may be empty. All of
// them share the transport.
func (c *Client) newAPI(token string) (*api.Client, error) {
	client, err := api.NewClient(&api.Config{
		// Without a Timeout: with one the library ends the request of a raw
		// write before its answer has been read. The contexts and the
		// transport have bounds.
		Address:    c.o.Address,
		MaxRetries: 0, // 4.3 s on a sealed Vault otherwise
		// A redirect would carry the token to another host.
		DisableRedirects: true, ReadYourWrites: true,
		HttpClient: &http.Client{
			Transport:     bounded{c.transport},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make Vault client (the library reads VAULT_* though nothing of it is used): %w", err)
	}
	// NewClient has taken these from the environment.
	client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	client.SetWrappingLookupFunc(func(string, string) string { return "" })
	client.SetToken(token)
	if c.o.Namespace != "" {
		client.SetNamespace(c.o.Namespace)
	}
	return client, nil
}

// readFile reads a file of bounded size, without white space around.
func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > maxFile {
		return "", fmt.Errorf("%s is longer than 1 MiB", path)
	}
	text := strings.TrimSpace(string(b))
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}
