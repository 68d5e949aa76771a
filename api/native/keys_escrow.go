package native

import (
	"net/http"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/keys/escrow"
)

// escrowed answers that nothing is escrowed where that is so.
func (s *Server) escrowed(w http.ResponseWriter) bool {
	if s.o.Keys.Escrow != nil {
		return true
	}
	fail(w, http.StatusConflict, "escrow_not_configured", "no keys are escrowed: keys.escrow.public_key is not set", "")
	return false
}

// keyEscrow answers GET /api/v1/keys/{id}/escrow.
func (s *Server) keyEscrow(w http.ResponseWriter, r *http.Request) {
	if !s.escrowed(w) {
		return
	}
	packages, err := s.o.Keys.Escrow.Export(r.Context(), byOf(r), param(r, "id"))
	if err != nil {
		s.keyError(w, r, err, "export escrow packages")
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	s.reply(w, map[string]any{"packages": packages})
}

// keyRecover answers POST /api/v1/keys/{id}/recover.
func (s *Server) keyRecover(w http.ResponseWriter, r *http.Request) {
	if !s.escrowed(w) {
		return
	}
	var ask struct {
		Shares []string `json:"shares"`
	}
	if !decode(w, r, &ask) {
		return
	}
	principal, err := s.principalOf(r)
	if err != nil {
		s.keyError(w, r, err, "recover key")
		return
	}
	progress, err := s.o.Keys.Recoveries.Give(r.Context(), byOf(r), principal, param(r, "id"), ask.Shares)
	if err != nil {
		s.keyError(w, r, err, "recover key")
		return
	}
	if len(progress.Recovered) == 0 {
		s.replyWith(w, http.StatusAccepted, progress)
		return
	}
	s.reply(w, progress)
}

// keyRecoverCancel answers DELETE /api/v1/keys/{id}/recover.
func (s *Server) keyRecoverCancel(w http.ResponseWriter, r *http.Request) {
	if !s.escrowed(w) {
		return
	}
	if err := s.o.Keys.Recoveries.Cancel(r.Context(), byOf(r), param(r, "id")); err != nil {
		s.keyError(w, r, err, "end a recovery")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// principalOf tells who gives shares. A token is known by its id, everybody
// else by kind and name.
func (s *Server) principalOf(r *http.Request) (escrow.Principal, error) {
	x := api.FromContext(r.Context())
	if x == nil {
		return escrow.Principal{ID: "nobody", Name: "nobody"}, nil
	}
	c := &x.Caller
	p := escrow.Principal{ID: c.Kind.String() + ":" + c.Name, Name: c.Name}
	if c.Kind == api.Token {
		p.ID = tokenPrincipal(c.ID)
	}
	for _, id := range c.CreatedBy() {
		p.CreatedBy = append(p.CreatedBy, tokenPrincipal(id))
	}
	if c.Kind != api.Certificate || s.o.Certificates == nil || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return p, nil
	}
	var err error
	p.Issued, err = s.o.Certificates.Issued(r.Context(), r.TLS.PeerCertificates[0])
	return p, err
}

func tokenPrincipal(id string) string { return "token:" + id }
