package keys_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/keystest"
)

const day = 24 * time.Hour

func (g *rig) rotateDue(want ...string) {
	g.Helper()
	got, err := g.ring.RotateDue(g.Context())
	if err != nil || !slices.Equal(got, want) {
		g.Errorf("rotated %q, %v; want %q", got, err, want)
	}
}

func TestRotationByAge(t *testing.T) {
	g := newRig(t, keys.Options{})
	old := g.encrypt(keys.TopSecret, "a")
	g.must(old)
	id := g.ring.ClassID(keys.TopSecret)
	g.clock.advance(7*day - time.Minute)
	g.rotateDue()
	g.clock.advance(time.Minute)
	g.rotateDue(id, id+"-mac")
	g.rotateDue()
	events := g.rec.Events(keys.EventRotated)
	if len(events) != 2 || events[0].Cause != keys.CausePeriod || events[0].Version != 2 || events[0].From != 1 || events[0].Class != keys.TopSecret {
		t.Errorf("records: %+v", events)
	}
	g.clock.advance(400 * day)
	g.rotateDue(id, id+"-mac")
	if err := g.decrypt(old, "a"); err != nil {
		t.Errorf("a value under a key older than its period: %v", err)
	}
	if n := g.version(id); n != 3 {
		t.Errorf("version %d", n)
	}
}

func TestRotationOnADate(t *testing.T) {
	g := newRig(t, keys.Options{})
	id := g.ring.ID("jwt") // of no class: rotated by date only
	if _, err := g.ring.EnsureKey(t.Context(), keys.By{}, id, keys.Ed25519); err != nil {
		t.Fatal(err)
	}
	date := g.clock.Now().Add(30 * day)
	if err := g.ring.SetNextRotation(t.Context(), keys.By{Caller: "admin"}, id, date); err != nil {
		t.Fatal(err)
	}
	if i, err := g.ring.Key(t.Context(), id); err != nil || !i.NextRotation.Equal(date) || !i.Scheduled.Equal(date) {
		t.Errorf("next rotation %v, %v", i.NextRotation, err)
	}
	g.clock.advance(30*day - 1)
	g.rotateDue()
	g.ring = g.newRing(keys.Options{}) // a restart
	g.clock.advance(1)
	g.rotateDue(id)
	g.ring = g.newRing(keys.Options{})
	g.clock.advance(60 * day)
	g.rotateDue()
	if n := g.version(id); n != 2 {
		t.Errorf("version %d", n)
	}
	if i, err := g.ring.Key(t.Context(), id); err != nil || !i.NextRotation.IsZero() {
		t.Errorf("next rotation %v, %v", i.NextRotation, err)
	}
	scheduled := g.rec.Events(keys.EventScheduled)
	if len(scheduled) != 1 || scheduled[0].By.Caller != "admin" || !scheduled[0].At.Equal(date) {
		t.Errorf("records: %+v", scheduled)
	}
}

// TestRotationOnceInACrash stops a rotation at each step and starts another
// ring: there is one new version and one record, whatever happened.
func TestRotationOnceInACrash(t *testing.T) {
	crash := errors.New("crash")
	for _, test := range []struct {
		name string
		set  func(*rig)
	}{
		{"before the record", func(g *rig) { g.rec.Before = func(keys.Event) error { return crash } }},
		{"before the key changes", func(g *rig) {
			g.spy.Before = func(operation, _ string) error { return on(operation == "Rotate", crash) }
		}},
		{"after the key changed", func(g *rig) {
			g.spy.After = func(operation, _ string) error { return on(operation == "Rotate", crash) }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newRig(t, keys.Options{})
			g.must(g.encrypt(keys.Internal, "a"))
			id := g.ring.ClassID(keys.Internal)
			g.clock.advance(180 * day)
			test.set(g)
			if _, err := g.ring.RotateDue(t.Context()); !errors.Is(err, crash) {
				t.Fatalf("rotated: %v", err)
			}
			g.rec.Before, g.spy.Before, g.spy.After = nil, nil, nil
			g.ring = g.newRing(keys.Options{})
			g.clock.advance(time.Hour)
			if _, err := g.ring.RotateDue(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := g.ring.RotateDue(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := g.version(id); n != 2 {
				t.Errorf("version %d", n)
			}
			rotated, failed := g.rec.Events(keys.EventRotated), g.rec.Events(keys.EventRotationFailed)
			if n := len(rotated) - len(failed); n != 1 && test.name != "after the key changed" {
				t.Errorf("%d records of rotations, %d of failures", len(rotated), len(failed))
			}
		})
	}
}

func on(when bool, err error) error {
	if when {
		return err
	}
	return nil
}

func TestRotationByManyNodes(t *testing.T) {
	g := newRig(t, keys.Options{})
	g.must(g.encrypt(keys.Internal, "a"))
	id := g.ring.ClassID(keys.Internal)
	g.clock.advance(180 * day)
	var wg sync.WaitGroup
	for range 5 {
		r := g.newRing(keys.Options{})
		wg.Go(func() {
			for range 3 {
				if _, err := r.RotateDue(t.Context()); err != nil {
					t.Errorf("rotate: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if n := g.version(id); n != 2 {
		t.Errorf("version %d after five nodes rotated", n)
	}
	if n := len(g.rec.Events(keys.EventRotated)); n != 1 {
		t.Errorf("%d records", n)
	}
}

// TestRotationFails tries a rotation that fails again, less and less often.
func TestRotationFails(t *testing.T) {
	g := newRig(t, keys.Options{})
	g.must(g.encrypt(keys.Internal, "a"))
	g.clock.advance(180 * day)
	g.spy.Before = func(operation, _ string) error { return on(operation == "Rotate", errors.New("refused")) }
	for range 2 * 60 * 24 { // a day, each 30 s
		_, _ = g.ring.RotateDue(t.Context()) // it fails
		g.clock.advance(30 * time.Second)
	}
	if n := len(g.rec.Events(keys.EventRotationFailed)); n < 40 || n > 60 {
		t.Errorf("%d attempts in a day", n)
	}
	g.spy.Before = nil
	g.clock.advance(30 * time.Minute)
	g.rotateDue(g.ring.ClassID(keys.Internal))
}

func TestExpiresWithin(t *testing.T) {
	g := newRig(t, keys.Options{})
	if err := g.ring.Prepare(t.Context(), keys.By{}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.ring.EnsureKey(t.Context(), keys.By{}, g.ring.ID("jwt"), keys.Ed25519); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		within time.Duration
		want   int
	}{{0, 6}, {6 * day, 0}, {7 * day, 2}, {30 * day, 3}, {90 * day, 4}, {400 * day, 5}} {
		infos, err := g.ring.Keys(t.Context(), test.within)
		if err != nil || len(infos) != test.want {
			t.Errorf("within %v: %d keys, %v; want %d", test.within, len(infos), err, test.want)
		}
	}
	g.clock.advance(3 * day)
	i, err := g.ring.Key(t.Context(), g.ring.ClassID(keys.TopSecret))
	if err != nil || i.Age != 3*day || i.Class != keys.TopSecret || !i.NextRotation.Equal(g.clock.Now().Add(4*day)) || i.Versions[0].Public == nil {
		t.Errorf("%+v, %v", i, err)
	}
	if _, err := g.ring.Key(t.Context(), "none"); !errors.Is(err, keys.ErrKeyUnknown) {
		t.Errorf("unknown: %v", err)
	}
}

func TestCompromise(t *testing.T) {
	g := newRig(t, keys.Options{})
	id := g.ring.ClassID(keys.Confidential)
	old := g.encrypt(keys.Confidential, "a")
	g.must(old)
	k, err := g.ring.Compromise(t.Context(), keys.By{Caller: "admin"}, id, 0)
	if err != nil || k.Latest != 2 || k.MinEncrypt != 2 || k.MinDecrypt != 1 {
		t.Fatalf("%+v, %v", k, err)
	}
	fresh := g.encrypt(keys.Confidential, "a")
	if g.must(fresh); fresh.Version != 2 {
		t.Errorf("encrypted with version %d", fresh.Version)
	}
	if err := g.decrypt(old, "a"); err != nil {
		t.Errorf("before it is retired: %v", err)
	}
	if i, err := g.ring.Key(t.Context(), id); err != nil || !slices.Equal(i.Compromised, []uint32{1}) {
		t.Errorf("%+v, %v", i, err)
	}
	again, err := g.ring.Reencrypt(t.Context(), keys.By{}, []keys.Reencryption{{Ciphertext: keys.Ciphertext{Text: old.Text, Context: keys.Context{Tenant: "a"}}}})
	if err != nil || again[0].Err != nil || again[0].Version != 2 {
		t.Fatalf("reencrypt: %v, %+v", err, again)
	}
	if err := g.ring.Hold(t.Context(), id, "job 1"); err != nil {
		t.Fatal(err)
	}
	if _, err := g.ring.Retire(t.Context(), keys.By{}, id, 0); !errors.Is(err, keys.ErrHeld) {
		t.Errorf("retired while a job is open: %v", err)
	}
	g.ring = g.newRing(keys.Options{})
	if _, err := g.ring.Retire(t.Context(), keys.By{}, id, 0); !errors.Is(err, keys.ErrHeld) {
		t.Errorf("retired after a restart: %v", err)
	}
	if err := g.ring.Release(t.Context(), id, "job 1"); err != nil {
		t.Fatal(err)
	}
	if k, err := g.ring.Retire(t.Context(), keys.By{}, id, 0); err != nil || k.MinDecrypt != 2 || len(k.Versions) != 1 {
		t.Fatalf("retire: %+v, %v", k, err)
	}
	if err := g.decrypt(old, "a"); !errors.Is(err, keys.ErrVersionDisallowed) {
		t.Errorf("after it was retired: %v", err)
	}
	if err := g.decrypt(again[0], "a"); err != nil {
		t.Error(err)
	}
	for _, kind := range []keys.EventKind{keys.EventCompromised, keys.EventRotated, keys.EventRetired} {
		if events := g.rec.Events(kind); len(events) != 1 || events[0].KeyID != id {
			t.Errorf("%s: %+v", kind, events)
		}
	}
}

// TestCompromiseHolds shows that the mark holds while the key cannot be
// rotated, and that the rotation is made up for.
func TestCompromiseHolds(t *testing.T) {
	g := newRig(t, keys.Options{})
	id := g.ring.ClassID(keys.Internal)
	g.must(g.encrypt(keys.Internal, "a"))
	sealed := &keys.UnavailableError{Reason: keys.ReasonSealed}
	g.spy.Before = func(operation, _ string) error { return on(operation == "Rotate", sealed) }
	if _, err := g.ring.Compromise(t.Context(), keys.By{}, id, 0); !errors.Is(err, keys.ErrUnavailable) {
		t.Fatalf("compromise: %v", err)
	}
	for _, r := range []*keys.Ring{g.ring, g.newRing(keys.Options{})} {
		g.ring = r
		if err := g.encrypt(keys.Internal, "a").Err; !errors.Is(err, keys.ErrVersionDisallowed) {
			t.Errorf("encrypted with a compromised version: %v", err)
		}
	}
	g.spy.Before = nil
	g.clock.advance(time.Hour)
	g.rotateDue(id)
	if e := g.encrypt(keys.Internal, "a"); e.Err != nil || e.Version != 2 {
		t.Errorf("version %d, %v", e.Version, e.Err)
	}
	if k, err := g.spy.Describe(t.Context(), id); err != nil || k.MinEncrypt != 2 {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := g.ring.Compromise(t.Context(), keys.By{}, id, 9); !errors.Is(err, keys.ErrVersionDisallowed) {
		t.Errorf("a version to come: %v", err)
	}
}

// escrow keeps the material in memory.
type escrow struct {
	t    *testing.T
	kept map[string][]uint32
}

func (e *escrow) Generate(_ context.Context, id string, typ keys.Type, version uint32) ([]byte, error) {
	e.kept[id] = append(e.kept[id], version)
	if typ == keys.RSA4096 {
		return slices.Clone(keystest.RSAKeys(e.t)[0]), nil
	}
	return slices.Repeat([]byte{byte(version), 7}, 16), nil
}

func (e *escrow) Versions(_ context.Context, id string) ([]uint32, error) { return e.kept[id], nil }

func (e *escrow) Has(_ context.Context, id string) (bool, error) { return len(e.kept[id]) > 0, nil }

func (e *escrow) Forget(_ context.Context, id string, first, end uint32) error {
	e.kept[id] = slices.DeleteFunc(e.kept[id], func(v uint32) bool { return v >= first && v < end })
	return nil
}

func TestEscrow(t *testing.T) {
	e := &escrow{t: t, kept: map[string][]uint32{}}
	g := newRig(t, keys.Options{Escrow: e})
	id := g.ring.ClassID(keys.Confidential)
	g.must(g.encrypt(keys.Confidential, "a"))
	g.must(g.encrypt(keys.Internal, "a"))
	g.must(g.encrypt(keys.TopSecret, "a"))
	if _, err := g.ring.Rotate(t.Context(), keys.By{}, id); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(e.kept[id], []uint32{1, 2}) || e.kept[g.ring.ClassID(keys.Internal)] != nil || e.kept[g.ring.ClassID(keys.TopSecret)] == nil {
		t.Errorf("escrowed: %v", e.kept)
	}
	if i, err := g.ring.Key(t.Context(), id); err != nil || !i.Imported || i.Latest != 2 {
		t.Errorf("%+v, %v", i, err)
	}
	enforced := newRig(t, keys.Options{EnforceEscrow: true})
	if err := enforced.encrypt(keys.Restricted, "a").Err; !errors.Is(err, keys.ErrNoEscrow) {
		t.Errorf("a key that must be escrowed and is not: %v", err)
	}
	enforced.must(enforced.encrypt(keys.Internal, "a"))
}

// TestRun shows that the owner's loop rotates, and forgets what another node
// changed.
func TestRun(t *testing.T) {
	g := newRig(t, keys.Options{})
	g.must(g.encrypt(keys.Internal, "a"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	g.clock.advance(180 * day)
	go func() { done <- g.ring.Run(ctx) }() // ends below
	eventually(t, func() bool { return g.encrypt(keys.Internal, "a").Version == 2 })
	other := g.newRing(keys.Options{})
	if _, err := other.Rotate(t.Context(), keys.By{}, g.ring.ClassID(keys.Internal)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return g.encrypt(keys.Internal, "a").Version == 3 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func eventually(t *testing.T, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !reached(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to that")
		}
	}
}

// TestChangesAreNotWaitedForLong: a rotation that hangs holds up nobody for longer
// than they have time.
func TestChangesAreNotWaitedForLong(t *testing.T) {
	g := newRig(t, keys.Options{})
	g.encrypt(keys.Internal, "t")
	rotating, end, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	g.spy.Before = func(operation, _ string) error {
		if operation == "Rotate" {
			close(rotating)
			<-end
		}
		return nil
	}
	go func() {
		_, err := g.ring.Rotate(t.Context(), keys.By{}, g.ring.ClassID(keys.Internal))
		ended <- err
	}()
	<-rotating
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	results, err := g.ring.Encrypt(ctx, keys.By{}, []keys.Value{{Class: keys.Restricted, Data: []byte("value")}})
	if err != nil || !errors.Is(results[0].Err, context.DeadlineExceeded) {
		t.Errorf("%+v, %v", results, err)
	}
	close(end)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
