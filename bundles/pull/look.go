package pull

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/bundles"
)

const (
	edge = "pull" // in records: the way it came

	// waitType is what a server that can wait calls a bundle.
	waitType = "application/vnd.openpolicyagent.bundles"
	// maxTag and maxError bound what is kept of a server's words.
	maxTag   = 1 << 10
	maxError = 1 << 10
)

func caller(name string) string { return "source:" + name }

// finding is what a look brought.
type finding struct {
	result   result
	err      error // of a look that failed or was refused
	revision string
	current  bool  // what the source has is active
	archive  int64 // size of the archive that came
	bytes    int64 // that came in, of an archive or of what was none
	// asked says that the server was told what is here.
	asked bool
	// retryAfter is what the server asked for.
	retryAfter time.Duration
}

func failed(err error) finding {
	text := err.Error()
	if len(text) > maxError {
		err = errors.New(strings.ToValidUTF8(text[:maxError], "") + "...")
	}
	return finding{result: resultFailed, err: err}
}

// look asks the source once.
func (w *worker) look(ctx context.Context) finding {
	wait := answerWait
	if w.held.waits {
		wait += w.source.LongPolling
	}
	req := start(ctx, wait)
	defer req.end()
	q, tag, err := w.question(req.ctx)
	if err != nil {
		return failed(err)
	}
	w.interruptible(func() { req.cancel(errWoken) })
	resp, err := w.material.client.Do(q)
	w.interruptible(nil)
	if err != nil {
		return failed(req.cause(err))
	}
	defer resp.Body.Close()
	req.answered()
	switch resp.StatusCode {
	case http.StatusNotModified:
		return w.notModified(ctx, tag)
	case http.StatusOK:
	default:
		f := failed(fmt.Errorf("the server answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))
		f.retryAfter = retryAfter(resp.Header)
		return f
	}
	if err := w.check(resp); err != nil {
		return failed(err)
	}
	f := w.take(ctx, req, resp)
	f.asked = tag != ""
	return f
}

// question makes the request; tag is the ETag that it has.
func (w *worker) question(ctx context.Context) (q *http.Request, tag string, err error) {
	token, err := w.source.token()
	if err != nil {
		return nil, "", fmt.Errorf("token_file: %w", err)
	}
	q, err = http.NewRequestWithContext(ctx, http.MethodGet, w.material.url.String(), nil)
	if err != nil {
		return nil, "", withoutURL(err)
	}
	q.Header.Set("User-Agent", w.puller.o.UserAgent)
	prefer := "modes=snapshot"
	if w.held.waits {
		prefer += ";wait=" + strconv.Itoa(int(w.source.LongPolling.Seconds()))
	}
	q.Header.Set("Prefer", prefer)
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	// What was refused may pass after some time: it is loaded again.
	if w.held.refused.IsZero() || w.puller.o.Now().Sub(w.held.refused) < refusedFor {
		tag = w.held.etag
	}
	if tag != "" {
		q.Header.Set("If-None-Match", tag)
	}
	return q, tag, nil
}

// check refuses an answer that is no archive before it is read.
func (w *worker) check(resp *http.Response) error {
	if most := w.puller.o.MaxPacked; most > 0 && resp.ContentLength > most {
		return fmt.Errorf("the archive has %d bytes, more than %d", resp.ContentLength, most)
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return errors.New("the answer has a Content-Encoding; a bundle comes as it is")
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	// A web server that was told of no types says text/plain of an archive.
	if err == nil && (kind == "text/html" || strings.HasSuffix(kind, "json") || strings.HasSuffix(kind, "xml")) {
		return fmt.Errorf("the answer is no bundle but %s", kind)
	}
	return nil
}

// notModified is an answer without an archive.
func (w *worker) notModified(ctx context.Context, tag string) finding {
	switch {
	case tag == "":
		return failed(errors.New("the server answered 304 to a question without an ETag"))
	case !w.held.refused.IsZero():
		return finding{result: resultRefused, err: errors.New("the server still has what was refused: " + w.shown().lastRefusal()), asked: true}
	}
	f := finding{result: resultUnchanged, asked: true}
	var err error
	if f.current, err = w.confirm(ctx); err != nil {
		f.result, f.err = resultUnconfirmed, err
	}
	return f
}

// lastRefusal is why it was refused.
func (s Status) lastRefusal() string {
	return strings.TrimPrefix(s.LastError, "the server still has what was refused: ")
}

// confirm tells whether what the source has is active, and says so to who wants
// to know. The error is why it is not confirmed though it is.
func (w *worker) confirm(ctx context.Context) (current bool, err error) {
	active, err := w.puller.service.Bundle(ctx, w.source.Name)
	if err != nil || active.Digest != w.held.digest {
		return false, nil // rolled back or taken out by hand, which is not undone
	}
	if w.puller.o.Confirm == nil {
		return true, nil
	}
	ctx, cancel := finish(ctx)
	defer cancel()
	err = w.puller.o.Confirm(ctx, w.source.Name, active.Digest)
	if refused, ok := errors.AsType[*bundles.Error](err); ok && refused.Code == bundles.CodeGate {
		return true, unconfirmed(refused.Message)
	}
	if err != nil {
		w.puller.o.Logger.Error().Err(err).Str("bundle", w.source.Name).Msg("that a bundle is current could not be written down")
	}
	return true, nil
}

// unconfirmed is why what the source has and what is active gets no younger.
func unconfirmed(why string) error {
	return fmt.Errorf("what the source has is active and is not confirmed: %s", why)
}

// take brings an archive through the gates.
func (w *worker) take(ctx context.Context, req *request, resp *http.Response) finding {
	select {
	case w.puller.transfers <- struct{}{}:
	case <-req.ctx.Done():
		return failed(req.cause(req.ctx.Err()))
	}
	defer func() { <-w.puller.transfers }()
	body := req.read(resp.Body)
	defer body.stop()
	result, err := w.puller.service.Push(ctx, bundles.PushRequest{
		Name: w.source.Name, Body: body, Poll: true,
		By: bundles.Origin{Caller: caller(w.source.Name), Edge: edge, Source: w.shown().URL},
	})
	w.held.waits = w.source.LongPolling > 0 && resp.Header.Get("Content-Type") == waitType
	f := w.judged(result, err, resp.Header.Get("ETag"))
	f.bytes = body.n
	if result != nil {
		f.archive, f.revision = result.Size, result.Revision
	}
	f.current = f.current || f.result == resultActivated || f.result == resultUnchanged // which the push confirmed
	return f
}

// judged is what the gates said, and keeps the ETag of what needs not come
// again.
func (w *worker) judged(result *bundles.PushResult, err error, tag string) finding {
	if len(tag) > maxTag || strings.ContainsFunc(tag, func(r rune) bool { return r < ' ' || r > '~' }) {
		tag = ""
	}
	if err == nil {
		w.held.etag, w.held.digest, w.held.refused = tag, result.Digest, time.Time{}
		if result.Unconfirmed != "" {
			return finding{result: resultUnconfirmed, err: unconfirmed(result.Unconfirmed), current: true}
		}
		if result.Status == "unchanged" {
			return finding{result: resultUnchanged}
		}
		return finding{result: resultActivated}
	}
	refused, ok := errors.AsType[*bundles.Error](err)
	if ok && lasting(refused.Code) {
		w.held.etag, w.held.refused = tag, w.puller.o.Now()
		return finding{result: resultRefused, err: refused}
	}
	// Nothing was judged: the same may pass the next time.
	w.held.etag, w.held.refused = "", time.Time{}
	f := failed(withoutURL(err))
	if ok {
		f.retryAfter = refused.RetryAfter
	}
	return f
}

// lasting tells whether the same bundle would be refused again.
func lasting(code bundles.Code) bool {
	switch code {
	case bundles.CodeBusy, bundles.CodeUnavailable, bundles.CodePrecondition:
		return false
	}
	return true
}

// retryAfter reads the field in seconds (RFC 9110, section 10.2.3).
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 || seconds > 86400 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
