package main

import (
	"github.com/verdict-pdp/verdict/api/authzen"
	"github.com/verdict-pdp/verdict/pdp/search"
)

// openAuthZEN makes the AuthZEN API and the search behind it.
func (a *app) openAuthZEN() {
	c := a.config
	searcher := search.New(a.pdp, search.Options{
		Path: c.AuthZEN.Path, Limit: c.AuthZEN.SearchLimit, Timeout: c.AuthZEN.SearchTimeout, Now: a.now,
	})
	a.registry.MustRegister(searcher.Collectors()...)
	a.authzen = authzen.New(a.pdp, searcher, authzen.Options{
		Limits: authzenLimits(c), Path: c.AuthZEN.Path, PublicURL: c.Server.PublicURL,
		Signer: &a.signing, Now: a.now,
		Log: a.log.Status().Origin, Logger: a.logger,
	})
}

func authzenLimits(c *Config) authzen.Limits {
	return authzen.Limits{RequestBody: int64(c.Limits.RequestBody), Depth: c.Limits.Depth, Members: c.Limits.Members}
}
