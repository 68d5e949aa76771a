package authzen

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"
)

const (
	// maxTenant bounds the tenant at the end of the metadata's path, in bytes.
	maxTenant = 128
	// metadataCache lets callers keep the document for a while.
	metadataCache = "max-age=300"
)

// Metadata is the document of section 9 of the specification, with the member
// that the working group's draft profile of obligations adds.
type Metadata struct {
	PolicyDecisionPoint  string   `json:"policy_decision_point"`
	Evaluation           string   `json:"access_evaluation_endpoint"`
	Evaluations          string   `json:"access_evaluations_endpoint"`
	SearchSubject        string   `json:"search_subject_endpoint"`
	SearchResource       string   `json:"search_resource_endpoint"`
	SearchAction         string   `json:"search_action_endpoint"`
	SupportedObligations []string `json:"supported_obligations"`
	// SignedMetadata is a JWT with the members above and iss, whose values go
	// before the plain ones (section 9.1.2); empty: it cannot be signed now.
	SignedMetadata string `json:"signed_metadata,omitempty"`
}

// metadata answers GET /.well-known/authzen-configuration, with a tenant behind
// it or without.
func (s *Server) metadata(w http.ResponseWriter, r *http.Request) {
	base, ok := s.base(r)
	if !ok {
		writeError(w, http.StatusNotFound, "there is no https address to tell; set server.public_url or server.tls")
		return
	}
	identifier := base
	if tenant := chi.URLParam(r, "tenant"); tenant != "" {
		if !validTenant(tenant) {
			writeError(w, http.StatusNotFound, "there is no such policy decision point")
			return
		}
		identifier = identify(base, tenant)
	}
	document := Metadata{
		PolicyDecisionPoint: identifier,
		Evaluation:          base + PathEvaluation, Evaluations: base + PathEvaluations,
		SearchSubject: base + PathSearchSubject, SearchResource: base + PathSearchResource,
		SearchAction: base + PathSearchAction, SupportedObligations: []string{stepUp},
	}
	document.SignedMetadata = s.signed.sign(r.Context(), &document)
	body, err := json.Marshal(document)
	if err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("Cache-Control", metadataCache)
	s.reply(w, append(body, '\n'))
}

// base is the address that the caller has used, as far as that can be known. The
// specification wants https. Without it the address is told on this machine
// only, where there is no TLS in development; ok is false elsewhere.
func (s *Server) base(r *http.Request) (base string, ok bool) {
	if s.options.PublicURL != "" {
		return s.options.PublicURL, strings.HasPrefix(s.options.PublicURL, "https://") || local(r)
	}
	host, ok := reached(r)
	if !ok {
		return "", false
	}
	if r.TLS != nil {
		return "https://" + host, true
	}
	return "http://" + host, local(r)
}

// reached is the host and port that a request has come to. The Host header is
// believed where it is another name of the same place: localhost, or the
// address itself. Any other name is for server.public_url to tell, since a
// header is no proof of it.
func reached(r *http.Request) (hostport string, ok bool) {
	addr, known := localAddress(r)
	if !known {
		return "", false
	}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil { // there is no port
		host, port = strings.Trim(r.Host, "[]"), "80"
		if r.TLS != nil {
			port = "443"
		}
	}
	ip, err := netip.ParseAddr(host)
	same := err == nil && ip.Unmap() == addr.Addr() || host == "localhost" && addr.Addr().IsLoopback()
	if same && port == strconv.Itoa(int(addr.Port())) {
		return r.Host, true
	}
	return addr.String(), true
}

// localAddress is the server's end of the connection.
func localAddress(r *http.Request) (netip.AddrPort, bool) {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return netip.AddrPort{}, false
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), true
}

// local tells whether a request has come over the loopback interface.
func local(r *http.Request) bool {
	addr, ok := localAddress(r)
	return ok && addr.Addr().IsLoopback()
}

// identify is the identifier of a tenant: the metadata's path is made from it by
// putting the well-known part between its host and its path. The path of the
// base itself is no tenant but the base.
func identify(base, tenant string) string {
	u, err := url.Parse(base)
	if err != nil || strings.Trim(u.Path, "/") == tenant {
		return base
	}
	return u.Scheme + "://" + u.Host + "/" + tenant
}

// validTenant tells whether a tenant stands for itself in a URL.
func validTenant(tenant string) bool {
	if len(tenant) > maxTenant || strings.Trim(tenant, ".") == "" {
		return false
	}
	for i := range len(tenant) {
		switch c := tenant[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '-', c == '.', c == '_', c == '~':
		default:
			return false
		}
	}
	return true
}
