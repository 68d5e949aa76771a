package servertest

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// NewClient makes a client that keeps as many connections as it is used for at a
// time and follows no redirects.
func NewClient(c *tls.Config) *http.Client {
	return &http.Client{
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: c, MaxIdleConnsPerHost: 256, DisableCompression: true, ForceAttemptHTTP2: c != nil,
			TLSHandshakeTimeout: 10 * time.Second,
		},
	}
}

// Answer is what a request got.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// DecisionID is the id in the header.
func (a *Answer) DecisionID() string { return a.Header.Get("X-Decision-Id") }

// JSON decodes the body, and fails the test when it is not JSON.
func (a *Answer) JSON(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		t.Fatalf("answer %d %q: %v", a.Status, a.Body, err)
	}
	return v
}

// Request is one request. Body may be nil, a string or bytes as they are, a
// reader, or anything else as JSON.
type Request struct {
	Method string // empty: GET without a body, POST with one
	Path   string // with the query
	Body   any
	Token  string
	Header map[string]string
	// Client is who asks instead of the server's.
	Client *http.Client
}

// Try sends a request and returns what comes of it.
func (s *Server) Try(q Request) (*Answer, error) {
	var body io.Reader
	switch b := q.Body.(type) {
	case nil:
	case io.Reader:
		body = b
	case string:
		body = strings.NewReader(b)
	case []byte:
		body = bytes.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("encode body: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	method := q.Method
	if method == "" {
		method = http.MethodGet
		if body != nil {
			method = http.MethodPost
		}
	}
	req, err := http.NewRequest(method, s.URL+q.Path, body)
	if err != nil {
		return nil, err
	}
	if q.Token != "" {
		req.Header.Set("Authorization", "Bearer "+q.Token)
	}
	for name, value := range q.Header {
		req.Header.Set(name, value)
	}
	client := s.Client
	if q.Client != nil {
		client = q.Client
		defer client.CloseIdleConnections()
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &Answer{Status: resp.StatusCode, Header: resp.Header}
	a.Body, err = io.ReadAll(resp.Body)
	return a, err
}

// Do is Try that must get an answer.
func (s *Server) Do(q Request) *Answer {
	s.t.Helper()
	a, err := s.Try(q)
	if err != nil {
		s.t.Fatalf("%s %s: %v", q.Method, q.Path, err)
	}
	return a
}

// Decide asks POST /v1/data/PATH.
func (s *Server) Decide(path string, input any) *Answer {
	s.t.Helper()
	return s.Do(Request{Path: "/v1/data/" + path, Body: map[string]any{"input": input}})
}

// Healthy returns nil when /health is good.
func (s *Server) Healthy() error {
	a, err := s.Try(Request{Path: "/health"})
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("/health answers %d: %s", a.Status, a.Body)
	}
	return nil
}

// AdminToken is the token that --dev wrote.
func (s *Server) AdminToken() string {
	s.t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.Dir, "admin.token"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// Record returns the record of a decision, as the API gives it.
func (s *Server) Record(decisionID string) []byte {
	s.t.Helper()
	a := s.Do(Request{Path: "/api/v1/decisions/" + decisionID, Token: s.AdminToken()})
	if a.Status != http.StatusOK {
		s.t.Fatalf("decision %s: %d %s", decisionID, a.Status, a.Body)
	}
	return a.Body
}

// Metric is the value of a metric as /metrics spells its name and labels; 0 when
// there is none, since one with labels appears when it is first counted.
func (s *Server) Metric(name string) float64 {
	s.t.Helper()
	a := s.Do(Request{Path: "/metrics"})
	for line := range strings.Lines(string(a.Body)) {
		text, ok := strings.CutPrefix(line, name+" ")
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil {
			s.t.Fatal(err)
		}
		return v
	}
	return 0
}

// Memory is a line of /proc/PID/status in bytes: VmRSS, or VmHWM for the most
// there ever was. Where there is no such file the test is skipped.
func (s *Server) Memory(name string) int64 {
	s.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		s.t.Skipf("memory of a process: %v", err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return kb << 10
		}
	}
	s.t.Fatalf("no %s in the status of the process", name)
	return 0
}
