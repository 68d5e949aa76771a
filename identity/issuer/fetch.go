package issuer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const maxRedirects = 3

// errRedirect is returned for an answer that leads to another server.
var errRedirect = errors.New("the answer leads to another server, which is not followed")

// fetcher gets JWK sets over HTTP.
type fetcher struct {
	client *http.Client
}

func newFetcher(transport http.RoundTripper, timeout time.Duration) *fetcher {
	if transport == nil {
		transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        30 * time.Second,
		}
	}
	return &fetcher{client: &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: stay}}
}

// stay follows redirects on one server only, and never from https to http.
func stay(r *http.Request, via []*http.Request) error {
	if first := via[0].URL; r.URL.Scheme != first.Scheme || r.URL.Host != first.Host || len(via) > maxRedirects {
		return errRedirect
	}
	return nil
}

// get fetches a JWK set, and says for how long it will do.
func (f *fetcher) get(ctx context.Context, url string) ([]byte, time.Duration, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch keys: %w", err)
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := f.client.Do(r)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch keys: %w", err)
	}
	defer res.Body.Close() // only read from
	if res.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("fetch keys from %s: status %d", url, res.StatusCode)
	}
	raw, err := bounded(res.Body)
	if err != nil {
		return nil, 0, fmt.Errorf("fetch keys from %s: %w", url, err)
	}
	return raw, freshness(res.Header), nil
}

// freshness is how long an answer will do, by its max-age (RFC 9111, section
// 5.2.2.1) within our own bounds.
func freshness(h http.Header) time.Duration {
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-cache", "no-store":
			return freshLeast
		case "max-age":
			seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32)
			if err != nil {
				return freshLeast
			}
			return min(max(time.Duration(seconds)*time.Second, freshLeast), freshMost)
		}
	}
	return freshUsually
}
