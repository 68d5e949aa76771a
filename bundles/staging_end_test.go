package bundles_test

import (
	"testing"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp/trial"
)

// TestEndedHasEnded asks for the status while trials end: one that is said to
// have ended answers nobody any more.
func TestEndedHasEnded(t *testing.T) {
	s := newStand(t, t.TempDir(), `open := true`, `open := false`)
	for range 20 {
		s.stage("r2", bundles.ModeCanary, 100, trial.Limits{})
		early := make(chan bool, 1)
		go func() { // ends with the trial
			for {
				if st, err := s.Staged("door"); err != nil || st.Ended != nil {
					early <- s.engine.Active().Staged() != nil
					return
				}
			}
		}()
		if _, err := s.Unstage(t.Context(), bundles.UnstageRequest{Name: "door"}); err != nil {
			t.Fatal(err)
		}
		if <-early {
			t.Fatal("it is said to have ended, and still answers")
		}
	}
}
