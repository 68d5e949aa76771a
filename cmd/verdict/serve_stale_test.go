package main_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestStaleBundles asks a server whose bundle is too old at once, in every
// protocol, and again after a restart.
func TestStaleBundles(t *testing.T) {
	t.Parallel()
	args := []string{"--set", "bundles.max_age=30d", "--set", "bundles.max_ages=[{name: rules, max_age: 1ms}]"}
	s := servertest.Start(t, servertest.Options{Args: args})
	push := func(name string, files map[string]string) {
		t.Helper()
		wantStatus(t, s.Do(servertest.Request{Method: http.MethodPut, Path: "/api/v1/bundles/" + name, Body: tarball(t, files), Token: s.AdminToken()}), http.StatusOK)
	}
	push("rules", map[string]string{
		".manifest": `{"revision": "r1", "roots": ["shop", "envoy", "verdict/rbac/roles"]}`,
		"shop.rego": "package shop\n\nallow := true", "envoy.rego": "package envoy.authz\n\nallow := true",
		"verdict/rbac/roles/data.json": `{"clerk": {"permissions": ["*"]}}`,
	})
	push("fresh", map[string]string{".manifest": `{"roots": ["fresh"]}`, "fresh.rego": "package fresh\n\nallow := true\nborrowed := data.shop.allow"})

	const question = `{"subject": {"type": "user", "id": "ada", "properties": {"roles": ["clerk"]}}, "action": {"name": "customer.read"}, "resource": {"type": "customer", "id": "1"}}`
	asJSON := map[string]string{"Content-Type": "application/json"}
	check := func() {
		t.Helper()
		a := s.Decide("shop/allow", nil)
		wantStatus(t, a, http.StatusServiceUnavailable, `"policy_stale"`, "bundle rules, revision r1")
		var rec struct {
			Error   struct{ Code string }
			Details struct{ Stale struct{ Bundle string } }
		}
		if err := json.Unmarshal(s.Record(a.DecisionID()), &rec); err != nil || rec.Error.Code != "policy_stale" || rec.Details.Stale.Bundle != "rules" {
			t.Errorf("record %+v, %v", rec, err)
		}
		wantStatus(t, s.Decide("fresh/borrowed", nil), http.StatusServiceUnavailable, `"policy_stale"`)
		wantStatus(t, s.Do(servertest.Request{Path: "/v1/data", Body: "{}"}), http.StatusServiceUnavailable, `"policy_stale"`)
		wantStatus(t, s.Decide("fresh/allow", nil), http.StatusOK, `"result":true`)
		wantStatus(t, s.Decide("verdict/authz/decision", json.RawMessage(question)), http.StatusOK, `"allow":false`, `"code":"policy_stale"`)
		wantStatus(t, s.Do(servertest.Request{Path: "/access/v1/evaluation", Body: question, Header: asJSON}), http.StatusOK, `"decision":false`, `"code":"policy_stale"`)
		wantStatus(t, s.Do(servertest.Request{Path: "/access/v1/search/subject", Body: strings.Replace(question, `"id": "ada", `, "", 1), Header: asJSON}), http.StatusServiceUnavailable, "policy_stale")
		wantStatus(t, s.Do(servertest.Request{Path: "/v1/batch/data/shop/allow", Body: `{"inputs": {"a": {}}}`}), http.StatusInternalServerError, `"code":"policy_stale"`)
		wantStatus(t, s.Do(servertest.Request{Path: "/v1/query", Body: `{"query": "x := 1"}`, Token: s.AdminToken()}), http.StatusServiceUnavailable, `"policy_stale"`)
		wantStatus(t, s.Do(servertest.Request{Path: "/authz/forward", Header: map[string]string{"X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/x"}}), http.StatusServiceUnavailable, `"policy_stale"`)
		wantStatus(t, s.Do(servertest.Request{Path: "/health"}), http.StatusOK)
		wantStatus(t, s.Do(servertest.Request{Path: "/health?bundles"}), http.StatusInternalServerError, "bundle rules is stale")
		wantStatus(t, s.Do(servertest.Request{Path: "/api/v1/bundles/rules", Token: s.AdminToken()}), http.StatusOK, `"stale":true`)
		wantStatus(t, s.Do(servertest.Request{Path: "/metrics"}), http.StatusOK, `verdict_bundle_stale{bundle="rules"} 1`, `verdict_bundle_stale{bundle="fresh"} 0`)
	}
	check()
	s.Kill()
	s = servertest.Start(t, servertest.Options{Dir: s.Dir, Args: args})
	check()
	s.Stop()
	s = servertest.Start(t, servertest.Options{Dir: s.Dir})
	wantStatus(t, s.Decide("shop/allow", nil), http.StatusOK, `"result":true`)
	wantStatus(t, s.Do(servertest.Request{Path: "/health?bundles"}), http.StatusOK)
	s.Stop()
}
