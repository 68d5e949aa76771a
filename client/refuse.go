package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Type       string   `json:"type"`
	Title      string   `json:"title"`
	Status     int      `json:"status"`
	Code       string   `json:"code"`
	Detail     string   `json:"detail,omitempty"`
	DecisionID string   `json:"decision_id,omitempty"`
	Reasons    []Reason `json:"reasons,omitempty"`
}

// refuse answers a request that may not go on.
func (g *Guard) refuse(w http.ResponseWriter, d Decision, err error) {
	p := problem{Type: "about:blank", DecisionID: d.ID}
	h := w.Header()
	failed, _ := errors.AsType[*Error](err)
	switch {
	case errors.Is(err, ErrUnauthenticated):
		p.Status, p.Code, p.Detail = http.StatusUnauthorized, "unauthenticated", "it is not known who asks"
		h.Set("WWW-Authenticate", g.challenge())
	case errors.Is(err, ErrObligation):
		p.Status, p.Code = http.StatusForbidden, "obligation_unsupported"
	case errors.Is(err, ErrDenied):
		p.deny(h, &d)
		if g.o.ShowReasons {
			p.Reasons = d.Reasons
		}
	case failed != nil:
		p.Status, p.Code = http.StatusServiceUnavailable, "authorization_unavailable"
		p.DecisionID = failed.DecisionID
		if failed.RetryAfter > 0 {
			h.Set("Retry-After", strconv.Itoa(int((failed.RetryAfter+time.Second-1)/time.Second)))
		}
	default:
		p.Status, p.Code = http.StatusInternalServerError, "internal"
	}
	p.Title = http.StatusText(p.Status)
	if p.DecisionID != "" {
		h.Set(headerDecisionID, p.DecisionID)
	}
	body, err := json.Marshal(p)
	if err != nil { // strings and numbers can always be written
		body = nil
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // the client may be gone
}

// deny is 403, or 401 with a challenge where stronger or fresher authentication
// would help (RFC 9470, section 3).
func (p *problem) deny(h http.Header, d *Decision) {
	step, ok := d.StepUp()
	if !ok {
		p.Status, p.Code = http.StatusForbidden, "permission_denied"
		return
	}
	p.Status, p.Code = http.StatusUnauthorized, "insufficient_user_authentication"
	p.Detail = "stronger or more recent authentication is required"
	h.Set("WWW-Authenticate", step.Challenge())
}

func (g *Guard) challenge() string {
	if realm := quotable(g.o.Realm); realm != "" {
		return `Bearer realm="` + realm + `"`
	}
	return "Bearer"
}
