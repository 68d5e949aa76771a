package authzen

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

const (
	// wrapping is how deep the evaluation objects of a batch stand in its body.
	wrapping = 2
	// maxExpansion is how many times the bound of a request the defaults may take
	// once they stand in each item.
	maxExpansion = 16
)

// semantic says when a batch ends (section 7.1.2.1 of the specification).
type semantic uint8

const (
	executeAll semantic = iota
	denyOnFirstDeny
	permitOnFirstPermit
)

// enough tells whether a decision ends the batch.
func (m semantic) enough(granted bool) bool {
	return (m == denyOnFirstDeny && !granted) || (m == permitOnFirstPermit && granted)
}

// item is one evaluation of a batch: a question, or what is wrong with it.
type item struct {
	input ast.Object
	wrong string
}

// evaluations answers POST /access/v1/evaluations.
func (s *Server) evaluations(w http.ResponseWriter, r *http.Request) {
	ex := s.newExchange()
	defer s.release(ex)
	doc, err := s.document(ex, r, wrapping)
	if err != nil {
		s.fail(w, err)
		return
	}
	ends, list, err := s.readBatch(doc)
	if err != nil {
		s.fail(w, err)
		return
	}
	if list == nil || list.Len() == 0 {
		s.single(w, r, ex, s.without(doc, s.names.evaluations, s.names.options))
		return
	}
	items, err := s.items(doc, list)
	if err == nil {
		err = s.answerBatch(w, r, ex, items, ends)
	}
	if err != nil {
		s.fail(w, err)
	}
}

// readBatch reads what a batch has beside the items and their defaults.
func (s *Server) readBatch(doc ast.Object) (ends semantic, list *ast.Array, err error) {
	if v := member(doc, s.names.options); v != nil {
		options, ok := v.(ast.Object)
		if !ok {
			return 0, nil, badRequest("options must be an object")
		}
		switch v := member(options, s.names.semantic).(type) {
		case nil:
		case ast.String:
			switch v {
			case "execute_all":
			case "deny_on_first_deny":
				ends = denyOnFirstDeny
			case "permit_on_first_permit":
				ends = permitOnFirstPermit
			default:
				return 0, nil, badRequest("options.evaluations_semantic must be execute_all, deny_on_first_deny or permit_on_first_permit")
			}
		default:
			return 0, nil, badRequest("options.evaluations_semantic must be a string")
		}
	}
	if v := member(doc, s.names.evaluations); v != nil {
		var ok bool
		if list, ok = v.(*ast.Array); !ok {
			return 0, nil, badRequest("evaluations must be an array")
		}
	}
	return ends, list, nil
}

// without is an object without some of its members.
func (*Server) without(doc ast.Object, names ...*ast.Term) ast.Object {
	rest := ast.NewObjectWithCapacity(doc.Len())
	doc.Foreach(func(k, v *ast.Term) {
		for _, name := range names {
			if k.Equal(name) {
				return
			}
		}
		rest.Insert(k, v)
	})
	return rest
}

// items lays each evaluation over the defaults. A member that an item has stands
// for the whole default of that name.
func (s *Server) items(doc ast.Object, list *ast.Array) ([]item, error) {
	if err := s.checkDefaults(doc, list.Len()); err != nil {
		return nil, err
	}
	items := make([]item, list.Len())
	for i := range items {
		own, ok := list.Elem(i).Value.(ast.Object)
		if !ok {
			items[i].wrong = "the evaluation must be an object"
			continue
		}
		input := own
		for _, name := range s.names.defaults {
			byDefault := doc.Get(name)
			if byDefault == nil || own.Get(name) != nil {
				continue
			}
			if input == own {
				input = s.without(own)
			}
			input.Insert(name, byDefault)
		}
		items[i] = item{input: input, wrong: s.names.check(input)}
	}
	return items, nil
}

// checkDefaults refuses defaults that are malformed, and such as are, repeated in
// n items, many times what a request may hold: each is recorded whole.
func (s *Server) checkDefaults(doc ast.Object, n int) error {
	checks := [...]func() string{
		func() string { return s.names.checkEntity(doc, s.names.subject, s.names.id) },
		func() string { return s.names.checkAction(doc) },
		func() string { return s.names.checkEntity(doc, s.names.resource, s.names.id) },
		func() string { return s.names.checkContext(doc) },
	}
	size := 0
	for i, name := range s.names.defaults {
		v := member(doc, name)
		if v == nil {
			continue
		}
		if wrong := checks[i](); wrong != "" {
			return badRequest(wrong)
		}
		encoded, err := eval.AppendJSON(nil, v)
		if err != nil {
			return badRequest(err.Error())
		}
		size += len(encoded)
	}
	limit := maxExpansion * s.limits.Load().RequestBody
	if int64(size)*int64(n) > limit {
		return badRequest(fmt.Sprintf("defaults of %d bytes for %d evaluations exceed %d bytes (%d times limits.request_body)",
			size, n, limit, maxExpansion))
	}
	return nil
}

// answerBatch decides the items and writes their decisions, up to the one that
// ends the batch.
func (s *Server) answerBatch(w http.ResponseWriter, r *http.Request, ex *exchange, items []item, ends semantic) error {
	id, err := s.pdp.NewID()
	if err != nil {
		return err
	}
	items = upToInvalid(items, ends)
	var common pdp.Query
	s.sign(&common, r)
	common.BatchID, common.Snapshot = id, s.pdp.Engine().Active()
	queries := make([]pdp.Query, 0, len(items))
	for i := range items {
		if items[i].wrong == "" {
			q := common
			q.Input = items[i].input
			queries = append(queries, q)
		}
	}
	ended := false // by a decision: what stands behind it is not answered
	outcomes, err := s.pdp.DecideUntil(r.Context(), queries, func(o pdp.Outcome) bool {
		granted := false
		if o.Err == nil {
			granted, _ = s.pdp.Granted(o.Decision.Value) // what is no decision denies
		}
		ended = ends.enough(granted)
		return ended
	})
	if err != nil {
		return err
	}
	w.Header()["X-Decision-Id"] = []string{id}
	ex.out = s.appendBatch(ex.out[:0], items, outcomes, ended)
	s.reply(w, append(ex.out, '\n'))
	for _, o := range outcomes {
		o.Decision.Release()
	}
	return nil
}

// upToInvalid cuts the items behind the first invalid one where it, being a
// denial, ends the batch.
func upToInvalid(items []item, ends semantic) []item {
	for i := range items {
		if items[i].wrong != "" && ends.enough(false) {
			return items[:i+1]
		}
	}
	return items
}

// appendBatch writes {"evaluations": [decision, ...]}. With ended, items behind
// the last outcome are left out.
func (s *Server) appendBatch(dst []byte, items []item, outcomes []pdp.Outcome, ended bool) []byte {
	dst = append(dst, `{"evaluations":[`...)
	next := 0
	for i := range items {
		if ended && next == len(outcomes) {
			break
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		if items[i].wrong != "" {
			dst = appendFailure(dst, http.StatusBadRequest, items[i].wrong)
			dst = append(dst, '}', '}')
			continue
		}
		dst = s.appendOutcome(dst, outcomes[next])
		next++
	}
	return append(dst, ']', '}')
}

// appendOutcome writes one decision of a batch, or the failure to make it.
func (s *Server) appendOutcome(dst []byte, o pdp.Outcome) []byte {
	start, err := len(dst), o.Err
	if err == nil {
		if dst, err = s.appendDecision(dst, o.Decision); err == nil {
			return dst
		}
	}
	status, message := s.classify(http.Header{}, err)
	dst = appendFailure(dst[:start], status, message)
	dst = s.appendRecord(append(dst, ','), o.Decision)
	return append(dst, '}', '}')
}

// appendFailure writes a denial with an error, and leaves its context open.
func appendFailure(dst []byte, status int, message string) []byte {
	dst = append(dst, `{"decision":false,"context":{"error":{"status":`...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, `,"message":`...)
	return append(append(dst, quote(message)...), '}')
}
