package api

import (
	"net/http"

	"github.com/verdict-pdp/verdict/api/middleware"
)

// Admission decides, in place of the access table, which requests of a protocol
// get in. Its methods are called from many goroutines.
type Admission interface {
	// Class is the class of the route that a request is for, also of one that
	// there is not: its bounds hold for the request, and its name is recorded when
	// the request is refused.
	Class(r *http.Request) Class
	// Admit returns the request to serve, r or one made of it, or why there is
	// none. It may read the body, which is bounded, and names the Caller in the
	// Request of the context. A bad request, 400, is no refusal and not recorded.
	Admit(r *http.Request) (*http.Request, *Error)
}

// requireAdmission is Require for a Route with an Admission. The order is the
// same but for the bound on the body, which comes before the caller.
func (g *Gate) requireAdmission(rt Route) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		var byClass [classes]http.Handler
		for c := range byClass {
			byClass[c] = g.admitted(rt, Class(c), next)
		}
		return g.outermost(&rt, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			req := FromContext(r.Context())
			if req == nil { // mounted outside of Stack, as in Gate.admit
				rt.Error(w, r, AsError(nil))
				return
			}
			req.Class = rt.Admission.Class(r)
			byClass[req.Class].ServeHTTP(w, r)
		}))
	}
}

// admitted guards the requests of one class.
func (g *Gate) admitted(rt Route, c Class, next http.Handler) http.Handler {
	rt.Class = c
	rule := &g.table[c]
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !rule.servedOn(FromContext(r.Context()).Listener, g.o.Separate) {
			g.refuse(w, r, &rt, "", errNotServed())
			return
		}
		if err := g.connectionRefused(r); err != nil {
			g.refuse(w, r, &rt, challengeNone, err)
			return
		}
		in, err := rt.Admission.Admit(r)
		switch {
		case err == nil:
			next.ServeHTTP(w, in)
		case err.Status == http.StatusBadRequest:
			rt.Error(w, r, err)
		default:
			g.refuse(w, r, &rt, "", err)
		}
	})
	bounded := middleware.BodyLimit(
		func() int64 { return g.BodyLimit(c) },
		func(w http.ResponseWriter, r *http.Request, err *middleware.BodyTooLargeError) {
			rt.Error(w, r, AsError(err))
		},
	)(h)
	return g.limited(&rt, rule, bounded)
}

func errNotServed() *Error {
	return &Error{Status: http.StatusNotFound, Code: CodeNotFound, Message: "not served on this listener"}
}
