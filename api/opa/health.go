package opa

import (
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/server/types"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// healthPath is where policies define the checks of /health/{path}.
const healthPath = "system/health/"

// health answers GET /health. With the parameter bundles it also asks whether
// the bundles are fresh. There are no plugins, so the parameters plugins and
// exclude-plugin change nothing.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	err := s.options.Healthy()
	if err == nil && s.options.BundlesHealthy != nil && asksForBundles(r) {
		err = s.options.BundlesHealthy()
	}
	s.replyHealth(w, r, err)
}

// asksForBundles tells whether a probe is about the bundles too. OPA has an older
// name for the parameter.
func asksForBundles(r *http.Request) bool {
	if r.URL.RawQuery == "" {
		return false
	}
	values := r.URL.Query()
	return isTrue(values, types.ParamBundlesActivationV1) || isTrue(values, "bundle")
}

// healthPolicy answers GET /health/{path...} by the policy data.system.health.
// Probes are no decisions: they are not recorded.
func (s *Server) healthPolicy(w http.ResponseWriter, r *http.Request) {
	path := healthPath + pathBelow(r, 1)
	ref, err := eval.ParsePath(path)
	if err != nil {
		s.badRequest(w, r, err.Error())
		return
	}
	input := ast.NewObject(
		// OPA without options has this one plugin, and health policies look at it.
		ast.Item(ast.StringTerm("plugin_state"), ast.ObjectTerm(ast.Item(ast.StringTerm("discovery"), ast.StringTerm("OK")))),
		ast.Item(ast.StringTerm("plugins_ready"), ast.BooleanTerm(s.options.Healthy() == nil)),
	)
	snapshot := s.pdp.Engine().Active()
	if !snapshot.Defines(ref) && isPrintable(ref) {
		// Anybody may ask, at any rate: what nobody defines must cost nothing.
		s.replyHealth(w, r, fmt.Errorf("health check (%v) was undefined", ref))
		return
	}
	res, err := snapshot.Eval(r.Context(), &eval.Query{Path: path, Input: input, Now: time.Now()})
	var compile ast.Errors
	switch {
	case errors.Is(err, eval.ErrPath):
		s.badRequest(w, r, err.Error())
	case errors.Is(err, eval.ErrPanic):
		s.options.Logger.Error().Err(err).Str("path", path).Msg("health check panicked")
		s.replyHealth(w, r, eval.ErrPanic)
	case errors.As(err, &compile):
		s.replyHealth(w, r, compile)
	case err != nil:
		s.replyHealth(w, r, err)
	case res.Value == nil:
		s.replyHealth(w, r, fmt.Errorf("health check (%v) was undefined", ref))
	case res.Value.Compare(ast.Boolean(true)) != 0:
		s.replyHealth(w, r, fmt.Errorf("health check (%v) returned unexpected value", ref))
	default:
		s.replyHealth(w, r, nil)
	}
}

// isPrintable tells whether a path is surely one that can be asked for: OPA
// refuses those with control characters.
func isPrintable(ref ast.Ref) bool {
	for _, term := range ref {
		name, ok := term.Value.(ast.String)
		if ok && strings.ContainsFunc(string(name), func(r rune) bool { return r < ' ' || r > '~' }) {
			return false
		}
	}
	return true
}

func (s *Server) replyHealth(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		s.replyJSON(w, r, http.StatusInternalServerError, types.HealthResponseV1{Error: err.Error()}, false)
		return
	}
	s.reply(w, r, http.StatusOK, []byte("{}\n"))
}

// status answers GET /v1/status.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	if s.options.Status == nil {
		s.replyErrorV1(w, r, http.StatusInternalServerError, types.NewErrorV1(types.CodeInternal, "status plugin not enabled"))
		return
	}
	status := s.options.Status()
	p := parseParams(r.URL.RawQuery)
	s.replyJSON(w, r, http.StatusOK, types.StatusResponseV1{Result: &status}, p.pretty)
}

// indexPage is what a browser sees at the root.
const indexPage = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>verdict</title></head>
<body>
<h1>verdict</h1>
<p>A policy decision point that speaks the REST API of Open Policy Agent and
records every decision before it gives it.</p>
<p>Version: {{ .Version }}<br>
Build Commit: {{ .Commit }}<br>
Build Timestamp: {{ .Timestamp }}<br>
Build Hostname: {{ .Hostname }}</p>
</body>
</html>
`

// index answers GET /.
func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	page := template.Must(template.New("index").Parse(indexPage))
	_ = page.Execute(w, s.options.Build) // the client may be gone
}
