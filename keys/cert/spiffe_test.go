package cert_test

import (
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/keys/cert"
)

func TestParseID(t *testing.T) {
	for text, good := range map[string]bool{
		"spiffe://example.org":                       true,
		"spiffe://example.org/ns/shop/sa/b":          true,
		"spiffe://e_x-1.org/A.b_c-9":                 true,
		"spiffe://" + strings.Repeat("a", 255):       true,
		"spiffe://a/" + strings.Repeat("b", 2048-11): true,
		"spiffe://a/" + strings.Repeat("b", 2048-10): false,
		"spiffe://" + strings.Repeat("a", 256):       false,
		"":                                           false,
		"spiffe://":                                  false,
		"spiffe:///path":                             false,
		"https://example.org/x":                      false,
		"SPIFFE://example.org/x":                     false,
		"spiffe://Example.org/x":                     false,
		"spiffe://example.org/":                      false,
		"spiffe://example.org/x/":                    false,
		"spiffe://example.org//x":                    false,
		"spiffe://example.org/./x":                   false,
		"spiffe://example.org/../x":                  false,
		"spiffe://example.org/a%20b":                 false,
		"spiffe://example.org/a?b":                   false,
		"spiffe://example.org/a#b":                   false,
		"spiffe://example.org:443/a":                 false,
		"spiffe://user@example.org/a":                false,
		"spiffe://example.org/ä":                     false,
		"spiffe://example.org/ns/shop\x00":           false,
	} {
		id, err := cert.ParseID(text)
		if (err == nil) != good {
			t.Errorf("%.60q: %v", text, err)
		}
		if err == nil && id.String() != text {
			t.Errorf("%.60q becomes %.60q", text, id)
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, seed := range []string{"spiffe://example.org/ns/a", "spiffe://a/..", "spiffe://a//b", "spiffe://a%2f/b", "spiffe://"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := cert.ParseID(text)
		if err != nil {
			if id != (cert.ID{}) {
				t.Errorf("an id beside an error: %v", id)
			}
			return
		}
		if id.String() != text {
			t.Errorf("%q becomes %q", text, id)
		}
		// What is accepted means the same to whoever reads it as a URI.
		u, err := url.Parse(text)
		if err != nil || u.Host != id.TrustDomain || u.Path != id.Path || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			t.Errorf("%q is another URI: %+v %v", text, u, err)
		}
	})
}

func TestIDOf(t *testing.T) {
	uri := func(texts ...string) []*url.URL {
		var all []*url.URL
		for _, text := range texts {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, u)
		}
		return all
	}
	for name, tc := range map[string]struct {
		c    x509.Certificate
		ok   bool
		fail bool
	}{
		"no URI":            {x509.Certificate{}, false, false},
		"another URI":       {x509.Certificate{URIs: uri("https://example.org/a", "urn:x:y")}, false, false},
		"one id":            {x509.Certificate{URIs: uri("spiffe://example.org/a"), KeyUsage: x509.KeyUsageDigitalSignature}, true, false},
		"two ids":           {x509.Certificate{URIs: uri("spiffe://example.org/a", "spiffe://example.org/b")}, false, true},
		"an id and more":    {x509.Certificate{URIs: uri("spiffe://example.org/a", "https://example.org")}, false, true},
		"upper case":        {x509.Certificate{URIs: uri("SPIFFE://example.org/a", "https://example.org")}, false, true},
		"an authority":      {x509.Certificate{URIs: uri("spiffe://example.org/a"), IsCA: true}, false, true},
		"signs":             {x509.Certificate{URIs: uri("spiffe://example.org/a"), KeyUsage: x509.KeyUsageCertSign}, false, true},
		"signs lists":       {x509.Certificate{URIs: uri("spiffe://example.org/a"), KeyUsage: x509.KeyUsageCRLSign}, false, true},
		"not a good id":     {x509.Certificate{URIs: uri("spiffe://example.org/a/")}, false, true},
		"escaped dots":      {x509.Certificate{URIs: uri("spiffe://example.org/%2e%2e/a")}, false, true},
		"an id with a port": {x509.Certificate{URIs: uri("spiffe://example.org:1/a")}, false, true},
	} {
		_, ok, err := cert.IDOf(&tc.c)
		if ok != tc.ok || (err != nil) != tc.fail {
			t.Errorf("%s: %t %v", name, ok, err)
		}
	}
}
