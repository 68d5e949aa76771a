package native_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/native"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/storage/segment"
)

const decisionID = "01a208ce-d865-727f-91cc-b5faa984d4d9"

// site is the API over a real log in a temporary folder.
type site struct {
	log    *audit.Log
	routes http.Handler
	url    string
}

func newSite(t *testing.T, now func() time.Time, verify native.Verifier) *site {
	t.Helper()
	store, err := segment.Open(t.TempDir(), segment.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(store, audit.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }() // ended by the clean-up
	s := native.New(native.Options{Log: log, Verify: verify, Status: func() any { return map[string]any{"up": true} }})
	r := chi.NewRouter()
	s.Mount(r, func(api.Route) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler { return h }
	})
	server := httptest.NewServer(r)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		stop()
		if err := errors.Join(<-ended, log.Close()); err != nil {
			t.Error(err)
		}
	})
	return &site{log: log, routes: r, url: server.URL}
}

func (s *site) get(t *testing.T, path string) (status int, header http.Header, body string) {
	t.Helper()
	resp, err := http.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	if _, err := bufio.NewReader(resp.Body).WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, b.String()
}

// decide appends the record of a decision at the time that its id carries.
func (s *site) decide(t *testing.T) audit.Receipt {
	t.Helper()
	receipt, err := s.log.Append(t.Context(), &audit.Record{
		Type: audit.TypeDecision, Event: audit.EventPermissionGranted, Severity: audit.SeverityInfo,
		Outcome: audit.OutcomeSuccess, DecisionID: decisionID, Path: "app/allow", Result: []byte("true"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

func atDecision() time.Time { return time.UnixMilli(0x01a208ced865) }

func TestRecords(t *testing.T) {
	s := newSite(t, atDecision, nil)
	receipt := s.decide(t)
	stored, err := s.log.Record(receipt.Seq)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		fmt.Sprintf("/api/v1/audit/records/%d", receipt.Seq),
		"/api/v1/decisions/" + decisionID,
	} {
		before := s.log.Status().Next
		status, header, body := s.get(t, path)
		if status != http.StatusOK || body != string(stored) || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: got %d %s\n%s", path, status, header.Get("Content-Type"), body)
		}
		access, err := s.log.Record(before)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{`"event":"audit_log_access"`, `"severity":"high"`, `"path":"` + path} {
			if !strings.Contains(string(access), part) {
				t.Errorf("no %s in the record of the access: %s", part, access)
			}
		}
	}
}

func TestBadRequests(t *testing.T) {
	s := newSite(t, nil, nil)
	for path, want := range map[string]struct {
		status      int
		code, field string
	}{
		"/api/v1/audit/records/99999":                  {404, "not_found", ""},
		"/api/v1/audit/records/-1":                     {400, "invalid_parameter", "seq"},
		"/api/v1/audit/records/x":                      {400, "invalid_parameter", "seq"},
		"/api/v1/decisions/" + decisionID:              {404, "not_found", ""},
		"/api/v1/decisions/none":                       {404, "not_found", ""},
		"/api/v1/decisions/" + strings.Repeat("a", 65): {400, "invalid_parameter", "id"},
		"/api/v1/audit/records?from=x":                 {400, "invalid_parameter", "from"},
		"/api/v1/audit/records?limit=0":                {400, "invalid_parameter", "limit"},
		"/api/v1/audit/records?limit=1001":             {400, "invalid_parameter", "limit"},
		"/api/v1/audit/records?follow=maybe":           {400, "invalid_parameter", "follow"},
	} {
		before := s.log.Status().Next
		status, header, body := s.get(t, path)
		var problem struct {
			Status      int
			Code, Field string
		}
		if err := json.Unmarshal([]byte(body), &problem); err != nil {
			t.Fatalf("%s: %v in %s", path, err, body)
		}
		if status != want.status || problem.Status != status || problem.Code != want.code || problem.Field != want.field ||
			header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %d %s", path, status, body)
		}
		if s.log.Status().Next != before {
			t.Errorf("%s: a request that shows nothing was recorded as an access", path)
		}
	}
}

func TestListing(t *testing.T) {
	s := newSite(t, atDecision, nil)
	s.decide(t)
	for query, want := range map[string]int{"": 3, "?limit=2": 2, "?from=1&limit=1": 1, "?from=100": 0} {
		before := s.log.Status().Next
		status, header, body := s.get(t, "/api/v1/audit/records"+query)
		lines := strings.Count(body, "\n")
		if query == "" {
			want = int(before)
		}
		if status != http.StatusOK || lines != want || header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%q: got %d, %d lines, want %d", query, status, lines, want)
		}
	}
}

func TestFollow(t *testing.T) {
	s := newSite(t, atDecision, nil)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	from := s.log.Status().Next + 1 // behind the record of this access
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/api/v1/audit/records?follow=true&from=%d", s.url, from), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for range 3 {
		receipt := s.decide(t)
		if !lines.Scan() {
			t.Fatalf("the stream ended: %v", lines.Err())
		}
		if want := fmt.Sprintf(`{"seq":%d,`, receipt.Seq); !strings.HasPrefix(lines.Text(), want) {
			t.Errorf("got %s, want %s", lines.Text(), want)
		}
	}
}

// deadlines is a connection that notes its write deadlines and whose client goes
// away after a line.
type deadlines struct {
	*httptest.ResponseRecorder
	gone context.CancelFunc
	idle []bool // for each line: the stream may stand idle behind it
	last time.Time
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	if t.IsZero() && d.Body.Len() > 0 {
		d.idle = append(d.idle, true)
		d.gone()
	}
	d.last = t
	return nil
}

// In HTTP/2 a write deadline that passes ends a stream that is idle.
func TestFollowMayStandIdle(t *testing.T) {
	s := newSite(t, atDecision, nil)
	ctx, gone := context.WithCancel(t.Context())
	defer gone()
	w := &deadlines{ResponseRecorder: httptest.NewRecorder(), gone: gone}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/audit/records?follow=true&from=0", nil)
	s.routes.ServeHTTP(w, r)
	if len(w.idle) == 0 {
		t.Error("the write deadline stands while the stream is idle")
	}
	if w.last.IsZero() {
		t.Error("the end of the answer has no write deadline")
	}
}

func TestVerify(t *testing.T) {
	for name, tt := range map[string]struct {
		verify native.Verifier
		want   string
	}{
		"ok": {func(_ context.Context, progress func(any)) (any, error) {
			progress(map[string]int{"read": 1})
			return map[string]string{"result": "ok"}, nil
		}, "{\"progress\":{\"read\":1}}\n{\"report\":{\"result\":\"ok\"}}\n"},
		"failed": {func(context.Context, func(any)) (any, error) {
			return nil, errors.New("secret place")
		}, "{\"error\":\"the log could not be verified; the server's log says why\"}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			status, _, body := newSite(t, nil, tt.verify).get(t, "/api/v1/audit/verify")
			if status != http.StatusOK || body != tt.want {
				t.Errorf("got %d %s", status, body)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	status, _, body := newSite(t, nil, nil).get(t, "/api/v1/status")
	if status != http.StatusOK || body != "{\"up\":true}\n" {
		t.Errorf("got %d %s", status, body)
	}
}

// TestClosedLogShowsNothing wants no record shown that cannot be recorded as
// shown.
func TestClosedLogShowsNothing(t *testing.T) {
	s := newSite(t, atDecision, nil)
	receipt := s.decide(t)
	if err := s.log.Close(); err != nil {
		t.Fatal(err)
	}
	status, _, body := s.get(t, fmt.Sprintf("/api/v1/audit/records/%d", receipt.Seq))
	if status < 500 || strings.Contains(body, decisionID) {
		t.Errorf("got %d %s", status, body)
	}
}
