package load_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/bench/load"
	"github.com/verdict-pdp/verdict/bench/workload"
)

// checks is a gRPC server on net/http's HTTP/2.
type checks struct {
	mu    sync.Mutex
	calls map[string]int // by message
	most  int            // calls at one time
	now   int
	conns map[string]bool

	together int        // calls are answered from when there were so many at a time
	arrived  *sync.Cond // on mu

	answer func(message string) []byte // nil: no message, as a call that fails
}

// allowed and denied are CheckResponses: ok_response, and status {code: 7} with
// denied_response.
var (
	allowed = []byte{0x0a, 0x00, 0x1a, 0x00}
	denied  = []byte{0x0a, 0x02, 0x08, 0x07, 0x12, 0x00}
)

func (c *checks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || len(body) < 5 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-5 || r.ProtoMajor != 2 ||
		r.URL.Path != "/envoy.service.auth.v3.Authorization/Check" || r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" {
		http.Error(w, "not a call", http.StatusBadRequest)
		return
	}
	message := string(body[5:])
	c.mu.Lock()
	c.calls[message]++
	c.conns[r.RemoteAddr] = true
	c.now++
	c.most = max(c.most, c.now)
	for c.arrived.Broadcast(); c.most < c.together; {
		c.arrived.Wait()
	}
	c.now--
	c.mu.Unlock()
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	if out := c.answer(message); out != nil {
		_, _ = w.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(out))), out...))
	}
	w.Header().Set("Grpc-Status", "0")
}

func newChecks(t *testing.T, answer func(message string) []byte) (*checks, load.Options) {
	t.Helper()
	c := &checks{calls: map[string]int{}, conns: map[string]bool{}, answer: answer}
	c.arrived = sync.NewCond(&c.mu)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: c, Protocols: new(http.Protocols)}
	srv.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = srv.Serve(ln) }() // ends with Close
	t.Cleanup(func() { _ = srv.Close() })
	set := &workload.Set{FreshIDs: true, Checks: []workload.Request{
		{Body: []byte("yes-00000001"), Want: []byte("true"), ID: 4}, {Body: []byte("no-00000002"), Want: []byte("false"), ID: 3},
	}}
	return c, load.Options{Addr: ln.Addr().String(), Set: set, Checks: true, Connections: 16, WarmUp: 20 * time.Millisecond, Measure: 500 * time.Millisecond}
}

func TestChecks(t *testing.T) {
	c, o := newChecks(t, func(message string) []byte {
		if strings.HasPrefix(message, "yes") {
			return allowed
		}
		return denied
	})
	c.together = 4
	r, err := load.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Answers == 0 || r.Wrong+r.Errors != 0 {
		t.Errorf("answers %d, wrong %d, errors %d: %s", r.Answers, r.Wrong, r.Errors, r.FirstError)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most < 4 || c.most > o.Connections {
		t.Errorf("%d calls at one time", c.most)
	}
	if len(c.calls) != r.Sent {
		t.Errorf("%d calls had %d distinct messages", r.Sent, len(c.calls))
	}
	if len(c.conns) > 64 || len(c.conns) == 0 {
		t.Errorf("%d connections", len(c.conns))
	}
}

func TestChecksThatGoWrong(t *testing.T) {
	for name, answer := range map[string][]byte{
		"the other answer": nil, "no message": nil, "not a message": {0xff}, "neither": {}, "both": append(append([]byte{}, allowed...), denied...),
		"denied without a code": {0x12, 0x00}, "an empty status cut off": {0x0a, 0x05},
	} {
		_, o := newChecks(t, func(message string) []byte {
			if name == "the other answer" {
				if strings.HasPrefix(message, "yes") {
					return denied
				}
				return allowed
			}
			return answer
		})
		r, err := load.Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Answers != 0 || (r.Wrong > 0) != (name == "the other answer") || (r.Errors > 0) == (name == "the other answer") {
			t.Errorf("%s: answers %d, wrong %d, errors %d: %s", name, r.Answers, r.Wrong, r.Errors, r.FirstError)
		}
	}
}
