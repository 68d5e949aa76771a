package extauthz

import (
	"context"
	"errors"
	"net/netip"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/httpcheck"
	"github.com/verdict-pdp/verdict/api/middleware"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// codePath is the code of a check that names a decision it may not ask for.
const codePath = "path_not_allowed"

// Check implements envoy.service.auth.v3.Authorization. An error leaves it to
// Envoy's failure mode what becomes of the request; the default is to deny it.
func (s *Server) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	start := time.Now()
	res, how, err := s.check(ctx, req)
	s.metrics.observe(how, start)
	return res, err
}

func (s *Server) check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, outcome, error) {
	if busy := s.gate.Enter(); busy != nil {
		return nil, outcomeUnavailable, status.Error(codeOf(busy), busy.Message)
	}
	defer s.gate.Leave()
	q := s.query(ctx, req)
	d, err := s.pdp.Decide(ctx, q)
	if d != nil {
		defer d.Release()
		_ = grpc.SetHeader(ctx, metadata.Pairs("x-decision-id", d.ID)) // fails only outside of a call
	}
	switch {
	case d == nil:
		return s.unavailable(err)
	case q.Fault != nil:
		return s.dry(d, invalid(d, q.Fault), outcomeInvalid)
	case err != nil:
		return s.failed(ctx, d, err)
	case d.Value == nil:
		return s.dryError(d, outcomeUndefined, status.Error(codes.Unknown, "undefined decision"))
	}
	result, err := httpcheck.ParseResult(d.Value)
	if err != nil {
		return s.dryError(d, outcomeError, status.Errorf(codes.Unknown, "envoyauth_result_error: %v", err))
	}
	res, err := answer(d, result)
	if err != nil {
		return s.dryError(d, outcomeError, status.Errorf(codes.Unknown, "envoyauth_result_error: %v", err))
	}
	if result.Allowed {
		return res, outcomeAllowed, nil
	}
	return s.dry(d, res, outcomeDenied)
}

// query is the question of a check. One that cannot be read is a question with
// a fault, which is recorded too.
func (s *Server) query(ctx context.Context, req *authv3.CheckRequest) *pdp.Query {
	c := &httpcheck.Check{Request: req, Client: clientOf(req)}
	q := &pdp.Query{Edge: Edge, Path: s.o.Path, Copies: s.copies, UserAgent: httpcheck.Header(c, "user-agent")}
	if caller, ok := ctx.Value(callerKey{}).(api.Caller); ok {
		q.Caller = caller.Name
	}
	if c.Client.IsValid() {
		q.ClientIP = c.Client.String()
	}
	correlation := middleware.CorrelationOf(httpcheck.Header(c, "x-correlation-id"), httpcheck.Header(c, "x-request-id"), httpcheck.Header(c, "traceparent"))
	q.CorrelationID, q.TraceID = correlation.ID, correlation.TraceID
	denied := httpcheck.Identify(ctx, s.o.Tokens, c)
	inputs := s.inputs.Load()
	input, err := inputs.Input(c)
	if input != nil {
		q.Input = input
	}
	if inputs.Unread(c, input) {
		q.Copies = s.unread
	}
	if err != nil {
		q.Fault = &pdp.Fault{Code: httpcheck.CodeRequest, Message: err.Error()}
	}
	if denied != nil {
		q.Fault = denied
	}
	if path, ok := req.GetAttributes().GetContextExtensions()[PathExtension]; ok {
		if !s.overrides[path] {
			q.Fault = &pdp.Fault{Code: codePath, Message: PathExtension + " names a decision that is not in extauthz.path_overrides"}
			return q
		}
		q.Path = path
	}
	return q
}

// clientOf is the address of Envoy's client, as Envoy tells it.
func clientOf(req *authv3.CheckRequest) netip.Addr {
	text := req.GetAttributes().GetSource().GetAddress().GetSocketAddress().GetAddress()
	if text == "" {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// unavailable answers a check that has no decision.
func (s *Server) unavailable(err error) (*authv3.CheckResponse, outcome, error) {
	if errors.Is(err, pdp.ErrUnrecorded) {
		return nil, outcomeUnavailable, status.Error(codes.Unavailable, "audit_unavailable: the decision could not be recorded")
	}
	s.o.Logger.Error().Err(err).Msg("a check failed")
	return nil, outcomeError, status.Error(codes.Internal, "internal error")
}

// failed answers a check whose evaluation failed.
func (s *Server) failed(ctx context.Context, d *pdp.Decision, err error) (*authv3.CheckResponse, outcome, error) {
	if cause := ctx.Err(); cause != nil && eval.IsCancelled(err) {
		return nil, outcomeCancelled, status.FromContextError(cause).Err()
	}
	if stale, ok := errors.AsType[*eval.StaleError](err); ok {
		return s.dryError(d, outcomeUnavailable, status.Errorf(codes.Unavailable, "%s: %s", eval.CodeStale, stale))
	}
	return s.dryError(d, outcomeError, status.Errorf(codes.Unknown, "envoyauth_eval_error: %v", err))
}

// dry is the answer to what is not allowed: it goes through in a dry run.
func (s *Server) dry(d *pdp.Decision, res *authv3.CheckResponse, how outcome) (*authv3.CheckResponse, outcome, error) {
	if s.o.DryRun {
		return letThrough(d, res.GetDynamicMetadata()), how, nil
	}
	return res, how, nil
}

// dryError is dry for a check that has no answer.
func (s *Server) dryError(d *pdp.Decision, how outcome, err error) (*authv3.CheckResponse, outcome, error) {
	if s.o.DryRun {
		return letThrough(d, nil), how, nil
	}
	return nil, how, err
}
