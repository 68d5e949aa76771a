package api_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/verdict-pdp/verdict/api"
)

// pipes is a listener whose connections live in memory, so that an hour of a
// slow client takes no time.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// slowly runs test with a connection to a server in a bubble of fake time.
func slowly(t *testing.T, h http.HandlerFunc, test func(t *testing.T, c net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		g := devGate(t, api.AccessSettings{})
		s, err := api.NewServer(g, everything(g, api.ClassDecide, h), api.ServerOptions{Addr: "in memory"})
		if err != nil {
			t.Fatal(err)
		}
		p := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
		api.Adopt(s, api.Main, p)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }() // ended by cancel
		client, server := net.Pipe()
		p.accept <- server
		test(t, client)
		_ = client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// drain reads a request's body and answers with its size, or the error.
func drain(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		plain(w, r, api.AsError(err))
		return
	}
	_, _ = fmt.Fprint(w, n)
}

// trickle writes bytes at a rate until it is stopped, and returns the time it
// took and what came back.
func trickle(c net.Conn, b []byte, step int, pause time.Duration) (time.Duration, string) {
	start := time.Now()
	answer := make(chan string, 1)
	go func() { // ends with the connection
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			answer <- err.Error()
			return
		}
		body, _ := io.ReadAll(res.Body)
		answer <- fmt.Sprintf("%d %s", res.StatusCode, body)
	}()
	for len(b) > 0 {
		n, err := c.Write(b[:min(step, len(b))])
		if b = b[n:]; err != nil {
			break
		}
		select {
		case got := <-answer:
			return time.Since(start), got
		case <-time.After(pause):
		}
	}
	got := <-answer
	return time.Since(start), got
}

func TestSlowClients(t *testing.T) {
	body := func(n int) []byte {
		return append(fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", n), bytes.Repeat([]byte("x"), n)...)
	}
	for _, tc := range []struct {
		name    string
		bytes   []byte
		step    int
		pause   time.Duration
		answer  string
		atLeast time.Duration
		atMost  time.Duration
	}{
		{"header of one byte a second", []byte("GET / HTTP/1.1\r\nHost: " + strings.Repeat("x", 100)), 1, time.Second, "", 4 * time.Second, 6 * time.Second},
		{"body of one byte a second", body(1000), 60, time.Second, "408 body_timeout", 9 * time.Second, 11 * time.Second},
		{"body of 8 KiB a second", body(512 << 10), 8 << 10, time.Second, "408 body_timeout", 9 * time.Second, 30 * time.Second},
		{"body of 32 KiB a second", body(1 << 20), 32 << 10, time.Second, "200 1048576", 30 * time.Second, 40 * time.Second},
		{"body that stops in the middle", body(1 << 20)[:600<<10], 64 << 10, time.Second, "408 body_timeout", 20 * time.Second, 60 * time.Second},
		{"body that never begins", body(10)[:len(body(10))-10], 1 << 10, 0, "408 body_timeout", 9 * time.Second, 11 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			slowly(t, drain, func(t *testing.T, c net.Conn) {
				took, got := trickle(c, tc.bytes, tc.step, tc.pause)
				if !strings.HasPrefix(got, tc.answer) || took < tc.atLeast || took > tc.atMost {
					t.Errorf("%q after %v, want %q after %v to %v", got, took, tc.answer, tc.atLeast, tc.atMost)
				}
			})
		})
	}
}

func TestIdleConnectionEnds(t *testing.T) {
	slowly(t, ok, func(t *testing.T, c net.Conn) {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(c)
		if _, err := http.ReadResponse(r, nil); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := r.ReadByte(); err == nil || time.Since(start) != api.IdleTimeout {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestSlowReaderIsCutOff(t *testing.T) {
	failed := make(chan time.Duration, 1)
	slowly(t, func(w http.ResponseWriter, _ *http.Request) {
		start := time.Now()
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			failed <- time.Since(start)
		}
	}, func(t *testing.T, c net.Conn) {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		select {
		case took := <-failed:
			if took > time.Minute {
				t.Errorf("after %v", took)
			}
		default:
			t.Error("still writing after a minute")
		}
	})
}

func TestSlowHandlersAnswer(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"answer after a minute": func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Minute)
			if r.Context().Err() == nil {
				_, _ = io.WriteString(w, "done")
			}
		},
		"stream of minutes": func(w http.ResponseWriter, _ *http.Request) {
			flush := http.NewResponseController(w)
			for _, part := range []string{"d", "o", "n", "e"} {
				_, _ = io.WriteString(w, part)
				_ = flush.Flush()
				time.Sleep(20 * time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			slowly(t, h, func(t *testing.T, c net.Conn) {
				if _, got := trickle(c, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 1<<10, 0); got != "200 done" {
					t.Errorf("got %q", got)
				}
			})
		})
	}
}
