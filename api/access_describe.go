package api

import "strings"

// ClassAccess is who may call the routes of a class, for their description.
type ClassAccess struct {
	// Scopes are those of which one is enough; none: the class asks for no scope.
	// NAME stands for the bundle that the request is about, a plus for both.
	Scopes []string
	// Dev and Live say who gets in with --dev and without: open, scope, loopback
	// (or else a scope), setting (open where server.open says so, else a scope) or
	// peers.
	Dev, Live string
	// Listeners are the configuration keys of those that serve the class when each
	// has an address.
	Listeners []string
	// BodyLimit is the configuration key of the bound on bodies.
	BodyLimit string
	// Vital routes are neither bounded nor subject to the caller policy.
	Vital bool
}

// ClassNamed finds the class with a name.
func ClassNamed(name string) (Class, bool) {
	for c, rule := range accessTable() {
		if rule.name == name {
			return Class(c), true
		}
	}
	return 0, false
}

// Access describes the row of the class in the access table.
func (c Class) Access() ClassAccess {
	rule := accessTable()[c]
	words := [...]string{scoped: "scope", open: "open", local: "loopback", settable: "setting", peers: "peers"}
	limits := [...]string{requestBody: "limits.request_body", dataBody: "limits.data_body", cryptoBody: "limits.crypto_body", bundleBody: "limits.bundle_packed"}
	a := ClassAccess{Scopes: []string{}, Dev: words[rule.dev], Live: words[rule.live], BodyLimit: limits[rule.body], Vital: rule.vital}
	switch {
	case rule.bundle && rule.read:
		a.Scopes = []string{"bundles:NAME:read", "bundles:NAME", "admin"}
	case rule.bundle:
		a.Scopes = []string{"bundles:NAME", "admin"}
	case rule.live == open || rule.live == peers:
	default:
		a.Scopes = strings.Fields(rule.scopes.String())
		if rule.also != 0 {
			a.Scopes = []string{rule.scopes.String() + "+" + rule.also.String()}
		}
		if a.Scopes[0] != "admin" {
			a.Scopes = append(a.Scopes, "admin")
		}
	}
	for _, l := range []Listener{Main, Management, Diagnostic} {
		if rule.servedOn(l, true) {
			a.Listeners = append(a.Listeners, l.String())
		}
	}
	return a
}
