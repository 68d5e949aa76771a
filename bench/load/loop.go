package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// readBuffer is the size of a connection's buffer; an answer must fit.
const readBuffer = 64 << 10

// loop is one run. Everything in it belongs to the goroutine of Run.
type loop struct {
	o      Options
	source *source
	result *Result

	epoll, timer int
	addr         unix.SockaddrInet4
	links        []*link
	idle         []*conn
	due          []due         // open loop: the requests so far; from served on they wait
	served       int           // open loop: requests of due that were sent
	scheduled    time.Duration // open loop: when the next request is due

	began     time.Time // all other times count from here
	measuring bool
	cut       bool // the scenes are over
	stopping  bool
	waiting   int // requests without an answer
	usage     time.Duration
}

// due is a request of an open loop: when it is due, and in which scene.
type due struct {
	at    time.Duration
	scene int
}

// link is one connection: of HTTP/1.1 with one request under way at most, or of
// HTTP/2 with as many as it has callers.
type link struct {
	number int
	fd     int
	in     []byte
	have   int
	conns  []*conn

	calls   *http2 // nil: HTTP/1.1
	pending []byte // frames that are not sent yet
}

// conn is one caller, with at most one request under way.
type conn struct {
	link *link
	out  []byte
	want []byte
	sent due
	busy bool

	answer []byte // HTTP/2: what has come of it
}

func (l *loop) open() error {
	addr, err := netip.ParseAddrPort(l.o.Addr)
	if err != nil {
		return err
	}
	if !addr.Addr().Is4() {
		return errors.New("not an IPv4 address")
	}
	l.addr = unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	l.epoll, l.timer = -1, -1
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if l.o.Rate > 0 {
		if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
			return err
		}
		every := unix.NsecToTimespec(int64(time.Second) / int64(l.o.Rate))
		if err := unix.TimerfdSettime(l.timer, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
			return err
		}
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.timer, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}); err != nil {
			return err
		}
	}
	links := l.o.Connections
	if l.o.Checks {
		links = min(links, runtime.NumCPU()) // as Envoy: one for each of its workers
	}
	for i := range links {
		k := &link{number: i, fd: -1, in: make([]byte, readBuffer)}
		if l.o.Checks {
			k.calls = newHTTP2()
		}
		for n := i; n < l.o.Connections; n += links {
			k.conns = append(k.conns, &conn{link: k, out: make([]byte, 0, 4096)})
		}
		l.links = append(l.links, k)
		if err := l.connect(k); err != nil {
			return err
		}
	}
	return nil
}

// connect opens the connection, or opens it again.
func (l *loop) connect(k *link) error {
	if k.fd >= 0 {
		unix.Close(k.fd)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	k.fd, k.have = fd, 0
	if err := unix.Connect(fd, &l.addr); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if k.calls != nil {
		k.pending = k.calls.hello(k.pending[:0])
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(k.number)})
}

func (l *loop) close() {
	for _, k := range l.links {
		if k.fd >= 0 {
			unix.Close(k.fd)
		}
	}
	for _, fd := range []int{l.epoll, l.timer} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// run sends and receives until the measurement is over and every request is
// answered, or nothing came for StallAfter.
func (l *loop) run(ctx context.Context) error {
	l.began = time.Now()
	for _, k := range l.links {
		for _, c := range k.conns {
			if err := l.free(c); err != nil {
				return err
			}
		}
		if err := l.flush(k); err != nil {
			return err
		}
	}
	events := make([]unix.EpollEvent, l.o.Connections+1)
	quiet := time.Now()
	for !l.stopping || l.waiting > 0 {
		n, err := unix.EpollWait(l.epoll, events, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		l.phase(time.Since(l.began))
		answered := false
		for _, e := range events[:max(n, 0)] {
			if e.Fd < 0 {
				if err := l.tick(); err != nil {
					return err
				}
				continue
			}
			answered = true
			if err := l.receive(l.links[e.Fd]); err != nil {
				return err
			}
		}
		if answered {
			quiet = time.Now()
		} else if time.Since(quiet) > StallAfter {
			return ErrStalled
		}
	}
	return nil
}

// phase starts and ends the measurement.
func (l *loop) phase(now time.Duration) {
	if !l.measuring && !l.stopping && now >= l.o.WarmUp {
		l.mark()
		l.measuring = true
		l.usage = ownCPU()
		l.result.Elapsed = time.Since(l.began)
	}
	if l.measuring && (l.cut || now >= l.o.WarmUp+l.o.Measure) {
		l.result.Elapsed = time.Since(l.began) - l.result.Elapsed
		l.result.CPU = ownCPU() - l.usage
		l.measuring, l.stopping = false, true
		l.served = len(l.due)
		l.mark()
	}
}

func (l *loop) mark() {
	if l.o.Mark != nil {
		l.o.Mark()
	}
}

// tick notes the requests that have become due and sends what it can.
func (l *loop) tick() error {
	var expirations [8]byte
	if _, err := unix.Read(l.timer, expirations[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
		return err
	}
	now, scene := time.Since(l.began), 0
	if l.o.Scene != nil {
		if scene = l.o.Scene(); scene < 0 {
			l.cut = true
			return nil
		}
	}
	for every := time.Second / time.Duration(l.o.Rate); l.scheduled <= now; l.scheduled += every {
		if l.stopping {
			return nil
		}
		l.due = append(l.due, due{l.scheduled, scene})
	}
	for l.served < len(l.due) && len(l.idle) > 0 {
		// The one that is idle for longest: a server may close it after a while.
		c := l.idle[0]
		l.idle = l.idle[:copy(l.idle, l.idle[1:])]
		if err := l.sendDue(c); err != nil {
			return err
		}
	}
	return nil
}

// sendDue sends the request that is due for longest.
func (l *loop) sendDue(c *conn) error {
	l.served++
	return l.send(c, l.due[l.served-1])
}

// free gives a connection that has nothing under way its next request.
func (l *loop) free(c *conn) error {
	switch {
	case l.stopping:
		return nil
	case l.o.Rate > 0 && l.served < len(l.due):
		return l.sendDue(c)
	case l.o.Rate > 0:
		l.idle = append(l.idle, c)
		return nil
	}
	return l.send(c, due{at: time.Since(l.began)})
}

func (l *loop) send(c *conn, at due) error {
	c.out, c.want = l.source.take(c.out[:0])
	c.sent, c.busy = at, true
	l.waiting++
	l.result.Sent++
	k := c.link
	if k.calls != nil { // flush sends it
		k.pending = k.calls.call(k.pending, l.o.Addr, c)
		return nil
	}
	if err := k.write(c.out); err != nil {
		return l.broken(k, fmt.Errorf("send request: %w", err))
	}
	return nil
}

func (k *link) write(b []byte) error {
	n, err := unix.Write(k.fd, b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// flush sends the frames that wait.
func (l *loop) flush(k *link) error {
	if len(k.pending) == 0 {
		return nil
	}
	err := k.write(k.pending)
	if k.pending = k.pending[:0]; err != nil {
		return l.broken(k, fmt.Errorf("send frames: %w", err))
	}
	return nil
}

// receive reads what has come, and when an answer is complete, checks it and
// goes on to the next request.
func (l *loop) receive(k *link) error {
	n, err := unix.Read(k.fd, k.in[k.have:])
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil
	}
	if err == nil && n == 0 {
		err = errors.New("connection closed by the server")
	}
	if err != nil {
		return l.broken(k, err)
	}
	k.have += n
	if k.calls != nil {
		return l.receiveFrames(k)
	}
	c := k.conns[0]
	r, ok, err := parseResponse(k.in[:k.have])
	if err != nil || (!ok && k.have == len(k.in)) || (ok && r.size != k.have) || (ok && !c.busy) {
		return l.broken(k, errors.Join(errResponse, err))
	}
	if !ok {
		return nil
	}
	k.have = 0
	return l.answered(c, r)
}

// receiveFrames is receive for a connection of HTTP/2.
func (l *loop) receiveFrames(k *link) error {
	at := 0
	for {
		n, done, err := k.calls.read(k.in[at:k.have], &k.pending)
		at += n
		var r response
		if done != nil && err == nil {
			r, err = parseCheck(done.answer)
		}
		if err != nil {
			return l.broken(k, errors.Join(errResponse, err))
		}
		if done == nil {
			break
		}
		if err := l.answered(done, r); err != nil {
			return err
		}
	}
	if k.have = copy(k.in, k.in[at:k.have]); k.have == len(k.in) {
		return l.broken(k, errResponse)
	}
	return l.flush(k)
}

// answered takes the answer to a caller's request, and lets it send the next.
func (l *loop) answered(c *conn, r response) error {
	l.check(c, r, time.Since(l.began)-c.sent.at)
	c.busy = false
	l.waiting--
	return l.free(c)
}

func (l *loop) check(c *conn, r response, took time.Duration) {
	switch {
	case r.status != 200:
		l.fault(&l.result.Errors, fmt.Sprintf("status %d: %s", r.status, r.body))
	case !matches(r.body, c.want):
		l.fault(&l.result.Wrong, fmt.Sprintf("want %s, got %s; request %s", c.want, r.body, c.out))
	case l.measuring:
		l.result.Answers++
		l.result.Latency.Record(took)
		if l.o.Scene != nil {
			for len(l.result.Scenes) <= c.sent.scene {
				l.result.Scenes = append(l.result.Scenes, Histogram{})
			}
			l.result.Scenes[c.sent.scene].Record(took)
		}
	}
}

// broken counts a broken connection as an error and opens it again.
func (l *loop) broken(k *link, cause error) error {
	l.fault(&l.result.Errors, cause.Error())
	if err := l.connect(k); err != nil {
		return err
	}
	for _, c := range k.conns {
		if c.busy {
			c.busy = false
			l.waiting--
		}
	}
	for _, c := range k.conns {
		if slices.Contains(l.idle, c) {
			continue
		}
		if err := l.free(c); err != nil {
			return err
		}
	}
	return l.flush(k)
}

func (l *loop) fault(counter *int, text string) {
	*counter++
	if l.result.FirstError == "" {
		l.result.FirstError = text[:min(len(text), 2000)]
	}
}

// ownCPU returns the CPU time that this process has used.
func ownCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(unix.TimevalToNsec(u.Utime) + unix.TimevalToNsec(u.Stime))
}
