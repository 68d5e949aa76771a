package main

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// validate says what is wrong with the values of c.
func (c *Config) validate() Problems {
	r := &checker{config: c}
	r.server(&c.Server, c.Dev)
	r.require("data_dir", c.DataDir, "a folder")
	r.protocols(c)
	r.bundles(&c.Bundles)
	r.keys(&c.Keys)
	r.certificates(&c.Certificates, c.Dev)
	r.audit(&c.Audit, c.Dev)
	r.authn(&c.Authn)
	r.secrets()
	r.limits(&c.Limits)
	r.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	r.oneOf("log.format", c.Log.Format, "json", "console")
	return r.problems
}

// checker collects what is wrong with a configuration.
type checker struct {
	config   *Config
	problems Problems
}

// fail reports a problem of key, which may be inside a list entry.
func (r *checker) fail(key, format string, args ...any) {
	field, _, _ := strings.Cut(key, "[")
	p := Problem{Key: key, Text: fmt.Sprintf(format, args...)}
	if o := r.config.Origin(field); o.Source > SourceDev {
		p.From = o.String()
	}
	r.problems = append(r.problems, p)
}

func (r *checker) require(key, value, what string) {
	if value == "" {
		r.fail(key, "is empty; give %s", what)
	}
}

func (r *checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		r.fail(key, "%q is not known; write %s (nearest: %s)", value, strings.Join(allowed, ", "), nearest(value, allowed))
	}
}

func (r *checker) allOf(key string, values []string, allowed ...string) {
	for _, v := range values {
		r.oneOf(key, v, allowed...)
	}
}

func (r *checker) between(key string, value, low, high int) {
	if value < low || value > high {
		r.fail(key, "%d is out of bounds; write a number from %d to %d", value, low, high)
	}
}

func (r *checker) size(key string, value, low, high Size) {
	if value < low || value > high {
		r.fail(key, "%s is out of bounds; write a size from %s to %s", value, low, high)
	}
}

func (r *checker) duration(key string, value, low, high time.Duration) {
	if value < low || value > high {
		r.fail(key, "%s is out of bounds; write a duration from %s to %s", value, low, high)
	}
}

// path checks the path of a decision, system/main.
func (r *checker) path(key, value string) {
	if value == "" || slices.Contains(strings.Split(value, "/"), "") {
		r.fail(key, "%q is not the path of a decision; write it without slashes at its ends, for example verdict/authz/decision", value)
	}
}

// networks checks a list of addresses and networks.
func (r *checker) networks(key string, values []string) {
	for _, v := range values {
		if _, err := netip.ParsePrefix(v); err == nil {
			continue
		}
		if _, err := netip.ParseAddr(v); err != nil {
			r.fail(key, "%q is not an address or network; write for example 10.0.0.7 or 10.0.0.0/8", v)
		}
	}
}

// url checks an absolute URL: https, or http where its host is loopback. It
// never repeats the value, which may hold a password by mistake.
func (r *checker) url(key, value string) {
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		r.fail(key, "is not a URL; write for example https://host.example/path")
	case u.User != nil:
		r.fail(key, "holds a user name or password; put the credential into a file")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		r.fail(key, "is not https; http is for loopback only")
	}
}

// exactlyOne checks that one of two keys of a list entry is given.
func (r *checker) exactlyOne(key, name1, value1, name2, value2 string) {
	if (value1 == "") == (value2 == "") {
		r.fail(key, "takes one of %s and %s", name1, name2)
	}
}

// address checks HOST:PORT and gives the host; ok is false when it is wrong.
func (r *checker) address(key, value string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(value)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		r.fail(key, "%q is not HOST:PORT; write for example 127.0.0.1:8181", value)
		return "", false
	}
	return host, true
}

// loopback tells whether host is this machine only.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func (r *checker) server(s *ServerConfig, dev bool) {
	listeners := []struct{ key, addr string }{
		{"server.addr", s.Addr},
		{"server.grpc_addr", s.GRPCAddr},
		{"server.admin_addr", s.AdminAddr},
		{"server.diagnostic_addr", s.DiagnosticAddr},
	}
	r.require("server.addr", s.Addr, "HOST:PORT")
	seen := map[string]string{}
	for _, l := range listeners {
		if l.addr == "" {
			continue
		}
		host, ok := r.address(l.key, l.addr)
		if !ok {
			continue
		}
		switch {
		case loopback(host):
		case dev:
			r.fail(l.key, "%q is not loopback, and --dev serves loopback only; write for example 127.0.0.1:8181, or leave out --dev", l.addr)
		case !s.TLS.on() && !s.AllowPlaintext:
			r.fail(l.key, "%q is not loopback and would be served in plaintext; set server.tls.cert_file and server.tls.key_file, or server.allow_plaintext where a proxy encrypts", l.addr)
		}
		if other, ok := seen[l.addr]; ok && !strings.HasSuffix(l.addr, ":0") {
			r.fail(l.key, "%q is the address of %s too; give each listener its own", l.addr, other)
		}
		seen[l.addr] = l.key
	}
	if s.PublicURL != "" {
		r.publicURL(s.PublicURL)
	}
	r.tls(&s.TLS, dev)
	r.allOf("server.open", s.Open, "decide")
	r.networks("server.trusted_proxies", s.TrustedProxies)
	r.between("server.max_in_flight", s.MaxInFlight, 1, 1_000_000)
	r.between("server.max_connections", s.MaxConnections, 1, 1_000_000)
	r.duration("server.read_header_timeout", s.ReadHeaderTimeout, 100*time.Millisecond, time.Minute)
	r.size("server.max_header", s.MaxHeader, 4*KiB, MiB)
	r.duration("server.drain_timeout", s.DrainTimeout, 0, 10*time.Minute)
}

// publicURL may be http anywhere: a proxy in front may speak it.
func (r *checker) publicURL(value string) {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		r.fail("server.public_url", "is not the URL of a server; write for example https://verdict.example")
	}
}

func (r *checker) protocols(c *Config) {
	r.path("opa.default_decision", c.OPA.DefaultDecision)
	r.oneOf("opa.authentication", c.OPA.Authentication, "verdict", "token", "tls", "off")
	r.oneOf("opa.authorization", c.OPA.Authorization, "verdict", "basic", "off")
	r.opaModes(c)
	r.path("authzen.path", c.AuthZEN.Path)
	r.between("authzen.search_limit", c.AuthZEN.SearchLimit, 1, 1_000_000)
	r.duration("authzen.search_timeout", c.AuthZEN.SearchTimeout, time.Millisecond, time.Minute)
	r.path("extauthz.path", c.ExtAuthz.Path)
	r.size("extauthz.max_receive_message_size", c.ExtAuthz.MaxReceiveMessageSize, KiB, GiB)
	r.networks("extauthz.trusted_peers", c.ExtAuthz.TrustedPeers)
	for _, p := range c.ExtAuthz.PathOverrides {
		r.path("extauthz.path_overrides", p)
	}
	r.path("forwardauth.path", c.ForwardAuth.Path)
	r.networks("forwardauth.trusted_proxies", c.ForwardAuth.TrustedProxies)
}
