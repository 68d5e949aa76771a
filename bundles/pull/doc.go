// Package pull is the client of the OPA bundle service: for those who have a
// bundle server, it asks there for bundles and brings what it finds through the
// same gates as a push (openpolicyagent.org, Bundle Service API; RFC 7240 for
// Prefer).
//
// It is a client of its own and does not use OPA's package download, for these
// reasons. That parses and verifies the archive while it reads it and keeps it in
// memory, where a push goes to disk within its limits and is judged by verdict's
// own gates. It bounds each file of an archive, but not the archive, the time, or
// a body that trickles. Its HTTP client follows redirects to any host. It forgets
// the ETag after each error, so that a bundle that is refused is loaded whole,
// again and again. And it is built on OPA's plugins and their configuration.
//
// Each source has one goroutine that asks, waits and asks again. What fails
// leaves the active policy as it is. A source that was rolled back or taken out
// by hand stays so: the content that was active before is refused by the gate
// "history" as it is for a push.
package pull
