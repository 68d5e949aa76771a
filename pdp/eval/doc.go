// Package eval holds policy and data as immutable snapshots and evaluates
// queries on them.
//
// A Snapshot is one compiled set of modules together with one data document.
// It never changes once it is built: the Engine keeps the active one behind an
// atomic pointer, a writer builds the next one aside (Draft) and swaps it in
// with one store, so a query never waits for a writer and sees one snapshot
// from its start to its end.
//
// The package is the only one of the module that evaluates Rego. What crosses
// its edge is ast.Value: ParseInput turns request bytes into one, AppendJSON
// and AppendMasked turn one into answer or record bytes.
package eval
