package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/tokens"
)

func TestRefusalsAreRecorded(t *testing.T) {
	sink := &recorded{}
	s := newStore(t, tokens.Options{})
	secret := secretOf(t, s, "pep", "sessions")
	g := newGate(t, s, api.GateOptions{Refusals: api.NewRefusalLog(sink, api.RefusalOptions{})})
	h := g.Stack(api.Main, g.Require(api.Route{Class: api.ClassQuery, Handler: "v1/query"})(http.NotFoundHandler()))
	r := request("POST", "/v1/query/a%2Fb?token="+secret, secret)
	r.Header.Set("X-Request-Id", "r-1")
	r.Header.Set("User-Agent", strings.Repeat("ä", 300))
	ctx, cancel := context.WithCancel(r.Context())
	cancel() // a client that hangs up at once is recorded as well
	do(h, r.WithContext(ctx))
	do(h, request("POST", "/v1/query", "verdict_secret"))
	list := sink.take()
	if len(list) != 2 {
		t.Fatalf("recorded %+v", list)
	}
	if got := list[0]; got.Status != 403 || got.Code != api.CodeForbidden || got.Class != api.ClassQuery || got.Method != "POST" ||
		got.Path != "/v1/query/a%2Fb" || got.Caller.Name != "pep" || got.ID != "r-1" || got.Client.Addr.String() != "192.0.2.1" ||
		got.Time.IsZero() || len(got.UserAgent) > 256+3 {
		t.Errorf("%+v", got)
	}
	if got := list[1]; got.Status != 401 || got.Caller.Kind != api.Anonymous {
		t.Errorf("%+v", got)
	}
	if all := fmt.Sprintf("%+v", list); strings.Contains(all, secret) || strings.Contains(all, "verdict_secret") || strings.Contains(all, "earer") {
		t.Errorf("a credential is in the record: %s", all)
	}
}

func TestRefusalRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &recorded{}
		l := api.NewRefusalLog(sink, api.RefusalOptions{Rate: 1, Burst: 3, Every: time.Minute})
		refuse := func(status, n int) {
			for range n {
				l.Record(t.Context(), api.Refusal{Status: status, Method: "GET"})
			}
		}
		refuse(401, 10)
		refuse(403, 1) // has its own rate
		if got := sink.take(); len(got) != 4 || got[3].Status != 403 || got[3].Suppressed != 0 {
			t.Fatalf("recorded %+v", got)
		}
		time.Sleep(time.Second)
		refuse(401, 2)
		if got := sink.take(); len(got) != 1 || got[0].Suppressed != 7 {
			t.Fatalf("after a second: %+v", got)
		}
		// What is left is told of by Run, and kept when it cannot be.
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		sink.fail(errors.New("disk full"))
		go func() { done <- l.Run(ctx) }() // ended by cancel
		time.Sleep(time.Minute + time.Second)
		sink.fail(nil)
		time.Sleep(time.Minute)
		if got := sink.take(); len(got) != 1 || got[0].Suppressed != 1 || got[0].Method != "" || got[0].Status != 401 {
			t.Fatalf("by Run: %+v", got)
		}
		refuse(503, 4)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := sink.take(); len(got) != 4 || got[3].Suppressed != 1 || got[3].Status != 503 {
			t.Errorf("at the end: %+v", got)
		}
		reg := prometheus.NewRegistry()
		reg.MustRegister(l.Collectors()...)
		families, err := reg.Gather()
		if err != nil || len(families) != 2 {
			t.Fatalf("metrics %v, %v", families, err)
		}
		if n := families[1].GetMetric()[0].GetCounter().GetValue(); n != 1 {
			t.Errorf("%v unrecorded", n)
		}
	})
}

func TestRefusalSinkThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := api.NewRefusalLog(hanging{}, api.RefusalOptions{})
		start := time.Now()
		l.Record(t.Context(), api.Refusal{Status: 401})
		if d := time.Since(start); d != time.Second {
			t.Errorf("waited %v", d)
		}
	})
}

type hanging struct{}

func (hanging) Record(ctx context.Context, _ api.Refusal) error {
	<-ctx.Done()
	return ctx.Err()
}
