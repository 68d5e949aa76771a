package opa

import (
	"bytes"
	"errors"
	"net/http"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/server/types"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// readTimer is OPA's name of the time that a policy takes to arrive.
const readTimer = "server_read_bytes"

// policyList answers GET /v1/policies.
func (s *Server) policyList(w http.ResponseWriter, r *http.Request) {
	snapshot := s.pdp.Engine().Active()
	policies := []types.PolicyV1{}
	for _, id := range snapshot.ModuleIDs() {
		m, err := snapshot.Module(id)
		if err != nil {
			s.replyError(w, r, err)
			return
		}
		policies = append(policies, types.PolicyV1{ID: id, Raw: string(m.Raw), AST: snapshot.Compiled(id)})
	}
	s.replyJSON(w, r, http.StatusOK, types.PolicyListResponseV1{Result: policies}, policyTimers(r).pretty)
}

// policyGet answers GET /v1/policies/{id...}.
func (s *Server) policyGet(w http.ResponseWriter, r *http.Request) {
	snapshot := s.pdp.Engine().Active()
	id := r.PathValue("path")
	m, err := snapshot.Module(id)
	if err != nil {
		s.replyError(w, r, err)
		return
	}
	s.replyJSON(w, r, http.StatusOK, types.PolicyGetResponseV1{
		Result: types.PolicyV1{ID: id, Raw: string(m.Raw), AST: snapshot.Compiled(id)},
	}, policyTimers(r).pretty)
}

// policyPut answers PUT /v1/policies/{id...}.
func (s *Server) policyPut(w http.ResponseWriter, r *http.Request) {
	t := policyTimers(r)
	t.start(readTimer)
	raw, err := s.readWriteBody(r)
	if err != nil {
		s.badBody(w, r, err)
		return
	}
	t.stop(readTimer)
	id := r.PathValue("path")
	c := &change{event: audit.EventPolicyWrite, action: "put", resource: "policy:" + id, new: raw}
	err = s.write(r, c, func(d *eval.Draft) error { return putModule(d, t, c, id, raw) })
	if s.replyModuleError(w, r, types.CodeInvalidParameter, err) {
		return
	}
	t.stopIfStarted(metrics.RegoModuleCompile)
	res := types.PolicyPutResponseV1{}
	if t.asked {
		res.Metrics = t.All()
	}
	s.replyJSON(w, r, http.StatusOK, res, t.pretty)
}

// putModule parses a module into the draft. The timer of the compilation is
// left running: the modules are compiled when the draft is complete.
func putModule(d *eval.Draft, t *timers, c *change, id string, raw []byte) error {
	old, err := d.Module(id)
	switch {
	case err == nil && bytes.Equal(old.Raw, raw):
		return d.CheckModule(old) // nothing changes, if it were allowed to
	case err == nil:
		if err := d.CheckModule(old); err != nil {
			return err
		}
		c.old = old.Raw
	case !storage.IsNotFound(err):
		return err
	}
	t.start(metrics.RegoModuleParse)
	m, err := eval.ParseModule(id, raw)
	t.stop(metrics.RegoModuleParse)
	if err != nil {
		return &moduleError{err}
	}
	t.start(metrics.RegoModuleCompile)
	return d.PutModule(m)
}

// moduleError is an error of the text of a module.
type moduleError struct{ err error }

func (e *moduleError) Error() string { return e.err.Error() }
func (e *moduleError) Unwrap() error { return e.err }

// replyModuleError writes the answer to an error of a policy write, if there is
// one. The code is that of modules that do not compile together.
func (s *Server) replyModuleError(w http.ResponseWriter, r *http.Request, code string, err error) bool {
	var (
		compile *eval.CompileError
		parse   *moduleError
		list    ast.Errors
	)
	switch {
	case err == nil:
		return false
	case errors.As(err, &compile):
		s.replyErrorV1(w, r, http.StatusBadRequest, types.NewErrorV1(code, types.MsgCompileModuleError).WithASTErrors(compile.Errors))
	case errors.As(err, &parse) && errors.As(parse.err, &list):
		s.replyErrorV1(w, r, http.StatusBadRequest, types.NewErrorV1(types.CodeInvalidParameter, types.MsgCompileModuleError).WithASTErrors(list))
	case errors.As(err, &parse):
		s.badRequest(w, r, parse.Error())
	default:
		s.replyError(w, r, err)
	}
	return true
}

// policyDelete answers DELETE /v1/policies/{id...}.
func (s *Server) policyDelete(w http.ResponseWriter, r *http.Request) {
	t := policyTimers(r)
	id := r.PathValue("path")
	c := &change{event: audit.EventPolicyDelete, action: "delete", resource: "policy:" + id}
	err := s.write(r, c, func(d *eval.Draft) error {
		if old, err := d.Module(id); err == nil {
			c.old = old.Raw
		}
		t.start(metrics.RegoModuleCompile)
		return d.DeleteModule(id)
	})
	if s.replyModuleError(w, r, types.CodeInvalidOperation, err) {
		return
	}
	t.stopIfStarted(metrics.RegoModuleCompile)
	res := types.PolicyDeleteResponseV1{}
	if t.asked {
		res.Metrics = t.All()
	}
	s.replyJSON(w, r, http.StatusOK, res, t.pretty)
}
