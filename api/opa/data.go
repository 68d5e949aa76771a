package opa

import (
	"bytes"
	"errors"
	"math"
	"net/http"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/server/types"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// errUnchanged is returned inside a write whose If-None-Match forbids it.
var errUnchanged = errors.New("document exists")

// dataLimits bound a data document: its bytes are bounded already, so it may
// have any number of members.
func (s *Server) dataLimits(wrapping int) eval.Limits {
	return eval.Limits{Depth: s.limits.Load().Depth + wrapping, Members: math.MaxInt}
}

// dataPut answers PUT /v1/data[/{path}].
func (s *Server) dataPut(w http.ResponseWriter, r *http.Request) {
	m := newTimers(r)
	body, err := s.readWriteBody(r)
	if err != nil {
		s.badBody(w, r, err)
		return
	}
	value, _, err := eval.ParseInput(body, s.dataLimits(0))
	if err != nil {
		s.badRequest(w, r, err.Error())
		return
	}
	m.stop(metrics.RegoInputParse)
	raw := pathBelow(r, 2)
	path, ok := storage.ParsePathEscaped("/" + strings.Trim(raw, "/"))
	if !ok {
		s.badRequest(w, r, "bad path: "+raw)
		return
	}
	onlyNew := r.Header.Get("If-None-Match") == "*"
	c := &change{event: audit.EventConfigChange, action: "put", resource: "data:" + path.String(), new: body}
	err = s.write(r, c, func(d *eval.Draft) error { return put(d, path, value, onlyNew) })
	if errors.Is(err, errUnchanged) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.replyWritten(w, r, m, err)
}

// put makes value the document at path, with the objects above it where there
// are none yet.
func put(d *eval.Draft, path storage.Path, value ast.Value, onlyNew bool) error {
	if err := d.CheckOwner(path); err != nil {
		return err
	}
	_, err := d.Read(path)
	switch {
	case err == nil && onlyNew:
		return errUnchanged
	case err != nil && !storage.IsNotFound(err):
		return err
	case err != nil && len(path) > 0:
		if err := d.MakeFolder(path[:len(path)-1]); err != nil {
			return err
		}
	}
	return d.Patch(storage.AddOp, path, value)
}

// patchStep is one operation of PATCH /v1/data.
type patchStep struct {
	op    storage.PatchOp
	path  storage.Path
	value ast.Value
}

// dataPatch answers PATCH /v1/data[/{path}].
func (s *Server) dataPatch(w http.ResponseWriter, r *http.Request) {
	m := newTimers(r)
	body, err := s.readWriteBody(r)
	if err != nil {
		s.badBody(w, r, err)
		return
	}
	if _, _, err := eval.ParseInput(body, s.dataLimits(2)); err != nil {
		s.badRequest(w, r, err.Error())
		return
	}
	var ops []types.PatchV1
	if err := util.NewJSONDecoder(bytes.NewReader(body)).Decode(&ops); err != nil {
		s.badRequest(w, r, err.Error())
		return
	}
	m.stop(metrics.RegoInputParse)
	root := pathBelow(r, 2)
	steps, err := patchSteps(root, ops)
	if err != nil {
		s.badRequest(w, r, err.Error())
		return
	}
	c := &change{event: audit.EventConfigChange, action: "patch", resource: "data:/" + strings.Trim(root, "/"), new: body}
	for _, step := range steps {
		c.fields = append(c.fields, step.path.String())
	}
	err = s.write(r, c, func(d *eval.Draft) error {
		for _, step := range steps {
			if err := r.Context().Err(); err != nil { // each step copies what it changes
				return err
			}
			if err := d.Patch(step.op, step.path, step.value); err != nil {
				return err
			}
		}
		return nil
	})
	s.replyWritten(w, r, m, err)
}

// patchSteps reads JSON Patch operations (RFC 6902), of which OPA has three.
// Paths are percent-decoded before they are read as JSON Pointers.
func patchSteps(root string, ops []types.PatchV1) ([]patchStep, error) {
	root = "/" + strings.Trim(root, "/")
	unescape := strings.NewReplacer("~1", "/")
	steps := make([]patchStep, 0, len(ops))
	for _, op := range ops {
		step := patchStep{}
		switch op.Op {
		case "add":
			step.op = storage.AddOp
		case "remove":
			step.op = storage.RemoveOp
		case "replace":
			step.op = storage.ReplaceOp
		default:
			return nil, types.BadPatchOperationErr(op.Op)
		}
		path := root
		if below := strings.Trim(op.Path, "/"); below != "" {
			path = strings.TrimSuffix(root, "/") + "/" + below
		}
		var ok bool
		if step.path, ok = storage.ParsePathEscaped(path); !ok {
			return nil, types.BadPatchPathErr(op.Path)
		}
		for i, segment := range step.path {
			step.path[i] = strings.ReplaceAll(unescape.Replace(segment), "~0", "~")
		}
		var err error
		if step.value, err = ast.InterfaceToValue(op.Value); err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// dataDelete answers DELETE /v1/data/{path}.
func (s *Server) dataDelete(w http.ResponseWriter, r *http.Request) {
	m := policyTimers(r)
	m.start(metrics.ServerHandler)
	raw := pathBelow(r, 2)
	path, ok := storage.ParsePathEscaped("/" + strings.Trim(raw, "/"))
	if !ok {
		s.badRequest(w, r, "bad path: "+raw)
		return
	}
	c := &change{event: audit.EventConfigChange, action: "delete", resource: "data:" + path.String()}
	err := s.write(r, c, func(d *eval.Draft) error {
		if err := d.CheckOwner(path); err != nil {
			return err
		}
		if _, err := d.Read(path); err != nil {
			return err
		}
		return d.Patch(storage.RemoveOp, path, nil)
	})
	s.replyWritten(w, r, m, err)
}

// replyWritten answers a write of data.
func (s *Server) replyWritten(w http.ResponseWriter, r *http.Request, m *timers, err error) {
	var conflict *eval.CompileError
	switch {
	case errors.As(err, &conflict): // a rule stands where the data would
		s.badRequest(w, r, conflict.Error())
	case err != nil:
		s.replyError(w, r, err)
	case m.asked:
		m.stop(metrics.ServerHandler)
		s.replyJSON(w, r, http.StatusOK, types.DataResponseV1{Metrics: m.All()}, false)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}
