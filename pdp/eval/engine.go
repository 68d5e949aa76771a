package eval

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/cache"
)

const (
	// DefaultTimeout bounds one evaluation.
	DefaultTimeout = 100 * time.Millisecond

	// maxValues bounds the compiled patterns that are kept between queries.
	maxValues = 1024
)

// slotsPerProcessor is how many evaluations may run at once for each processor.
const slotsPerProcessor = 4

// Options configure an Engine. The zero value is the documented default.
type Options struct {
	// Timeout bounds one evaluation; zero means DefaultTimeout. Evaluations that
	// share the processors have up to slotsPerProcessor times as long.
	Timeout time.Duration
	// Version and Commit are what the built-in opa.runtime tells a policy;
	// nothing else of the process is told.
	Version, Commit string
	// MemoBytes bounds the memory of remembered rule results of one snapshot;
	// zero means the default, a negative number turns them off.
	MemoBytes int
}

// Engine holds the active snapshot and lets one writer at a time replace it.
// Its methods may be called at any time from any goroutine.
type Engine struct {
	options Options
	runtime *ast.Term
	caps    *ast.Capabilities
	values  cache.InterQueryValueCache

	timeout atomic.Int64  // nanoseconds
	slots   chan struct{} // holds one value for each evaluation that runs
	active  atomic.Pointer[Snapshot]
	expiry  atomic.Pointer[expiry] // nil: no bundle becomes stale
	writer  sync.Mutex             // held while a draft exists
}

// New returns an engine whose active snapshot is empty.
func New(o Options) (*Engine, error) {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	caps := ast.CapabilitiesForThisVersion()
	caps.AllowNet = []string{} // http.send and lookups reach no host
	e := &Engine{
		options: o,
		caps:    caps,
		slots:   make(chan struct{}, slotsPerProcessor*runtime.GOMAXPROCS(0)),
		values:  newValueCache(),
		runtime: ast.ObjectTerm(
			ast.Item(ast.StringTerm("version"), ast.StringTerm(o.Version)),
			ast.Item(ast.StringTerm("commit"), ast.StringTerm(o.Commit)),
		),
	}
	e.timeout.Store(int64(o.Timeout))
	program, err := compile(nil, caps, nonEmpty(ast.NewObject()))
	if err != nil {
		return nil, err
	}
	e.active.Store(newSnapshot(e, program, nil, nil, ast.NewObject(), ast.NewObject(), 0))
	return e, nil
}

// valueCache is where built-ins keep compiled regular expressions, globs and
// schemas between queries. OPA's own has no bound unless it is given one, and a
// policy may make its patterns from the input.
type valueCache struct{ cache.InterQueryValueCache }

func newValueCache() valueCache {
	most := maxValues
	return valueCache{cache.NewInterQueryValueCache(context.Background(), &cache.Config{
		InterQueryBuiltinValueCache: cache.InterQueryBuiltinValueCacheConfig{MaxNumEntries: &most},
	})}
}

// GetCache is part of cache.InterQueryValueCache. Built-ins that would have a
// cache by name, such as those of tokens, go without.
func (valueCache) GetCache(string) cache.InterQueryValueCacheBucket { return nil }

// enter waits until another evaluation may run. Many more of them than there are
// processors would only slow one another down, and run into a deadline that is
// meant for the policy, not for the load: it begins when this returns.
func (e *Engine) enter(ctx context.Context) error {
	select {
	case e.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case e.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &topdown.Error{Code: topdown.CancelErr, Message: "caller cancelled query execution"}
	}
}

func (e *Engine) leave() { <-e.slots }

// Running is how many evaluations run or wait on behalf of decisions now, up to
// a few for each processor.
func (e *Engine) Running() int { return len(e.slots) }

// share is how many evaluations there are on each processor now, from 1 to
// slotsPerProcessor.
func (e *Engine) share() int {
	return max(1, (len(e.slots)*slotsPerProcessor+cap(e.slots)-1)/cap(e.slots))
}

// Timeout returns the bound of one evaluation.
func (e *Engine) Timeout() time.Duration { return time.Duration(e.timeout.Load()) }

// SetTimeout changes the bound for evaluations that begin from now on. It must
// be positive.
func (e *Engine) SetTimeout(d time.Duration) { e.timeout.Store(int64(d)) }

// Active returns the snapshot that answers now. A request takes it once and
// keeps it to its end.
func (e *Engine) Active() *Snapshot { return e.active.Load() }

// Write calls fn with a draft of the active snapshot and, unless fn returns an
// error, builds the changed snapshot and makes it the active one. Queries go on
// meanwhile and see either the old or the new one. One writer runs at a time.
// The error of fn is returned as it is; modules that do not compile are a
// *CompileError. Nothing has changed when an error is returned.
func (e *Engine) Write(fn func(*Draft) error) (*Snapshot, error) {
	return e.WriteThen(fn, func(*Snapshot) error { return nil })
}

// WriteThen is Write with a last word: then is called with the snapshot that is
// about to become active, unless nothing has changed, and its error keeps the
// old one. This is where a change is recorded before it takes effect.
func (e *Engine) WriteThen(fn func(*Draft) error, then func(next *Snapshot) error) (*Snapshot, error) {
	e.writer.Lock()
	defer e.writer.Unlock()
	d := newDraft(e.Active())
	if err := fn(d); err != nil {
		return nil, err
	}
	if !d.changed() {
		return d.from, nil
	}
	next, err := d.build()
	if err != nil {
		return nil, err
	}
	if err := e.replace(next, func() error { return then(next) }); err != nil {
		return nil, err
	}
	return next, nil
}
