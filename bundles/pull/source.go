package pull

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/bundles"
)

// Defaults of a Source: OPA's.
const (
	DefaultMinDelay = time.Minute
	DefaultMaxDelay = 2 * time.Minute
)

const (
	// MaxWait is the longest that a server may be asked to wait.
	MaxWait = time.Hour
	// MaxSources is how many sources there may be.
	MaxSources = 100

	maxFile = 1 << 20 // bytes of a token or of certificates
)

// Source is where a bundle comes from. It is a value that can be compared.
type Source struct {
	Name string // of the bundle; required
	// URL is where the archive is: https, or http on loopback. Without a path it
	// is the base of a bundle server, and the archive is at /bundles/NAME, as
	// with OPA. Required.
	URL string
	// MinDelay and MaxDelay bound the time between two looks, which is chosen by
	// chance; MaxDelay bounds the time after errors as well. Zero: one minute
	// and two.
	MinDelay, MaxDelay time.Duration
	// LongPolling is how long the server may wait until it has something new,
	// where it can; zero: it is asked now and then.
	LongPolling time.Duration
	// TokenFile holds a bearer token; it is read for each request.
	TokenFile string
	// Credential gives the bearer token in place of TokenFile, for each
	// request; nil: TokenFile does.
	Credential Credential
	// CAFile holds the authorities of the server's certificate, PEM; empty: the
	// system's. CertFile and KeyFile are the client's certificate, PEM, and are
	// read for each connection.
	CAFile, CertFile, KeyFile string
}

// Credential gives a bearer token. It can be compared.
type Credential interface {
	// Token gives the token as it is now. Errors do not repeat it.
	Token() (string, error)
}

func (s Source) withDefaults() Source {
	if s.MinDelay == 0 {
		s.MinDelay = DefaultMinDelay
	}
	if s.MaxDelay == 0 {
		s.MaxDelay = max(DefaultMaxDelay, s.MinDelay)
	}
	return s
}

// location checks the URL and gives that of the archive. Its errors never
// repeat it: it may hold a secret.
func (s Source) location() (*url.URL, error) {
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("url: is not a URL; write for example https://host.example/bundles/app")
	case u.User != nil:
		return nil, errors.New("url: holds a user name or password; put the credential into a file")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, errors.New("url: is not https; http is for loopback only")
	}
	if u.Path == "" || u.Path == "/" {
		u = u.JoinPath("bundles", url.PathEscape(s.Name))
	}
	u.Fragment = ""
	return u, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// check refuses what cannot be a source.
func (s Source) check() error {
	switch {
	case s.Name == "":
		return errors.New("name: is empty; give the bundle's name")
	case !bundles.ValidName(s.Name):
		return fmt.Errorf("name: %q is no name of a bundle: letters, digits, dots, dashes and underscores", s.Name)
	case s.MinDelay < 0 || s.MaxDelay < s.MinDelay:
		return fmt.Errorf("max_delay: %v is less than min_delay, %v", s.MaxDelay, s.MinDelay)
	case s.LongPolling != 0 && (s.LongPolling < time.Second || s.LongPolling > MaxWait):
		return fmt.Errorf("long_polling_timeout: %v is not between 1s and %v", s.LongPolling, MaxWait)
	case (s.CertFile == "") != (s.KeyFile == ""):
		return errors.New("tls: cert_file and key_file belong together")
	}
	return nil
}

// material is what a source needs to ask.
type material struct {
	url    *url.URL
	caSum  [sha256.Size]byte
	client *http.Client
}

// open reads the files of a source once, so that what is wrong shows before it
// is used, and makes the client.
func (s Source) open() (*material, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	u, err := s.location()
	if err != nil {
		return nil, err
	}
	m := &material{url: u}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		pem, err := readFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: %s holds no certificate", s.CAFile)
		}
		m.caSum = sha256.Sum256(pem)
	}
	if s.CertFile != "" {
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
			return &pair, err
		}
		if _, err := load(nil); err != nil {
			return nil, fmt.Errorf("tls.cert_file: %w", err)
		}
		config.GetClientCertificate = load
	}
	if _, err := s.token(); err != nil && s.Credential == nil { // that of a Credential may come later
		return nil, fmt.Errorf("token_file: %w", err)
	}
	m.client = newClient(config)
	return m, nil
}

// token reads the bearer token; empty: there is none. Errors do not repeat it.
func (s Source) token() (string, error) {
	if s.Credential != nil {
		return s.Credential.Token()
	}
	if s.TokenFile == "" {
		return "", nil
	}
	raw, err := readFile(s.TokenFile)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(raw))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s does not hold one token on one line", s.TokenFile)
	}
	return token, nil
}

// readFile reads a small file.
func readFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", name))
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return raw, err
}
