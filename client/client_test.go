package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/client"
)

func TestAuthorize(t *testing.T) {
	const answer = `{"decision": false, "context": {"decision": "deny",
		"reasons": [{"code": "mfa_required", "policy": "p", "detail": "d"}],
		"obligations": [{"id": "step-up", "type": "step-up", "properties": {"acr_values": ["a", "b"], "amr_values": ["mfa"], "max_age": 300}}],
		"advice": [{"id": "x", "type": "notice", "properties": {}}],
		"trust": {"score": 0.5, "risk": 0.5, "level": "low", "zone": "dmz", "factors": [{"name": "mfa", "weight": 0.2, "value": 1, "contribution": 0.2}]},
		"decision_id": "0199", "receipt": {"log": "l", "seq": 7, "leaf_hash": "aa"}}}`
	c := serve(t, client.Options{Token: client.StaticToken("secret"), UserAgent: "shop"}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		want, _ := json.Marshal(question)
		if r.Method != "POST" || r.URL.Path != "/access/v1/evaluation" || string(body) != string(want) {
			t.Errorf("%s %s %s", r.Method, r.URL, body)
		}
		for name, want := range map[string]string{"Authorization": "Bearer secret", "User-Agent": "shop", "Content-Type": "application/json", "Idempotency-Key": ""} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		reply(w, 200, answer)
	})
	d, err := c.Authorize(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	want := client.Decision{
		ID: "0199", Outcome: "deny", Reasons: []client.Reason{{Code: "mfa_required", Policy: "p", Detail: "d"}},
		Advice:  []client.Obligation{{ID: "x", Type: "notice", Properties: map[string]any{}}},
		Trust:   &client.Trust{Score: .5, Risk: .5, Level: "low", Zone: "dmz", Factors: []client.Factor{{Name: "mfa", Weight: .2, Value: 1, Contribution: .2}}},
		Receipt: &client.Receipt{Log: "l", Seq: 7, LeafHash: "aa"},
	}
	step, ok := d.StepUp()
	if !ok || !reflect.DeepEqual(step, client.StepUp{ACRValues: []string{"a", "b"}, AMRValues: []string{"mfa"}, MaxAge: 5 * time.Minute}) {
		t.Errorf("step up: %v %v", step, ok)
	}
	if got, want := step.Challenge(), `Bearer error="insufficient_user_authentication", acr_values="a b", max_age="300"`; got != want {
		t.Errorf("challenge\ngot  %s\nwant %s", got, want)
	}
	if len(d.Context) == 0 || len(d.Obligations) != 1 {
		t.Errorf("context %s, obligations %v", d.Context, d.Obligations)
	}
	d.Context, d.Obligations = nil, nil
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got  %+v\nwant %+v", d, want)
	}
	if _, err := c.Enforce(t.Context(), question); !errors.Is(err, client.ErrDenied) || !strings.Contains(err.Error(), "mfa_required") {
		t.Errorf("enforce: %v", err)
	}
}

// TestFailsClosed gives every kind of answer that is no permission.
func TestFailsClosed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		want   error
		text   string
	}{
		{"a denial", 200, `{"decision": false}`, nil, ""},
		{"a denial written otherwise too", 200, `{"decision": false, "Decision": true, "DECISION": true}`, nil, ""},
		{"only written otherwise", 200, `{"Decision": true}`, client.ErrAnswer, "decision is not a boolean"},
		{"a string", 200, `{"decision": "true"}`, client.ErrAnswer, "decision is not a boolean"},
		{"a number", 200, `{"decision": 1}`, client.ErrAnswer, "decision is not a boolean"},
		{"nothing", 200, `{}`, client.ErrAnswer, ""},
		{"null", 200, `null`, client.ErrAnswer, ""},
		{"no object", 200, `true`, client.ErrAnswer, ""},
		{"cut off", 200, `{"decision": true`, client.ErrAnswer, ""},
		{"two answers", 200, `{"decision": true}{"decision": true}`, client.ErrAnswer, ""},
		{"context is no object", 200, `{"decision": true, "context": 1}`, client.ErrAnswer, "context"},
		{"obligations of another shape", 200, `{"decision": true, "context": {"obligations": {"a": 1}}}`, client.ErrAnswer, "obligations"},
		{"an obligation without a type", 200, `{"decision": true, "context": {"obligations": [{"id": "x"}]}}`, client.ErrAnswer, "obligations"},
		{"another success", 201, `{"decision": true}`, client.ErrAnswer, ""},
		{"no content", 204, ``, client.ErrAnswer, ""},
		{"a redirect", 307, `{"decision": true}`, client.ErrAnswer, ""},
		{"refused", 401, `{"decision": true}`, client.ErrRefused, ""},
		{"forbidden", 403, `"not you"`, client.ErrRefused, "not you"},
		{"invalid", 400, `"resource.id is missing"`, client.ErrInvalid, "resource.id is missing"},
		{"not here", 404, `{"decision": true}`, client.ErrAnswer, ""},
		{"policy error", 500, `"the policy could not be evaluated: eval_error"`, nil, "the policy could not be evaluated"},
		{"unavailable", 503, `"audit_unavailable: full"`, client.ErrUnavailable, "audit_unavailable"},
		{"OPA's shape", 400, `{"code": "invalid_parameter", "message": "no"}`, client.ErrInvalid, "invalid_parameter: no"},
		{"a problem", 403, `{"code": "scope_missing", "title": "Forbidden", "detail": "decide"}`, client.ErrRefused, "scope_missing: decide"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, client.Options{}, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.Header().Set("X-Decision-Id", "id-1")
				reply(w, tt.status, tt.body)
			})
			d, err := c.Authorize(t.Context(), question)
			if d.Allowed || (err == nil) != (tt.status == 200 && tt.want == nil) {
				t.Fatalf("got %+v, %v", d, err)
			}
			if err == nil {
				return
			}
			failed, ok := errors.AsType[*client.Error](err)
			if !ok || failed.Status != tt.status || failed.DecisionID != "id-1" || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v (%+v)", err, failed)
			}
			if _, err := c.Enforce(t.Context(), question); err == nil {
				t.Error("enforce lets it through")
			}
			if d, err := c.HasRole(t.Context(), question, "admin"); d.Allowed || err == nil {
				t.Errorf("role: %+v %v", d, err)
			}
		})
	}
}

func TestAnswersOfOtherPolicies(t *testing.T) {
	for context, want := range map[string]client.Decision{
		`{"reasons": ["too late"], "trust": "much", "advice": 1, "receipt": [], "decision_id": 7}`: {Reasons: []client.Reason{{Detail: "too late"}}},
		`{"reasons": {"a": 1}, "obligations": null}`:                                               {},
		`null`: {},
	} {
		c := serve(t, client.Options{}, func(w http.ResponseWriter, _ *http.Request) {
			reply(w, 200, `{"decision": true, "context": `+context+`}`)
		})
		d, err := c.Authorize(t.Context(), question)
		if string(d.Context) != context {
			t.Errorf("context %s, want %s", d.Context, context)
		}
		want.Allowed, d.Context = true, nil
		if err != nil || !reflect.DeepEqual(d, want) {
			t.Errorf("%s: got %+v, %v", context, d, err)
		}
	}
}

func TestAnswerIsBounded(t *testing.T) {
	c := serve(t, client.Options{MaxAnswer: 100}, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, `{"decision": true}`+strings.Repeat(" ", 1000))
	})
	if d, err := c.Authorize(t.Context(), question); d.Allowed || !errors.Is(err, client.ErrAnswer) {
		t.Errorf("got %+v, %v", d, err)
	}
	html := serve(t, client.Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `{"decision": true}`)
	})
	if d, err := html.Authorize(t.Context(), question); d.Allowed || !errors.Is(err, client.ErrAnswer) {
		t.Errorf("got %+v, %v", d, err)
	}
}

func TestNew(t *testing.T) {
	token := client.StaticToken("hidden")
	for _, tt := range []struct {
		url  string
		o    client.Options
		good bool
	}{
		{"http://127.0.0.1:8181", client.Options{Token: token}, true},
		{"http://localhost:8181/pdp/", client.Options{Token: token}, true},
		{"http://[::1]:8181", client.Options{Token: token}, true},
		{"https://pdp.example", client.Options{Token: token, TLS: &tls.Config{}}, true},
		{"http://pdp.example", client.Options{}, true},
		{"http://pdp.example", client.Options{Token: token, AllowPlaintext: true}, true},
		{"unix:///run/verdict.sock", client.Options{Token: token}, true},
		{"http://pdp.example", client.Options{Token: token}, false},
		{"http://127.0.0.1.example", client.Options{Token: token}, false},
		{"https://user:hidden@pdp.example", client.Options{}, false},
		{"https://pdp.example/?hidden=1", client.Options{}, false},
		{"https://pdp.example/#hidden", client.Options{}, false},
		{"ftp://pdp.example", client.Options{}, false},
		{"pdp.example:8181", client.Options{}, false},
		{"https://", client.Options{}, false},
		{"", client.Options{}, false},
		{"https://hidden\x7f", client.Options{}, false},
		{"unix://host/path", client.Options{}, false},
		{"unix:///p", client.Options{TLS: &tls.Config{}}, false},
		{"https://pdp.example", client.Options{TLS: &tls.Config{}, Transport: http.DefaultTransport}, false},
		{"https://pdp.example", client.Options{MaxAnswer: -1}, false},
		{"https://pdp.example", client.Options{Cache: client.CacheOptions{TTL: time.Hour}}, false},
		{"https://pdp.example", client.Options{Cache: client.CacheOptions{TTL: -1}}, false},
	} {
		_, err := client.New(tt.url, tt.o)
		if (err == nil) != tt.good || err != nil && (strings.Contains(err.Error(), "hidden") || !errors.Is(err, client.ErrInvalid)) {
			t.Errorf("%s %+v: %v", tt.url, tt.o, err)
		}
	}
}

func TestQuestionThatIsNone(t *testing.T) {
	c := serve(t, client.Options{}, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") })
	bad := client.Request{Context: map[string]any{"f": func() {}}}
	if _, err := c.Authorize(t.Context(), bad); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if _, err := c.AuthorizeAll(t.Context(), "some", question); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	for _, path := range []string{"", "/a", "a/", "a//b", "../admin", "a/./b"} {
		if _, err := c.Query(t.Context(), path, nil, new(any)); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%q: got %v", path, err)
		}
		if _, err := c.QueryAll(t.Context(), path, map[string]any{"a": 1}); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%q: got %v", path, err)
		}
	}
}

// TestQuestionAboutSomethingElse wants no question to be asked that encoding/json
// has changed: "b\xff" and "b\xfe" would be one bill.
func TestQuestionAboutSomethingElse(t *testing.T) {
	asked := 0
	c := serve(t, client.Options{}, func(w http.ResponseWriter, _ *http.Request) {
		asked++
		reply(w, 200, `{"decision": true}`)
	})
	for id, want := range map[string]bool{"b\xff": false, "b\xed\xa0\x80": false, "b\ufffd": true, `b\ufffd`: true, `b\\ufffd`: true, "b-1": true} {
		r := question
		r.Resource.ID = id
		d, err := c.Authorize(t.Context(), r)
		if d.Allowed != want || errors.Is(err, client.ErrInvalid) == want {
			t.Errorf("%q: %v, %v", id, d.Allowed, err)
		}
	}
	if asked != 4 {
		t.Errorf("asked %d times, want 4", asked)
	}
}

func TestTokens(t *testing.T) {
	var got string
	h := func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		reply(w, 200, `{"decision": true}`)
	}
	name := filepath.Join(t.TempDir(), "token")
	c := serve(t, client.Options{Token: client.TokenFile(name)}, h)
	if d, err := c.Authorize(t.Context(), question); d.Allowed || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %+v, %v", d, err)
	}
	for _, content := range []string{"one\n", "two", " three "} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Authorize(t.Context(), question); err != nil || got != "Bearer "+strings.TrimSpace(content) {
			t.Errorf("%q: got %q, %v", content, got, err)
		}
	}
	old := time.Now().Add(-time.Hour) // from now on the content is kept
	for _, content := range []string{"four", "five5"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := c.Authorize(t.Context(), question); err != nil || got != "Bearer "+content {
				t.Errorf("%q: got %q, %v", content, got, err)
			}
		}
	}
	for _, content := range []string{"", " \n", "hidden\nhidden", strings.Repeat("hidden", 20_000)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := c.Authorize(t.Context(), question)
		if d.Allowed || err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("got %+v, %v", d, err)
		}
	}
	broken := serve(t, client.Options{Token: func(context.Context) (string, error) { return "", io.ErrNoProgress }}, h)
	if _, err := broken.Authorize(t.Context(), question); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v", err)
	}
}

func TestTLS(t *testing.T) {
	var seen []string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Proto, r.TLS.PeerCertificates[0].Issuer.String())
		reply(w, 200, `{"decision": true}`)
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	known := connect(t, s.URL, client.Options{TLS: &tls.Config{RootCAs: roots, Certificates: s.TLS.Certificates}})
	if d, err := known.Authorize(t.Context(), question); err != nil || !d.Allowed {
		t.Errorf("got %+v, %v", d, err)
	}
	if len(seen) != 2 || seen[0] != "HTTP/2.0" {
		t.Errorf("the server saw %q", seen)
	}
	for name, o := range map[string]client.Options{
		"no certificate":       {TLS: &tls.Config{RootCAs: roots}},
		"an unknown authority": {},
	} {
		if d, err := connect(t, s.URL, o).Authorize(t.Context(), question); d.Allowed || !errors.Is(err, client.ErrUnavailable) {
			t.Errorf("%s: got %+v, %v", name, d, err)
		}
	}
}

func TestSocket(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, `{"decision": true}`)
	})}}
	s.Start()
	t.Cleanup(s.Close)
	if d, err := connect(t, "unix://"+name, client.Options{}).Authorize(t.Context(), question); err != nil || !d.Allowed {
		t.Errorf("got %+v, %v", d, err)
	}
}

// TestConnectionsAreKept asks with many goroutines again and again.
func TestConnectionsAreKept(t *testing.T) {
	const callers = 16
	var mu sync.Mutex
	opened := 0
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, `{"decision": true}`) }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if state == http.StateNew {
			opened++
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c := connect(t, s.URL, client.Options{})
	for range 5 {
		var group sync.WaitGroup
		for range callers {
			group.Go(func() {
				if d, err := c.Authorize(t.Context(), question); err != nil || !d.Allowed {
					t.Errorf("got %+v, %v", d, err)
				}
			})
		}
		group.Wait()
	}
	mu.Lock()
	defer mu.Unlock()
	if opened > 2*callers {
		t.Errorf("%d connections for %d callers", opened, callers)
	}
}

func TestTraceHeaders(t *testing.T) {
	var got http.Header
	h := func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		reply(w, 200, `{"decision": true}`)
	}
	c := serve(t, client.Options{}, h)
	in := http.Header{
		"Traceparent": {"00-1-2-01"}, "Tracestate": {strings.Repeat("x", 1000)}, "X-Request-Id": {"r\n1"},
		"X-Correlation-Id": {"c-1"}, "Authorization": {"Bearer theirs"}, "Cookie": {"a=b"},
	}
	if _, err := c.Authorize(client.WithTrace(t.Context(), in), question); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Traceparent": "00-1-2-01", "Tracestate": "", "X-Request-Id": "", "X-Correlation-Id": "c-1", "Authorization": "", "Cookie": ""} {
		if got.Get(name) != want {
			t.Errorf("%s: got %q, want %q", name, got.Get(name), want)
		}
	}
	hooked := serve(t, client.Options{Token: client.StaticToken("ours"), Propagate: func(_ context.Context, h http.Header) {
		h.Set("Traceparent", "hook")
		h.Set("Authorization", "Bearer hook")
	}}, h)
	if _, err := hooked.Authorize(t.Context(), question); err != nil || got.Get("Traceparent") != "hook" || got.Get("Authorization") != "Bearer ours" {
		t.Errorf("got %v, %v", got, err)
	}
}
