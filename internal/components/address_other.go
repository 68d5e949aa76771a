//go:build !linux

package components

import (
	"net"
	"testing"
)

// Address is one of loopback for a component to listen on; nobody listens there
// now.
func Address(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
