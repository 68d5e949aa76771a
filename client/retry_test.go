package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/verdict-pdp/verdict/client"
)

// script is a transport that gives one outcome after the other, the last one for
// ever, and notes when it was asked.
type script struct {
	outcomes []outcome
	asked    []time.Time
}

type outcome struct {
	status int
	retry  string // Retry-After
	err    error
	hang   bool // until the context ends
}

// RoundTrip implements http.RoundTripper.
func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	o := s.outcomes[min(len(s.asked), len(s.outcomes)-1)]
	s.asked = append(s.asked, time.Now())
	if o.hang {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if o.err != nil {
		return nil, o.err
	}
	h := http.Header{"Content-Type": {"application/json"}}
	if o.retry != "" {
		h.Set("Retry-After", o.retry)
	}
	return &http.Response{StatusCode: o.status, Header: h, Body: io.NopCloser(strings.NewReader(`{"decision": true}`))}, nil
}

func scripted(t *testing.T, o client.Options, outcomes ...outcome) (*client.Client, *script) {
	t.Helper()
	s := &script{outcomes: outcomes}
	o.Transport = s
	c, err := client.New("http://127.0.0.1:1", o)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

var refused = &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}

func TestRetries(t *testing.T) {
	good := outcome{status: 200}
	for _, tt := range []struct {
		name     string
		o        client.Options
		outcomes []outcome
		asked    int
		allowed  bool
		longest  time.Duration
		want     error
	}{
		{"at once", client.Options{}, []outcome{good}, 1, true, 0, nil},
		{"no connection", client.Options{}, []outcome{{err: refused}, {err: refused}, good}, 3, true, time.Second, nil},
		{"never a connection", client.Options{}, []outcome{{err: refused}}, 3, false, time.Second, client.ErrUnavailable},
		{"a connection that broke", client.Options{}, []outcome{{err: io.ErrUnexpectedEOF}, {err: syscall.ECONNRESET}, good}, 3, true, time.Second, nil},
		{"an error of another kind", client.Options{}, []outcome{{err: errors.New("x509: who is that")}, good}, 1, false, 0, client.ErrUnavailable},
		{"too many requests", client.Options{}, []outcome{{status: 429}, good}, 2, true, time.Second, nil},
		{"unavailable, with a time", client.Options{}, []outcome{{status: 503, retry: "1"}, good}, 2, true, 1100 * time.Millisecond, nil},
		{"unavailable, without one", client.Options{}, []outcome{{status: 503}, good}, 1, false, 0, client.ErrUnavailable},
		{"a time beyond the deadline", client.Options{}, []outcome{{status: 503, retry: "30"}, good}, 1, false, 0, client.ErrUnavailable},
		{"a time of years", client.Options{Timeout: -1, Retries: -1}, []outcome{{status: 503, retry: "99999999999"}}, 1, false, 0, client.ErrUnavailable},
		{"an error of the policy", client.Options{}, []outcome{{status: 500, retry: "1"}, good}, 1, false, 0, nil},
		{"refused", client.Options{}, []outcome{{status: 403}, good}, 1, false, 0, client.ErrRefused},
		{"off", client.Options{Retries: -1}, []outcome{{err: refused}, good}, 1, false, 0, client.ErrUnavailable},
		{"hangs", client.Options{}, []outcome{{hang: true}}, 1, false, 2 * time.Second, client.ErrUnavailable},
		{"hangs less", client.Options{Timeout: time.Millisecond}, []outcome{{hang: true}}, 1, false, time.Millisecond, context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := scripted(t, tt.o, tt.outcomes...)
				begun := time.Now()
				d, err := c.Authorize(t.Context(), question)
				took := time.Since(begun)
				if d.Allowed != tt.allowed || (err == nil) != tt.allowed || tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("got %+v, %v", d, err)
				}
				if len(s.asked) != tt.asked || took > tt.longest {
					t.Errorf("asked %d times within %s, want %d within %s", len(s.asked), took, tt.asked, tt.longest)
				}
				if after := tt.outcomes[0].retry; after == "1" && tt.asked > 1 && s.asked[1].Sub(begun) < time.Second {
					t.Errorf("asked again after %s", s.asked[1].Sub(begun))
				}
			})
		})
	}
}

// TestRetryBudget asks a server that is down: it is asked a tenth more, not twice
// more.
func TestRetryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := scripted(t, client.Options{}, outcome{err: refused})
		const calls = 1000
		for range calls {
			if d, err := c.Authorize(t.Context(), question); d.Allowed || err == nil {
				t.Fatalf("got %+v, %v", d, err)
			}
		}
		if n := len(s.asked); n < calls+calls/10 || n > calls+calls/10+20 {
			t.Errorf("asked %d times for %d calls", n, calls)
		}
	})
}

func TestCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, client.Options{}, outcome{hang: true})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		d, err := c.Authorize(ctx, question)
		if d.Allowed || !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrUnavailable) {
			t.Errorf("got %+v, %v", d, err)
		}
		limited, s := scripted(t, client.Options{}, outcome{status: 429})
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := limited.Authorize(ctx, question); !errors.Is(err, client.ErrUnavailable) || len(s.asked) > 3 {
			t.Errorf("got %v after %d", err, len(s.asked))
		}
	})
}
