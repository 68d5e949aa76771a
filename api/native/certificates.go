package native

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/internal/timespan"
	"github.com/verdict-pdp/verdict/keys/cert"
	"github.com/verdict-pdp/verdict/storage"
)

// mountCertificates adds the routes of the inventory of certificates.
func (s *Server) mountCertificates(r chi.Router, require Require) {
	guard := require(api.Route{Class: api.ClassAdmin, Handler: "api/v1"})
	const all = "/api/v1/certificates"
	r.With(guard).Get(all, s.certificateList)
	r.With(guard).Post(all, s.certificateIssue)
	r.With(guard).Post(all+"/{serial}/revoke", s.certificateRevoke)
}

// certificateList answers GET /api/v1/certificates.
func (s *Server) certificateList(w http.ResponseWriter, r *http.Request) {
	if !parameters(w, r, "cursor", "type", "status", "expires_within", "limit") {
		return
	}
	query := r.URL.Query()
	ask := cert.ListRequest{Cursor: query.Get("cursor"), Type: cert.Type(query.Get("type")), Status: cert.Status(query.Get("status")), Limit: cert.DefaultPage}
	bad := func(field, right string) { fail(w, http.StatusBadRequest, cert.CodeInvalid, field+" is "+right, field) }
	switch ask.Type {
	case "", cert.Server, cert.Client, cert.CA:
	default:
		bad("type", "server, client or ca")
		return
	}
	switch ask.Status {
	case "", cert.Active, cert.Expired, cert.Revoked:
	default:
		bad("status", "active, expired or revoked")
		return
	}
	if text := query.Get("expires_within"); text != "" {
		var err error
		if ask.ExpiresWithin, err = timespan.Parse(text); err != nil || ask.ExpiresWithin <= 0 {
			bad("expires_within", "a duration above 0, for example 720h or 30d")
			return
		}
	}
	if text := query.Get("limit"); text != "" {
		var err error
		if ask.Limit, err = strconv.Atoi(text); err != nil || ask.Limit < 1 || ask.Limit > cert.MaxPage {
			bad("limit", fmt.Sprintf("a number from 1 to %d", cert.MaxPage))
			return
		}
	}
	list, err := s.o.Certificates.List(r.Context(), ask)
	if errors.Is(err, storage.ErrInvalid) {
		bad("cursor", "that of the page before")
		return
	}
	if err != nil {
		s.certificateError(w, r, err, "list certificates")
		return
	}
	s.reply(w, list)
}

// certificateIssue answers POST /api/v1/certificates.
func (s *Server) certificateIssue(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		CSR  string `json:"csr"`
		Type string `json:"type"`
		TTL  string `json:"ttl"`
	}
	if !decode(w, r, &ask) {
		return
	}
	q := cert.IssueRequest{CSR: ask.CSR, Type: cert.Type(ask.Type), By: byOf(r)}
	if ask.TTL != "" {
		var err error
		if q.TTL, err = timespan.Parse(ask.TTL); err != nil || q.TTL <= 0 {
			fail(w, http.StatusUnprocessableEntity, cert.CodeInvalid, "ttl is a duration above 0, for example 24h or 7d", "ttl")
			return
		}
	}
	issued, err := s.o.Certificates.Issue(r.Context(), q)
	if err != nil {
		s.certificateError(w, r, err, "issue a certificate")
		return
	}
	s.reply(w, issued)
}

// certificateRevoke answers POST /api/v1/certificates/{serial}/revoke.
func (s *Server) certificateRevoke(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Reason      string `json:"reason"`
		Certificate string `json:"certificate"`
	}
	if r.ContentLength != 0 && !decode(w, r, &ask) {
		return
	}
	info, err := s.o.Certificates.Revoke(r.Context(), cert.RevokeRequest{
		Serial: param(r, "serial"), Reason: ask.Reason, Certificate: ask.Certificate, By: byOf(r),
	})
	if err != nil {
		s.certificateError(w, r, err, "revoke a certificate")
		return
	}
	s.reply(w, info)
}

// certificateError answers an error of the inventory.
func (s *Server) certificateError(w http.ResponseWriter, r *http.Request, err error, doing string) {
	if unavailable, ok := errors.AsType[*audit.UnavailableError](err); ok {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(unavailable.RetryAfter.Seconds()))))
		fail(w, http.StatusServiceUnavailable, "audit_unavailable", "nothing has changed, since it could not be recorded", "")
		return
	}
	refused, ok := errors.AsType[*cert.Error](err)
	if !ok {
		if errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrClosed) {
			w.Header().Set("Retry-After", "5")
			fail(w, http.StatusServiceUnavailable, "state_unavailable", "the state store cannot be used now", "")
			return
		}
		s.internal(w, err, doing)
		return
	}
	status := http.StatusUnprocessableEntity
	switch refused.Code {
	case cert.CodeUnknown:
		status = http.StatusNotFound
	case cert.CodeNoIssuer:
		status = http.StatusConflict
	case cert.CodeUnavailable:
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(refused.RetryAfter.Seconds()))))
	}
	fail(w, status, refused.Code, refused.Message, refused.Field)
}
