package pdp_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// TestStale wants nothing to be answered of a bundle that is too old, and the
// record to say how old it was.
func TestStale(t *testing.T) {
	now := time.Now() // a record is found by the time in its id
	p := newPoint(t, pdp.Options{Now: func() time.Time { return now }})
	var modules []*eval.Module
	for name, text := range map[string]string{
		"authz.rego": "package verdict.authz\n\ndecision := {\"allow\": true} if data.roles.known\n\nhttp := {\"allowed\": data.roles.known}",
		"app.rego":   "package app\n\nallow := data.roles.known\n\nother := true",
	} {
		m, err := eval.ParseModule(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		modules = append(modules, m)
	}
	base := &eval.Bundle{Name: "rules", Revision: "1", Modules: modules}
	roles := &eval.Bundle{Name: "roles", Revision: "r7", Roots: []string{"roles"}, Data: ast.MustParseTerm(`{"roles": {"known": true}}`).Value.(ast.Object)}
	if _, err := p.engine.Write(func(d *eval.Draft) error { return d.SetBundles([]*eval.Bundle{base, roles}) }); err != nil {
		t.Fatal(err)
	}
	p.engine.SetExpiry([]eval.Expiring{{Name: "roles", Revision: "r7", Confirmed: now.Add(-2 * time.Hour), MaxAge: time.Hour}})

	const stale = `{"age_seconds":7200,"bundle":"roles","max_age_seconds":3600,"revision":"r7"}`
	for path, want := range map[string]string{pdp.StandardPath: "decision", pdp.HTTPPath: ""} {
		d, err := p.Decide(t.Context(), &pdp.Query{Path: path})
		if err != nil || d.Allowed {
			t.Fatalf("%s: %v, allowed %v", path, err, d.Allowed)
		}
		var answer struct {
			Decision string
			Reasons  []struct{ Code, Policy, Detail string }
		}
		if err := json.Unmarshal(d.JSON, &answer); err != nil || len(answer.Reasons) != 1 || answer.Reasons[0].Code != "policy_stale" || want != "" && answer.Decision != "indeterminate" {
			t.Errorf("%s: %s %v", path, d.JSON, err)
		}
		rec := p.record(t, d.ID)
		details, _ := json.Marshal(rec["details"].(map[string]any)["stale"])
		if rec["error"].(map[string]any)["code"] != "policy_stale" || rec["outcome"] != "error" || string(details) != stale {
			t.Errorf("record %v", rec)
		}
		d.Release()
	}
	asked := false
	for _, q := range []*pdp.Query{
		{Path: "app/allow"},
		{Path: "app/other", Details: []byte(`{"query":"x"}`), Ask: func(context.Context, *eval.Snapshot, time.Time) (eval.Result, error) {
			asked = true
			return eval.Result{}, nil
		}},
	} {
		d, err := p.Decide(t.Context(), q)
		if _, ok := errors.AsType[*eval.StaleError](err); !ok || d.Value != nil || d.JSON != nil || asked {
			t.Errorf("%s: %v %v %v", q.Path, err, d.Value, asked)
		}
		details := p.record(t, d.ID)["details"].(map[string]any)
		if details["stale"] == nil || (q.Details != nil) != (details["query"] == "x") {
			t.Errorf("details %v", details)
		}
	}
	d, err := p.Decide(t.Context(), &pdp.Query{Path: "app/other"})
	if err != nil || !d.Allowed {
		t.Errorf("what does not depend on it: %v", err)
	}
	now = now.Add(-90 * time.Minute)
	if d, err = p.Decide(t.Context(), &pdp.Query{Path: "app/allow"}); err != nil || !d.Allowed {
		t.Errorf("before it is too old: %v", err)
	}
}
