package keys_test

import (
	"errors"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/keys"
)

// TestHoldWhileRetiring: a hold that comes while versions are being retired is
// refused, at each step, and taken again afterwards or when the retirement failed.
func TestHoldWhileRetiring(t *testing.T) {
	crash := errors.New("crash")
	for _, step := range []string{"record", "SetMinimums", "failed record", "failed SetMinimums"} {
		t.Run(step, func(t *testing.T) {
			g := newRig(t, keys.Options{})
			old := g.encrypt(keys.Internal, "a")
			id := g.ring.ClassID(keys.Internal)
			if _, err := g.ring.Rotate(t.Context(), keys.By{}, id); err != nil {
				t.Fatal(err)
			}
			held := errors.New("not tried")
			other := g.newRing(keys.Options{})
			hold := func(at, failed bool) error {
				if at || failed {
					held = other.Hold(t.Context(), id, "job 1")
				}
				return on(failed, crash)
			}
			g.rec.Before = func(e keys.Event) error {
				return hold(step == "record" && e.Kind == keys.EventRetired, step == "failed record" && e.Kind == keys.EventRetired)
			}
			g.spy.Before = func(operation, _ string) error {
				return hold(step == "SetMinimums" && operation == "SetMinimums", step == "failed SetMinimums" && operation == "SetMinimums")
			}
			_, err := g.ring.Retire(t.Context(), keys.By{}, id, 0)
			if failed := step[0] == 'f'; failed != errors.Is(err, crash) || !failed && err != nil {
				t.Fatal(err)
			}
			if !errors.Is(held, keys.ErrBusy) {
				t.Errorf("a hold meanwhile: %v", held)
			}
			if err := g.decrypt(old, "a"); (err == nil) != (step[0] == 'f') {
				t.Errorf("the old version: %v", err)
			}
			g.rec.Before, g.spy.Before = nil, nil
			if err := other.Hold(t.Context(), id, "job 1"); err != nil {
				t.Errorf("a hold afterwards: %v", err)
			}
			if _, err := g.ring.Retire(t.Context(), keys.By{}, id, 0); !errors.Is(err, keys.ErrHeld) {
				t.Errorf("retired under a hold: %v", err)
			}
		})
	}
}

// TestRetirementThatStopped: the intent to retire of a process that is gone is over
// after a while.
func TestRetirementThatStopped(t *testing.T) {
	g := newRig(t, keys.Options{})
	g.must(g.encrypt(keys.Internal, "a"))
	id := g.ring.ClassID(keys.Internal)
	if _, err := g.ring.Rotate(t.Context(), keys.By{}, id); err != nil {
		t.Fatal(err)
	}
	gone := false
	g.spy.Before = func(operation, _ string) error {
		if operation == "Trim" || operation == "SetMinimums" {
			gone = true
			panic("the process ends")
		}
		return nil
	}
	func() {
		defer func() { _ = recover() }()
		_, _ = g.ring.Retire(t.Context(), keys.By{}, id, 0)
	}()
	g.spy.Before = nil
	other := g.newRing(keys.Options{})
	if err := other.Hold(t.Context(), id, "job 1"); !gone || !errors.Is(err, keys.ErrBusy) {
		t.Errorf("at once: %v", err)
	}
	if _, err := other.Retire(t.Context(), keys.By{}, id, 0); !errors.Is(err, keys.ErrBusy) {
		t.Errorf("retired beside it: %v", err)
	}
	g.clock.advance(2 * time.Minute)
	if err := other.Hold(t.Context(), id, "job 1"); err != nil {
		t.Errorf("later: %v", err)
	}
}
