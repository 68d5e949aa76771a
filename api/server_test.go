package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/tokens"
)

// start runs a server until the test ends; stop ends it before that.
func start(t *testing.T, g *api.Gate, mount func(api.Listener, chi.Router), o api.ServerOptions) (s *api.Server, stop func()) {
	t.Helper()
	s, err := api.NewServer(g, mount, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }() // ended by stop
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// everything mounts one handler for each path, open to all.
func everything(g *api.Gate, class api.Class, h http.HandlerFunc) func(api.Listener, chi.Router) {
	return func(_ api.Listener, r chi.Router) {
		r.With(g.Require(api.Route{Class: class, Handler: "test", Error: plain})).Handle("/*", h)
	}
}

func ok(http.ResponseWriter, *http.Request) {}

func devGate(t *testing.T, a api.AccessSettings) *api.Gate {
	return newGate(t, newStore(t, tokens.Options{}), api.GateOptions{Dev: true, Settings: a})
}

func dial(t *testing.T, s *api.Server, l api.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr(l).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestListenRefuses(t *testing.T) {
	g := devGate(t, api.AccessSettings{})
	for name, tc := range map[string]struct {
		o    api.ServerOptions
		want string
	}{
		"plaintext on all":      {api.ServerOptions{Addr: ":0"}, "server.addr: :0 is not a loopback"},
		"plaintext on IPv4":     {api.ServerOptions{Addr: "127.0.0.1:0", AdminAddr: "0.0.0.0:0"}, "server.allow_plaintext"},
		"plaintext diagnostics": {api.ServerOptions{DiagnosticAddr: "[::]:0"}, "server.diagnostic_addr"},
		"dev off loopback":      {api.ServerOptions{Addr: "0.0.0.0:0", Dev: true, AllowPlaintext: true}, "--dev"},
		"no port":               {api.ServerOptions{Addr: "127.0.0.1"}, "server.addr"},
		"no such host":          {api.ServerOptions{Addr: "host.invalid:0"}, "server.addr"},
		"nothing":               {api.ServerOptions{}, "no address"},
		"connections":           {api.ServerOptions{Addr: "127.0.0.1:0", Settings: api.ServerSettings{MaxConnections: -1}}, "max_connections"},
	} {
		s, err := api.NewServer(g, nil, tc.o)
		if err == nil {
			err = s.Listen(t.Context())
			if s.Addr(api.Main) != nil || s.Addr(api.Diagnostic) != nil {
				t.Errorf("%s: something is bound", name)
			}
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := api.NewServer(g, nil, api.ServerOptions{Addr: "0.0.0.0:0", AllowPlaintext: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("ran without listening")
	}
}

func TestListeners(t *testing.T) {
	g := devGate(t, api.AccessSettings{})
	mount := func(l api.Listener, r chi.Router) {
		r.With(g.Require(api.Route{Class: api.ClassHealth, Handler: "health"})).Get("/health", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, l.String())
		})
	}
	s, _ := start(t, g, mount, api.ServerOptions{Addr: "127.0.0.1:0", AdminAddr: "localhost:0", DiagnosticAddr: "127.0.0.1:0", Dev: true})
	reg := prometheus.NewRegistry()
	reg.MustRegister(s.Collectors()...)
	reg.MustRegister(g.Collectors()...)
	for _, l := range []api.Listener{api.Main, api.Management, api.Diagnostic} {
		res, err := http.Get("http://" + s.Addr(l).String() + "/health")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(b) != l.String() || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %q %v", l, b, res.Header)
		}
		for path, want := range map[string]int{"/nope": 404, "//health": 200} { // the client follows 307
			res, err := http.Get("http://" + s.Addr(l).String() + path)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("%s: %d", path, res.StatusCode)
			}
		}
		res, err = http.Post("http://"+s.Addr(l).String()+"/health", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(res.Body); res.StatusCode != 405 || len(b) != 0 {
			t.Errorf("other method: %d %q", res.StatusCode, b)
		}
		res.Body.Close()
	}
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
	if s.Addr(99) != nil {
		t.Error("an address of no listener")
	}
}

func TestHeaderLimits(t *testing.T) {
	const refused = "HTTP/1.1 431"
	g := devGate(t, api.AccessSettings{})
	for most, want := range map[int]map[int]string{
		0:        {30 << 10: "HTTP/1.1 200", 33 << 10: refused},
		16 << 10: {14 << 10: "HTTP/1.1 200", 17 << 10: refused},
		4 << 10:  {3 << 10: "HTTP/1.1 200", 5 << 10: refused},
	} {
		s, _ := start(t, g, everything(g, api.ClassDecide, ok), api.ServerOptions{Addr: "127.0.0.1:0", MaxHeader: most})
		for n, want := range want {
			c := dial(t, s, api.Main)
			if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nA: %s\r\n\r\n", strings.Repeat("a", n)); err != nil {
				t.Log(err) // answered before all was written
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			if !strings.HasPrefix(line, want) {
				t.Errorf("bound of %d: %d bytes of header: %q", most, n, line)
			}
		}
	}
}

// TestOverload holds twice as many requests as may be in flight: half of them is
// refused at once, the other half is answered, and the next ones too.
func TestOverload(t *testing.T) {
	const most = 8
	sink := &recorded{}
	g := newGate(t, newStore(t, tokens.Options{}), api.GateOptions{
		Dev: true, Settings: api.AccessSettings{MaxInFlight: most}, Refusals: api.NewRefusalLog(sink, api.RefusalOptions{}),
	})
	hold, inside := make(chan struct{}), make(chan struct{}, 2*most)
	mount := func(_ api.Listener, r chi.Router) {
		r.With(g.Require(api.Route{Class: api.ClassDecide, Handler: "test", Error: plain})).Get("/", func(http.ResponseWriter, *http.Request) {
			inside <- struct{}{}
			<-hold
		})
		r.With(g.Require(api.Route{Class: api.ClassHealth, Handler: "health"})).Get("/health", ok)
	}
	s, _ := start(t, g, mount, api.ServerOptions{Addr: "127.0.0.1:0"})
	url := "http://" + s.Addr(api.Main).String()
	var answered, refused atomic.Int64
	var all sync.WaitGroup
	call := func() {
		all.Go(func() {
			res, err := http.Get(url)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			switch {
			case res.StatusCode == 200:
				answered.Add(1)
			case res.StatusCode == 503 && res.Header.Get("Retry-After") == "1":
				refused.Add(1)
			default:
				t.Errorf("%d %v", res.StatusCode, res.Header)
			}
		})
	}
	for range most {
		call()
	}
	for range most {
		<-inside
	}
	for range most {
		res, err := http.Get(url) // none of these waits
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode == 503 && res.Header.Get("Retry-After") == "1" {
			refused.Add(1)
		}
	}
	if res, err := http.Get(url + "/health"); err != nil || res.StatusCode != 200 {
		t.Errorf("health while overloaded: %v %v", res, err)
	}
	close(hold)
	all.Wait()
	if answered.Load() != most || refused.Load() != most || len(sink.take()) != most {
		t.Errorf("%d answered, %d refused", answered.Load(), refused.Load())
	}
	call()
	all.Wait()
	if answered.Load() != most+1 {
		t.Error("not answered after the load")
	}
}

func TestConnectionBound(t *testing.T) {
	g := devGate(t, api.AccessSettings{})
	sink := &recorded{}
	s, _ := start(t, g, everything(g, api.ClassDecide, ok), api.ServerOptions{
		Addr: "127.0.0.1:0", DiagnosticAddr: "127.0.0.1:0", Settings: api.ServerSettings{MaxConnections: 2},
		Refusals: api.NewRefusalLog(sink, api.RefusalOptions{}),
	})
	use := func(c net.Conn) string {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err.Error()
		}
		r := bufio.NewReader(c)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return err.Error()
		}
		b, _ := io.ReadAll(res.Body)
		return fmt.Sprintf("%d %s%s", res.StatusCode, res.Header.Get("Retry-After"), b)
	}
	first, second := dial(t, s, api.Main), dial(t, s, api.Main)
	if a, b := use(first), use(second); a != "200 " || b != "200 " {
		t.Fatalf("%q %q", a, b)
	}
	for range 5 {
		c := dial(t, s, api.Main)
		if got := use(c); got != "503 1too many connections\n" {
			t.Errorf("above the bound: %q", got)
		}
		_ = c.Close()
	}
	if got := sink.take(); len(got) != 5 || got[0].Status != 503 || !got[0].Client.Peer.IsLoopback() {
		t.Errorf("recorded %+v", got)
	}
	if got := use(dial(t, s, api.Diagnostic)); got != "404 404 page not found\n" && !strings.HasPrefix(got, "404") {
		t.Errorf("another listener: %q", got)
	}
	commit, err := s.Prepare(api.ServerSettings{MaxConnections: 3})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	third := dial(t, s, api.Main)
	if got := use(third); got != "200 " {
		t.Errorf("with a higher bound: %q", got)
	}
	// A connection that ends makes room; the server learns of it in its own time.
	_ = third.Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if got := use(dial(t, s, api.Main)); got == "200 " {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("no room after a connection ended: %q", got)
		}
	}
}

func TestDrain(t *testing.T) {
	g := devGate(t, api.AccessSettings{})
	inside, hold := make(chan struct{}, 1), make(chan struct{})
	s, stop := start(t, g, everything(g, api.ClassDecide, func(w http.ResponseWriter, _ *http.Request) {
		inside <- struct{}{}
		<-hold
		_, _ = io.WriteString(w, "done")
	}), api.ServerOptions{Addr: "127.0.0.1:0"})
	url := "http://" + s.Addr(api.Main).String()
	got := make(chan string, 1)
	go func() { // ends with its request
		res, err := http.Get(url)
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		got <- string(b)
	}()
	<-inside
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }() // ends with the server
	for !s.Draining() {
		time.Sleep(time.Millisecond)
	}
	for { // until nothing more is accepted
		c, err := net.Dial("tcp", s.Addr(api.Main).String())
		if err != nil {
			break
		}
		_ = c.Close()
	}
	select {
	case <-stopped:
		t.Error("stopped while a request was being answered")
	default:
	}
	close(hold)
	if b := <-got; b != "done" {
		t.Errorf("the request got %q", b)
	}
	<-stopped
}

func TestDrainCutsOff(t *testing.T) {
	g := devGate(t, api.AccessSettings{})
	inside, cancelled := make(chan struct{}, 1), make(chan struct{})
	s, stop := start(t, g, everything(g, api.ClassDecide, func(_ http.ResponseWriter, r *http.Request) {
		inside <- struct{}{}
		<-r.Context().Done()
		close(cancelled)
	}), api.ServerOptions{Addr: "127.0.0.1:0", Grace: 50 * time.Millisecond})
	if _, err := io.WriteString(dial(t, s, api.Main), "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-inside
	stop()
	<-cancelled
}
