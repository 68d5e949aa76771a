package client_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/verdict-pdp/verdict/client"
)

// counting is a transport that answers with one body and counts.
type counting struct {
	body  string
	code  int
	asked int
	takes time.Duration
}

// RoundTrip implements http.RoundTripper.
func (c *counting) RoundTrip(*http.Request) (*http.Response, error) {
	c.asked++
	time.Sleep(c.takes)
	return &http.Response{StatusCode: c.code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(c.body))}, nil
}

func caching(t *testing.T, c *counting, o client.Options) *client.Client {
	t.Helper()
	o.Transport = c
	made, err := client.New("http://127.0.0.1:1", o)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

const plainPermit = `{"decision": true, "context": {"reasons": [{"code": "a"}], "decision_id": "1"}}`

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := "one"
		transport := &counting{body: plainPermit, code: 200}
		c := caching(t, transport, client.Options{
			Cache: client.CacheOptions{TTL: 10 * time.Second},
			Token: func(context.Context) (string, error) { return token, nil },
		})
		ask := func(what string, q client.Request, asked int, cached bool) {
			t.Helper()
			d, err := c.Authorize(t.Context(), q)
			if err != nil || !d.Allowed || d.ID != "1" || d.Cached != cached || transport.asked != asked {
				t.Errorf("%s: got %+v, %v, asked %d times", what, d, err, transport.asked)
			}
			d.Reasons[0].Code, d.Context[0] = "changed", 'x'
		}
		ask("first", question, 1, false)
		ask("again", question, 1, true)
		ask("and again, changed by a caller", question, 1, true)
		for i, change := range []func(*client.Request){
			func(q *client.Request) { q.Subject.ID = "b" },
			func(q *client.Request) { q.Subject.Properties = map[string]any{"roles": []string{"admin"}} },
			func(q *client.Request) { q.Action.Name = "write" },
			func(q *client.Request) { q.Action.Properties = map[string]any{"soft": true} },
			func(q *client.Request) { q.Resource.ID = "b-2" },
			func(q *client.Request) { q.Resource.Type = "x" },
			func(q *client.Request) { q.Context = map[string]any{"network": map[string]any{"ip": "10.0.0.2"}} },
			func(q *client.Request) { q.Context = nil },
		} {
			q := question
			change(&q)
			ask("another question", q, i+2, false)
			ask("the same other question", q, i+2, true)
		}
		token = "two"
		ask("another credential", question, 10, false)
		token = "one"
		time.Sleep(9 * time.Second)
		ask("late", question, 10, true)
		time.Sleep(time.Second)
		ask("too late", question, 11, false)
	})
}

func TestCacheCountsFromTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := &counting{body: plainPermit, code: 200, takes: time.Second}
		c := caching(t, transport, client.Options{Cache: client.CacheOptions{TTL: time.Second}})
		for range 3 {
			if d, err := c.Authorize(t.Context(), question); err != nil || d.Cached {
				t.Errorf("got %+v, %v", d, err)
			}
		}
	})
}

func TestCacheKeepsOnlyWhatItMay(t *testing.T) {
	for name, transport := range map[string]*counting{
		"an error":                {body: `"no"`, code: 500},
		"unavailable":             {body: `"no"`, code: 503},
		"no answer":               {body: `{"decision": 1}`, code: 200},
		"with an obligation":      {body: `{"decision": true, "context": {"obligations": [{"id": "a", "type": "field-filter"}]}}`, code: 200},
		"a step-up":               {body: `{"decision": false, "context": {"obligations": [{"id": "a", "type": "step-up"}]}}`, code: 200},
		"with a long explanation": {body: `{"decision": true, "context": {"why": "` + strings.Repeat("x", 20_000) + `"}}`, code: 200},
	} {
		c := caching(t, transport, client.Options{Retries: -1, Cache: client.CacheOptions{TTL: time.Minute}})
		for range 2 {
			if d, _ := c.Authorize(t.Context(), question); d.Cached {
				t.Errorf("%s is kept", name)
			}
		}
		if transport.asked != 2 {
			t.Errorf("%s: asked %d times", name, transport.asked)
		}
	}
	off := &counting{body: plainPermit, code: 200}
	c := caching(t, off, client.Options{})
	for range 3 {
		_, _ = c.Authorize(t.Context(), question)
	}
	if off.asked != 3 {
		t.Errorf("without a cache asked %d times", off.asked)
	}
}

func TestCacheIsBounded(t *testing.T) {
	transport := &counting{body: plainPermit, code: 200}
	c := caching(t, transport, client.Options{Cache: client.CacheOptions{TTL: time.Minute, Entries: 3}})
	ask := func(n int) bool {
		q := question
		q.Resource.ID = fmt.Sprint(n)
		d, err := c.Authorize(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return d.Cached
	}
	for n := range 3 {
		ask(n)
	}
	if !ask(0) {
		t.Error("0 is not kept")
	}
	ask(3) // 1 was used longest ago
	if !ask(0) || !ask(2) || !ask(3) || ask(1) {
		t.Error("another than the longest unused was forgotten")
	}
}
