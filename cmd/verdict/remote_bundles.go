package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/bundles"
)

const (
	// gatesPatience is how long a server may take over the gates of a push or
	// over building a set, once it has all of the request.
	gatesPatience = 15 * time.Minute
	// maxBundleAnswer bounds an answer; lists in it have at most 1,000 entries.
	maxBundleAnswer = 64 << 20
)

// bundleServerFlags are the flags of the bundle commands that ask a server.
type bundleServerFlags struct {
	remote remoteFlags
	output outputFlag
}

func (f *bundleServerFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.remote.server, "server", "", "`URL` of the server (environment VERDICT_SERVER)")
	fs.StringVar(&f.remote.tokenFile, "token-file", "", "`FILE` with the token (else environment VERDICT_TOKEN)")
	fs.StringVar(&f.remote.caFile, "ca-file", "", "`FILE` with the CA certificates to trust for the server, PEM")
	f.output = "text"
	f.output.add(cmd)
}

// connect finds the server. Redirects are not followed: one would turn a push
// into a question.
func (f *bundleServerFlags) connect(p *process) (*remote, error) {
	r, err := f.remote.connect(p, "")
	if err == nil && r == nil {
		err = errors.New("no server is named: give --server URL, or VERDICT_SERVER in the environment")
	}
	if err != nil {
		return nil, withExit(exitUsage, err)
	}
	r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if t, ok := r.client.Transport.(*http.Transport); ok {
		t.ResponseHeaderTimeout, t.ExpectContinueTimeout = gatesPatience, time.Second
	}
	return r, nil
}

// failed gives an error of asking its exit code, and prints the server's answer
// where there is one.
func (f *bundleServerFlags) failed(p *process, err error) error {
	refused, ok := errors.AsType[*refusal](err)
	if !ok {
		return withExit(exitUsage, err)
	}
	var printed error
	switch {
	case f.output == "json" && refused.Code != "":
		printed = writeRaw(p.stdout, refused.raw)
	case len(refused.Gates) > 0:
		printed = writePlain(p.stdout, gatesText(refused.Gates))
	}
	return withExit(refused.exitCode(), errors.Join(err, printed))
}

// question is a request about bundles.
type question struct {
	method string
	path   []string // below /api/v1, not escaped
	query  url.Values
	header map[string]string
	body   io.Reader
	size   int64 // of the body
}

// refusal is the answer of a server that did not do what it was asked for.
type refusal struct {
	Code   string               `json:"code"` // empty: it was not verdict that answered
	Gate   string               `json:"gate"`
	Detail string               `json:"detail"`
	Gates  []bundles.GateResult `json:"gates"`

	status int
	raw    []byte
	text   string
}

// Error names the gate, where it was one.
func (e *refusal) Error() string { return plain(e.text) }

// exitCode parts a refusal of what was asked from a question that was not heard.
func (e *refusal) exitCode() int {
	if e.Code == "" {
		return exitUsage
	}
	switch e.status {
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return exitFailure
	}
	if e.Gate != "" {
		return exitFailure
	}
	return exitUsage
}

// newRefusal reads an answer that is no 200.
func newRefusal(resp *http.Response, path string, body []byte) *refusal {
	e := &refusal{}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") || json.Unmarshal(body, e) != nil {
		e = &refusal{}
	}
	e.status, e.raw = resp.StatusCode, body
	switch {
	case e.Gate != "":
		e.text = fmt.Sprintf("refused by the gate %s (%d %s): %s", e.Gate, e.status, e.Code, e.Detail)
	case e.Code != "":
		e.text = fmt.Sprintf("the server answered %d %s: %s", e.status, e.Code, e.Detail)
	default:
		e.text = fmt.Sprintf("%s answered %s: %s", path, resp.Status, strings.TrimSpace(string(body[:min(len(body), maxRemoteError)])))
	}
	if wait := resp.Header.Get("Retry-After"); wait != "" {
		e.text += fmt.Sprintf(" (try again after %s s)", wait)
	}
	return e
}

// ask sends a question and returns the body of a 200. Another answer is a
// *refusal.
func (r *remote) ask(ctx context.Context, q question) ([]byte, error) {
	answer, err := r.send(ctx, q)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	body, err := io.ReadAll(io.LimitReader(answer, maxBundleAnswer))
	if err != nil {
		return nil, askError(q.method, err)
	}
	return body, nil
}

// send is ask for an answer that is read as it comes. The caller closes it.
func (r *remote) send(ctx context.Context, q question) (io.ReadCloser, error) {
	u := r.base.JoinPath("/api/v1")
	for _, part := range q.path {
		if part == "" || part == "." || part == ".." {
			return nil, fmt.Errorf("%q is not a name", part)
		}
		u = u.JoinPath(url.PathEscape(part))
	}
	u.RawQuery = q.query.Encode()
	req, err := http.NewRequestWithContext(ctx, q.method, u.String(), q.body)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", u.Redacted(), err)
	}
	if q.size > 0 {
		req.ContentLength = q.size
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	for name, value := range q.header {
		req.Header.Set(name, value)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, askError(q.method, err)
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent:
		return resp.Body, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBundleAnswer))
	if err != nil {
		return nil, askError(q.method, err)
	}
	return nil, newRefusal(resp, "/"+strings.TrimPrefix(u.Path, "/"), body)
}

// askError says so when the server may have done what it was asked for.
func askError(method string, err error) error {
	if op, ok := errors.AsType[*net.OpError](err); method == http.MethodGet || ok && op.Op == "dial" {
		return fmt.Errorf("ask the server: %w", err)
	}
	return fmt.Errorf("ask the server: %w; it may have done it all the same: look what is in force", err)
}

// decodeAnswer reads an answer; good says whether it is one to the question.
func decodeAnswer[T any](body []byte, good func(*T) bool) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("read the server's answer: %w", err)
	}
	if !good(v) {
		return nil, errors.New("read the server's answer: it is not that of verdict")
	}
	return v, nil
}

// writeRaw prints JSON as the server wrote it, as one line.
func writeRaw(w io.Writer, body []byte) error {
	_, err := fmt.Fprintf(w, "%s\n", strings.TrimSpace(string(body)))
	return err
}

// writePlain prints text that names what others have named.
func writePlain(w io.Writer, text string) error {
	_, err := io.WriteString(w, plain(text))
	return err
}

// plain replaces what would steer a terminal.
func plain(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) && c != '\n' {
			return unicode.ReplacementChar
		}
		return c
	}, text)
}
