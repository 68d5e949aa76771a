package native

import (
	"net/http"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/service"
	"github.com/verdict-pdp/verdict/pdp"
)

// originOf tells who asks, for the records of bundles.
func originOf(r *http.Request) bundles.Origin {
	o := bundles.Origin{Edge: "native", UserAgent: r.UserAgent()}
	if x := api.FromContext(r.Context()); x != nil {
		o.Caller, o.ClientIP, o.CorrelationID, o.TraceID = x.Caller.Name, x.Client.IP(), x.ID, x.TraceID
	}
	return o
}

// byOf tells who asks, for the records of keys and certificates.
func byOf(r *http.Request) keys.By {
	o := originOf(r)
	return keys.By{
		Caller: o.Caller, ClientIP: o.ClientIP, UserAgent: o.UserAgent, Edge: o.Edge,
		CorrelationID: o.CorrelationID, TraceID: o.TraceID,
	}
}

// askerOf is who sent a request of the encryption service, and on whose behalf.
func askerOf(r *http.Request, ask *cryptoAsk) *service.Asker {
	o := originOf(r)
	a := &service.Asker{
		Caller: o.Caller, ClientIP: o.ClientIP, UserAgent: o.UserAgent, CorrelationID: o.CorrelationID, TraceID: o.TraceID,
		Subject: ask.subject, Facts: ask.facts,
	}
	if x := api.FromContext(r.Context()); x != nil {
		a.Kind, a.Scopes = x.Caller.Kind.String(), x.Caller.Scopes.Names()
	}
	return a
}

// signQuery writes into a query who asks it.
func signQuery(q *pdp.Query, r *http.Request) {
	o := originOf(r)
	q.Caller, q.ClientIP, q.UserAgent, q.CorrelationID, q.TraceID = o.Caller, o.ClientIP, o.UserAgent, o.CorrelationID, o.TraceID
}
