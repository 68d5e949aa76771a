package keys_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/keys"
)

// TestPrepared: the keys of all classifications are made after the start, also when
// the backend could not do it at first, and are recorded once.
func TestPrepared(t *testing.T) {
	g := newRig(t, keys.Options{Prepare: true})
	var want []string
	for _, c := range keys.Classes()[1:] {
		want = append(want, g.ring.ClassID(c))
	}
	want = append(want, g.ring.ClassID(keys.TopSecret)+"-mac")
	slices.Sort(want)
	var down atomic.Bool
	down.Store(true)
	g.spy.Before = func(operation, name string) error {
		if operation == "Ensure" && name == want[1] && down.Swap(false) {
			return &keys.UnavailableError{Reason: keys.ReasonSealed}
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.ring.Run(ctx) }() // ends below
	eventually(t, func() bool { return len(g.rec.Events(keys.EventCreated)) == len(want) })
	got, err := g.spy.List(ctx, g.ring.ID(""))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("keys %q, %v; want %q", got, err, want)
	}
	if down.Load() {
		t.Error("no attempt failed")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestPreparedMeanwhile: who needs a key that is being made waits for it, no longer
// than there is time.
func TestPreparedMeanwhile(t *testing.T) {
	g := newRig(t, keys.Options{Prepare: true})
	making, goOn := make(chan struct{}), make(chan struct{})
	g.spy.Before = func(operation, name string) error {
		if operation == "Ensure" && name == g.ring.ClassID(keys.TopSecret) {
			close(making)
			<-goOn
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.ring.Run(ctx) }() // ends below
	<-making
	soon, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	value := keys.Value{Class: keys.TopSecret, Data: []byte("value")}
	if got, err := g.ring.Encrypt(soon, keys.By{}, []keys.Value{value}); err != nil || !errors.Is(got[0].Err, context.DeadlineExceeded) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := g.ring.EncryptOne(t.Context(), keys.By{}, keys.Value{Class: keys.Restricted, Data: []byte("value")}); err != nil {
		t.Errorf("another class: %v", err)
	}
	close(goOn)
	if _, err := g.ring.EncryptOne(t.Context(), keys.By{}, value); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
