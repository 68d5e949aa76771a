package opa

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/server/types"

	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// maxKept is the largest buffer that is kept for the next request.
const maxKept = 256 << 10

// inputMissing is the member that tells a caller that nothing was asked about.
const inputMissing = `"warning":{"code":"` + types.CodeAPIUsageWarn + `","message":"` + types.MsgInputKeyMissing + `"}`

// exchange is the memory of one decision request.
type exchange struct {
	in, out []byte
	query   pdp.Query
}

func (s *Server) newExchange() *exchange { return s.exchanges.Get().(*exchange) }

func (s *Server) release(ex *exchange) {
	if cap(ex.in) > maxKept || cap(ex.out) > maxKept {
		return
	}
	ex.in, ex.out, ex.query = ex.in[:0], ex.out[:0], pdp.Query{}
	s.exchanges.Put(ex)
}

// ask fills the query with what every protocol path shares.
func (s *Server) ask(ex *exchange, r *http.Request, path string, p *params) *pdp.Query {
	ex.query = pdp.Query{
		Edge: Edge, Path: path, Strict: p.strict,
		Observe: pdp.Observe{
			Instrument: p.instrument, Trace: p.explain != "", RuleLabels: p.ruleLabels, StackTraces: true,
		},
	}
	signQuery(&ex.query, r)
	if p.metrics || p.instrument {
		ex.query.Observe.Metrics = metrics.New()
	}
	return &ex.query
}

// dataPost answers POST /v1/data[/{path}], the hot path.
func (s *Server) dataPost(w http.ResponseWriter, r *http.Request) {
	ex := s.newExchange()
	defer s.release(ex)
	p := parseParams(r.URL.RawQuery)
	q := s.ask(ex, r, pathBelow(r, 2), &p)
	stop := startTimers(q.Observe.Metrics)
	input, err := s.postInput(ex, r)
	if err != nil {
		s.badBody(w, r, err)
		return
	}
	q.Input = input
	stop()
	s.answer(w, r, ex, &p, input == nil)
}

// dataGet answers GET /v1/data[/{path}].
func (s *Server) dataGet(w http.ResponseWriter, r *http.Request) {
	ex := s.newExchange()
	defer s.release(ex)
	p := parseParams(r.URL.RawQuery)
	q := s.ask(ex, r, pathBelow(r, 2), &p)
	stop := startTimers(q.Observe.Metrics)
	if p.hasInput {
		input, err := s.queryInput(p.input)
		if err != nil {
			s.badRequest(w, r, err.Error())
			return
		}
		q.Input = input
	}
	stop()
	s.answer(w, r, ex, &p, false)
}

// answer decides the query of an exchange and writes what /v1/data answers.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, ex *exchange, p *params, warn bool) {
	d, err := s.pdp.Decide(r.Context(), &ex.query)
	if d != nil {
		defer d.Release()
		w.Header()["X-Decision-Id"] = []string{d.ID}
	}
	if err != nil {
		s.replyError(w, r, err)
		return
	}
	if p.plain() {
		ex.out = s.appendAnswer(ex.out[:0], d, warn)
		s.reply(w, r, http.StatusOK, ex.out)
		return
	}
	res, err := s.dataResponse(d, &ex.query.Observe, p)
	if err != nil {
		s.replyError(w, r, err)
		return
	}
	if warn {
		res.Warning = types.NewWarning(types.CodeAPIUsageWarn, types.MsgInputKeyMissing)
	}
	s.replyJSON(w, r, http.StatusOK, res, p.pretty)
}

// appendAnswer writes the members of types.DataResponseV1, in its order.
func (s *Server) appendAnswer(dst []byte, d *pdp.Decision, warn bool) []byte {
	dst = append(dst, '{')
	if !s.options.OmitDecisionID {
		dst = append(dst, `"decision_id":"`...)
		dst = append(dst, d.ID...)
		dst = append(dst, '"', ',')
	}
	if d.JSON != nil {
		dst = append(dst, `"result":`...)
		dst = append(dst, d.JSON...)
		dst = append(dst, ',')
	}
	if warn {
		dst = append(dst, inputMissing...)
		dst = append(dst, ',')
	}
	if n := len(dst) - 1; dst[n] == ',' {
		dst = dst[:n]
	}
	return append(dst, '}', '\n')
}

// v0Post answers POST /v0/data[/{path}].
func (s *Server) v0Post(w http.ResponseWriter, r *http.Request) { s.bare(w, r, pathBelow(r, 2)) }

// defaultPost answers POST /.
func (s *Server) defaultPost(w http.ResponseWriter, r *http.Request) {
	s.bare(w, r, s.options.DefaultDecision)
}

// bare decides with the whole body as input and answers with the whole result.
func (s *Server) bare(w http.ResponseWriter, r *http.Request, path string) {
	ex := s.newExchange()
	defer s.release(ex)
	p := parseParams(r.URL.RawQuery)
	input, err := s.wholeInput(ex, r)
	if err != nil {
		s.badBody(w, r, fmt.Errorf("unexpected parse error for input: %w", err))
		return
	}
	q := s.ask(ex, r, path, &params{})
	q.Input = input
	d, err := s.pdp.Decide(r.Context(), q)
	if d != nil {
		defer d.Release()
		w.Header()["X-Decision-Id"] = []string{d.ID}
	}
	switch {
	case err != nil:
		s.replyError(w, r, err)
	case d.JSON == nil:
		s.replyUndefined(w, r, d, path)
	case p.pretty:
		var buf bytes.Buffer
		_ = json.Indent(&buf, d.JSON, "", "  ") // it is JSON
		s.reply(w, r, http.StatusOK, append(buf.Bytes(), '\n'))
	default:
		ex.out = append(append(ex.out[:0], d.JSON...), '\n')
		s.reply(w, r, http.StatusOK, ex.out)
	}
}

// replyUndefined tells a document that nobody defines from one whose rules gave
// nothing.
func (s *Server) replyUndefined(w http.ResponseWriter, r *http.Request, d *pdp.Decision, path string) {
	ref, err := eval.ParsePath(path)
	if err != nil {
		s.replyError(w, r, err)
		return
	}
	message := types.MsgMissingError
	if d.Snapshot.HasRules(ref) {
		message = types.MsgFoundUndefinedError
	}
	s.replyErrorV1(w, r, http.StatusNotFound, types.NewErrorV1(types.CodeUndefinedDocument, "%v: %v", message, ref))
}
