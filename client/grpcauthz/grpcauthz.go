// Package grpcauthz protects the methods of a gRPC server by decisions of a
// verdict server: interceptors for unary and for streaming calls, over the
// package client above it.
//
// Which permission a method needs is a table, and a method that does not stand in
// it is denied. A denial is PermissionDenied, Unauthenticated where stronger
// authentication would help, both with an errdetails.ErrorInfo; no decision is
// Unavailable.
package grpcauthz

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/verdict-pdp/verdict/client"
)

// Domain is the domain of the ErrorInfo in a refusal, whose reason is one of the
// words below and whose metadata has decision_id, and acr_values and max_age of a
// step-up.
const Domain = "verdict"

// Reasons of refusals.
const (
	ReasonDenied          = "PERMISSION_DENIED"
	ReasonStepUp          = "INSUFFICIENT_USER_AUTHENTICATION"
	ReasonObligation      = "OBLIGATION_UNSUPPORTED"
	ReasonUnauthenticated = "UNAUTHENTICATED"
	ReasonNoRule          = "METHOD_UNKNOWN"
	ReasonUnavailable     = "AUTHORIZATION_UNAVAILABLE"
)

// Call is a call that is asked about. Message is the request of a unary call, nil
// for a stream, which is asked about before its first message.
type Call struct {
	Method  string // "/package.Service/Method"
	Message any
}

// Derive finds an entity in a call, from what the service has verified. With
// client.ErrUnauthenticated the call is Unauthenticated, with any other error
// Internal.
type Derive func(ctx context.Context, c *Call) (client.Entity, error)

// Rule says what a method needs. One of Permission, Role and Open must be set.
type Rule struct {
	// Permission is "customer.read": type of the resource and action.
	Permission string
	// Resource finds the resource; nil: all of its type, with the id "*".
	Resource Derive
	// Role is a role of the standard policies.
	Role string
	// Open lets everybody in without asking, for health checks and the like.
	Open bool
}

// Options configure a Guard.
type Options struct {
	// Rules are by full method; "/package.Service/*" stands for the methods of a
	// service that have no rule of their own.
	Rules map[string]Rule
	// Context gives facts about the moment; nil: none.
	Context func(ctx context.Context, c *Call) (map[string]any, error)
	// Fulfils are the types of obligations that the methods carry out.
	Fulfils []string
}

// Guard makes interceptors.
type Guard struct {
	client  *client.Client
	subject Derive
	o       Options
}

// New returns a guard that asks c about the subject which the function finds.
func New(c *client.Client, subject Derive, o Options) (*Guard, error) {
	if c == nil || subject == nil {
		return nil, errors.New("grpcauthz: a guard needs a client and a subject")
	}
	for method, rule := range o.Rules {
		if err := rule.validate(method); err != nil {
			return nil, fmt.Errorf("grpcauthz: rule of %s: %w", method, err)
		}
	}
	return &Guard{client: c, subject: subject, o: o}, nil
}

func (r *Rule) validate(method string) error {
	set := 0
	for _, given := range []bool{r.Permission != "", r.Role != "", r.Open} {
		if given {
			set++
		}
	}
	if set != 1 {
		return errors.New("one of Permission, Role and Open must be set")
	}
	if r.Permission != "" {
		if _, _, ok := client.SplitPermission(r.Permission); !ok {
			return errors.New("the permission is not of the form type.action")
		}
	} else if r.Resource != nil {
		return errors.New("a resource goes with a permission")
	}
	if parts := strings.Split(method, "/"); len(parts) != 3 || parts[0] != "" || parts[1] == "" || parts[2] == "" {
		return errors.New("the method is not of the form /package.Service/Method")
	}
	return nil
}

// Unary is the interceptor of unary calls. The handler finds the decision by
// client.FromContext.
func (g *Guard) Unary() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		ctx, err := g.admit(ctx, &Call{Method: info.FullMethod, Message: req})
		if err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

// Stream is the interceptor of streams. A stream is asked about once, when it
// begins: one that must not outlive a permission needs a bound on its life.
func (g *Guard) Stream() grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		ctx, err := g.admit(stream.Context(), &Call{Method: info.FullMethod})
		if err != nil {
			return err
		}
		return next(srv, &admitted{ServerStream: stream, ctx: ctx})
	}
}

// admitted is a stream whose context has the decision.
type admitted struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *admitted) Context() context.Context { return s.ctx }

// admit asks about a call and returns the context to go on with.
func (g *Guard) admit(ctx context.Context, c *Call) (context.Context, error) {
	rule, ok := g.rule(c.Method)
	if !ok {
		return nil, refusal(codes.PermissionDenied, ReasonNoRule, "no rule lets anybody call this method", nil)
	}
	if rule.Open {
		return ctx, nil
	}
	d, err := g.ask(ctx, c, rule)
	if err == nil {
		err = client.Check(d, g.o.Fulfils)
	}
	if err != nil {
		return nil, refuse(&d, err)
	}
	return client.WithDecision(ctx, d), nil
}

func (g *Guard) rule(method string) (Rule, bool) {
	if rule, ok := g.o.Rules[method]; ok {
		return rule, true
	}
	rule, ok := g.o.Rules[method[:strings.LastIndexByte(method, '/')+1]+"*"]
	return rule, ok
}

func (g *Guard) ask(ctx context.Context, c *Call, rule Rule) (client.Decision, error) {
	var q client.Request
	var err error
	if q.Subject, err = g.subject(ctx, c); err == nil && (q.Subject.Type == "" || q.Subject.ID == "") {
		err = client.ErrUnauthenticated
	}
	if err == nil && g.o.Context != nil {
		q.Context, err = g.o.Context(ctx, c)
	}
	if err != nil {
		return client.Decision{}, err
	}
	ctx = client.WithTrace(ctx, trace(ctx))
	if rule.Role != "" {
		return g.client.HasRole(ctx, q, rule.Role)
	}
	kind, action, _ := client.SplitPermission(rule.Permission) // New has looked at it
	q.Action.Name, q.Resource = action, client.Entity{Type: kind, ID: "*"}
	if rule.Resource != nil {
		if q.Resource, err = rule.Resource(ctx, c); err != nil {
			return client.Decision{}, err
		}
		if q.Resource.Type == "" {
			q.Resource.Type = kind
		}
		if q.Resource.Type != kind || q.Resource.ID == "" {
			return client.Decision{}, errors.New("the resource that was found is not one of " + kind)
		}
	}
	return g.client.Authorize(ctx, q)
}

// trace is the metadata of a call as headers.
func trace(ctx context.Context) map[string][]string {
	h := map[string][]string{}
	for key, name := range map[string]string{"traceparent": "Traceparent", "tracestate": "Tracestate", "x-request-id": "X-Request-Id", "x-correlation-id": "X-Correlation-Id"} {
		if values := metadata.ValueFromIncomingContext(ctx, key); len(values) > 0 {
			h[name] = values[:1]
		}
	}
	return h
}

// refuse turns the error of a check into that of the call.
func refuse(d *client.Decision, err error) error {
	facts := map[string]string{}
	if d.ID != "" {
		facts["decision_id"] = d.ID
	}
	failed, _ := errors.AsType[*client.Error](err)
	switch {
	case errors.Is(err, client.ErrUnauthenticated):
		return refusal(codes.Unauthenticated, ReasonUnauthenticated, "it is not known who calls", facts)
	case errors.Is(err, client.ErrObligation):
		return refusal(codes.PermissionDenied, ReasonObligation, "permission denied", facts)
	case errors.Is(err, client.ErrDenied):
		step, ok := d.StepUp()
		if !ok {
			return refusal(codes.PermissionDenied, ReasonDenied, "permission denied", facts)
		}
		facts["acr_values"] = strings.Join(step.ACRValues, " ")
		if step.MaxAge >= 0 {
			facts["max_age"] = strconv.FormatInt(int64(step.MaxAge/time.Second), 10)
		}
		return refusal(codes.Unauthenticated, ReasonStepUp, "stronger or more recent authentication is required", facts)
	case failed != nil:
		if failed.DecisionID != "" {
			facts["decision_id"] = failed.DecisionID
		}
		var more []protoadapt.MessageV1
		if failed.RetryAfter > 0 {
			more = append(more, &errdetails.RetryInfo{RetryDelay: durationpb.New(failed.RetryAfter)})
		}
		return refusal(codes.Unavailable, ReasonUnavailable, "no decision can be had", facts, more...)
	}
	return status.Error(codes.Internal, "internal error")
}

func refusal(code codes.Code, reason, message string, facts map[string]string, more ...protoadapt.MessageV1) error {
	s := status.New(code, message)
	detailed, err := s.WithDetails(append([]protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: reason, Domain: Domain, Metadata: facts}}, more...)...)
	if err != nil { // a text that is not UTF-8
		return s.Err()
	}
	return detailed.Err()
}
