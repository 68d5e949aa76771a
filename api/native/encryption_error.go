package native

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/internal/jsondoc"
	"github.com/verdict-pdp/verdict/internal/problem"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/service"
	"github.com/verdict-pdp/verdict/pdp"
)

// cryptoDetail is the text for an error of a value. It depends on nothing but
// the code, so that failures of authentication cannot be told apart.
func cryptoDetail(code string) string {
	return map[string]string{
		"classification_not_encrypted": "values of class public are not encrypted; give another classification, or store the value as it is",
		"ciphertext_malformed":         "this is no ciphertext of the form vd1.",
		"ciphertext_invalid":           "the ciphertext does not open in this context",
		"key_unknown":                  "the ciphertext names a key that this server does not have",
		"key_version_disallowed":       "the version of the key may not be used any more",
		"value_too_large":              "a value has at most 16 MiB, each part of its context at most 1,000 bytes, and its ciphertext fits into a request to decrypt it (limits.crypto_body)",
		"already_encrypted":            "the value is a ciphertext already; decrypt it first, or leave it out",
		"field_not_json":               "the value was not encrypted as a field of a document; decrypt it by itself",
		"classification_mismatch":      "the field is encrypted with another classification than fields says",
		"fields_overlap":               "two pointers name the same value, or one inside the other",
		"too_many_fields":              "a document has at most 10,000 fields",
		"keys_unavailable":             "the holder of the keys cannot be used now; nothing was changed",
		"key_escrow_missing":           "keys of this classification must be escrowed, and no escrow is configured",
		"key_mismatch":                 "the value is under another key than the job",
		"verification_failed":          "the new ciphertext does not open to the same value; keep the old one",
		"field_missing":                "there is no such value in the document; mark it as optional if it may be absent",
	}[code]
}

// cryptoCode is the code and the status of an error of a value.
func cryptoCode(err error) (code string, status int) {
	if errors.Is(err, jsondoc.ErrMissing) {
		return "field_missing", http.StatusUnprocessableEntity
	}
	code = service.Code(err)
	switch code {
	case "keys_unavailable", "key_escrow_missing":
		return code, http.StatusServiceUnavailable
	case "internal_error":
		return code, http.StatusInternalServerError
	}
	return code, http.StatusUnprocessableEntity
}

// cryptoField is the member of a request that an error is about.
func cryptoField(code string) string {
	switch code {
	case "classification_not_encrypted":
		return "classification"
	case "ciphertext_malformed", "ciphertext_invalid", "key_unknown", "key_version_disallowed", "key_mismatch":
		return "ciphertext"
	}
	return ""
}

// valueError is the error of an item.
func (s *Server) valueError(err error) *valueError {
	code, _ := cryptoCode(err)
	if code == "internal_error" {
		s.o.Logger.Error().Err(err).Msg("use keys")
		return &valueError{code, "the value could not be processed; the server's log says why"}
	}
	return &valueError{code, cryptoDetail(code)}
}

// cryptoError answers an error of the encryption service.
func (s *Server) cryptoError(w http.ResponseWriter, r *http.Request, err error) {
	if bad, ok := errors.AsType[*fieldError](err); ok {
		fail(w, http.StatusBadRequest, "invalid_parameter", bad.detail, bad.field)
		return
	}
	if denied, ok := errors.AsType[*service.DeniedError](err); ok {
		failDenied(w, denied)
		return
	}
	if lost, ok := errors.AsType[*audit.UnavailableError](err); ok {
		retryAfter(w, lost.RetryAfter)
		fail(w, http.StatusServiceUnavailable, "audit_unavailable", "nothing is opened or changed while it cannot be recorded", "")
		return
	}
	if errors.Is(err, pdp.ErrUnrecorded) || r.Context().Err() != nil {
		retryAfter(w, 0)
		fail(w, http.StatusServiceUnavailable, "audit_unavailable", "the decision could not be recorded", "")
		return
	}
	code, status := cryptoCode(err)
	if status == http.StatusInternalServerError {
		s.internal(w, err, "use keys")
		return
	}
	p := problem.Problem{Status: status, Detail: cryptoDetail(code), Members: map[string]any{"code": code}}
	if unavailable, ok := errors.AsType[*keys.UnavailableError](err); ok {
		retryAfter(w, unavailable.RetryAfter)
		p.Members["reason"] = unavailable.Reason
	} else if status == http.StatusServiceUnavailable {
		retryAfter(w, 0)
	}
	if field := cryptoField(code); field != "" {
		p.Members["field"] = field
	}
	if large, ok := errors.AsType[*sizeError](err); ok {
		p.Members["field"] = large.field
	}
	if field, ok := errors.AsType[*service.FieldError](err); ok {
		p.Members["field"], p.Members["pointer"] = "document", field.Pointer
		p.Detail = fmt.Sprintf("field %q: %s", field.Pointer, p.Detail)
	}
	p.Write(w)
}

// failDenied answers what the policy refused, with its reasons.
func failDenied(w http.ResponseWriter, d *service.DeniedError) {
	members := map[string]any{"code": "permission_denied", "decision_id": d.DecisionID}
	for name, value := range map[string][]byte{"reasons": d.Reasons, "obligations": d.Obligations} {
		if value != nil {
			members[name] = json.RawMessage(value)
		}
	}
	setDecision(w, d.DecisionID)
	problem.Problem{Status: http.StatusForbidden, Detail: "the policy does not allow this", Members: members}.Write(w)
}

// retryAfter says when to try again, in whole seconds, at least one.
func retryAfter(w http.ResponseWriter, d time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int((d+time.Second-1)/time.Second))))
}
