// Package client asks a verdict server for decisions. It is what a service
// links to protect its operations, and needs the standard library only.
//
//	c, err := client.New("https://pdp.internal:8181", client.Options{
//		Token: client.TokenFile("/var/run/secrets/verdict/token"),
//	})
//	d, err := c.Authorize(ctx, client.Request{
//		Subject:  client.Entity{Type: "user", ID: "ana", Properties: map[string]any{"roles": roles}},
//		Action:   client.Action{Name: "read"},
//		Resource: client.Entity{Type: "customer", ID: "c-1001"},
//	})
//
// [Client.Authorize] asks one question, [Client.Enforce] turns a denial into an
// error, [Client.AuthorizeAll] asks many at once, [Client.SearchSubjects] and its
// siblings ask who may, what may be reached and what may be done, and
// [Client.Query] asks any decision of the policy by its path. [Guard] protects
// handlers of net/http; the package grpcauthz below this one does so for gRPC.
//
// [Client.Encrypt] and [Client.Decrypt] encrypt and open single values,
// [Client.Seal] and [Client.Open] the fields of a document that struct tags
// classify; a [Secret] keeps a value out of logs.
//
// It fails closed. An error is never a permission: the Decision beside it is the
// zero value, which denies, and there is no option to let requests through while
// the server cannot be asked. A service that wants that for some operation must
// write it down where the operation is.
//
// Nothing is logged. Tokens stand in no error.
//
// The API is stable as the module's version says: names stay, structs get
// fields.
package client
