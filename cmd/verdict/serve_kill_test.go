package main_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

const (
	killRounds  = 20
	killClients = 16
	// slower is how many times as much the race detector may take.
	slower = 4
)

// answered are the decisions that clients got.
type answered struct {
	mu  sync.Mutex
	all map[string]int // decision id -> the number asked about
}

func (a *answered) add(id string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all[id] = n
}

// await waits until so many more are answered.
func (a *answered) await(t *testing.T, s *servertest.Server, more int) {
	t.Helper()
	count := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.all)
	}
	want := count() + more
	if !s.Eventually(func() error {
		if n := count(); n < want {
			return fmt.Errorf("%d decisions are answered, want %d", n, want)
		}
		return nil
	}) {
		t.Error("it answers too little")
	}
}

// load asks distinct questions with many clients until it is told to stop, or
// the server is gone. Whoever gets an answer notes it.
func (a *answered) load(t *testing.T, s *servertest.Server, clients, from int) (stop func() int) {
	t.Helper()
	end := make(chan struct{})
	var group sync.WaitGroup
	var next sync.Mutex
	n := from
	for range clients {
		group.Go(func() { // ended by stop
			for {
				next.Lock()
				n++
				mine := n
				next.Unlock()
				answer, err := s.Try(servertest.Request{
					Path: "/v1/data/app/double", Body: fmt.Sprintf(`{"input":{"n":%d}}`, mine),
				})
				switch {
				case err != nil: // the server was killed, or closed what was idle
				case answer.Status != http.StatusOK:
					t.Errorf("answer %d: %s", answer.Status, answer.Body)
				default:
					if got := answer.JSON(t)["result"]; got != float64(2*mine) {
						t.Errorf("twice %d is %v", mine, got)
					}
					a.add(answer.DecisionID(), mine)
				}
				select {
				case <-end:
					return
				default:
				}
				if err != nil && s.Ended() {
					return
				}
			}
		})
	}
	return func() int {
		close(end)
		group.Wait()
		return n
	}
}

// check compares what was answered with the log.
func (a *answered) check(t *testing.T, list []record) {
	t.Helper()
	recorded := map[string]record{}
	for _, r := range list {
		if r.DecisionID == "" {
			continue
		}
		if _, twice := recorded[r.DecisionID]; twice {
			t.Errorf("decision %s is recorded twice", r.DecisionID)
		}
		recorded[r.DecisionID] = r
	}
	lost := 0
	for id, n := range a.all {
		r, ok := recorded[id]
		switch {
		case !ok:
			lost++
		case string(r.Result) != strconv.Itoa(2*n) || string(r.Input) != fmt.Sprintf(`{"n":%d}`, n):
			t.Errorf("decision %s about %d is recorded as %s", id, n, r.raw)
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d answered decisions are not in the log", lost, len(a.all))
	}
}

// soakRounds is SOAK_ROUNDS, or what a normal run has.
func soakRounds(t *testing.T, normal int) int {
	t.Helper()
	text := os.Getenv("SOAK_ROUNDS")
	if text == "" {
		return normal
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("SOAK_ROUNDS: %v", err)
	}
	return n
}

// TestKill kills a server under load at random moments. Whatever was answered is
// in the log, the log verifies, and the next start recovers by itself.
func TestKill(t *testing.T) {
	a := &answered{all: map[string]int{}}
	o := servertest.Options{Dir: t.TempDir(), Args: plain(t)}
	var starts []time.Duration
	asked, rounds := 0, soakRounds(t, killRounds)
	for round := range rounds {
		s := servertest.Start(t, o)
		starts = append(starts, s.Took)
		stop := a.load(t, s, killClients, asked)
		a.await(t, s, rand.IntN(100))
		s.Kill()
		asked = stop()
		verifyFolder(t, o.Dir)
		list := readLog(t, o.Dir)
		a.check(t, list)
		if recovered := last(t, list, "system.start").Details.Recovered; recovered != (round > 0) {
			t.Errorf("the start says recovered: %v", recovered)
		}
		if t.Failed() {
			t.Fatalf("after round %d", round)
		}
	}
	slices.Sort(starts)
	t.Logf("%d rounds, %d decisions answered, 90%% of the starts within %v, all within %v",
		rounds, len(a.all), starts[(len(starts)-1)*9/10], starts[len(starts)-1])
	s := servertest.Start(t, o)
	for id := range a.all { // one of them, also through the API
		s.Record(id)
		break
	}
	s.Stop()
	if list := readLog(t, o.Dir); list[len(list)-1].Event != "system.shutdown" {
		t.Errorf("the log ends with %s", list[len(list)-1].raw)
	}
}

// TestKillAtStart kills a server while it starts, in a folder that is new and in
// one that is not.
func TestKillAtStart(t *testing.T) {
	t.Parallel()
	bundle := plain(t)
	window := 60
	if servertest.Race() {
		window *= slower
	}
	for round := range soakRounds(t, 8) {
		o := servertest.Options{Dir: t.TempDir(), Args: bundle}
		for range 1 + round%2 {
			s := servertest.Launch(t, o)
			time.Sleep(time.Duration(rand.IntN(window)) * time.Millisecond)
			s.Kill()
		}
		s := servertest.Start(t, o)
		if a := s.Decide("app/double", map[string]any{"n": 2}); a.Status != http.StatusOK {
			t.Errorf("after a kill at the start: %d %s", a.Status, a.Body)
		}
		s.Stop()
		verifyFolder(t, o.Dir)
	}
}
