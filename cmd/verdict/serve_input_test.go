package main_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// By how much a server may grow: the collector lets the heap grow ninefold, the
// body of a decision may have 1 MiB, and that of a policy, which only some
// callers may send, 64 MiB.
const (
	decisionMemory = 96 << 20
	writeMemory    = 320 << 20
)

// dial opens a connection of its own to the server.
func dial(t *testing.T, s *servertest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // it may be closed already
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// send writes a request as it is and reads the answer, while body goes on being
// sent.
func send(t *testing.T, s *servertest.Server, head string, body io.Reader) (*servertest.Answer, error) {
	t.Helper()
	conn := dial(t, s)
	if _, err := io.WriteString(conn, head); err != nil {
		return nil, err
	}
	sent := make(chan struct{})
	if body == nil {
		body = strings.NewReader("")
	}
	go func() { // ends when the server closes, or the deadline comes
		defer close(sent)
		_, _ = io.Copy(conn, body)
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &servertest.Answer{Status: resp.StatusCode, Header: resp.Header}
	a.Body, err = io.ReadAll(resp.Body)
	_ = conn.Close() // the answer is there: nothing else is of interest
	<-sent
	return a, err
}

// endless is a body of so many bytes that is made while it is read.
type endless struct {
	left    int
	chunked bool
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	const size = 0x4000
	chunk := strings.Repeat("[", size)
	if e.chunked {
		chunk = "4000\r\n" + chunk + "\r\n"
	}
	e.left -= size
	if len(p) < len(chunk) {
		return 0, io.ErrShortBuffer
	}
	return copy(p, chunk), nil
}

// packed is text as gzip.
func packed(t testing.TB, text io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.Copy(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// badInput is a request and what must come of it.
type badInput struct {
	name   string
	path   string // default /v1/data/app/allow
	body   any
	header map[string]string
	status int
	want   string // a part of the answer
}

func badInputs(t *testing.T) []badInput {
	t.Helper()
	const echo = "/v1/data/app/echo"
	gz := map[string]string{"Content-Encoding": "gzip"}
	many := func(n int, element string) string {
		return strings.TrimSuffix(strings.Repeat(element+",", n), ",")
	}
	var wide strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&wide, `"a%d":1,`, i)
	}
	digits := "1" + strings.Repeat("7", 999)
	return []badInput{
		{name: "not JSON", body: `{"input": {`, status: 400},
		{name: "text", body: `hello`, status: 400},
		{name: "nothing", body: ``, status: 200, want: "warning"},
		{name: "not an object", body: `[1,2]`, status: 400},
		{name: "depth 10,000", body: `{"input":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`, status: 400, want: "nested deeper"},
		{name: "depth 10,000 never closed", body: `{"input":` + strings.Repeat(`{"a":`, 10_000), status: 400},
		{name: "depth 500,000", body: strings.Repeat("[", 500_000), status: 400},
		{name: "invalid UTF-8", path: echo, body: "{\"input\":\"a\xff\xfeb\"}", status: 200, want: "a\ufffd\ufffdb"},
		{name: "half a surrogate", path: echo, body: `{"input":"\ud800"}`, status: 200, want: "\ufffd"},
		{name: "NUL in a string", path: echo, body: `{"input":"a\u0000b"}`, status: 200, want: `a\u0000b`},
		{name: "NUL in JSON", body: "{\"input\":\x00}", status: 400},
		{name: "NUL in the path", path: "/v1/data/app/a%00b", body: `{"input":1}`, status: 500, want: "invalid path"},
		{name: "quotes in the path", path: "/v1/data/app/a%22%5D%5Bb'", body: `{"input":1}`, status: 500, want: "invalid path"},
		{name: "invalid UTF-8 in the path", path: "/v1/data/app/%ff%fe", body: `{"input":1}`, status: 500, want: "invalid path"},
		{name: "a broken escape in the path", path: "/v1/data/app/%2", body: `{"input":1}`, status: 400},
		{name: "dots", path: "/v1/data/../../etc/passwd", body: `{"input":1}`},
		{name: "a long path", path: "/v1/data/" + strings.Repeat("a/", 8_000) + "a", body: `{"input":1}`, status: 500, want: "longer than"},
		{name: "a path beyond the header", path: "/v1/data/" + strings.Repeat("a/", 20_000) + "a", body: `{"input":1}`, status: 431},
		{name: "gzip", body: packed(t, strings.NewReader(`{"input":{"user":"ada"}}`)), header: gz, status: 200, want: "true"},
		{name: "not gzip", body: `{"input":1}`, header: gz, status: 400},
		{name: "half of a gzip", body: packed(t, strings.NewReader(`{"input":1}`))[:20], header: gz, status: 400},
		{name: "gzip of nothing", body: []byte{}, header: gz, status: 400},
		{name: "gzip bomb", body: bytes.Repeat(packed(t, io.LimitReader(zeros{}, 8<<20)), 100), header: gz, status: 400, want: "large"},
		{name: "duplicate keys", path: echo, body: `{"input":1,"input":{"a":1,"a":2}}`, status: 200, want: `{"a":2}`},
		{name: "1,000 digits", path: echo, body: `{"input":` + digits + `}`, status: 200, want: digits},
		{name: "1,000 digits doubled", path: "/v1/data/app/double", body: `{"input":{"n":` + digits + `}}`, status: 200, want: "3555"},
		{name: "a huge exponent", path: echo, body: `{"input":1e999999999}`, want: "e"},
		{name: "a huge exponent doubled", path: "/v1/data/app/double", body: `{"input":{"n":1e999999999}}`},
		{name: "an exponent doubled", path: "/v1/data/app/double", body: `{"input":{"n":1e100000}}`},
		{name: "a tiny exponent doubled", path: "/v1/data/app/double", body: `{"input":{"n":1e-999999999}}`},
		{name: "a number that is none", body: `{"input":01}`, status: 400},
		{name: "60,000 members", body: `{"input":{` + wide.String() + `"z":1}}`, status: 400, want: "members"},
		{name: "400,000 elements", body: `{"input":[` + many(400_000, "1") + `]}`, status: 400, want: "members"},
		{name: "20,000 batch inputs", path: "/v1/batch/data/app/allow", body: `{"inputs":{` + wide.String() + `"z":1}}`, status: 400},
		{name: "a batch of nothing", path: "/v1/batch/data/app/allow", body: `{"inputs":[1]}`, status: 400},
		{name: "an unknown type", body: `{"input":{"user":"ada"}}`, header: map[string]string{"Content-Type": "x/y; z"}, status: 200, want: "true"},
		{name: "YAML", path: echo, body: "input:\n  user: [ada]", header: map[string]string{"Content-Type": "application/yaml"}, status: 200, want: `{"user":["ada"]}`},
		{name: "YAML of aliases", path: echo, body: yamlBomb(), header: map[string]string{"Content-Type": "application/yaml"}, status: 400},
		{name: "a broken query", path: "/v1/data/app/allow?%zz&pretty=%&explain=what;;", body: `{"input":{"user":"ada"}}`, status: 200, want: "true"},
		{name: "a broken input parameter", path: "/v1/data/app/allow?input=%7B%22a%22", status: 400},
		{name: "a deep input parameter", path: "/v1/data/app/allow?input=" + strings.Repeat("%5B", 5_000), status: 400},
		{name: "v0, not JSON", path: "/v0/data/app/allow", body: `{`, status: 400},
		{name: "POST /, not JSON", path: "/", body: `{`, status: 400},
		{name: "1 MiB and a byte", body: `{"input":"` + strings.Repeat("x", 1<<20) + `"}`, status: 400, want: "large"},
	}
}

// yamlBomb is a small text that stands for 10^9 elements.
func yamlBomb() string {
	var b strings.Builder
	b.WriteString("a: &a [x,x,x,x,x,x,x,x,x,x]\n")
	for c := 'b'; c < 'j'; c++ {
		fmt.Fprintf(&b, "%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ","))
	}
	return b.String() + "input: *i\n"
}

// TestBadInput sends what nobody should send. Each is answered in OPA's shape,
// and the server lives on, in bounded memory.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: plain(t, "--set", "limits.evaluation=5s")})
	s.Decide("app/allow", map[string]any{"user": "ada"})
	before := s.Memory("VmHWM")
	for _, c := range badInputs(t) {
		t.Run(c.name, func(t *testing.T) {
			if c.path == "" {
				c.path = "/v1/data/app/allow"
			}
			a, err := s.Try(servertest.Request{Path: c.path, Body: c.body, Header: c.header})
			if err != nil && c.status == 400 && strings.Contains(err.Error(), "invalid URL escape") {
				a, err = send(t, s, "POST "+c.path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != c.status && c.status != 0 || !strings.Contains(string(a.Body), c.want) {
				t.Errorf("answer %d %.300q, want %d %.100q", a.Status, a.Body, c.status, c.want)
			}
			if a.Status == 400 && strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") {
				if err := shape(a, c.path); err != nil {
					t.Error(err)
				}
			}
			if (a.Status == 200 || a.Status == 500) && !json.Valid(a.Body) {
				t.Errorf("the answer is not JSON: %.300q", a.Body)
			}
		})
	}
	t.Run("100 MB", func(t *testing.T) { largeBodies(t, s, false) })
	grew(t, s, before, decisionMemory)
	t.Run("100 MB from callers who may", func(t *testing.T) { largeBodies(t, s, true) })
	grew(t, s, before, writeMemory)
	if a := s.Decide("app/allow", map[string]any{"user": "ada"}); a.Status != http.StatusOK {
		t.Errorf("at the end: %d %s", a.Status, a.Body)
	}
	s.Stop()
	verifyFolder(t, s.Dir)
}

// grew checks that the server never had so much more memory than before.
func grew(t *testing.T, s *servertest.Server, before, bound int64) {
	t.Helper()
	if servertest.Race() {
		bound *= slower
	}
	grown := s.Memory("VmHWM") - before
	t.Logf("the server grew by %d MiB", grown>>20)
	if grown > bound {
		t.Errorf("want at most %d MiB", bound>>20)
	}
}

// largeBodies announces and sends far more than is taken.
func largeBodies(t *testing.T, s *servertest.Server, writes bool) {
	t.Helper()
	const announced, chunked = "Content-Length: 104857600", "Transfer-Encoding: chunked"
	token := "\r\nAuthorization: Bearer " + s.AdminToken()
	for name, c := range map[string]struct {
		writes       bool
		path, header string
		status       int
	}{
		"announced":         {false, "POST /v1/data/app/allow", announced, 400},
		"chunked":           {false, "POST /v1/data/app/allow", chunked, 400},
		"announced, batch":  {false, "POST /v1/batch/data/app/allow", announced, 400},
		"chunked, v0":       {false, "POST /v0/data/app/allow", chunked, 400},
		"chunked, POST /":   {false, "POST /", chunked, 400},
		"without a token":   {false, "PUT /v1/data/x", announced, 401},
		"a negative length": {false, "POST /v1/data/app/allow", "Content-Length: -1", 400},
		"both":              {false, "POST /v1/data/app/allow", "Content-Length: 5\r\n" + chunked, 400},
		"announced, data":   {true, "PUT /v1/data/x", announced + token, 400},
		"chunked, policies": {true, "PUT /v1/policies/x", chunked + token, 400},
	} {
		if c.writes != writes {
			continue
		}
		t.Run(name, func(t *testing.T) {
			var body io.Reader // none where the header is refused: that ends the connection at once
			if c.header != "Content-Length: -1" {
				body = &endless{left: 100 << 20, chunked: strings.Contains(c.header, chunked)}
			}
			a, err := send(t, s, c.path+" HTTP/1.1\r\nHost: x\r\n"+c.header+"\r\n\r\n", body)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != c.status {
				t.Errorf("answer %d %.300s, want %d", a.Status, a.Body, c.status)
			}
		})
	}
}

// TestSlowClients sends headers and bodies a byte at a time. The connections are
// closed, others are served meanwhile.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: plain(t, "--set", "server.read_header_timeout=1s")})
	for name, head := range map[string]string{
		"header":  "POST /v1/data/app/allow HTTP/1.1\r\nHost: x\r\nX-A: ",
		"nothing": "",
		"body":    "POST /v1/data/app/allow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
		"chunks":  "POST /v1/data/app/allow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, s) // for a minute: a connection that is kept longer is an error below
			if _, err := io.WriteString(conn, head); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() { // ends with the connection
				defer close(done)
				for {
					time.Sleep(100 * time.Millisecond) // the slow client
					drop := "a"
					if name == "chunks" {
						drop = "1\r\n[\r\n"
					}
					if name == "nothing" {
						drop = ""
					}
					if _, err := io.WriteString(conn, drop); err != nil {
						return
					}
				}
			}()
			answer, err := io.ReadAll(conn)
			if err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
				t.Error(err)
			}
			if strings.HasPrefix(string(answer), "HTTP/1.1 2") {
				t.Errorf("answered %q", answer)
			}
			_ = conn.Close() // so that the writer ends
			<-done
			if err := s.Healthy(); err != nil {
				t.Error(err)
			}
		})
	}
}
