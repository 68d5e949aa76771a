package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	idleTime         = 90 * time.Second
	handshakeTimeout = 5 * time.Second
	longestDial      = 2 * time.Second
	maxHeader        = 64 << 10
)

// target is where a server is.
type target struct {
	base   string
	socket string // path of a unix socket; empty: TCP
}

// parseTarget reads the URL of a server.
func parseTarget(server string, o *Options) (*target, error) {
	u, err := parseURL(server)
	switch {
	case err != nil:
		return nil, err
	case u.User != nil:
		return nil, errors.New("the URL holds a user: credentials belong into Options.Token")
	case u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return nil, errors.New("the URL must be a base, without query and fragment")
	}
	switch u.Scheme {
	case "unix":
		if u.Host != "" || u.Path == "" || o.TLS != nil || o.Transport != nil {
			return nil, errors.New("a socket is written unix:///PATH, and goes with neither TLS nor Transport")
		}
		return &target{base: "http://verdict.invalid", socket: u.Path}, nil
	case "http", "https":
	default:
		return nil, errors.New("the URL must begin with https://, http:// or unix://")
	}
	if u.Hostname() == "" {
		return nil, errors.New("the URL has no host")
	}
	if u.Scheme == "http" && o.Token != nil && !o.AllowPlaintext && !loopback(u.Hostname()) {
		return nil, errors.New("a token would go to another host without TLS: use https, or set AllowPlaintext")
	}
	return &target{base: u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/")}, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// transport asks no proxy: a token must not go where the environment says.
func (t *target) transport(o *Options) *http.Transport {
	dialer := &net.Dialer{Timeout: longestDial, KeepAlive: 30 * time.Second}
	dial := dialer.DialContext
	if t.socket != "" {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", t.socket)
		}
	}
	transport := &http.Transport{
		DialContext:            dial,
		MaxIdleConns:           o.Connections,
		MaxIdleConnsPerHost:    o.Connections,
		IdleConnTimeout:        idleTime,
		TLSHandshakeTimeout:    handshakeTimeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true, // an answer is bounded as it is on the wire
		ForceAttemptHTTP2:      true,
	}
	if o.TLS != nil {
		transport.TLSClientConfig = o.TLS.Clone()
	}
	return transport
}
