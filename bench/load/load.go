// Package load asks an HTTP server questions, as fast as it answers or at a
// fixed rate, and checks every answer.
//
// The generator shares the machine with the server, so it is built to cost
// little and the same for every target: one thread, an epoll loop, request
// bytes made beforehand, no allocation while it runs. It runs on Linux only.
package load

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"github.com/verdict-pdp/verdict/bench/workload"
)

// ErrStalled is returned when no answer came for StallAfter.
var ErrStalled = errors.New("the server stopped answering")

// StallAfter is how long a run waits for any answer before it gives up.
const StallAfter = 20 * time.Second

// Options says how a target is asked. Addr, Set and Connections are needed.
type Options struct {
	// Addr is the server's IPv4 address and port.
	Addr string
	// Token is sent as a bearer token; empty: none.
	Token string
	// Set holds the requests.
	Set *workload.Set
	// Checks asks the set's checks, as calls of gRPC: Connections callers share
	// one connection for each processor, as Envoy's workers have them. Token is
	// then not sent.
	Checks bool
	// Connections is how many keep-alive connections are used.
	Connections int
	// Rate is how many requests a second are sent, whether or not earlier
	// ones were answered; zero: each connection sends as soon as it has its
	// answer.
	Rate int
	// First is the number of the request to begin with.
	First int
	// WarmUp is run before the measurement and not counted.
	WarmUp time.Duration
	// Measure is the length of the measurement.
	Measure time.Duration
	// Scene, in an open loop, is asked for a number when a request is due; its
	// latency is counted in that one of Result.Scenes too. A negative one ends the
	// measurement, however long it was to be. Nil: there are no scenes. It is
	// called by the goroutine of Run.
	Scene func() int
	// Mark is called at the start and at the end of the measurement, to read
	// the server's counters; nil: nothing is called.
	Mark func()
}

// Result is what one run has counted between its two marks.
type Result struct {
	// Sent is how many requests were sent, the warm-up included.
	Sent int
	// Answers is how many right answers came.
	Answers int
	// Wrong is how many answers had status 200 and another result.
	Wrong int
	// Errors is how many requests had another status or broke off. Wrong
	// answers and errors of the warm-up are counted too.
	Errors int
	// FirstError tells the first wrong answer or error.
	FirstError string
	// Elapsed is the length of the measurement as it came out.
	Elapsed time.Duration
	// CPU is what the generator itself used meanwhile.
	CPU time.Duration
	// Latency is the time from sending to the last byte of the answer; with
	// a Rate, from the moment at which the request was due.
	Latency Histogram
	// Scenes are the latencies by Options.Scene.
	Scenes []Histogram
}

// PerSecond returns the right answers per second.
func (r *Result) PerSecond() float64 { return float64(r.Answers) / r.Elapsed.Seconds() }

func (o *Options) requests() []workload.Request {
	if o.Checks {
		return o.Set.Checks
	}
	return o.Set.Requests
}

// Run asks a server as the options say. It keeps an operating system thread
// to itself until it returns.
func Run(ctx context.Context, o Options) (*Result, error) {
	if len(o.requests()) == 0 || o.Connections < 1 {
		return nil, errors.New("load: no requests or no connections")
	}
	l := &loop{o: o, source: newSource(o), result: &Result{}}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer l.close()
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", o.Addr, err)
	}
	if err := l.run(ctx); err != nil {
		return nil, fmt.Errorf("load on %s: %w", o.Addr, err)
	}
	return l.result, nil
}

// source hands out requests as bytes on the wire, one after the other and
// again from the start, each time with other resource ids.
type source struct {
	set   *workload.Set
	asked []workload.Request
	wire  []byte
	start []int // start of each request in wire, and the end of the last
	id    []int // where in wire the digits of the resource id stand
	next  int
}

func newSource(o Options) *source {
	s := &source{set: o.Set, asked: o.requests(), next: o.First}
	auth := ""
	if o.Token != "" {
		auth = "Authorization: Bearer " + o.Token + "\r\n"
	}
	head := "POST /v1/data/" + o.Set.Path + " HTTP/1.1\r\nHost: " + o.Addr + "\r\n" + auth +
		"Content-Type: application/json\r\nContent-Length: "
	for i := range s.asked {
		r := &s.asked[i]
		s.start = append(s.start, len(s.wire))
		if !o.Checks { // a message gets its frames when it is sent
			s.wire = append(s.wire, head...)
			s.wire = strconv.AppendInt(s.wire, int64(len(r.Body)), 10)
			s.wire = append(s.wire, "\r\n\r\n"...)
		}
		s.id = append(s.id, len(s.wire)+r.ID)
		s.wire = append(s.wire, r.Body...)
	}
	s.start = append(s.start, len(s.wire))
	return s
}

// take appends the next request to dst and returns it with its answer.
func (s *source) take(dst []byte) (wire, want []byte) {
	i := s.next % len(s.asked)
	round := s.next / len(s.asked)
	s.next++
	from := len(dst)
	dst = append(dst, s.wire[s.start[i]:s.start[i+1]]...)
	if s.set.FreshIDs && round > 0 {
		at := from + s.id[i] - s.start[i]
		renumber(dst[at:at+8], round)
	}
	return dst, s.asked[i].Want
}

// renumber changes the digits of a resource id for the given round. Ids of
// one request differ between all rounds.
func renumber(digits []byte, round int) {
	n := 0
	for _, d := range digits {
		n = n*10 + int(d-'0')
	}
	n = (n + round%100_000_000*15_485_863) % 100_000_000
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
}
