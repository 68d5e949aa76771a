package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What an *Error is, for errors.Is.
var (
	// ErrUnavailable is returned when no decision could be had now and asking
	// again later may help: no connection, a time that ran out, 429, 502, 503,
	// 504.
	ErrUnavailable = errors.New("no decision can be had now")
	// ErrRefused is returned when the server refuses this service: 401, 403. It
	// says nothing about the subject.
	ErrRefused = errors.New("the server refuses this caller")
	// ErrInvalid is returned when the question is not one: a member is missing,
	// or cannot be written as JSON; 400, 413, 422.
	ErrInvalid = errors.New("the question is not valid")
	// ErrAnswer is returned when the answer cannot be understood: it is no
	// answer of a verdict server, too long, or has obligations that nobody can
	// read.
	ErrAnswer = errors.New("the answer cannot be understood")
	// ErrUndefined is returned by Query when the policy has no answer.
	ErrUndefined = errors.New("the decision is undefined")
	// ErrDenied is returned by Enforce when the answer is a denial, and by what
	// opens values when the policy does not let them be opened.
	ErrDenied = errors.New("denied")
)

// Error is why there is no decision.
type Error struct {
	// Op is what was being done: "authorize" for example.
	Op string
	// Status is the server's HTTP status; 0 when it did not answer.
	Status int
	// Code is the server's word for the error, empty when it has none.
	Code string
	// Detail is the server's text, at most 512 bytes.
	Detail string
	// DecisionID names the record, where one was left.
	DecisionID string
	// RetryAfter is when to come back; 0 when the server did not say.
	RetryAfter time.Duration
	// Err is the cause on this side; nil when the server answered.
	Err error

	kind error // one of the sentinels, or nil
}

// Error implements error. It holds no credential.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("verdict: " + e.Op)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": status %d", e.Status)
	}
	for _, text := range []string{e.Code, e.Detail} {
		if text != "" {
			b.WriteString(": " + text)
		}
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap gives the cause and what kind of error it is.
func (e *Error) Unwrap() []error {
	var all []error
	for _, err := range []error{e.kind, e.Err} {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}

// DeniedError is what Enforce returns for a denial; errors.Is finds ErrDenied.
type DeniedError struct{ Decision Decision }

// Error implements error.
func (e *DeniedError) Error() string {
	if codes := e.codes(); codes != "" {
		return "verdict: denied: " + codes
	}
	return "verdict: denied"
}

func (e *DeniedError) codes() string {
	var codes []string
	for _, r := range e.Decision.Reasons {
		if r.Code != "" {
			codes = append(codes, r.Code)
		}
	}
	return strings.Join(codes, ", ")
}

// Unwrap gives ErrDenied.
func (*DeniedError) Unwrap() error { return ErrDenied }

// maxDetail bounds the texts of a server that stand in an error, in bytes.
const maxDetail = 512

// maxRetryAfter bounds what a server may ask to wait.
const maxRetryAfter = time.Hour

// errorOf makes an error of an answer whose status is not the one wanted.
func errorOf(op string, a *answer) *Error {
	e := &Error{Op: op, Status: a.status, DecisionID: a.header.Get(headerDecisionID), RetryAfter: retryAfter(a.header)}
	e.Code, e.Detail = describe(a.body)
	e.kind = kindOf(a.status)
	if e.Code == "permission_denied" {
		e.kind = ErrDenied
	}
	return e
}

func kindOf(status int) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrRefused
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return ErrInvalid
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return ErrUnavailable
	case http.StatusInternalServerError:
		return nil
	}
	return ErrAnswer
}

// describe reads an error in any of the server's shapes: a JSON string (AuthZEN),
// code and message (OPA's API), problem details (RFC 9457).
func describe(body []byte) (code, detail string) {
	var text string
	if json.Unmarshal(body, &text) == nil {
		if word, _, ok := strings.Cut(text, ":"); ok && isCode(word) {
			code = word
		}
		return code, printable(text)
	}
	var shape struct{ Code, Message, Detail, Title string }
	if json.Unmarshal(body, &shape) != nil {
		return "", ""
	}
	for _, text := range []string{shape.Message, shape.Detail, shape.Title} {
		if detail == "" {
			detail = text
		}
	}
	if isCode(shape.Code) {
		code = shape.Code
	}
	return code, printable(detail)
}

func isCode(word string) bool {
	return word != "" && len(word) <= 64 && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxDetail {
		text = text[:maxDetail]
	}
	return strings.ToValidUTF8(text, "")
}

// retryAfter reads seconds; the form with a date is not verdict's.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}
