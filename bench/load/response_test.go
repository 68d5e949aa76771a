package load_test

import (
	"testing"

	"github.com/verdict-pdp/verdict/bench/load"
)

func TestParseResponse(t *testing.T) {
	for name, c := range map[string]struct {
		wire string
		body string
		fail bool
	}{
		"length":      {wire: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello", body: "hello"},
		"no body":     {wire: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		"chunked":     {wire: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", body: "abc0123456789"},
		"no length":   {wire: "HTTP/1.1 200 OK\r\nX: y\r\n\r\n", fail: true},
		"bad length":  {wire: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", fail: true},
		"bad chunk":   {wire: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", fail: true},
		"not HTTP":    {wire: "SSH-2.0-x is something else\r\n\r\n", fail: true},
		"bad status":  {wire: "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n", fail: true},
		"empty":       {wire: "\r\n\r\n", fail: true},
		"huge length": {wire: "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", fail: true},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, size, complete, err := load.ParseResponse([]byte(c.wire))
			if c.fail {
				if err == nil {
					t.Fatalf("no error; status %d, body %q", status, body)
				}
				return
			}
			if err != nil || !complete || status != 200 || string(body) != c.body || size != len(c.wire) {
				t.Fatalf("status %d, body %q, size %d, complete %v, error %v", status, body, size, complete, err)
			}
			for n := range len(c.wire) {
				if _, _, _, complete, err := load.ParseResponse([]byte(c.wire[:n])); complete || err != nil {
					t.Errorf("first %d bytes: complete %v, error %v", n, complete, err)
				}
			}
		})
	}
}

func FuzzParseResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		_, body, size, complete, err := load.ParseResponse(wire)
		if complete && (err != nil || size > len(wire) || len(body) > size) {
			t.Errorf("body of %d bytes, size %d of %d, error %v", len(body), size, len(wire), err)
		}
	})
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		body, want string
		ok         bool
	}{
		{`{"result":true}`, `true`, true},
		{`{"decision_id":"x","result":true}`, `true`, true},
		{`{"result":true,"warning":{}}`, `true`, true},
		{`{"result": true}`, `true`, true},
		{`{"result":{"b":[1],"a":2}}`, `{"a":2,"b":[1]}`, true},
		{`{"result":false}`, `true`, false},
		{`{"result":"true"}`, `true`, false},
		{`{"result":trueish}`, `true`, false},
		{`{"result":12}`, `1`, false},
		{`{}`, `true`, false},
		{``, `true`, false},
		{`{"result":{"a":2}}`, `{"a":2,"b":[1]}`, false},
	} {
		if got := load.Matches([]byte(c.body), []byte(c.want)); got != c.ok {
			t.Errorf("matches(%s, %s) = %v", c.body, c.want, got)
		}
	}
}
