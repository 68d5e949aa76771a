package api

import "github.com/verdict-pdp/verdict/api/tokens"

// Listener tells the listeners apart.
type Listener uint8

// The HTTP listeners, by their configuration keys.
const (
	Main       Listener = iota // server.addr
	Management                 // server.admin_addr
	Diagnostic                 // server.diagnostic_addr
	listeners
	// GRPC is server.grpc_addr, which others than Server serve.
	GRPC
)

// String is the configuration key.
func (l Listener) String() string {
	return [...]string{"addr", "admin_addr", "diagnostic_addr", "", "grpc_addr", ""}[min(l, GRPC+1)]
}

// Class is a kind of route: all routes of a class have the same callers.
type Class uint8

// The classes of routes.
const (
	ClassHealth      Class = iota // /health, /health/*
	ClassWellKnown                // /.well-known/*, /api/v1/openapi.json
	ClassMetrics                  // /metrics, /metrics/*
	ClassDecide                   // decisions: GET and POST /v1/data, /v0/data, POST /, /v1/batch/data, /v1/compile/*, /access/v1/*
	ClassForward                  // /authz/forward, and Check over gRPC
	ClassQuery                    // /v1/query, POST /v1/compile, preview, GET /
	ClassDataWrite                // PUT, PATCH and DELETE /v1/data
	ClassPolicyRead               // GET /v1/policies
	ClassPolicyWrite              // PUT and DELETE /v1/policies
	ClassStatus                   // /v1/config, /v1/status, /api/v1/status, GET /api/v1/keys
	ClassAudit                    // /api/v1/decisions, /api/v1/audit
	ClassBundleRead               // GET /api/v1/bundles/NAME, replay, /bundles/NAME
	ClassBundleWrite              // push, activate and roll back NAME
	ClassEncrypt                  // /api/v1/encrypt
	ClassDecrypt                  // /api/v1/decrypt
	ClassReencrypt                // /api/v1/reencrypt, jobs of /api/v1/keys/ID
	ClassSessions                 // /api/v1/sessions
	ClassDirectory                // /api/v1/subjects, roles, groups, devices
	ClassSCIM                     // /scim/v2
	ClassAdmin                    // everything else
	classes
)

// String is the name that the caller policy and the audit log get.
func (c Class) String() string {
	if c >= classes {
		return ""
	}
	return accessTable()[c].name
}

// access says whom a class of routes lets in.
type access uint8

const (
	scoped   access = iota // a token or certificate that has a scope of the class
	open                   // everybody
	local                  // everybody on this machine and on the diagnostic listener, else as scoped
	settable               // everybody on addr where server.open names the class, else as scoped
	peers                  // a known certificate, or an address in the trusted networks
)

// limit names one of the bounds on a body.
type limit uint8

const (
	requestBody limit = iota
	dataBody
	cryptoBody
	bundleBody
)

// rule is one row of the access table.
type rule struct {
	name     string
	dev      access // with --dev
	live     access // without
	scopes   tokens.Scope
	also     tokens.Scope // needed beside one of scopes
	bundle   bool         // the scope is bundles:NAME...
	read     bool         // ... or bundles:NAME:read
	manages  bool         // on admin_addr only, when there is one
	diagnose bool         // also on diagnostic_addr, which has nothing else
	vital    bool         // neither bounded nor subject to the caller policy
	body     limit        // which bound the body has
}

// accessTable is who may call what, a row a class, in their order.
func accessTable() [classes]rule {
	return [...]rule{
		ClassHealth:      {name: "health", dev: open, live: open, diagnose: true, vital: true},
		ClassWellKnown:   {name: "well-known", dev: open, live: open, vital: true},
		ClassMetrics:     {name: "metrics", dev: open, live: local, scopes: tokens.Admin, diagnose: true, vital: true},
		ClassDecide:      {name: "decide", dev: open, live: settable, scopes: tokens.Decide},
		ClassForward:     {name: "forward", dev: open, live: peers},
		ClassQuery:       {name: "query", scopes: tokens.Decide},
		ClassDataWrite:   {name: "data:write", scopes: tokens.DataWrite, manages: true, body: dataBody},
		ClassPolicyRead:  {name: "policies:read", scopes: tokens.PoliciesWrite, manages: true},
		ClassPolicyWrite: {name: "policies:write", scopes: tokens.PoliciesWrite, manages: true, body: dataBody},
		ClassStatus:      {name: "status", scopes: tokens.AuditRead, manages: true},
		ClassAudit:       {name: "audit", scopes: tokens.AuditRead, manages: true},
		ClassBundleRead:  {name: "bundles:read", bundle: true, read: true},
		ClassBundleWrite: {name: "bundles:write", bundle: true, manages: true, body: bundleBody},
		ClassEncrypt:     {name: "keys:encrypt", scopes: tokens.KeysEncrypt, body: cryptoBody},
		ClassDecrypt:     {name: "keys:decrypt", scopes: tokens.KeysDecrypt, body: cryptoBody},
		ClassReencrypt:   {name: "keys:reencrypt", scopes: tokens.KeysDecrypt, also: tokens.KeysEncrypt, body: cryptoBody},
		ClassSessions:    {name: "sessions", scopes: tokens.Sessions},
		ClassDirectory:   {name: "directory", scopes: tokens.Directory, manages: true},
		ClassSCIM:        {name: "scim", scopes: tokens.SCIM, manages: true},
		ClassAdmin:       {name: "admin", scopes: tokens.Admin, manages: true},
	}
}

// servedOn reports whether the class exists on the listener at all; separate
// tells that there is an admin_addr.
func (r *rule) servedOn(l Listener, separate bool) bool {
	switch l {
	case Diagnostic:
		return r.diagnose
	case Main:
		return !separate || !r.manages
	}
	return true
}

// grants reports whether scopes are enough for the class; bundle is the NAME
// that the request is about, if it is about one.
func (r *rule) grants(s tokens.Scopes, bundle string) bool {
	switch {
	case r.bundle && r.read:
		return s.MayPull(bundle)
	case r.bundle:
		return s.MayPush(bundle)
	}
	return s.Has(r.scopes) && (r.also == 0 || s.Has(r.also))
}

// needs names the scope that would be enough, as RFC 6750 wants it.
func (r *rule) needs(bundle string) string {
	if !r.bundle {
		return (r.scopes | r.also).String()
	}
	if bundle == "" {
		bundle = "*"
	}
	if r.read {
		return "bundles:" + bundle + ":read"
	}
	return "bundles:" + bundle
}
