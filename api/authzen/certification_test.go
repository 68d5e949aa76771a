package authzen_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/authzen"
)

// certificationCase is a line of testdata/authzen-certification/cases.jsonl.
type certificationCase struct {
	ID          string           `json:"id"`
	Method      string           `json:"method"`
	Path        string           `json:"path"`
	Body        map[string]any   `json:"body"`
	Raw         *string          `json:"raw"`
	ContentType string           `json:"content_type"`
	RequestID   string           `json:"request_id"`
	Status      int              `json:"status"`
	Decision    *bool            `json:"decision"`
	Decisions   []bool           `json:"decisions"`
	Count       int              `json:"count"`
	Results     []map[string]any `json:"results"`
	Exact       bool             `json:"exact"`
	Pages       bool             `json:"pages"`
	Repeat      int              `json:"repeat"`
	Metadata    bool             `json:"metadata"`
}

// TestCertification runs the certification scenario over TLS: Basic, Batch and
// Search, each Core and Properties, and Discovery.
func TestCertification(t *testing.T) {
	s := newStand(t, setup{})
	server := httptest.NewUnstartedServer(s.handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	file, err := os.Open(filepath.Join(fixture, "cases.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cases := 0
	for lines := bufio.NewScanner(file); lines.Scan(); cases++ {
		var c certificationCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		t.Run(c.ID, func(t *testing.T) {
			for range max(1, c.Repeat) {
				c.run(t, server)
			}
		})
	}
	if cases < 62 {
		t.Errorf("only %d cases", cases)
	}
}

func (c *certificationCase) run(t *testing.T, server *httptest.Server) {
	var body []byte
	switch {
	case c.Raw != nil:
		body = []byte(*c.Raw)
	case c.Body != nil:
		body = encode(t, c.Body)
	}
	res, raw := c.ask(t, server, body)
	if res.StatusCode != c.Status {
		t.Fatalf("status %d, want %d: %s", res.StatusCode, c.Status, raw)
	}
	if id := res.Header.Get("X-Request-ID"); id != c.RequestID {
		t.Errorf("X-Request-ID %q, want %q", id, c.RequestID)
	}
	if c.Status != http.StatusOK {
		return
	}
	if kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		t.Errorf("content type %q, %v", kind, err)
	}
	doc := object(t, raw)
	if c.Decision != nil && doc["decision"] != *c.Decision {
		t.Errorf("decision in %s", raw)
	}
	if c.Decisions != nil || c.Count > 0 {
		c.checkBatch(t, doc)
	}
	if c.Results != nil {
		c.checkResults(t, server, doc)
	}
	if c.Metadata {
		checkMetadata(t, doc, server.URL)
	}
}

func (c *certificationCase) ask(t *testing.T, server *httptest.Server, body []byte) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), c.Method, server.URL+c.Path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.ContentType != "" {
		req.Header.Set("Content-Type", c.ContentType)
	}
	if c.RequestID != "" {
		req.Header.Set("X-Request-ID", c.RequestID)
	}
	res, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, raw
}

func (c *certificationCase) checkBatch(t *testing.T, doc map[string]any) {
	list, _ := doc["evaluations"].([]any)
	if want := max(c.Count, len(c.Decisions)); len(list) != want || doc["decision"] != nil {
		t.Fatalf("%d evaluations, want %d: %v", len(list), want, doc)
	}
	for i, one := range list {
		decision, ok := at(one, "decision").(bool)
		if !ok || c.Decisions != nil && decision != c.Decisions[i] {
			t.Errorf("evaluation %d: %v", i, one)
		}
	}
}

func (c *certificationCase) checkResults(t *testing.T, server *httptest.Server, doc map[string]any) {
	results, ok := doc["results"].([]any)
	for c.Pages && at(doc, "page", "next_token") != "" {
		next := maps.Clone(c.Body)
		page := maps.Clone(c.Body["page"].(map[string]any))
		page["token"], next["page"] = at(doc, "page", "next_token"), page
		res, raw := c.ask(t, server, encode(t, next))
		if res.StatusCode != http.StatusOK {
			t.Fatalf("next page: %d %s", res.StatusCode, raw)
		}
		doc = object(t, raw)
		more, _ := doc["results"].([]any)
		results = append(results, more...)
	}
	plain := map[string]bool{}
	for _, one := range results {
		plain[name(one.(map[string]any))] = true
		kind := map[string]any{"subject": "user", "resource": "record"}[c.Path[strings.LastIndexByte(c.Path, '/')+1:]]
		if at(one, "type") != kind {
			t.Errorf("an entity of another type: %v", one)
		}
	}
	want := map[string]bool{}
	for _, one := range c.Results {
		want[name(one)] = true
	}
	if !ok || !reflect.DeepEqual(plain, want) { // the fixture gives no more than must be there
		t.Errorf("results %v, want %v", plain, want)
	}
}

// name writes an entity without its properties.
func name(entity map[string]any) string {
	return fmt.Sprint(entity["type"], ":", entity["id"], ":", entity["name"])
}

func checkMetadata(t *testing.T, doc map[string]any, base string) {
	t.Helper()
	want := map[string]any{
		"policy_decision_point":       base,
		"access_evaluation_endpoint":  base + authzen.PathEvaluation,
		"access_evaluations_endpoint": base + authzen.PathEvaluations,
		"search_subject_endpoint":     base + authzen.PathSearchSubject,
		"search_resource_endpoint":    base + authzen.PathSearchResource,
		"search_action_endpoint":      base + authzen.PathSearchAction,
		"supported_obligations":       []any{"step-up"},
	}
	if !reflect.DeepEqual(doc, want) {
		t.Errorf("metadata %v, want %v", doc, want)
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func object(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return doc
}
