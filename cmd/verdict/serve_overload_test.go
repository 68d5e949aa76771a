package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// tally is what many clients got.
type tally struct {
	mu       sync.Mutex
	accepted []time.Duration
	refused  map[string]int // by code
	wrong    []string
}

func (c *tally) add(a *servertest.Answer, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.Status == http.StatusOK {
		c.accepted = append(c.accepted, took)
		return
	}
	retry, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if a.Status != http.StatusServiceUnavailable || err != nil || retry < 1 {
		c.wrong = append(c.wrong, fmt.Sprintf("%d, Retry-After %q: %s", a.Status, a.Header.Get("Retry-After"), a.Body))
		return
	}
	_, rest, _ := strings.Cut(strings.ReplaceAll(string(a.Body), " ", ""), `"code":"`)
	code, _, _ := strings.Cut(rest, `"`)
	c.refused[code]++
}

// p99 is the time within which 99 of 100 were answered.
func (c *tally) p99() time.Duration {
	slices.Sort(c.accepted)
	return c.accepted[len(c.accepted)*99/100]
}

// has tells whether so many were accepted, and one refused for a reason.
func (c *tally) has(accepted int, code string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.accepted) >= accepted && c.refused[code] > 0
}

// crowd lets clients ask one after the other, all at a time: each a few times at
// least, and on a slow machine for longer than the span, until it is enough.
func crowd(t *testing.T, s *servertest.Server, clients int, span time.Duration, enough func(*tally) bool) *tally {
	t.Helper()
	c := &tally{refused: map[string]int{}}
	end := time.Now().Add(span)
	latest := end.Add(time.Minute)
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() { // ends at the latest
			for n := 0; n < 3 || time.Now().Before(end) || !enough(c) && time.Now().Before(latest); n++ {
				started := time.Now()
				a, err := s.Try(servertest.Request{
					Path: "/v1/data/app/double", Body: fmt.Sprintf(`{"input":{"n":%d,"pad":"%s"}}`, i*1000+n, strings.Repeat("x", 2000)),
				})
				if err != nil {
					t.Error(err)
					return
				}
				c.add(a, time.Since(started))
			}
		})
	}
	group.Wait()
	return c
}

// goroutines is how many the server has.
func goroutines(t *testing.T, s *servertest.Server) int {
	t.Helper()
	a := s.Do(servertest.Request{Path: "/api/v1/status", Token: s.AdminToken()})
	runtime, ok := a.JSON(t)["runtime"].(map[string]any)
	if !ok {
		t.Fatalf("status: %s", a.Body)
	}
	n, _ := runtime["goroutines"].(float64)
	return int(n)
}

// TestOverload asks with far more clients than the server takes at a time. What
// is above the bound is turned away, what is taken is answered, and nothing
// grows.
func TestOverload(t *testing.T) {
	t.Parallel()
	began := time.Now()
	s := servertest.Start(t, servertest.Options{Args: plain(t, "--set", "server.max_in_flight=8")})
	enough := func(c *tally) bool { return c.has(20, "overloaded") }
	crowd(t, s, 64, 300*time.Millisecond, enough) // connections, buffers and pools
	memory, routines := s.Memory("VmHWM"), goroutines(t, s)
	c := crowd(t, s, 64, 1500*time.Millisecond, enough)
	if len(c.wrong) > 0 {
		t.Errorf("%d wrong answers: %v", len(c.wrong), c.wrong[0])
	}
	if !enough(c) {
		t.Fatalf("%d accepted, %v refused", len(c.accepted), c.refused)
	}
	t.Logf("%d accepted, p99 %v, %v refused", len(c.accepted), c.p99(), c.refused)
	grew(t, s, memory, 64<<20)
	if now := goroutines(t, s); now > routines+64 {
		t.Errorf("%d goroutines, %d before", now, routines)
	}
	if s.Metric("http_requests_refused_overload_total") == 0 {
		t.Error("no refused request is counted")
	}
	if err := s.Healthy(); err != nil {
		t.Error(err)
	}
	s.Stop()
	verifyFolder(t, s.Dir)
	if n := count(readLog(t, s.Dir), "access_refused"); n == 0 || n > mostRefusals(began) {
		t.Errorf("%d refusals are recorded", n)
	}
}

// TestQueueOverload has a queue for one record and clients that do not wait:
// what finds no room in it is refused and not answered.
func TestQueueOverload(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: plain(t,
		"--set", "audit.queue.records=1", "--set", "audit.queue.bytes=64KiB", "--set", "audit.queue_wait=1ms")})
	enough := func(c *tally) bool { return c.has(1, "audit_unavailable") }
	c := crowd(t, s, 64, time.Second, enough)
	if len(c.wrong) > 0 {
		t.Errorf("%d wrong answers: %v", len(c.wrong), c.wrong[0])
	}
	if !enough(c) {
		t.Errorf("%d accepted, %v refused", len(c.accepted), c.refused)
	}
	s.Stop()
	verifyFolder(t, s.Dir)
	if n := count(readLog(t, s.Dir), "decision_evaluated"); n < len(c.accepted) {
		t.Errorf("%d decisions are recorded, %d were answered", n, len(c.accepted))
	}
}

// TestConnectionBound opens more connections than the server takes.
func TestConnectionBound(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: plain(t, "--set", "server.max_connections=16")})
	s.Client.CloseIdleConnections()
	const request = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
	served, told, closed := []net.Conn{}, 0, 0
	for range 48 {
		conn := dial(t, s)
		_, _ = io.WriteString(conn, request) // the answer tells
		head := make([]byte, 1024)
		n, _ := io.ReadAtLeast(conn, head, 12)
		switch {
		case strings.HasPrefix(string(head[:n]), "HTTP/1.1 200"):
			served = append(served, conn)
		case strings.HasPrefix(string(head[:n]), "HTTP/1.1 503") && strings.Contains(string(head[:n]), "Retry-After: 1"):
			told++
		case n == 0:
			closed++
		default:
			t.Errorf("answer %q", head[:n])
		}
	}
	if len(served) < 14 || len(served) > 16 || told == 0 {
		t.Errorf("%d served, %d told to come back, %d closed", len(served), told, closed)
	}
	for _, conn := range served {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if !s.Eventually(s.Healthy) {
		t.Error("nobody is served though there is room again")
	}
	s.Stop()
}

// TestStopUnderLoad stops a server under load. What was answered is in the log,
// which ends as a clean stop has it.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	o := servertest.Options{Dir: t.TempDir(), Args: plain(t)}
	a := &answered{all: map[string]int{}}
	asked := 0
	for range 3 {
		s := servertest.Start(t, o)
		stop := a.load(t, s, killClients, asked)
		a.await(t, s, 100) // under load
		s.Stop()
		if strings.Contains(s.Stderr(), "cut off") {
			t.Errorf("the stop waits for what does not end:\n%s", s.Stderr())
		}
		asked = stop()
		list := readLog(t, o.Dir)
		a.check(t, list)
		if end := list[len(list)-1]; end.Event != "system.shutdown" {
			t.Errorf("the log ends with %s", end.raw)
		}
		if last(t, list, "system.start").Details.Recovered {
			t.Error("the start after a clean stop says that it recovered")
		}
	}
	verifyFolder(t, o.Dir)
	if len(a.all) == 0 {
		t.Error("nothing was answered")
	}
}

// TestStopFinishes finishes a request that has begun when the signal comes.
func TestStopFinishes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: plain(t)})
	const half = `{"input":{"n":`
	conn := dial(t, s)
	if _, err := fmt.Fprintf(conn, "POST /v1/data/app/double HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(half)+4, half); err != nil {
		t.Fatal(err)
	}
	if !s.Eventually(func() error {
		if n := s.Metric("http_requests_in_flight"); n != 1 {
			return fmt.Errorf("%v requests", n)
		}
		return nil
	}) {
		t.Fatal("the request does not arrive")
	}
	s.Signal(syscall.SIGTERM)
	if !s.Eventually(func() error { // it accepts nothing more
		if s.Healthy() == nil {
			return fmt.Errorf("healthy")
		}
		return nil
	}) {
		t.Error("it is still healthy")
	}
	if _, err := io.WriteString(conn, "21}}"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") || !strings.Contains(string(answer), `"result":42`) {
		t.Errorf("%q %v", answer, err)
	}
	if code := s.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if r := last(t, readLog(t, s.Dir), "decision_evaluated"); string(r.Result) != "42" {
		t.Errorf("the decision is not recorded: %s", r.raw)
	}
}
