package escrow_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/escrow"
)

// replace gives the rig another escrow key, as after a change of the configuration.
func (g *rig) replace(public *escrow.PublicKey, shares []string) {
	g.Helper()
	g.public, g.shares = public, shares
	g.lose()
}

// TestOtherEscrowKey: the packages of a lost key that are for an escrow key which
// was replaced are not written over; shares of that key bring it back.
func TestOtherEscrowKey(t *testing.T) {
	g := newRig(t)
	id := g.ring.ClassID(keys.Restricted)
	text := g.must(keys.Restricted)
	shares := g.shares
	g.replace(split(t, 5, 3))
	g.lose(id)
	if _, err := g.encrypt(keys.Restricted); !errors.Is(err, keys.ErrKeyLost) {
		t.Errorf("a lost key was made anew: %v", err)
	}
	if _, err := g.give(who("ana"), id, 0, 1); !errors.Is(err, escrow.ErrShare) || !strings.Contains(err.Error(), "for versions [1]") {
		t.Errorf("shares that open no package: %v", err)
	}
	g.shares = shares
	if _, err := g.give(who("ana"), id, 0, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := g.give(who("bo"), id, 2); err != nil {
		t.Fatal(err)
	}
	if err := g.opens(text, keys.Restricted); err != nil {
		t.Error(err)
	}
}

// TestTwoEscrowKeys: a key whose versions are wrapped to two escrow keys comes back
// whole, by shares of both, or not at all.
func TestTwoEscrowKeys(t *testing.T) {
	g := newRig(t)
	id := g.ring.ClassID(keys.Restricted)
	texts := []string{g.must(keys.Restricted)}
	first, old := g.public.Thumbprint(), g.shares
	g.replace(split(t, 3, 2))
	for range 2 {
		if _, err := g.ring.Rotate(t.Context(), keys.By{}, id); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, g.must(keys.Restricted))
	}
	g.lose(id)

	p, err := g.give(who("ana"), id, 0)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = g.give(who("bo"), id, 1, 2); err != nil || len(p.Recovered) != 0 {
		t.Fatalf("shares of one escrow key of two: %+v, %v", p, err)
	}
	got := fmt.Sprintf("%+v", p.EscrowKeys)
	want := fmt.Sprintf("[{Thumbprint:%s Versions:[1] Shares:0 Threshold:0 Principals:0} {Thumbprint:%s Versions:[2 3] Shares:3 Threshold:2 Principals:2}]", first, g.public.Thumbprint())
	if got != want {
		t.Errorf("progress %s, want %s", got, want)
	}
	if _, err := g.backend.Describe(t.Context(), id); !errors.Is(err, keys.ErrKeyUnknown) {
		t.Fatalf("a part of the key was brought back: %v", err)
	}
	g.shares = old
	if p, err = g.give(who("cy"), id, 0, 1, 2); err != nil || len(p.Recovered) != 0 {
		t.Fatalf("one principal alone gives an escrow key: %+v, %v", p, err)
	}
	if p, err = g.give(who("dee"), id, 3); err != nil || !slices.Equal(p.Recovered, []string{id}) {
		t.Fatalf("%+v, %v", p, err)
	}
	for i, text := range texts {
		if err := g.opens(text, keys.Restricted); err != nil {
			t.Errorf("version %d: %v", i+1, err)
		}
	}
	if e := g.rec.Events(keys.EventRecovered); len(e) != 1 || e[0].Shares != 7 || len(e[0].Missing) != 0 {
		t.Errorf("records: %+v", e)
	}
}

// TestSharesTogether gives shares of both escrow keys in one call each.
func TestSharesTogether(t *testing.T) {
	g := newRig(t)
	id := g.ring.ClassID(keys.TopSecret)
	text := g.must(keys.TopSecret)
	old := g.shares
	g.replace(split(t, 2, 2))
	if _, err := g.ring.Rotate(t.Context(), keys.By{}, id); err != nil { // the MACs' key stays with the old one
		t.Fatal(err)
	}
	second := g.must(keys.TopSecret)
	g.lose(id, id+"-mac")
	for _, part := range []struct {
		name   string
		shares []string
	}{{"ana", []string{old[0], g.shares[0], old[1]}}, {"bo", []string{g.shares[1], old[4]}}} {
		p, err := g.recoveries.Give(t.Context(), keys.By{}, who(part.name), id, part.shares)
		if err != nil || (part.name == "bo") != slices.Equal(p.Recovered, []string{id, id + "-mac"}) {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	for _, text := range []string{text, second} {
		if err := g.opens(text, keys.TopSecret); err != nil {
			t.Error(err)
		}
	}
}

// TestNeverEscrowed: a version that was made while there was no escrow does not
// come back. What it encrypted is refused for its version, not as if it were
// forged, also after a restart and until it is retired.
func TestNeverEscrowed(t *testing.T) {
	g := newRig(t)
	id := g.ring.ClassID(keys.Restricted)
	bare, err := keys.New(g.backend, g.store, g.rec, keys.Options{Now: func() time.Time { return g.now }})
	if err != nil {
		t.Fatal(err)
	}
	with := g.ring
	g.ring = bare
	texts := []string{g.must(keys.Restricted)}
	g.ring = with
	if _, err := g.ring.Rotate(t.Context(), keys.By{}, id); err != nil {
		t.Fatal(err)
	}
	texts = append(texts, g.must(keys.Restricted))
	g.lose(id)
	if _, err := g.give(who("ana"), id, 0, 1); err != nil {
		t.Fatal(err)
	}
	if p, err := g.give(who("bo"), id, 2); err != nil || len(p.Recovered) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	check := func() {
		t.Helper()
		if err := g.opens(texts[0], keys.Restricted); !errors.Is(err, keys.ErrVersionDisallowed) {
			t.Errorf("a version that did not come back: %v", err)
		}
		results, err := g.ring.Rewrap(t.Context(), keys.By{}, []keys.Ciphertext{{Text: texts[0], Context: keys.Context{Tenant: "t"}}})
		if err != nil || !errors.Is(results[0].Err, keys.ErrVersionDisallowed) {
			t.Errorf("wrapped anew: %v, %v", results, err)
		}
		if err := g.opens(texts[1], keys.Restricted); err != nil {
			t.Error(err)
		}
	}
	check()
	g.lose()
	check()
	if e := g.rec.Events(keys.EventRecovered); len(e) != 1 || !slices.Equal(e[0].Missing, []uint32{1}) {
		t.Errorf("records: %+v", e)
	}
	if _, err := g.ring.Retire(t.Context(), keys.By{}, id, 0); err != nil {
		t.Fatal(err)
	}
	check()
}
