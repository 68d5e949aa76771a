package opa

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/server/types"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Names in records of what is asked in other ways than by a path.
const (
	EdgeQuery   = "opa.query"
	EdgeCompile = "opa.compile"
)

// questionWrapping is how deep the input stands in a request, or its options.
const questionWrapping = 3

// readQuestion reads the body of a query or compile request.
func (s *Server) readQuestion(ex *exchange, r *http.Request, into any) error {
	body, err := s.questionBody(ex, r)
	if err != nil {
		return err
	}
	var bad *eval.InputError
	if _, _, err := eval.ParseInput(body, s.inputLimits(questionWrapping)); errors.As(err, &bad) && bad.Kind != eval.InputSyntax && bad.Kind != eval.InputEmpty {
		return fmt.Errorf("error(s) occurred while decoding request: %w", err)
	}
	if err := util.NewJSONDecoder(bytes.NewReader(body)).Decode(into); err != nil {
		return fmt.Errorf("error(s) occurred while decoding request: %w", err)
	}
	return nil
}

// questionBody is the body as JSON.
func (s *Server) questionBody(ex *exchange, r *http.Request) ([]byte, error) {
	if b := s.admittedBody(r); b != nil {
		return b.text, nil
	}
	body, err := s.readDecisionBody(r, ex.in[:0])
	if err == nil {
		ex.in = body
	}
	return body, err
}

// questionTimers returns what OPA's timers of a request are kept in; nil when
// nobody wants to see them.
func questionTimers(p *params) pdp.Metrics {
	if p.metrics || p.instrument {
		return metrics.New()
	}
	return nil
}

func startTimer(m pdp.Metrics, name string) {
	if m != nil {
		m.Timer(name).Start()
	}
}

func stopTimer(m pdp.Metrics, name string) {
	if m != nil {
		m.Timer(name).Stop()
	}
}

// newQuestion is a query that is asked by something else than its path.
func newQuestion(r *http.Request, edge, path string, input ast.Value, details any) (*pdp.Query, error) {
	encoded, err := json.Marshal(details)
	if err != nil {
		return nil, fmt.Errorf("encode what is asked: %w", err)
	}
	q := &pdp.Query{Edge: edge, Path: path, Input: input, Details: encoded}
	signQuery(q, r)
	return q, nil
}

// decideQuestion decides and names the decision in the answer. The decision is
// nil when the answer has been written.
func (s *Server) decideQuestion(w http.ResponseWriter, r *http.Request, q *pdp.Query, message string) *pdp.Decision {
	d, err := s.pdp.Decide(r.Context(), q)
	if d != nil {
		w.Header()["X-Decision-Id"] = []string{d.ID}
	}
	if err == nil {
		return d
	}
	if d != nil {
		d.Release()
	}
	s.replyQuestionError(w, r, types.CodeInvalidParameter, message, err)
	return nil
}

// replyQuestionError answers a question that could not be. Faults of its Rego
// have the code and message given.
func (s *Server) replyQuestionError(w http.ResponseWriter, r *http.Request, code, message string, err error) {
	var faults ast.Errors
	var limit *eval.LimitError
	switch {
	case errors.As(err, &limit):
		message := limit.Error()
		if limit.What == "answer" && limit.Unit == "bytes" {
			message += " (limits.answer)"
		}
		s.badRequest(w, r, message)
	case errors.Is(err, eval.ErrEmptyQuery):
		s.replyErrorV1(w, r, http.StatusInternalServerError, types.NewErrorV1(types.CodeInternal, "%s", err.Error()))
	case errors.As(err, &faults):
		s.replyErrorV1(w, r, http.StatusBadRequest, types.NewErrorV1(code, "%s", message).WithASTErrors(faults))
	default:
		s.replyError(w, r, err)
	}
}

// replyParseError answers a text that is no query. One that is something else
// of Rego has the status and prefix given.
func (s *Server) replyParseError(w http.ResponseWriter, r *http.Request, status int, prefix string, err error) {
	var faults ast.Errors
	var limit *eval.LimitError
	if errors.As(err, &faults) || errors.As(err, &limit) {
		s.replyQuestionError(w, r, types.CodeInvalidParameter, types.MsgParseQueryError, err)
		return
	}
	code := types.CodeInternal
	if status == http.StatusBadRequest {
		code = types.CodeInvalidParameter
	}
	s.replyErrorV1(w, r, status, types.NewErrorV1(code, "%s%v", prefix, err))
}
