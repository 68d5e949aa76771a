package pull

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/bundles"
)

const (
	// maxTransfers is how many archives come in at once; each takes the place of
	// a push.
	maxTransfers = 4
	// refusedFor is how long what was refused is not loaded again while the
	// server has the same.
	refusedFor = 10 * time.Minute
)

// Service is where bundles go. Its methods are called from several goroutines.
type Service interface {
	// Push takes a bundle through the gates and makes it active.
	Push(ctx context.Context, p bundles.PushRequest) (*bundles.PushResult, error)
	// Bundle tells what is active of a bundle.
	Bundle(ctx context.Context, name string) (bundles.Summary, error)
}

// Recorder appends a record to the audit log and returns when it is as durable
// as the log promises. It is called from several goroutines.
type Recorder interface {
	Append(ctx context.Context, r *audit.Record) (audit.Receipt, error)
}

// Options configure a Puller. The zero value is the documented default.
type Options struct {
	// MaxPacked is the largest archive that is begun to be read, in bytes; 0: only
	// the service's own limit counts.
	MaxPacked int64
	// Confirm is told that the source answered that it still has what is active,
	// by its digest; nil: nobody is. bundles.Service.Confirm is one.
	Confirm   func(ctx context.Context, name, digest string) error
	UserAgent string           // default "verdict"
	Now       func() time.Time // default time.Now
	Chance    func() float64   // from 0 to below 1; default math/rand
	Logger    zerolog.Logger
}

// Puller keeps bundles as their sources have them. Its methods may be called
// from any goroutine.
type Puller struct {
	service  Service
	recorder Recorder
	o        Options

	transfers chan struct{}     // a slot for each archive that comes in
	transport http.RoundTripper // for tests: what stands in for the network; may be nil

	mu      sync.Mutex
	workers []*worker     // owned by mu; in the order of the configuration
	changed chan struct{} // owned by mu; closed and replaced when workers change
}

// New returns a puller without sources. Nothing is asked before Run.
func New(service Service, recorder Recorder, o Options) (*Puller, error) {
	if service == nil || recorder == nil {
		return nil, errors.New("make puller: service and recorder are required")
	}
	if o.UserAgent == "" {
		o.UserAgent = "verdict"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Chance == nil {
		o.Chance = rand.Float64
	}
	return &Puller{
		service: service, recorder: recorder, o: o,
		transfers: make(chan struct{}, maxTransfers), changed: make(chan struct{}),
	}, nil
}

// Prepare checks sources, reads their files, and gives the function that puts
// them in place of those in use: new ones are asked, those that are gone or
// changed are left, and the others look again at once, since what they were
// refused for may have changed too. Until it is called nothing changes, and an
// error, which names the entry and its key, changes nothing.
func (p *Puller) Prepare(sources []Source) (commit func(), err error) {
	if len(sources) > MaxSources {
		return nil, fmt.Errorf("more than %d sources", MaxSources)
	}
	next := make([]*worker, 0, len(sources))
	seen := map[string]bool{}
	for i, s := range sources {
		s = s.withDefaults()
		if seen[s.Name] {
			return nil, fmt.Errorf("[%d].name: %q is given twice; a bundle has one source", i, s.Name)
		}
		seen[s.Name] = true
		m, err := s.open()
		if err != nil {
			return nil, fmt.Errorf("[%d].%w", i, err)
		}
		if p.transport != nil {
			m.client.Transport = p.transport
		}
		next = append(next, newWorker(p, s, m))
	}
	return func() { p.commit(next) }, nil
}

func (p *Puller) commit(next []*worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, w := range next {
		for _, old := range p.workers {
			if old.source == w.source && old.material.caSum == w.material.caSum {
				next[i] = old
				old.wake()
			}
		}
	}
	p.workers = next
	close(p.changed)
	p.changed = make(chan struct{})
}

// Run asks the sources until ctx ends; then all questions are given up, what is
// being made active is finished, and it returns nil. It is called once.
func (p *Puller) Run(ctx context.Context) error {
	running := map[*worker]func(){} // worker to what stops it
	defer func() {
		for _, stop := range running {
			stop()
		}
	}()
	for {
		p.mu.Lock()
		workers, changed := p.workers, p.changed
		p.mu.Unlock()
		wanted := map[*worker]bool{}
		for _, w := range workers {
			wanted[w] = true
		}
		for w, stop := range running {
			if !wanted[w] {
				stop()
				delete(running, w)
			}
		}
		for _, w := range workers {
			if running[w] == nil {
				running[w] = w.start(ctx)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// Status tells how the sources are, in the order of the configuration.
func (p *Puller) Status() []Status {
	p.mu.Lock()
	workers := p.workers
	p.mu.Unlock()
	list := make([]Status, 0, len(workers))
	for _, w := range workers {
		list = append(list, w.shown())
	}
	return list
}

// Healthy tells which bundle has a source and never came to be active; nil when
// there is none. A source that fails later is no error: what is active answers.
func (p *Puller) Healthy(ctx context.Context) error {
	p.mu.Lock()
	workers := p.workers
	p.mu.Unlock()
	for _, w := range workers {
		if s := w.shown(); s.LastSuccess != nil {
			continue
		}
		found, err := p.service.Bundle(ctx, w.source.Name)
		if refused, ok := errors.AsType[*bundles.Error](err); ok && refused.Code == bundles.CodeNotFound {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("look for bundle %s: %w", w.source.Name, err)
		}
		if found.Revision == "" {
			return fmt.Errorf("bundle %s has not come from its source yet", w.source.Name)
		}
	}
	return nil
}
