package main

import "github.com/verdict-pdp/verdict/api/bundleserver"

// bundleServer serves the active bundles to those that pull. Those that wait
// take at most a quarter of the requests that may be in flight.
func (a *app) bundleServer() *bundleserver.Server {
	return bundleserver.New(a.pushed, bundleserver.Options{
		Waiters:  max(1, min(bundleserver.DefaultWaiters, a.config.Server.MaxInFlight/4)),
		Stopping: a.stopping, Logger: a.logger,
	})
}
