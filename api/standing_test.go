package api_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/tokens"
)

// A request that was let in is not any more once its token is revoked, and that
// is recorded once.
func TestStanding(t *testing.T) {
	store := newStore(t, tokens.Options{})
	secret := secretOf(t, store, "auditor", "audit:read")
	seen := &recorded{}
	g := newGate(t, store, api.GateOptions{Refusals: api.NewRefusalLog(seen, api.RefusalOptions{})})
	h := g.Stack(api.Main, g.Require(api.Route{Class: api.ClassAudit, Handler: "x"})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := api.Standing(r); err != nil {
			t.Errorf("refused at once: %v", err)
		}
		if _, err := store.Revoke(context.Background(), "auditor"); err != nil {
			t.Fatal(err)
		}
		err := api.Standing(r)
		if err == nil || err.Status != http.StatusUnauthorized {
			t.Errorf("a revoked token stands: %v", err)
		}
		if c := api.FromContext(r.Context()).Caller; c.Name != "auditor" {
			t.Errorf("the caller became %+v", c)
		}
	})))
	if w := do(h, request(http.MethodGet, "/", secret)); w.Code != http.StatusOK {
		t.Errorf("status %d", w.Code)
	}
	if got := seen.take(); len(got) != 1 || got[0].Caller.Name != "auditor" || got[0].Status != http.StatusUnauthorized {
		t.Errorf("refusals %+v", got)
	}
	if err := api.Standing(request(http.MethodGet, "/", "")); err != nil {
		t.Errorf("outside of a gate: %v", err)
	}
}
