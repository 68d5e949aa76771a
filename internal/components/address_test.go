package components_test

import (
	"net"
	"slices"
	"testing"

	"github.com/verdict-pdp/verdict/internal/components"
)

// TestAddress wants an address that a component can listen on, again and again,
// that no other test is given meanwhile, and where nobody answers before.
func TestAddress(t *testing.T) {
	var all []string
	for range 50 {
		addr := components.Address(t)
		if slices.Contains(all, addr) {
			t.Fatalf("%s is given twice", addr)
		}
		all = append(all, addr)
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			t.Errorf("somebody listens on %s", addr)
		}
		for range 2 {
			ln, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			if err := ln.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
