package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"
)

// TLSOptions is server.tls: the same for every listener. Without CertFile there
// is no TLS.
type TLSOptions struct {
	CertFile, KeyFile string
	// ClientCAFile holds the authorities whose client certificates are believed.
	// A client need not have one, since a token will do; one that shows another's
	// does not get past the handshake.
	ClientCAFile string
}

// enabled reports whether the listeners speak TLS.
func (t TLSOptions) enabled() bool { return t.CertFile != "" }

// load reads the files. A certificate that has ended is refused: nobody could
// connect, and a reload must rather keep the old one.
func (t TLSOptions) load(now time.Time) (*tls.Config, error) {
	if !t.enabled() {
		if t.KeyFile != "" || t.ClientCAFile != "" {
			return nil, errors.New("server.tls: key_file and client_ca_file need cert_file")
		}
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("server.tls: load %s and %s: %w", t.CertFile, t.KeyFile, err)
	}
	if now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("server.tls: the certificate in %s has ended on %s", t.CertFile, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	c := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS12,
		// For TLS 1.2 only what has forward secrecy and authenticated encryption.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos: []string{"h2", "http/1.1"},
	}
	if t.ClientCAFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(t.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("server.tls: read client_ca_file: %w", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("server.tls: client_ca_file %s holds no certificate", t.ClientCAFile)
	}
	c.ClientAuth = tls.VerifyClientCertIfGiven
	// A resumed session would bring along a certificate that was verified by the
	// authorities of another time.
	c.SessionTicketsDisabled = true
	return c, nil
}
