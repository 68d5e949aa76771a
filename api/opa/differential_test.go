package opa_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/api/opa"
	"github.com/verdict-pdp/verdict/internal/opatest"
)

// probe is one request, sent as raw bytes so that nothing repairs it on the way.
type probe struct {
	method, target string
	headers        []string // "Name: value"
	body           string
	chunked        bool
}

func (p probe) String() string {
	body := p.body
	if len(body) > 300 {
		body = body[:300] + "..."
	}
	return fmt.Sprintf("%s %s %q %q", p.method, p.target, p.headers, body)
}

// wire is how a server is reached.
type wire func() (net.Conn, error)

// send does one request on a connection of its own.
func (dial wire) send(p probe) (wireAnswer, error) {
	conn, err := dial()
	if err != nil {
		return wireAnswer{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return wireAnswer{}, err
	}
	var req bytes.Buffer
	fmt.Fprintf(&req, "%s %s HTTP/1.1\r\nHost: pdp\r\nConnection: close\r\n", p.method, p.target)
	if !slices.ContainsFunc(p.headers, func(h string) bool { return strings.HasPrefix(h, "Authorization:") }) {
		req.WriteString("Authorization: " + bearer + "\r\n")
	}
	for _, h := range p.headers {
		req.WriteString(h + "\r\n")
	}
	switch {
	case p.chunked:
		req.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		for part := range slices.Chunk([]byte(p.body), 7) {
			fmt.Fprintf(&req, "%x\r\n%s\r\n", len(part), part)
		}
		req.WriteString("0\r\n\r\n")
	case p.body != "" || p.method == http.MethodPost || p.method == http.MethodPut || p.method == http.MethodPatch:
		fmt.Fprintf(&req, "Content-Length: %d\r\n\r\n%s", len(p.body), p.body)
	default:
		req.WriteString("\r\n")
	}
	if _, err := conn.Write(req.Bytes()); err != nil {
		return wireAnswer{}, err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: p.method})
	if err != nil {
		return wireAnswer{}, err
	}
	defer res.Body.Close()
	a := wireAnswer{status: res.StatusCode, header: res.Header}
	var src io.Reader = res.Body
	if res.Header.Get("Content-Encoding") == "gzip" {
		if src, err = gzip.NewReader(res.Body); err != nil {
			return a, err
		}
	}
	a.body, err = io.ReadAll(src)
	return a, err
}

// pair is a real OPA and a verdict, which get the same requests.
type pair struct {
	opa, verdict wire
}

// newPair starts both with nothing in them.
func newPair(t *testing.T) pair {
	t.Helper()
	server := httptest.NewServer(newStand(t, opa.Options{PolicyWrites: true, OmitDecisionID: true}).handler)
	t.Cleanup(server.Close)
	return pair{
		opa:     startOPA(t),
		verdict: func() (net.Conn, error) { return net.Dial("tcp", server.Listener.Addr().String()) },
	}
}

// startOPA runs a real OPA server for the time of the test.
func startOPA(t *testing.T, args ...string) wire {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "opa.sock")
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, opatest.Binary(t), append([]string{
		"run", "--server", "--log-level", "error", "--disable-telemetry", "--addr", "unix://" + socket,
	}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	dial := wire(func() (net.Conn, error) { return net.Dial("unix", socket) })
	deadline := time.Now().Add(time.Minute)
	for {
		if _, err := dial.send(probe{method: "GET", target: "/health"}); err == nil {
			return dial
		}
		if time.Now().After(deadline) {
			t.Fatal("OPA does not answer")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// same sends the probe to both and reports what differs.
func (p pair) same(t *testing.T, q probe) {
	t.Helper()
	var want wireAnswer
	theirs := make(chan error, 1)
	go func() { // ends before this function
		var err error
		want, err = p.opa.send(q)
		theirs <- err
	}()
	got, err := p.verdict.send(q)
	if err := <-theirs; err != nil {
		t.Fatalf("OPA: %v: %v", q, err)
	}
	if err != nil {
		t.Fatalf("verdict: %v: %v", q, err)
	}
	if want.status != got.status {
		t.Errorf("%v\nstatus %d, OPA answers %d\n got: %s\nwant: %s", q, got.status, want.status, got.body, want.body)
		return
	}
	for _, name := range []string{"Content-Type", "Content-Encoding", "Vary", "Location", "Allow"} {
		if name == "Vary" && got.status == http.StatusTemporaryRedirect {
			continue // a redirect does not depend on what is accepted
		}
		if name == "Content-Encoding" && strings.Contains(q.target, "instrument") {
			continue // it depends on the length, and so on the timers that are there
		}
		if name == "Allow" && got.status == http.StatusMethodNotAllowed && len(want.header.Values(name)) == 0 {
			continue // OPA leaves it out in places, HTTP wants it
		}
		if w, g := want.header.Values(name), got.header.Values(name); !slices.Equal(w, g) {
			t.Errorf("%v\nheader %s: %q, OPA answers %q", q, name, g, w)
		}
	}
	if w, g := comparable(q, want.body), comparable(q, got.body); w != g {
		t.Errorf("%v\nbody differs\n got: %s\nwant: %s", q, g, w)
	}
}

var (
	nanoseconds = regexp.MustCompile(`("(?:timer|histogram|counter)_[a-z0-9_]+":\s*)(\d+|\{[^}]*\})`)
	// Compiled queries are kept longer than in OPA, so these are there less often.
	compileTimers = regexp.MustCompile(`"timer_(?:query_compile_stage|compile_stage|compile_extract_annotations|rego_query_compile)[a-z_]*":\s*\d+,?\s*`)
	queryID       = regexp.MustCompile(`("query_id":\s*)\d+`)
	built         = regexp.MustCompile(`("(?:version|build_[a-z]+)":\s*)"[^"]*"`)
)

// comparable takes out of a body what two servers cannot have in common: times,
// and the names of the programs.
func comparable(q probe, body []byte) string {
	if q.target == "/" && q.method == http.MethodGet {
		return "a page"
	}
	text := compileTimers.ReplaceAllString(string(body), "")
	text = nanoseconds.ReplaceAllString(text, "${1}0")
	if path, _, _ := strings.Cut(q.target, "?"); path == "/v1/policies" {
		text = sortPolicies(text)
	}
	if strings.Contains(q.target, "explain=") {
		text = sortLocals(text)
	}
	if strings.Contains(text, "errors occurred:") {
		text = sortErrors(text)
	}
	if strings.Contains(text, `"rego_unsafe_var_error"`) {
		text = sortFaults(text)
	}
	if strings.Contains(text, `"stack_trace"`) {
		// Packages below one path are evaluated in an order that changes.
		text = queryID.ReplaceAllString(text, "${1}0")
	}
	return built.ReplaceAllString(text, `${1}""`)
}

// sortPolicies orders a list of policies by id: OPA's has no order.
func sortPolicies(text string) string {
	var list struct {
		Result []map[string]any `json:"result"`
	}
	if json.Unmarshal([]byte(text), &list) != nil {
		return text
	}
	slices.SortFunc(list.Result, func(a, b map[string]any) int {
		return strings.Compare(fmt.Sprint(a["id"]), fmt.Sprint(b["id"]))
	})
	sorted, err := json.Marshal(list)
	if err != nil {
		return text
	}
	return string(sorted)
}

// sortLocals orders the bindings of trace events, which have no order.
func sortLocals(text string) string {
	var answer map[string]any
	if json.Unmarshal([]byte(text), &answer) != nil {
		return text
	}
	events, _ := answer["explanation"].([]any)
	for _, e := range events {
		event, _ := e.(map[string]any)
		locals, _ := event["locals"].([]any)
		slices.SortFunc(locals, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	sorted, err := json.Marshal(answer)
	if err != nil {
		return text
	}
	return string(sorted)
}

// sortErrors orders a list of errors within one message: OPA finds conflicts of
// rules and data in any order.
func sortErrors(text string) string {
	var answer struct{ Code, Message string }
	if json.Unmarshal([]byte(text), &answer) != nil || answer.Message == "" {
		return text
	}
	lines := strings.Split(answer.Message, "\n")
	slices.Sort(lines)
	return answer.Code + "\n" + strings.Join(lines, "\n")
}

// sortFaults orders the faults of a query: OPA finds unsafe variables in any
// order.
func sortFaults(text string) string {
	var answer map[string]any
	if json.Unmarshal([]byte(text), &answer) != nil {
		return text
	}
	faults, _ := answer["errors"].([]any)
	slices.SortFunc(faults, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	sorted, err := json.Marshal(answer)
	if err != nil {
		return text
	}
	return string(sorted)
}

// reset empties both.
func (p pair) reset(t *testing.T) {
	t.Helper()
	for _, dial := range []wire{p.opa, p.verdict} {
		for range 4 {
			a, err := dial.send(probe{method: "GET", target: "/v1/policies"})
			if err != nil {
				t.Fatal(err)
			}
			var list struct {
				Result []struct {
					ID string `json:"id"`
				} `json:"result"`
			}
			if err := json.Unmarshal(a.body, &list); err != nil {
				t.Fatal(err)
			}
			if len(list.Result) == 0 {
				break
			}
			for _, m := range list.Result {
				id := strings.ReplaceAll(strconv.QuoteToASCII(m.ID), `"`, "")
				if _, err := dial.send(probe{method: "DELETE", target: "/v1/policies/" + strings.ReplaceAll(id, " ", "%20")}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := dial.send(probe{method: "PUT", target: "/v1/data", body: "{}"}); err != nil {
			t.Fatal(err)
		}
	}
}
