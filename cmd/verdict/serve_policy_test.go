package main_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestPolicyError makes the only built-in of the standard policies that can
// fail do so, on the way to a denial by a rule that is switched on for it: an
// unknown time zone. The decision is a denial that says so, not a 500 and not
// what the other rules would have said.
func TestPolicyError(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: []string{"--set", "limits.evaluation=20s"}})
	on := s.Do(servertest.Request{
		Method: http.MethodPut, Path: "/v1/data/verdict/rules/shipped/business_hours_only/enabled",
		Body: "true", Token: s.AdminToken(),
	})
	if on.Status != http.StatusNoContent {
		t.Fatalf("switch the rule on: %d %s", on.Status, on.Body)
	}
	ask := func(zone string) string {
		a := s.Decide("verdict/authz/decision", map[string]any{
			"subject": map[string]any{"type": "user", "id": "ana", "properties": map[string]any{
				"roles": []string{"super_admin"}, "tenant": "north", "timezone": zone,
			}},
			"action":   map[string]any{"name": "delete"},
			"resource": map[string]any{"type": "customer", "id": "c-1", "properties": map[string]any{"tenant": "north"}},
			"context":  map[string]any{"time": "2026-11-23T10:00:00Z"},
		})
		if a.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", zone, a.Status, a.Body)
		}
		return string(a.Body)
	}
	if got := ask("Europe/Berlin"); !strings.Contains(got, `"allow":true`) {
		t.Errorf("a zone that exists: %s", got)
	}
	got := ask("Mars/Olympus")
	for _, part := range []string{`"allow":false`, `"decision":"indeterminate"`, `"code":"policy_error"`} {
		if !strings.Contains(got, part) {
			t.Errorf("an unknown zone: no %s in %s", part, got)
		}
	}
}
