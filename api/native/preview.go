package native

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/internal/problem"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Defaults of Limits and bounds of a preview.
const (
	DefaultAnswer = 8 << 20

	previewWrapping = 2        // how deep data stands in a request
	maxExplanation  = 64 << 10 // bytes of a trace as text
)

// Previewer is the decision point as previews need it. Preview records what it
// returns; pdp.PDP is one.
type Previewer interface {
	Preview(ctx context.Context, q *pdp.Query, o *pdp.PreviewOverlay) (*pdp.Previewed, error)
}

// Limits bound what one preview may cost. A field that is zero stands for its
// default.
type Limits struct {
	Depth   int // nesting of input, data and facts; 64
	Members int // members and elements of a request; 10,000
	Answer  int // bytes of the two results together; 8 MiB
	Crypto  int // bytes of a request to encrypt or decrypt; api.DefaultCryptoBody
}

// SetLimits replaces the limits for requests that come from now on.
func (s *Server) SetLimits(l Limits) {
	if l.Depth <= 0 {
		l.Depth = eval.DefaultDepth
	}
	if l.Members <= 0 {
		l.Members = eval.DefaultMembers
	}
	if l.Answer <= 0 {
		l.Answer = DefaultAnswer
	}
	if l.Crypto <= 0 {
		l.Crypto = api.DefaultCryptoBody
	}
	s.limits.Store(&l)
}

// previewAsk is the body of POST /api/v1/preview.
type previewAsk struct {
	query   pdp.Query
	overlay pdp.PreviewOverlay
	explain string // empty: off
}

// previewAnswer is the answer. A result that is left out is undefined.
type previewAnswer struct {
	DecisionID  string          `json:"decision_id"`
	Preview     bool            `json:"preview"` // always true
	Result      json.RawMessage `json:"result,omitempty"`
	Reasons     json.RawMessage `json:"reasons,omitempty"`
	Error       *rulingError    `json:"error,omitempty"`
	Active      activeAnswer    `json:"active"`
	Same        bool            `json:"same"`
	Overlay     eval.Changes    `json:"overlay"`
	Explanation []string        `json:"explanation,omitempty"`
}

type activeAnswer struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *rulingError    `json:"error,omitempty"`
}

// rulingError is an evaluation that failed.
type rulingError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// fieldError is what is wrong with a member of a request.
type fieldError struct{ field, detail string }

func (e *fieldError) Error() string { return e.field + ": " + e.detail }

// preview answers POST /api/v1/preview.
func (s *Server) preview(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		api.WriteProblem(w, r, api.AsError(err))
		return
	}
	limits := s.limits.Load()
	ask, err := readPreview(body, limits)
	if bad, ok := errors.AsType[*fieldError](err); ok {
		fail(w, http.StatusBadRequest, "invalid_parameter", bad.detail, bad.field)
		return
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid_parameter", "the body: "+err.Error(), "")
		return
	}
	signQuery(&ask.query, r)
	got, err := s.o.Previews.Preview(r.Context(), &ask.query, &ask.overlay)
	if err != nil {
		s.previewError(w, r, ask, err)
		return
	}
	defer got.Release()
	w.Header().Set("X-Decision-Id", got.ID)
	s.answerPreview(w, got, ask, limits.Answer)
}

func (s *Server) answerPreview(w http.ResponseWriter, got *pdp.Previewed, ask *previewAsk, most int) {
	answer := previewAnswer{
		DecisionID: got.ID, Preview: true, Result: got.JSON, Error: errorOf(got.Err),
		Active: activeAnswer{Error: errorOf(got.Active.Err)}, Same: got.Same, Overlay: got.Changes,
	}
	var err error
	if got.Active.Value != nil {
		if answer.Active.Result, err = eval.AppendJSON(nil, got.Active.Value); err != nil {
			s.internal(w, err, "encode active result")
			return
		}
	}
	if len(answer.Result)+len(answer.Active.Result) > most {
		fail(w, http.StatusUnprocessableEntity, "answer_too_large", fmt.Sprintf("the results exceed %d bytes together (limits.answer)", most), "")
		return
	}
	if obj, ok := got.Value.(ast.Object); ok {
		if reasons := obj.Get(ast.StringTerm("reasons")); reasons != nil {
			if answer.Reasons, err = eval.AppendJSON(nil, reasons.Value); err != nil {
				s.internal(w, err, "encode reasons")
				return
			}
		}
	}
	answer.Explanation = explain(got.Result.Trace, ask.explain)
	s.reply(w, answer)
}

func errorOf(err error) *rulingError {
	if err == nil {
		return nil
	}
	if stale, ok := errors.AsType[*eval.StaleError](err); ok {
		return &rulingError{Code: eval.CodeStale, Message: stale.Error()}
	}
	code := eval.ErrorCode(err)
	if code == "" {
		return &rulingError{Code: "evaluation_error", Message: "the path cannot be evaluated"}
	}
	return &rulingError{Code: code, Message: err.Error()}
}

func explain(t eval.Trace, mode string) []string {
	switch mode {
	case "notes":
		t = t.Notes()
	case "fails":
		t = t.Fails()
	case "debug":
		t = t.Debug()
	case "full":
		t = t.Full()
	default:
		return nil
	}
	return t.Lines(maxExplanation)
}

// readPreview reads the body of a preview.
func readPreview(body []byte, l *Limits) (*previewAsk, error) {
	value, n, err := eval.ParseInput(body, eval.Limits{Depth: l.Depth + previewWrapping, Members: l.Members})
	if err != nil {
		return nil, err
	}
	if len(trimSpace(body[n:])) > 0 {
		return nil, errors.New("something follows the object")
	}
	obj, ok := value.(ast.Object)
	if !ok {
		return nil, errors.New("it must be an object")
	}
	ask := &previewAsk{}
	err = obj.Iter(func(k, v *ast.Term) error { return ask.member(string(k.Value.(ast.String)), v.Value) })
	if err != nil {
		return nil, err
	}
	if ask.query.Path == "" {
		return nil, &fieldError{"path", "path is a decision path below data, such as app/allow"}
	}
	return ask, nil
}

// member reads one member of the body.
func (a *previewAsk) member(name string, v ast.Value) error {
	switch name {
	case "path":
		path, ok := v.(ast.String)
		if ok {
			_, err := eval.ParsePath(string(path))
			ok = err == nil
		}
		if !ok {
			return &fieldError{name, "path is a decision path below data, such as app/allow"}
		}
		a.query.Path = string(path)
	case "input":
		a.query.Input = v
	case "strict_builtin_errors":
		strict, ok := v.(ast.Boolean)
		if !ok {
			return &fieldError{name, "strict_builtin_errors is true or false"}
		}
		a.query.Strict = bool(strict)
	case "explain":
		mode, _ := v.(ast.String)
		switch mode {
		case "off":
		case "notes", "fails", "full", "debug":
			a.explain, a.query.Observe.Trace = string(mode), true
		default:
			return &fieldError{name, "explain is off, notes, fails, full or debug"}
		}
	case "overlay":
		return eachMember(name, v, a.overlayMember)
	default:
		return &fieldError{name, "there is no such member; there are path, input, overlay, explain and strict_builtin_errors"}
	}
	return nil
}

func (a *previewAsk) overlayMember(name string, v ast.Value) error {
	field := "overlay." + name
	switch name {
	case "data", "facts":
		obj, ok := v.(ast.Object)
		if !ok {
			return &fieldError{field, name + " is an object"}
		}
		if name == "data" {
			a.overlay.Data = obj
		} else {
			a.overlay.Facts = obj
		}
		return nil
	case "modules":
		a.overlay.Modules = map[string][]byte{}
		return eachMember(field, v, func(id string, v ast.Value) error {
			switch text := v.(type) {
			case ast.String:
				a.overlay.Modules[id] = []byte(text)
			case ast.Null:
				a.overlay.Modules[id] = nil
			default:
				return &fieldError{field, "a module is its text, or null to leave it out"}
			}
			return nil
		})
	}
	return &fieldError{field, "there is no such member; there are data, modules and facts"}
}

func eachMember(field string, v ast.Value, fn func(name string, v ast.Value) error) error {
	obj, ok := v.(ast.Object)
	if !ok {
		return &fieldError{field, field + " is an object"}
	}
	return obj.Iter(func(k, v *ast.Term) error { return fn(string(k.Value.(ast.String)), v.Value) })
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\r' || b[0] == '\n') {
		b = b[1:]
	}
	return b
}

// previewError is the one place where errors of previews become statuses.
func (s *Server) previewError(w http.ResponseWriter, r *http.Request, ask *previewAsk, err error) {
	var (
		faults  *eval.CompileError
		limit   *eval.LimitError
		overlay *eval.OverlayError
		full    *audit.UnavailableError
	)
	switch {
	case errors.As(err, &faults):
		field := "overlay.modules"
		if len(ask.overlay.Modules) == 0 { // the data is where rules are
			field = "overlay.data"
		}
		failCompile(w, faults, field)
	case errors.As(err, &limit):
		fail(w, http.StatusUnprocessableEntity, "overlay_too_large", limit.Error(), "overlay.modules")
	case errors.As(err, &overlay):
		fail(w, http.StatusUnprocessableEntity, "overlay_invalid", overlay.Error(), "overlay.modules")
	case errors.Is(err, pdp.ErrFacts):
		fail(w, http.StatusUnprocessableEntity, "overlay_invalid", err.Error(), "overlay.facts")
	case errors.Is(err, pdp.ErrPreviewBusy):
		w.Header().Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "overloaded", fmt.Sprintf("%d previews are running, which is as many as may", pdp.MaxPreviews), "")
	case errors.As(err, &full):
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(full.RetryAfter.Seconds())))))
		fail(w, http.StatusServiceUnavailable, "audit_unavailable", "nothing is answered, since it could not be recorded", "")
	case r.Context().Err() != nil: // nobody is left to be told
	default:
		s.internal(w, err, "preview")
	}
}

// compileFault is one error of the compiler.
type compileFault struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	File    string `json:"file,omitempty"`
	Row     int    `json:"row,omitempty"`
	Col     int    `json:"col,omitempty"`
}

// failCompile answers modules that do not compile, with where.
func failCompile(w http.ResponseWriter, e *eval.CompileError, field string) {
	faults := make([]compileFault, 0, len(e.Errors))
	for _, err := range e.Errors {
		f := compileFault{Code: err.Code, Message: err.Message}
		if err.Location != nil {
			f.File, f.Row, f.Col = err.Location.File, err.Location.Row, err.Location.Col
		}
		faults = append(faults, f)
	}
	problem.Problem{
		Status: http.StatusUnprocessableEntity, Detail: "the modules do not compile with the overlay",
		Members: map[string]any{"code": "compile_failed", "field": field, "errors": faults},
	}.Write(w)
}
