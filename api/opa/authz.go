package opa

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/server/types"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Authentication says how callers are known.
type Authentication string

// The modes of authentication. Those but the first are OPA's own.
const (
	AuthenticationVerdict Authentication = "verdict" // as the access table wants it
	AuthenticationToken   Authentication = "token"   // the bearer token is the identity, whatever it is
	AuthenticationTLS     Authentication = "tls"     // the subject of the client certificate is
	AuthenticationOff     Authentication = "off"     // nobody has one
)

// Authorization says what callers may do.
type Authorization string

// The modes of authorization. Those but the first are OPA's own.
const (
	AuthorizationVerdict Authorization = "verdict" // what the access table says
	AuthorizationBasic   Authorization = "basic"   // what data.system.authz.allow says
	AuthorizationOff     Authorization = "off"     // everything
)

// authzPath is the decision of AuthorizationBasic.
const authzPath = "system/authz/allow"

// hiddenIdentity stands in records where a policy's reason had the bearer token.
const hiddenIdentity = "***"

// admission is OPA's own modes of authentication and authorization.
type admission struct {
	server *Server
}

func newAdmission(s *Server) *admission {
	a, b := s.options.Authentication, s.options.Authorization
	if (a == "" || a == AuthenticationVerdict) && (b == "" || b == AuthorizationVerdict) {
		return nil
	}
	return &admission{server: s}
}

// Class implements api.Admission.
func (a *admission) Class(r *http.Request) api.Class {
	path, read := r.URL.Path, r.Method == http.MethodGet
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	second, below, _ := strings.Cut(rest, "/")
	switch {
	case first == "health":
		return api.ClassHealth
	case first == "metrics":
		return api.ClassMetrics
	case first == "" && r.Method == http.MethodPost, first == "v0",
		first == "v1" && second == "batch", first == "v1" && second == "compile" && below != "",
		first == "v1" && second == "data" && (read || r.Method == http.MethodPost):
		return api.ClassDecide
	case first == "v1" && second == "data":
		return api.ClassDataWrite
	case first == "v1" && second == "policies" && read:
		return api.ClassPolicyRead
	case first == "v1" && second == "policies":
		return api.ClassPolicyWrite
	case first == "v1" && (second == "config" || second == "status"):
		return api.ClassStatus
	}
	return api.ClassQuery
}

// identity is who calls, as OPA's modes tell it.
type identity struct {
	name         string
	known        bool
	secret       bool // the name is a credential
	certificates []*x509.Certificate
}

// Admit implements api.Admission.
func (a *admission) Admit(r *http.Request) (*http.Request, *api.Error) {
	who, refused := a.identify(r)
	if refused != nil {
		return nil, refused
	}
	if req := api.FromContext(r.Context()); req != nil {
		req.Caller = api.Caller{Kind: api.Open}
		if who.known && !who.secret {
			req.Caller = api.Caller{Kind: api.Certificate, Name: who.name}
		}
	}
	if a.server.options.Authorization != AuthorizationBasic {
		return r, nil
	}
	path, err := authzSegments(r.URL)
	if err != nil {
		return nil, badAuthz(err)
	}
	in := r
	var body *readBodyValue
	if expectsBody(r.Method, path) {
		if body, err = a.readBody(r); err != nil {
			return nil, badAuthz(err)
		}
		if body != nil {
			in = r.WithContext(context.WithValue(r.Context(), bodyKey{}, body))
		}
	}
	if refused := a.authorize(r, who, path, body); refused != nil {
		return nil, refused
	}
	return in, nil
}

// badAuthz is a request that cannot be shown to the policy.
func badAuthz(err error) *api.Error {
	if isBound(err) {
		return api.AsError(err)
	}
	e := types.NewErrorV1(types.CodeInvalidParameter, "%s", err.Error())
	return &api.Error{Status: http.StatusBadRequest, Code: e.Code, Message: e.Message, Cause: e}
}

func (a *admission) identify(r *http.Request) (identity, *api.Error) {
	switch a.server.options.Authentication {
	case AuthenticationToken:
		token, ok := bearerText(headerValue(r.Header, "Authorization"))
		return identity{name: token, known: ok, secret: true}, nil
	case AuthenticationTLS:
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
			return identity{}, unauthorized("a client certificate is required", "")
		}
		leaf := r.TLS.PeerCertificates[0]
		if now := time.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
			return identity{}, unauthorized("the client certificate is not valid now", "")
		}
		return identity{
			name: leaf.Subject.ToRDNSequence().String(), known: true, certificates: r.TLS.PeerCertificates,
		}, nil
	}
	return identity{}, nil
}

// bearerText is the token of an Authorization header, in the form that OPA
// takes: the scheme as it is written here, white space, and no more of it.
func bearerText(header string) (string, bool) {
	rest, ok := strings.CutPrefix(header, "Bearer")
	token := strings.TrimLeft(rest, " \t\n\f\r")
	if !ok || token == "" || len(token) == len(rest) || strings.ContainsAny(token, " \t\n\f\r") {
		return "", false
	}
	return token, true
}

// authorize asks the policy.
func (a *admission) authorize(r *http.Request, who identity, path []string, body *readBodyValue) *api.Error {
	snapshot := a.server.pdp.Engine().Active()
	input, err := authzInput(snapshot, r, who, path, body)
	if err != nil {
		return authzFault(types.NewErrorV1(types.CodeInternal, "%s", err.Error()))
	}
	now := time.Now()
	res, err := eval.Result{}, snapshot.Stale(authzPath, now)
	if err == nil {
		res, err = snapshot.Eval(r.Context(), &eval.Query{Path: authzPath, Input: input, Now: now})
	}
	if err != nil {
		_, e := a.server.classify(http.Header{}, err)
		return authzFault(e)
	}
	switch allowed := res.Value.(type) {
	case nil:
		return authzFault(types.NewErrorV1(types.CodeInternal, types.MsgUnauthorizedUndefinedError))
	case ast.Boolean:
		if allowed {
			return nil
		}
	case ast.Object:
		return objectVerdict(allowed, who)
	}
	return unauthorized(types.MsgUnauthorizedError, "")
}

// objectVerdict reads {"allowed", "reason"}.
func objectVerdict(obj ast.Object, who identity) *api.Error {
	allowed := obj.Get(ast.StringTerm("allowed"))
	if allowed == nil {
		return authzFault(types.NewErrorV1(types.CodeInternal, types.MsgUndefinedError))
	}
	if yes, _ := allowed.Value.(ast.Boolean); yes {
		return nil
	}
	reason := types.MsgUnauthorizedError
	if t := obj.Get(ast.StringTerm("reason")); t != nil {
		if text, ok := t.Value.(ast.String); ok {
			reason = string(text)
		}
	}
	hidden := ""
	if who.secret {
		hidden = who.name
	}
	return unauthorized(reason, hidden)
}

// unauthorized refuses with OPA's 401. What must not be recorded is hidden in
// the message that is.
func unauthorized(reason, hidden string) *api.Error {
	e := &api.Error{
		Status: http.StatusUnauthorized, Code: types.CodeUnauthorized, Message: reason,
		Cause: types.NewErrorV1(types.CodeUnauthorized, "%s", reason),
	}
	if hidden != "" {
		e.Message = strings.ReplaceAll(reason, hidden, hiddenIdentity)
	}
	return e
}

// authzFault refuses because the policy does not say what it should. Its errors
// may hold parts of its input, and so go to the caller only.
func authzFault(e *types.ErrorV1) *api.Error {
	return &api.Error{
		Status: http.StatusInternalServerError, Code: types.CodeInternal,
		Message: "data.system.authz.allow gives no answer", Cause: e,
	}
}

// authzInput is what OPA's authorization policies know of a request.
func authzInput(snapshot *eval.Snapshot, r *http.Request, who identity, path []string, body *readBodyValue) (ast.Value, error) {
	segments := make([]*ast.Term, len(path))
	for i, s := range path {
		segments[i] = ast.StringTerm(s)
	}
	input := ast.NewObject(
		ast.Item(ast.StringTerm("path"), ast.ArrayTerm(segments...)),
		ast.Item(ast.StringTerm("method"), ast.StringTerm(strings.ToUpper(r.Method))),
		ast.Item(ast.StringTerm("params"), listsTerm(r.URL.Query())),
		ast.Item(ast.StringTerm("headers"), listsTerm(r.Header)),
	)
	if body != nil {
		input.Insert(ast.StringTerm("body"), ast.NewTerm(body.value))
	}
	if who.known {
		input.Insert(ast.StringTerm("identity"), ast.StringTerm(who.name))
	}
	if len(who.certificates) == 0 || !readsInput(snapshot, "client_certificates") {
		return input, nil
	}
	certificates, err := ast.InterfaceToValue(who.certificates)
	if err != nil {
		return nil, fmt.Errorf("convert client certificates: %w", err)
	}
	input.Insert(ast.StringTerm("client_certificates"), ast.NewTerm(certificates))
	return input, nil
}

// readsInput tells whether the policy may look at a member of its input that is
// dear to make.
func readsInput(snapshot *eval.Snapshot, name string) bool {
	reach, err := snapshot.Reach(authzPath)
	if err != nil {
		return true
	}
	for _, ref := range reach.Inputs {
		if len(ref) < 2 || ref[1].Value.Compare(ast.String(name)) == 0 {
			return true
		}
	}
	return false
}

// listsTerm is an object of arrays of texts.
func listsTerm(lists map[string][]string) *ast.Term {
	obj := ast.NewObject()
	for name, values := range lists {
		terms := make([]*ast.Term, len(values))
		for i, v := range values {
			terms[i] = ast.StringTerm(v)
		}
		obj.Insert(ast.StringTerm(name), ast.ArrayTerm(terms...))
	}
	return ast.NewTerm(obj)
}

// authzSegments is the path as the policy sees it: its segments unescaped, and
// escaped slashes inside of them, but for the routes whose rest is one name.
func authzSegments(u *url.URL) ([]string, error) {
	if u.Path == "" {
		return nil, nil
	}
	if strings.HasPrefix(u.Path, "/v1/policies/") || strings.HasPrefix(u.Path, "/v1/compile/") {
		return strings.Split(u.Path[1:], "/"), nil
	}
	segments := strings.Split(u.EscapedPath()[1:], "/")
	for i, s := range segments {
		var err error
		if segments[i], err = url.PathUnescape(s); err != nil {
			return nil, err
		}
	}
	return segments, nil
}

// expectsBody tells whether the policy sees the body of a request.
func expectsBody(method string, path []string) bool {
	if method != http.MethodPost || len(path) == 0 {
		return false
	}
	if len(path) == 1 {
		return path[0] == ""
	}
	switch path[0] + "/" + path[1] {
	case "v0/data", "v1/data", "v1/compile", "v1/query", "v1/batch":
		return true
	}
	return false
}

// readBodyValue is a body that has been read for the policy. Handlers use it
// instead of reading the request.
type readBodyValue struct {
	value ast.Value
	text  []byte // JSON
}

type bodyKey struct{}

// admittedBody is the body that the policy has seen, or nil.
func (s *Server) admittedBody(r *http.Request) *readBodyValue {
	if s.admission == nil {
		return nil
	}
	b, _ := r.Context().Value(bodyKey{}).(*readBodyValue)
	return b
}

// readBody reads the body for the policy; nil when it is empty.
func (a *admission) readBody(r *http.Request) (*readBodyValue, error) {
	text, err := a.server.readDecisionBody(r, nil)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	if strings.Contains(headerValue(r.Header, "Content-Type"), "yaml") {
		if text, err = yamlToJSON(text, a.server.limits.Load().RequestBody); err != nil {
			return nil, err
		}
	}
	value, n, err := eval.ParseInput(text, a.server.inputLimits(questionWrapping))
	if err == nil && strings.TrimLeft(string(text[n:]), " \t\r\n") == "" {
		return &readBodyValue{value: value, text: text}, nil
	}
	var bad *eval.InputError
	if errors.As(err, &bad) && bad.Kind != eval.InputSyntax && bad.Kind != eval.InputEmpty {
		return nil, err
	}
	var ignored any
	if own := util.UnmarshalJSON(text, &ignored); own != nil { // for its message
		err = own
	}
	return nil, err
}
