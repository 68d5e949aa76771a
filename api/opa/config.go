package opa

import (
	"net/http"
	"strings"

	"github.com/open-policy-agent/opa/v1/server/types"
)

// activeConfig is what GET /v1/config tells: what of OPA's configuration there
// is here. Nothing of it is secret.
type activeConfig struct {
	DefaultAuthorizationDecision string            `json:"default_authorization_decision"`
	DefaultDecision              string            `json:"default_decision"`
	Labels                       map[string]string `json:"labels"`
}

// config answers GET /v1/config.
func (s *Server) config(w http.ResponseWriter, r *http.Request) {
	var c any = activeConfig{
		DefaultAuthorizationDecision: "/" + authzPath,
		DefaultDecision:              "/" + strings.Trim(s.options.DefaultDecision, "/"),
		Labels:                       map[string]string{"id": s.options.Instance, "version": s.options.Build.Version},
	}
	s.replyJSON(w, r, http.StatusOK, types.ConfigResponseV1{Result: &c}, parseParams(r.URL.RawQuery).pretty)
}
