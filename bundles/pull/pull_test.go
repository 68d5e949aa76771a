package pull_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/bundles/pull"
)

// shelf stands in for the service: the text of an archive is its revision and
// digest; one that begins with "bad" is refused, one with "busy" finds no place.
type shelf struct {
	mu     sync.Mutex
	active string
	pushed []bundles.PushRequest
}

// Push implements pull.Service.
func (s *shelf) Push(_ context.Context, p bundles.PushRequest) (*bundles.PushResult, error) {
	text, err := io.ReadAll(p.Body)
	if err != nil {
		return nil, fmt.Errorf("receive archive: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushed = append(s.pushed, p)
	r := &bundles.PushResult{Name: p.Name, Revision: string(text), Digest: string(text), Status: "active", Size: int64(len(text))}
	switch {
	case strings.HasPrefix(string(text), "bad"):
		return nil, &bundles.Error{Code: bundles.CodeGate, Gate: "compile", Message: "no"}
	case strings.HasPrefix(string(text), "busy"):
		return nil, &bundles.Error{Code: bundles.CodeBusy, Message: "busy", RetryAfter: 7 * time.Second}
	case s.active == string(text):
		r.Status = "unchanged"
	}
	s.active = string(text)
	return r, nil
}

// count is how often something was pushed.
func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pushed)
}

// Bundle implements pull.Service.
func (s *shelf) Bundle(_ context.Context, name string) (bundles.Summary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active == "" {
		return bundles.Summary{}, &bundles.Error{Code: bundles.CodeNotFound}
	}
	return bundles.Summary{Name: name, Revision: s.active, Digest: s.active}, nil
}

// log collects records.
type log struct {
	mu      sync.Mutex
	records []audit.Record
	before  func() // called before each record; may be nil
}

// Append implements pull.Recorder.
func (l *log) Append(ctx context.Context, r *audit.Record) (audit.Receipt, error) {
	if l.before != nil {
		l.before()
	}
	if err := ctx.Err(); err != nil {
		return audit.Receipt{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, *r)
	return audit.Receipt{}, nil
}

// script is a server in memory: it answers each question by the next line, the
// last one for ever, and notes when it was asked for what.
type script struct {
	mu      sync.Mutex
	answers []func(*http.Request) (*http.Response, error)
	asked   []asked
}

type asked struct {
	at     time.Duration // since the start
	header http.Header
}

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // where synctest begins

// RoundTrip implements http.RoundTripper.
func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.asked = append(s.asked, asked{time.Since(epoch), r.Header})
	answer := s.answers[min(len(s.asked), len(s.answers))-1]
	s.mu.Unlock()
	return answer(r)
}

// times lists when it was asked, in seconds.
func (s *script) times() []float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []float64
	for _, a := range s.asked {
		list = append(list, a.at.Seconds())
	}
	return list
}

func answer(status int, body io.Reader, header ...string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(body), ContentLength: -1}, nil
	}
}

// archive answers with an archive, each time anew.
func archive(text, tag string, header ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return answer(200, strings.NewReader(text), append([]string{"ETag", tag}, header...)...)(r)
	}
}

// waiting waits before it answers, unless the question ends.
func waiting(d time.Duration, then func(*http.Request) (*http.Response, error)) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(d):
			return then(r)
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

type fixture struct {
	*pull.Puller
	shelf   *shelf
	log     *log
	server  *script
	confirm func(context.Context) error
	logged  bytes.Buffer // read when the puller has ended

	mu        sync.Mutex
	confirmed []string // owned by mu; read when the puller has ended
}

// run makes a puller of one source and lets it ask for a time. Chance is a half.
func run(t *testing.T, s pull.Source, during time.Duration, answers ...func(*http.Request) (*http.Response, error)) *fixture {
	t.Helper()
	f := prepared(t, s, answers...)
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	if err := f.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return f
}

func prepared(t *testing.T, s pull.Source, answers ...func(*http.Request) (*http.Response, error)) *fixture {
	t.Helper()
	f := &fixture{shelf: &shelf{}, log: &log{}, server: &script{answers: answers}}
	var err error
	f.Puller, err = pull.New(f.shelf, f.log, pull.Options{
		MaxPacked: 1000, Chance: func() float64 { return 0.5 },
		Logger: zerolog.New(zerolog.SyncWriter(&f.logged)),
		Confirm: func(ctx context.Context, name, digest string) error {
			if f.confirm != nil {
				if err := f.confirm(ctx); err != nil {
					return err
				}
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.confirmed = append(f.confirmed, name+" "+digest)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.take(t, s)
	return f
}

func (f *fixture) take(t *testing.T, sources ...pull.Source) {
	t.Helper()
	f.SetTransport(f.server)
	commit, err := f.Prepare(sources)
	if err != nil {
		t.Fatal(err)
	}
	commit()
}

func source() pull.Source {
	return pull.Source{Name: "app", URL: "https://bundles.example?sig=secret", MinDelay: 10 * time.Second, MaxDelay: 30 * time.Second}
}

func TestPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := run(t, source(), 59*time.Second, archive("one", `"1"`), answer(304, http.NoBody), archive("two", `W/"2"`), answer(304, http.NoBody))
		if got, want := f.server.times(), []float64{0, 20, 40}; !slices.Equal(got, want) {
			t.Errorf("asked at %v, want %v", got, want)
		}
		var tags []string
		for _, a := range f.server.asked {
			tags = append(tags, a.header.Get("If-None-Match"))
			if a.header.Get("Prefer") != "modes=snapshot" || a.header.Get("User-Agent") != "verdict" {
				t.Errorf("header %v", a.header)
			}
		}
		if want := []string{"", `"1"`, `"1"`}; !slices.Equal(tags, want) {
			t.Errorf("tags %q", tags)
		}
		if !slices.Equal(f.confirmed, []string{"app one"}) {
			t.Errorf("confirmed %v", f.confirmed)
		}
		s := f.Status()[0]
		if s.State != pull.StateOK || !s.Current || s.Revision != "two" || s.ETag != `W/"2"` || s.Bytes != 3 || s.URL != "https://bundles.example/bundles/app" || s.LastError != "" {
			t.Errorf("status %+v", s)
		}
		p := f.shelf.pushed[0]
		if !p.Poll || p.By.Caller != "source:app" || p.By.Edge != "pull" || p.By.Source != s.URL || p.Keep || p.DryRun {
			t.Errorf("pushed as %+v", p)
		}
		if len(f.log.records) != 0 {
			t.Errorf("records %+v", f.log.records)
		}
	})
}

// A server that waits is asked again at once; one that should and does not, less
// and less often; one that cannot, now and then.
func TestLongPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := source()
		s.LongPolling = 50 * time.Second
		kind := []string{"Content-Type", "application/vnd.openpolicyagent.bundles"}
		f := run(t, s, 10*time.Minute,
			archive("one", `"1"`, kind...),
			waiting(20*time.Second, archive("two", `"2"`, kind...)),
			waiting(50*time.Second, answer(304, http.NoBody)),
			answer(304, http.NoBody), answer(304, http.NoBody), answer(304, http.NoBody),
			archive("three", `"3"`, "Content-Type", "application/gzip"),
			answer(304, http.NoBody),
			waiting(time.Hour, answer(304, http.NoBody)))
		// 1 s after what came at once; without delay after those that waited; then
		// 0.75, 1.5 and 3 s; then as a server that is polled, which has 15 s.
		want := []float64{0, 1, 21, 71, 71.75, 73.25, 76.25, 96.25, 116.25}
		if got := f.server.times(); !slices.Equal(got[:len(want)], want) {
			t.Errorf("asked at %v, want %v", got, want)
		}
		if got := f.server.asked[1].header.Get("Prefer"); got != "modes=snapshot;wait=50" {
			t.Errorf("prefers %q", got)
		}
		if got := f.server.asked[8].header.Get("Prefer"); got != "modes=snapshot" {
			t.Errorf("prefers %q of a server that cannot wait", got)
		}
		if last := f.Status()[0]; last.State != pull.StateFailing || !strings.Contains(last.LastError, "does not answer in time") || last.Revision != "three" {
			t.Errorf("status %+v", last)
		}
	})
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		no := answer(500, http.NoBody)
		f := run(t, source(), 115*time.Second, no, no, no, no, no, no, no,
			answer(503, http.NoBody, "Retry-After", "3600"), archive("busy", `"b"`), archive("one", `"1"`), answer(304, http.NoBody))
		// Between half and all of 1, 2, 4, 8, 16 and then 30 s, which bounds
		// Retry-After too.
		want := []float64{0, 0.75, 2.25, 5.25, 11.25, 23.25, 45.75, 68.25, 98.25}
		if got := f.server.times(); !slices.Equal(got, want) {
			t.Errorf("asked at %v, want %v", got, want)
		}
		s := f.Status()[0]
		if s.State != pull.StateFailing || s.LastSuccess != nil || s.Failures != 9 || s.LastError != "busy" || s.ETag != "" {
			t.Errorf("status %+v", s)
		}
		if len(f.log.records) != 1 || f.log.records[0].Outcome != audit.OutcomeError || f.log.records[0].Message != "the server answered 500 Internal Server Error" {
			t.Errorf("records %+v", f.log.records)
		}
		if err := f.Healthy(t.Context()); err == nil || !strings.Contains(err.Error(), "bundle app has not come") {
			t.Errorf("healthy: %v", err)
		}
	})
}

// What begins to fail and works again is recorded once each, and the active
// bundle is kept by its ETag.
func TestRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
		f := run(t, source(), 2*time.Minute, archive("one", `"1"`), broken, broken, answer(304, http.NoBody))
		if len(f.log.records) != 2 || f.log.records[0].Event != audit.EventBundleSource || f.log.records[1].Outcome != audit.OutcomeSuccess {
			t.Errorf("records %+v", f.log.records)
		}
		if got := f.server.asked[3].header.Get("If-None-Match"); got != `"1"` {
			t.Errorf("after errors it asks with %q", got)
		}
		s := f.Status()[0]
		if s.State != pull.StateOK || s.Failures != 0 || s.LastError != "connection refused" || strings.Contains(s.LastError, "secret") {
			t.Errorf("status %+v", s)
		}
		if err := f.Healthy(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// What a look found is written down though the process stops meanwhile, and
// nothing is logged as an error.
func TestStopsSilently(t *testing.T) {
	broken := func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
	for name, c := range map[string]struct {
		answers            []func(*http.Request) (*http.Response, error)
		during             time.Duration
		records, confirmed int
	}{
		"recording that it fails":   {[]func(*http.Request) (*http.Response, error){broken}, time.Minute, 1, 0},
		"confirming what is active": {[]func(*http.Request) (*http.Response, error){archive("one", `"1"`), answer(304, http.NoBody)}, time.Minute, 0, 1},
		"waiting for an answer":     {[]func(*http.Request) (*http.Response, error){waiting(time.Hour, broken)}, time.Second, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := prepared(t, source(), c.answers...)
				ctx, stop := context.WithTimeout(t.Context(), c.during)
				defer stop()
				f.log.before = stop
				f.confirm = func(ctx context.Context) error {
					stop()
					return ctx.Err()
				}
				if err := f.Run(ctx); err != nil {
					t.Fatal(err)
				}
				if len(f.log.records) != c.records || len(f.confirmed) != c.confirmed {
					t.Errorf("records %+v, confirmed %v", f.log.records, f.confirmed)
				}
				if strings.Contains(f.logged.String(), `"level":"error"`) {
					t.Errorf("logged %s", f.logged.String())
				}
			})
		})
	}
}

// A bundle that nobody vouches for any more is not confirmed by a 304, and the
// source says why, until somebody does again.
func TestUnconfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := prepared(t, source(), archive("one", `"1"`), answer(304, http.NoBody))
		f.confirm = func(context.Context) error {
			if time.Since(epoch) < 50*time.Second {
				return &bundles.Error{Code: bundles.CodeGate, Gate: bundles.GateSignature, Message: `the key "ci" is not configured`}
			}
			return nil
		}
		ctx, stop := context.WithTimeout(t.Context(), 70*time.Second)
		defer stop()
		go func() {
			time.Sleep(45 * time.Second)
			s := f.Status()[0]
			if s.State != pull.StateRefused || !s.Current || s.Failures != 2 || s.LastError != `what the source has is active and is not confirmed: the key "ci" is not configured` {
				t.Errorf("status %+v", s)
			}
		}()
		if err := f.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if got, want := f.server.times(), []float64{0, 20, 40, 60}; !slices.Equal(got, want) || f.shelf.count() != 1 {
			t.Errorf("asked at %v, want %v; loaded %d times", got, want, f.shelf.count())
		}
		if s := f.Status()[0]; s.State != pull.StateOK || s.Failures != 0 || len(f.confirmed) != 1 {
			t.Errorf("status %+v, confirmed %v", s, f.confirmed)
		}
		if len(f.log.records) != 2 || !strings.Contains(f.log.records[0].Message, "is not confirmed") || f.log.records[1].Outcome != audit.OutcomeSuccess {
			t.Errorf("records %+v", f.log.records)
		}
	})
}

// What is refused is not loaded again while the server has the same, until some
// time is over or the configuration is read again.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		same := func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("If-None-Match") == `"b"` {
				return answer(304, http.NoBody)(r)
			}
			return archive("bad", `"b"`)(r)
		}
		f := prepared(t, source(), same)
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()
		time.Sleep(11*time.Minute + 10*time.Second)
		if n := f.shelf.count(); n != 2 {
			t.Errorf("loaded %d times in 11 minutes, want 2", n)
		}
		s := f.Status()[0]
		if s.State != pull.StateRefused || strings.Count(s.LastError, "still has") != 1 || !strings.Contains(s.LastError, "gate compile: no") {
			t.Errorf("status %+v", s)
		}
		f.take(t, source())
		synctest.Wait()
		if n := f.shelf.count(); n != 3 {
			t.Errorf("loaded %d times after the configuration was read again, want 3", n)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// What somebody rolled back stays so, and is not confirmed.
func TestRolledBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := prepared(t, source(), archive("one", `"1"`), func(r *http.Request) (*http.Response, error) {
			return answer(304, http.NoBody)(r)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() {
			time.Sleep(time.Second)
			f.shelf.mu.Lock()
			defer f.shelf.mu.Unlock()
			f.shelf.active = "zero"
		}()
		if err := f.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if s := f.Status()[0]; s.Current || s.State != pull.StateOK || len(f.confirmed) != 0 || len(f.shelf.pushed) != 1 {
			t.Errorf("status %+v, confirmed %v", s, f.confirmed)
		}
	})
}

// endless gives bytes with pauses, never an end.
type endless struct{ pause time.Duration }

// Read implements io.Reader.
func (e endless) Read(p []byte) (int, error) {
	time.Sleep(e.pause)
	p[0] = 'x'
	return 1, nil
}

// stuck gives nothing until its question ends.
type stuck struct{ ctx context.Context }

// Read implements io.Reader.
func (s stuck) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func TestTimeouts(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(*http.Request) (*http.Response, error)
		want   string
		during time.Duration
	}{
		"no answer": {waiting(time.Hour, answer(304, http.NoBody)), "does not answer in time", 16 * time.Second},
		"stalls": {func(r *http.Request) (*http.Response, error) {
			return answer(200, stuck{r.Context()})(r)
		}, "sent nothing for 30s", 31 * time.Second},
		"trickles": {func(r *http.Request) (*http.Response, error) {
			body := io.MultiReader(io.LimitReader(endless{29 * time.Second}, 21), stuck{r.Context()})
			return answer(200, body)(r)
		}, "longer than 10m0s", 610 * time.Second},
		"lies about its ETag": {answer(304, http.NoBody), "304 to a question without an ETag", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := run(t, source(), tt.during, tt.answer)
				if s := f.Status()[0]; s.State != pull.StateFailing || !strings.Contains(s.LastError, tt.want) {
					t.Errorf("status %+v, want %q", s, tt.want)
				}
			})
		})
	}
}

// Sources come and go without the others noticing; a bad one changes nothing.
func TestPrepare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := prepared(t, source(), func(r *http.Request) (*http.Response, error) {
			return archive(r.URL.Path, `"1"`)(r)
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()
		synctest.Wait()
		other := pull.Source{Name: "other", URL: "https://bundles.example/o.tar.gz"}
		f.take(t, source(), other)
		synctest.Wait()
		if list := f.Status(); len(list) != 2 || list[0].LastSuccess == nil || list[1].Revision != "/o.tar.gz" {
			t.Errorf("status %+v", list)
		}
		_, err := f.Prepare([]pull.Source{other, {Name: "bad", URL: "ftp://x"}})
		if err == nil || !strings.HasPrefix(err.Error(), "[1].url: is not a URL") || len(f.Status()) != 2 {
			t.Errorf("prepare: %v", err)
		}
		f.take(t, other)
		synctest.Wait()
		before := len(f.server.times())
		time.Sleep(100 * time.Second)
		if list := f.Status(); len(list) != 1 || list[0].Name != "other" || len(f.server.times()) != before+1 {
			t.Errorf("status %+v, asked %d times more", list, len(f.server.times())-before)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A worker that waits for its server looks again when it is told to.
func TestWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := source()
		s.LongPolling = time.Minute
		f := prepared(t, s, archive("bad", `"b"`, "Content-Type", "application/vnd.openpolicyagent.bundles"), waiting(time.Minute, answer(304, http.NoBody)))
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		go func() {
			time.Sleep(30 * time.Second) // it waits since 20 s
			f.take(t, s)
		}()
		if err := f.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if got, want := f.server.times(), []float64{0, 20, 30}; !slices.Equal(got, want) {
			t.Errorf("asked at %v, want %v", got, want)
		}
		if got := f.server.asked[2].header.Get("If-None-Match"); got != "" {
			t.Errorf("it still has %q", got)
		}
	})
}

func TestSourceProblems(t *testing.T) {
	p, err := pull.New(&shelf{}, &log{}, pull.Options{})
	if err != nil {
		t.Fatal(err)
	}
	https := func(change func(*pull.Source)) pull.Source {
		s := pull.Source{Name: "a", URL: "https://bundles.example"}
		change(&s)
		return s
	}
	for want, s := range map[string]pull.Source{
		"name: is empty":                     {URL: "https://bundles.example"},
		`name: "../a" is no name`:            {Name: "../a", URL: "https://bundles.example"},
		"url: is not a URL":                  {Name: "a", URL: "bundles.example"},
		"url: is not https":                  {Name: "a", URL: "http://bundles.example"},
		"url: holds a user name":             {Name: "a", URL: "https://u:hidden@bundles.example"},
		"max_delay: 1s is less":              https(func(s *pull.Source) { s.MinDelay, s.MaxDelay = 2*time.Second, time.Second }),
		"long_polling_timeout: 1ms":          https(func(s *pull.Source) { s.LongPolling = time.Millisecond }),
		"tls: cert_file and key_file":        https(func(s *pull.Source) { s.CertFile = "c" }),
		"tls.ca_file: open nowhere":          https(func(s *pull.Source) { s.CAFile = "nowhere" }),
		"tls.ca_file: pull_test.go holds no": https(func(s *pull.Source) { s.CAFile = "pull_test.go" }),
		"tls.cert_file: open nowhere":        https(func(s *pull.Source) { s.CertFile, s.KeyFile = "nowhere", "nowhere" }),
		"token_file: open nowhere":           https(func(s *pull.Source) { s.TokenFile = "nowhere" }),
		"token_file: . is not a regular":     https(func(s *pull.Source) { s.TokenFile = "." }),
		"token_file: pull_test.go does not":  https(func(s *pull.Source) { s.TokenFile = "pull_test.go" }),
	} {
		_, err := p.Prepare([]pull.Source{s})
		if err == nil || !strings.Contains(err.Error(), "[0]."+want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := p.Prepare(make([]pull.Source, pull.MaxSources+1)); err == nil {
		t.Error("too many sources")
	}
	if _, err := pull.New(nil, nil, pull.Options{}); err == nil {
		t.Error("a puller without a service")
	}
	if bytes.Contains([]byte(fmt.Sprint(p.Status())), []byte("secret")) {
		t.Error("a secret in the status")
	}
}
