package bundles_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp/trial"
)

// TestWhatTakesBackGoesFirst wants a rollback, and the end of a trial, not to
// wait for the gates of an activation, which may take minutes.
func TestWhatTakesBackGoesFirst(t *testing.T) {
	back := map[string]func(*bench) error{
		"rollback": func(b *bench) error {
			_, err := b.Rollback(t.Context(), bundles.RollbackRequest{Name: "door"})
			return err
		},
		"unstage": func(b *bench) error {
			_, err := b.Unstage(t.Context(), bundles.UnstageRequest{Name: "door"})
			return err
		},
	}
	for name, take := range back {
		t.Run(name, func(t *testing.T) {
			judging := make(chan struct{}, 1)
			b := open(t, t.TempDir(), func(o *bundles.Options) {
				o.Gates = []bundles.Gate{{Name: "slow", Activation: true, Check: func(ctx context.Context, c *bundles.Candidate) (bundles.Finding, error) {
					if c.Archive != nil {
						return bundles.Finding{}, nil // a push
					}
					judging <- struct{}{}
					<-ctx.Done()
					return bundles.Finding{}, ctx.Err()
				}}}
			})
			for i, revision := range []string{"r1", "r2", "r3"} {
				b.mustPush("door", files(t, door(revision, "open := "+revision[1:])), func(p *bundles.PushRequest) { p.Keep = i == 2 })
			}
			if _, err := b.Try(t.Context(), bundles.StageRequest{Name: "door", Revision: "r3", Mode: bundles.ModeShadow, Percent: 1, Limits: trial.Limits{}}); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { // ended by what goes first
				_, err := b.Promote(context.Background(), bundles.PromoteRequest{Name: "door"})
				ended <- err
			}()
			<-judging
			taken := make(chan error, 1)
			go func() { taken <- take(b) }() // as soon as it may
			select {
			case err := <-taken:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Fatal("it waits for the gate")
			}
			if refused, ok := errors.AsType[*bundles.Error](<-ended); !ok || refused.Code != bundles.CodeBusy || len(refused.Gates) != 1 {
				t.Errorf("the activation: %+v", refused)
			}
		})
	}
}
