package cert

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxNames bounds the names in one certificate.
const maxNames = 32

// Allowed are the names that certificates may be issued for. The zero value
// allows none.
type Allowed struct {
	// DNS are names, and patterns *.DOMAIN for names one label below DOMAIN.
	DNS []string
	// SPIFFE are SPIFFE ids, and prefixes spiffe://DOMAIN/PATH/* for all ids
	// below.
	SPIFFE []string
	// Networks are those of IP addresses.
	Networks []netip.Prefix
}

// Check tells what is wrong with the patterns.
func (a Allowed) Check() error {
	for _, p := range a.DNS {
		if name := strings.TrimPrefix(p, "*."); !isDNSName(name) || p != name && !strings.Contains(name, ".") {
			return fmt.Errorf("%q is not a DNS name in lower case or *.DOMAIN with a domain of two labels or more", p)
		}
	}
	for _, p := range a.SPIFFE {
		if _, err := ParseID(strings.TrimSuffix(p, "/*")); err != nil {
			return fmt.Errorf("%q: %w", p, err)
		}
	}
	return nil
}

// refused gives the first name that is not allowed and what kind of name it is.
func (a Allowed) refused(s SANs) (kind, name string) {
	for _, name := range s.DNS {
		if !a.dns(name) {
			return "dns", name
		}
	}
	for _, name := range s.URI {
		if !a.spiffe(name) {
			return "uri", name
		}
	}
	for _, name := range s.IP {
		if !a.ip(name) {
			return "ip", name
		}
	}
	if len(s.Email) > 0 {
		return "email", s.Email[0]
	}
	return "", ""
}

func (a Allowed) dns(name string) bool {
	if !isDNSName(name) {
		return false
	}
	for _, p := range a.DNS {
		domain, wild := strings.CutPrefix(p, "*")
		if p == name {
			return true
		}
		if first, rest, ok := strings.Cut(name, "."); wild && ok && first != "" && "."+rest == domain {
			return true
		}
	}
	return false
}

func (a Allowed) spiffe(name string) bool {
	id, err := ParseID(name)
	if err != nil {
		return false
	}
	for _, p := range a.SPIFFE {
		prefix, wild := strings.CutSuffix(p, "*")
		if p == id.String() || wild && strings.HasPrefix(id.String(), prefix) && len(id.String()) > len(prefix) {
			return true
		}
	}
	return false
}

func (a Allowed) ip(name string) bool {
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	for _, n := range a.Networks {
		if n.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

// isDNSName tells a host name in lower case, without a wildcard or a trailing
// dot (RFC 1123, section 2.1).
func isDNSName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
