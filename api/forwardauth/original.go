package forwardauth

import (
	"net/http"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/verdict-pdp/verdict/pdp"
)

// Codes of checks that do not say, or say twice, what they are about.
const (
	codeNoPath    = "no_path"
	codeAmbiguous = "request_ambiguous"
)

// family is the pair of headers in which a gateway tells method and URI.
type family struct{ method, uri string }

// families are nginx's, as it is usually configured, and that of Caddy and
// Traefik.
func families() [2]family {
	return [...]family{
		{"X-Original-Method", "X-Original-Uri"},
		{"X-Forwarded-Method", "X-Forwarded-Uri"},
	}
}

// original is the request that a gateway asks about.
type original struct {
	method, uri, host, scheme string
	own                       bool // it is the request itself, below Path
	guessed                   bool // the method is that of the asking request
	body                      []byte
}

// originalOf finds out what is asked about. Headers of a peer that is not
// believed are not looked at. Where more than one place tells the URI, somebody
// else than the gateway wrote one of them, and nobody can tell which. With a
// fault, the original holds what is known.
func originalOf(r *http.Request, from gateway) (*original, *pdp.Fault) {
	o := &original{method: r.Method, host: r.Host, scheme: "http"}
	if r.TLS != nil {
		o.scheme = "https"
	}
	suffix := suffixOf(r)
	if !from.trusted {
		return o.itself(suffix)
	}
	var fault *pdp.Fault
	single := func(name string) string {
		value, ok := only(r.Header, name)
		if !ok && fault == nil {
			fault = &pdp.Fault{Code: codeAmbiguous, Message: name + " has several values"}
		}
		return value
	}
	if host := single("X-Forwarded-Host"); host != "" {
		o.host = host
	}
	if scheme := single("X-Forwarded-Proto"); scheme != "" {
		o.scheme = scheme
	}
	told := 0
	for _, f := range families() {
		uri := single(f.uri)
		if uri == "" {
			continue
		}
		told++
		o.uri = uri
		if o.method = single(f.method); o.method == "" {
			o.method, o.guessed = r.Method, true
		}
	}
	switch {
	case fault != nil:
		return o, fault
	case told == 0:
		return o.itself(suffix)
	case told > 1:
		return o, &pdp.Fault{Code: codeAmbiguous, Message: "both X-Original-URI and X-Forwarded-Uri name what is asked about"}
	case suffix != "":
		return o, &pdp.Fault{Code: codeAmbiguous, Message: "both the path and a header name what is asked about"}
	case o.uri[0] != '/':
		return o, &pdp.Fault{Code: codeAmbiguous, Message: "the URI asked about does not begin with a slash"}
	}
	return o, nil
}

// itself takes the request for the one asked about: its path is the suffix.
func (o *original) itself(suffix string) (*original, *pdp.Fault) {
	if suffix == "" {
		return o, &pdp.Fault{Code: codeNoPath, Message: "neither a header nor the path names what is asked about"}
	}
	o.uri, o.own = suffix, true
	return o, nil
}

// suffixOf is the request target behind Path, as it was sent, with its query;
// empty when there is no path there. Caddy appends the query of the original
// request to Path alone, which says nothing new.
func suffixOf(r *http.Request) string {
	target := r.RequestURI
	if !strings.HasPrefix(target, Path) { // in absolute form, or escaped where it need not be
		if target = r.URL.EscapedPath(); r.URL.RawQuery != "" {
			target += "?" + r.URL.RawQuery
		}
	}
	rest := strings.TrimPrefix(target, Path)
	if rest == "" || rest[0] != '/' {
		return ""
	}
	return rest
}

// only is the value of a header that may have one only.
func only(h http.Header, name string) (value string, ok bool) {
	values := h[name]
	switch len(values) {
	case 0:
		return "", true
	case 1:
		return strings.TrimSpace(values[0]), true
	}
	return "", false
}

// message is the original as Envoy would tell it.
func (o *original) message(r *http.Request, from gateway) *authv3.CheckRequest {
	attributes := &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
		Method: text(o.method), Path: text(o.uri), Host: text(o.host), Scheme: text(o.scheme), Protocol: r.Proto,
		Headers: headersOf(r, from), Size: int64(len(o.body)), RawBody: o.body,
	}}}
	if from.client.Addr.IsValid() {
		attributes.Source = &authv3.AttributeContext_Peer{Address: address(from.client.Addr, r)}
	}
	return &authv3.CheckRequest{Attributes: attributes}
}

// address is the client's; its port is known only of the peer itself.
func address(client netip.Addr, r *http.Request) *corev3.Address {
	socket := &corev3.SocketAddress{Address: client.String()}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && peer.Addr().Unmap() == client {
		socket.PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(peer.Port())}
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: socket}}
}

// headersOf are the headers of the original as Envoy has them: names in lower
// case, values of one name joined. What the gateway tells in them stands
// elsewhere in the input, and what others than a gateway tell, nowhere.
func headersOf(r *http.Request, from gateway) map[string]string {
	out := make(map[string]string, len(r.Header))
	for name, values := range r.Header {
		switch name {
		case "X-Original-Method", "X-Original-Uri", "X-Forwarded-Method", "X-Forwarded-Uri":
			continue
		case "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto":
			if !from.trusted {
				continue
			}
		}
		out[strings.ToLower(name)] = text(strings.Join(values, ","))
	}
	return out
}

// text is s as a protobuf string can hold it.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
