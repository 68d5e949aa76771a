package bundles_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/bundles"
)

func withMaxAge(o *bundles.Options) {
	o.MaxAge, o.MaxAges = time.Hour, map[string]time.Duration{"slow": 48 * time.Hour, "never": 0}
}

// stale asks the engine whether a decision is too old by the bench's clock.
func (b *bench) stale(path string) bool {
	return b.engine.Active().Stale(path, b.now) != nil
}

func named(name string) content {
	return content{
		".manifest": `{"revision": "` + name + `-1", "roots": ["` + name + `"]}`,
		"p.rego":    "package " + name + "\n\nx := 1\n",
	}
}

func TestAge(t *testing.T) {
	b := open(t, t.TempDir(), withMaxAge)
	app := b.mustPush("app", files(t, app("r1")))
	b.mustPush("slow", files(t, named("slow")))
	b.mustPush("never", files(t, named("never")))
	b.now = b.now.Add(time.Hour - 1)
	if b.stale("app/revision") || b.Healthy() != nil {
		t.Error("stale too early")
	}
	b.now = b.now.Add(1)
	if !b.stale("app/revision") || b.stale("slow/x") || b.stale("never/x") {
		t.Error("the bounds of bundles are mixed up")
	}
	if err := b.Healthy(); err == nil || !strings.Contains(err.Error(), "bundle app is stale: revision r1 was confirmed 1h0m0s ago") || strings.Contains(err.Error(), "slow") {
		t.Errorf("health: %v", err)
	}
	if v, err := b.Bundle(t.Context(), "app"); err != nil || !v.Stale || v.MaxAgeSeconds != 3600 || v.Confirmed == nil {
		t.Errorf("%+v %v", v, err)
	}
	got := b.metrics()
	for name, want := range map[string]float64{
		"verdict_bundle_age_seconds app": 3600, "verdict_bundle_age_seconds slow": 3600,
		"verdict_bundle_stale app": 1, "verdict_bundle_stale slow": 0, "verdict_bundle_stale never": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}

	wantRefusal(t, b.Confirm(t.Context(), "app", "another digest"), bundles.CodePrecondition, "", "another was confirmed")
	wantRefusal(t, b.Confirm(t.Context(), "nobody", app.Digest), bundles.CodeNotFound, "", "")
	if !b.stale("app/revision") {
		t.Error("a refused confirmation counts")
	}
	if err := b.Confirm(t.Context(), "app", app.Digest); err != nil {
		t.Fatal(err)
	}
	if b.stale("app/revision") || b.Healthy() != nil {
		t.Error("a confirmed bundle is stale")
	}
	if rec := b.recorder.last(t); rec.Event != "bundle_confirmed" || !strings.Contains(string(rec.Details), `"age_seconds":3600`) {
		t.Errorf("record %+v", rec)
	}
	n := len(b.recorder.events())
	b.now = b.now.Add(time.Second)
	if err := b.Confirm(t.Context(), "app", app.Digest); err != nil || len(b.recorder.events()) != n {
		t.Errorf("confirming what is fresh: %v, %v", err, b.recorder.events())
	}
}

// TestAgeSurvives wants a restart to make nothing younger.
func TestAgeSurvives(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, withMaxAge)
	start := b.now
	digest := b.mustPush("app", files(t, app("r1"))).Digest
	b.now = start.Add(30 * time.Minute)
	if err := b.Confirm(t.Context(), "app", digest); err != nil {
		t.Fatal(err)
	}
	b.now = b.now.Add(20 * time.Second) // too soon to be written down
	if err := b.Confirm(t.Context(), "app", digest); err != nil {
		t.Fatal(err)
	}
	if age := b.Ages()[0].Age; age != 0 {
		t.Errorf("age %s", age)
	}
	b.close()
	at := start.Add(90 * time.Minute)
	b = open(t, dir, func(o *bundles.Options) { withMaxAge(o); o.Now = func() time.Time { return at } })
	b.now = at
	if !b.stale("app/revision") || !b.Ages()[0].Stale || b.Ages()[0].Age != time.Hour {
		t.Errorf("after the restart: %+v", b.Ages())
	}
	b.mustPush("app", files(t, app("r2")))
	if b.stale("app/revision") {
		t.Error("a new revision is stale")
	}
}

// TestPushConfirms wants a push of what is active to confirm it, when somebody
// may still vouch for it, and a dry run to do nothing.
func TestPushConfirms(t *testing.T) {
	allow := bundles.Verifier(bundles.Unsigned{Allow: true})
	b := open(t, t.TempDir(), func(o *bundles.Options) {
		withMaxAge(o)
		o.Verifier = verifierFunc(func() bundles.Verifier { return allow })
	})
	packed := files(t, app("r1"))
	b.mustPush("app", packed)
	b.now = b.now.Add(2 * time.Hour)
	b.mustPush("app", packed, func(p *bundles.PushRequest) { p.DryRun = true })
	if !b.stale("app/revision") {
		t.Error("a dry run confirms")
	}
	allow = bundles.Unsigned{}
	if r := b.mustPush("app", packed); !b.stale("app/revision") || !strings.Contains(r.Unconfirmed, "no key is configured") {
		t.Errorf("what nobody vouches for is confirmed: %+v", r)
	}
	allow = bundles.Unsigned{Allow: true}
	b.mustPush("app", packed)
	if b.stale("app/revision") || !slices.Contains(b.recorder.events(), "bundle_confirmed") {
		t.Error("not confirmed")
	}
}

// metrics gathers gauges and counters by name and label values.
func (b *bench) metrics() map[string]float64 {
	b.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(b.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		b.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

// verifierFunc asks the Verifier that it gives.
type verifierFunc func() bundles.Verifier

func (f verifierFunc) Verify(name string, a *bundles.Archive) (bundles.Signer, error) {
	return f().Verify(name, a)
}

func (f verifierFunc) Vouch(name string, signatures []byte) (bundles.Signer, error) {
	return f().Vouch(name, signatures)
}
