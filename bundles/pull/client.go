package pull

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// answerWait is how long a server may take to begin its answer, on top of
	// what it was asked to wait.
	answerWait = 15 * time.Second
	// stallWait is how long a body may give nothing, transferTime how long all of
	// it may take.
	stallWait    = 30 * time.Second
	transferTime = 10 * time.Minute

	maxRedirects = 5
	maxHeader    = 64 << 10 // bytes
)

// What ends a request from this side.
var (
	errNoAnswer = errors.New("the server does not answer in time")
	errStalled  = fmt.Errorf("the server sent nothing for %v", stallWait)
	errWoken    = errors.New("the sources were configured again")
	errSlow     = fmt.Errorf("the archive took longer than %v", transferTime)
)

// newClient makes a client that follows redirects on the same host only and
// leaves bodies as they are.
func newClient(config *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:        config,
			TLSHandshakeTimeout:    10 * time.Second,
			MaxResponseHeaderBytes: maxHeader,
			DisableCompression:     true, // an archive is gzip itself
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        90 * time.Second,
		},
		CheckRedirect: func(next *http.Request, before []*http.Request) error {
			first := before[0].URL
			if next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {
				return fmt.Errorf("it leads to another host, %s, which is not followed", shownHost(next.URL))
			}
			if len(before) > maxRedirects {
				return fmt.Errorf("more than %d redirects", maxRedirects)
			}
			return nil
		},
	}
}

func shownHost(u *url.URL) string {
	host := u.Scheme + "://" + u.Host
	if len(host) > 200 {
		host = host[:200] + "..."
	}
	return fmt.Sprintf("%q", host)
}

// withoutURL takes the URL out of an error of the client: its query may be a
// secret.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// request is one question, with what bounds its time.
type request struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	total  *time.Timer // ends all of it
}

// start begins a question that must be answered within wait.
func start(ctx context.Context, wait time.Duration) *request {
	r := &request{}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.total = time.AfterFunc(wait, func() { r.cancel(errNoAnswer) })
	return r
}

// answered begins the time of the body.
func (r *request) answered() {
	if r.total.Stop() {
		r.total = time.AfterFunc(transferTime, func() { r.cancel(errSlow) })
	}
}

// end releases what the question held.
func (r *request) end() {
	r.total.Stop()
	r.cancel(nil)
}

// cause is why err came: this side may have ended it.
func (r *request) cause(err error) error {
	if cause := context.Cause(r.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return withoutURL(err)
}

// patient reads a body that must not stall.
type patient struct {
	request *request
	body    io.Reader
	stall   *time.Timer
	n       int64
}

func (r *request) read(body io.Reader) *patient {
	return &patient{request: r, body: body, stall: time.AfterFunc(stallWait, func() { r.cancel(errStalled) })}
}

// Read implements io.Reader.
func (p *patient) Read(b []byte) (int, error) {
	p.stall.Reset(stallWait)
	n, err := p.body.Read(b)
	p.n += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		p.stop() // the gates have their own time
	case err != nil:
		err = p.request.cause(err)
	}
	return n, err
}

func (p *patient) stop() {
	p.stall.Stop()
	p.request.total.Stop()
}
