package api_test

import (
	"fmt"
	"testing"

	"github.com/verdict-pdp/verdict/api"
)

func TestClassAccess(t *testing.T) {
	for name, want := range map[string]string{
		"health":        "[] open open [addr admin_addr diagnostic_addr] limits.request_body vital",
		"well-known":    "[] open open [addr admin_addr] limits.request_body vital",
		"metrics":       "[admin] open loopback [addr admin_addr diagnostic_addr] limits.request_body vital",
		"decide":        "[decide admin] open setting [addr admin_addr] limits.request_body",
		"forward":       "[] open peers [addr admin_addr] limits.request_body",
		"query":         "[decide admin] scope scope [addr admin_addr] limits.request_body",
		"data:write":    "[data:write admin] scope scope [admin_addr] limits.data_body",
		"policies:read": "[policies:write admin] scope scope [admin_addr] limits.request_body",
		"status":        "[audit:read admin] scope scope [admin_addr] limits.request_body",
		"bundles:read":  "[bundles:NAME:read bundles:NAME admin] scope scope [addr admin_addr] limits.request_body",
		"bundles:write": "[bundles:NAME admin] scope scope [admin_addr] limits.bundle_packed",
		"keys:encrypt":  "[keys:encrypt admin] scope scope [addr admin_addr] limits.crypto_body",
		"admin":         "[admin] scope scope [admin_addr] limits.request_body",
	} {
		class, ok := api.ClassNamed(name)
		if !ok || class.String() != name {
			t.Errorf("there is no class %s", name)
			continue
		}
		a := class.Access()
		got := fmt.Sprint(a.Scopes, " ", a.Dev, " ", a.Live, " ", a.Listeners, " ", a.BodyLimit)
		if a.Vital {
			got += " vital"
		}
		if got != want {
			t.Errorf("%s: got  %s\nwant %s", name, got, want)
		}
	}
	if _, ok := api.ClassNamed("none"); ok {
		t.Error("there is a class none")
	}
}
