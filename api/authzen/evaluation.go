package authzen

import (
	"errors"
	"net/http"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp"
)

// errResult is the answer to a result that is no decision.
var errResult = errors.New("the policy's result is neither a boolean nor an object whose allow or decision is one")

// evaluation answers POST /access/v1/evaluation, the hot path.
func (s *Server) evaluation(w http.ResponseWriter, r *http.Request) {
	ex := s.newExchange()
	defer s.release(ex)
	doc, err := s.document(ex, r, 0)
	if err != nil {
		s.fail(w, err)
		return
	}
	s.single(w, r, ex, doc)
}

// single decides one evaluation object and answers with the decision.
func (s *Server) single(w http.ResponseWriter, r *http.Request, ex *exchange, doc ast.Object) {
	if wrong := s.names.check(doc); wrong != "" {
		s.fail(w, badRequest(wrong))
		return
	}
	s.sign(&ex.query, r)
	ex.query.Input = doc
	d, err := s.pdp.Decide(r.Context(), &ex.query)
	if d != nil {
		defer d.Release()
		w.Header()["X-Decision-Id"] = []string{d.ID}
	}
	if err == nil {
		ex.out, err = s.appendDecision(ex.out[:0], d)
	}
	if err != nil {
		s.fail(w, err)
		return
	}
	s.reply(w, append(ex.out, '\n'))
}

// appendDecision writes a decision: {"decision": bool, "context": {...}}. The
// context has what the policy says beside the decision, then our own members,
// which a policy cannot give.
func (s *Server) appendDecision(dst []byte, d *pdp.Decision) ([]byte, error) {
	granted := false
	if d.Value != nil {
		var ok bool
		if granted, ok = s.pdp.Granted(d.Value); !ok {
			return dst, errResult
		}
	}
	if granted {
		dst = append(dst, `{"decision":true,"context":{`...)
	} else {
		dst = append(dst, `{"decision":false,"context":{`...)
	}
	if obj, ok := d.Value.(ast.Object); ok {
		dst = appendRest(dst, d.JSON)
		dst = s.appendStepUp(dst, obj)
	}
	dst = s.appendRecord(dst, d)
	return append(dst, '}', '}'), nil
}

// appendRecord writes how to find the record of a decision, and its receipt
// when the record is durable.
func (s *Server) appendRecord(dst []byte, d *pdp.Decision) []byte {
	dst = append(dst, `"decision_id":"`...)
	dst = append(dst, d.ID...)
	dst = append(dst, '"')
	if d.Receipt.Time.IsZero() {
		return dst
	}
	dst = append(dst, `,"receipt":{`...)
	dst = append(dst, s.log...)
	return appendReceipt(dst, d.Receipt)
}
