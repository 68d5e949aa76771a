package opa

import (
	"net/http"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp"
)

// signQuery writes into a query who asks it.
func signQuery(q *pdp.Query, r *http.Request) {
	q.UserAgent = headerValue(r.Header, "User-Agent")
	if x := api.FromContext(r.Context()); x != nil {
		q.Caller, q.CorrelationID, q.TraceID = x.Caller.Name, x.ID, x.TraceID
		q.ClientIP = clientIP(x)
	}
}

// signRecord writes into the record of a write who asked for it.
func signRecord(rec *audit.Record, r *http.Request) {
	rec.UserAgent = headerValue(r.Header, "User-Agent")
	if x := api.FromContext(r.Context()); x != nil {
		rec.RequestedBy, rec.CorrelationID, rec.TraceID = x.Caller.Name, x.ID, x.TraceID
		rec.ClientIP = clientIP(x)
	}
}

func clientIP(x *api.Request) string {
	if !x.Client.Addr.IsValid() {
		return ""
	}
	return x.Client.Addr.String()
}
