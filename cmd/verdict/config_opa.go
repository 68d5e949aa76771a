package main

import "github.com/verdict-pdp/verdict/api/opa"

// opaModes checks that OPA's own modes are used together: an identity that OPA
// tells is no caller of verdict's, and the other way round.
func (r *checker) opaModes(c *Config) {
	own := c.OPA.Authentication != string(opa.AuthenticationVerdict)
	switch {
	case own && c.OPA.Authorization == string(opa.AuthorizationVerdict):
		r.fail("opa.authorization", "is verdict, which cannot be with opa.authentication %s; write basic, off, or leave out both", c.OPA.Authentication)
	case !own && c.OPA.Authorization != string(opa.AuthorizationVerdict):
		r.fail("opa.authentication", "is verdict, which cannot be with opa.authorization %s; write token, tls, off, or leave out both", c.OPA.Authorization)
	}
	if c.OPA.Authentication == string(opa.AuthenticationTLS) && c.Server.TLS.ClientCAFile == "" {
		r.fail("opa.authentication", "is tls, which needs server.tls.client_ca_file; give the authorities of the clients")
	}
}

// exposed names what the configuration opens to everybody.
func (c *Config) exposed() []Warning {
	if c.OPA.Authorization != string(opa.AuthorizationOff) {
		return nil
	}
	return []Warning{{
		Key: "opa.authorization", From: c.Origin("opa.authorization").String(),
		Text: "everybody who reaches verdict may use the whole of OPA's API, as with an OPA without authorization",
	}}
}
