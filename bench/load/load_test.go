package load_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/bench/load"
	"github.com/verdict-pdp/verdict/bench/workload"
)

// question is what the fake server reads of a request.
type question struct {
	Input struct {
		Resource struct{ ID string }
	}
}

// fake answers as ask says and remembers which resource ids it has seen.
type fake struct {
	mu     sync.Mutex
	ids    map[string]int
	tokens map[string]bool
	ask    func(n int, w http.ResponseWriter)
	n      int
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q question
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.URL.Path != "/v1/data/authz/allow" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	f.ids[q.Input.Resource.ID]++
	f.tokens[r.Header.Get("Authorization")] = true
	f.n++
	n := f.n
	f.mu.Unlock()
	f.ask(n, w)
}

// newFake returns a server, and a set of ten requests that all want true.
func newFake(t *testing.T, ask func(n int, w http.ResponseWriter)) (*fake, load.Options) {
	t.Helper()
	f := &fake{ids: make(map[string]int), tokens: make(map[string]bool), ask: ask}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	set := &workload.Set{Path: "authz/allow", FreshIDs: true}
	for i := range 10 {
		body := fmt.Appendf(nil, `{"input":{"resource":{"id":"res-%08d"}}}`, i)
		set.Requests = append(set.Requests, workload.Request{Body: body, Want: []byte("true"), ID: strings.Index(string(body), "0000000")})
	}
	return f, load.Options{
		Addr: strings.TrimPrefix(srv.URL, "http://"), Token: "secret", Set: set,
		Connections: 4, WarmUp: 20 * time.Millisecond, Measure: 500 * time.Millisecond,
	}
}

func good(_ int, w http.ResponseWriter) { fmt.Fprint(w, `{"result":true}`) }

func TestRunClosedLoop(t *testing.T) {
	f, o := newFake(t, good)
	marks := 0
	o.Mark = func() { marks++ }
	r, err := load.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Answers == 0 || r.Wrong != 0 || r.Errors != 0 || marks != 2 {
		t.Errorf("answers %d, wrong %d, errors %d, marks %d", r.Answers, r.Wrong, r.Errors, marks)
	}
	if r.Elapsed <= 0 || r.Latency.Count() != uint64(r.Answers) || r.Sent < r.Answers {
		t.Errorf("elapsed %v, latencies %d, sent %d, answers %d", r.Elapsed, r.Latency.Count(), r.Sent, r.Answers)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.ids) != r.Sent {
		t.Errorf("%d requests had %d distinct resource ids", r.Sent, len(f.ids))
	}
	if !f.tokens["Bearer secret"] || len(f.tokens) != 1 {
		t.Errorf("tokens %v", f.tokens)
	}
}

func TestRunOpenLoop(t *testing.T) {
	_, o := newFake(t, good)
	o.Rate = 500
	r, err := load.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if due := 260; r.Sent > due+5 || r.Sent == 0 || r.Wrong+r.Errors != 0 { // fewer where the machine has no time for it
		t.Errorf("sent %d of at most %d, wrong %d, errors %d", r.Sent, due, r.Wrong, r.Errors)
	}
}

// In an open loop the time that a request waits for a connection counts.
func TestRunOpenLoopCountsWaiting(t *testing.T) {
	_, o := newFake(t, func(n int, w http.ResponseWriter) {
		time.Sleep(20 * time.Millisecond)
		good(n, w)
	})
	o.Rate, o.Connections, o.Measure = 200, 1, 300*time.Millisecond
	r, err := load.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Latency.Max() < 100*time.Millisecond {
		t.Errorf("largest latency %v; the queue is left out", r.Latency.Max())
	}
}

// Each request is counted in the scene in which it was due, whenever it was
// answered, and a negative scene ends the run.
func TestRunScenes(t *testing.T) {
	_, o := newFake(t, good)
	o.Rate, o.Measure, o.WarmUp = 1000, time.Hour, 0
	asked := 0
	o.Scene = func() int {
		asked++
		switch {
		case asked <= 50:
			return 2
		case asked <= 100:
			return 0
		}
		return -1
	}
	r, err := load.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Scenes) != 3 || r.Scenes[1].Count() != 0 || r.Scenes[0].Count() < 50 || r.Scenes[2].Count() < 40 {
		t.Fatalf("scenes %d", len(r.Scenes))
	}
	if all := r.Scenes[0].Count() + r.Scenes[2].Count(); all != r.Latency.Count() {
		t.Errorf("%d decisions in scenes, %d in all", all, r.Latency.Count())
	}
}

func TestRunCountsFaults(t *testing.T) {
	for name, c := range map[string]struct {
		ask           func(n int, w http.ResponseWriter)
		wrong, errors bool
	}{
		"wrong answers": {ask: func(_ int, w http.ResponseWriter) { fmt.Fprint(w, `{"result":false}`) }, wrong: true},
		"status":        {ask: func(_ int, w http.ResponseWriter) { http.Error(w, "busy", http.StatusServiceUnavailable) }, errors: true},
		"closes": {ask: func(n int, w http.ResponseWriter) {
			if n%3 == 0 {
				panic(http.ErrAbortHandler)
			}
			good(n, w)
		}, errors: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, o := newFake(t, c.ask)
			r, err := load.Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Wrong > 0 != c.wrong || r.Errors > 0 != c.errors || r.FirstError == "" {
				t.Errorf("wrong %d, errors %d, first %q", r.Wrong, r.Errors, r.FirstError)
			}
		})
	}
}

func TestRunStops(t *testing.T) {
	_, o := newFake(t, good)
	o.Measure = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := load.Run(ctx, o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	o.Addr = "127.0.0.1:1"
	if _, err := load.Run(t.Context(), o); err == nil {
		t.Error("no error where nobody listens")
	}
}
