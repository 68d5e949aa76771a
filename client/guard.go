package client

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// ErrUnauthenticated is returned by a service's own functions when it is not known
// who sent a request. The middleware answers it with 401.
var ErrUnauthenticated = errors.New("the sender of the request is not known")

// Derive finds an entity in a request: who sends it, or what it is about. It must
// use what the service has verified and never a header that anybody can send.
// For ErrUnauthenticated the answer is 401, for any other error 500.
type Derive func(*http.Request) (Entity, error)

// GuardOptions configure a Guard. The zero value is usable.
type GuardOptions struct {
	// Context gives facts about the moment: session, device, location, network,
	// and the name of a zero-trust policy; nil: none.
	Context func(*http.Request) (map[string]any, error)
	// Fulfils are the types of obligations that the handlers carry out, reading
	// them by FromContext. A permission with any other obligation is a denial.
	Fulfils []string
	// ShowReasons puts the reasons of a denial into its body. They tell about
	// the policy, so that they are for callers who may know it.
	ShowReasons bool
	// Realm stands in the challenge to a sender who is not known; empty: none.
	Realm string
	// Observe is called after each check, for logs and metrics: err is nil for a
	// permission. nil: nothing is called.
	Observe func(r *http.Request, d Decision, err error)
}

// Guard makes middleware of net/http, which chi and others use as it is. What a
// request is about is what the service's own functions say: nothing is taken from
// a request by itself.
type Guard struct {
	client  *Client
	subject Derive
	o       GuardOptions
}

// NewGuard returns a guard that asks c about the subject which the function
// finds. Both are needed; without them it panics, since nothing would be guarded.
func NewGuard(c *Client, subject Derive, o GuardOptions) *Guard {
	if c == nil || subject == nil {
		panic("client: a guard needs a client and a subject")
	}
	return &Guard{client: c, subject: subject, o: o}
}

// RequirePermission lets in who has a permission, "customer.read": what stands
// before the last dot is the type of the resource, what follows it the action.
// resource finds the resource; nil: it is all of its type, with the id "*". It
// panics when the permission is not of that form.
func (g *Guard) RequirePermission(permission string, resource Derive) func(http.Handler) http.Handler {
	kind, action, ok := SplitPermission(permission)
	if !ok {
		panic("client: the permission " + permission + " is not of the form type.action")
	}
	return g.Require(func(r *http.Request) (Request, error) {
		q := Request{Action: Action{Name: action}, Resource: Entity{Type: kind, ID: "*"}}
		if resource == nil {
			return q, nil
		}
		found, err := resource(r)
		if err != nil {
			return Request{}, err
		}
		if found.Type == "" {
			found.Type = kind
		}
		if found.Type != kind || found.ID == "" {
			return Request{}, errors.New("the resource that was found is not one of " + kind)
		}
		q.Resource = found
		return q, nil
	})
}

// SplitPermission parts "customer.read" into the type of a resource and an
// action.
func SplitPermission(permission string) (kind, action string, ok bool) {
	dot := strings.LastIndexByte(permission, '.')
	if dot <= 0 || dot == len(permission)-1 || strings.Contains(permission, "*") {
		return "", "", false
	}
	return permission[:dot], permission[dot+1:], true
}

// RequireRole lets in who has a role of the standard policies. See HasRole.
func (g *Guard) RequireRole(role string) func(http.Handler) http.Handler {
	if role == "" {
		panic("client: no role")
	}
	return g.middleware(func(ctx context.Context, r *http.Request, subject Entity, facts map[string]any) (Decision, error) {
		return g.client.HasRole(ctx, Request{Subject: subject, Context: facts}, role)
	})
}

// Require lets in whose question is answered with a permission. question gives
// action and resource, and may give a context; the subject, and a context that it
// leaves out, are the guard's.
func (g *Guard) Require(question func(*http.Request) (Request, error)) func(http.Handler) http.Handler {
	if question == nil {
		panic("client: no question")
	}
	return g.middleware(func(ctx context.Context, r *http.Request, subject Entity, facts map[string]any) (Decision, error) {
		q, err := question(r)
		if err != nil {
			return Decision{}, &deriveError{err}
		}
		if q.Subject = subject; q.Context == nil {
			q.Context = facts
		}
		return g.client.Authorize(ctx, q)
	})
}

// deriveError is an error of the service's own functions.
type deriveError struct{ error }

func (e *deriveError) Unwrap() error { return e.error }

type asking func(ctx context.Context, r *http.Request, subject Entity, facts map[string]any) (Decision, error)

func (g *Guard) middleware(ask asking) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			d, err := g.check(r, ask)
			if g.o.Observe != nil {
				g.o.Observe(r, d, err)
			}
			if err != nil {
				g.refuse(w, d, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(WithDecision(r.Context(), d)))
		})
	}
}

// check asks about a request. Only without an error it may go on.
func (g *Guard) check(r *http.Request, ask asking) (Decision, error) {
	subject, err := g.subject(r)
	if err == nil && (subject.Type == "" || subject.ID == "") {
		err = ErrUnauthenticated
	}
	if err != nil {
		return Decision{}, &deriveError{err}
	}
	var facts map[string]any
	if g.o.Context != nil {
		if facts, err = g.o.Context(r); err != nil {
			return Decision{}, &deriveError{err}
		}
	}
	d, err := ask(WithTrace(r.Context(), r.Header), r, subject, facts)
	if err != nil {
		return Decision{}, err
	}
	return d, Check(d, g.o.Fulfils)
}

// ErrObligation is returned for a permission with an obligation that the service
// does not carry out.
var ErrObligation = errors.New("the permission has an obligation that is not carried out here")

// Check is the error of a decision for a service that carries out some types of
// obligations: nil when it may go on, a *DeniedError otherwise. It wraps
// ErrObligation where that is why.
func Check(d Decision, fulfils []string) error {
	if !d.Allowed {
		return &DeniedError{Decision: d}
	}
	for _, o := range d.Obligations {
		if !slices.Contains(fulfils, o.Type) {
			return errors.Join(ErrObligation, &DeniedError{Decision: d})
		}
	}
	return nil
}
