package bundles

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/trial"
	"github.com/verdict-pdp/verdict/storage"
)

const (
	// BucketName is the bucket of the state store that metadata stand in.
	BucketName = "bundles"

	// maxUploads is how many archives come in or wait for their gates at once;
	// each takes disk. uploadWait is how long another one waits for its turn,
	// busyRetry when to try again after that.
	maxUploads = 16
	uploadWait = 10 * time.Second
	busyRetry  = 5 * time.Second
	// commitTimeout bounds what is written down once everything is decided; it
	// does not end when the caller goes away.
	commitTimeout = 2 * time.Minute
	// keptWarm is how many former sets are kept ready to answer: each takes as
	// much memory as the active one.
	keptWarm = 1
)

// Recorder appends a record to the audit log and returns when it is as durable
// as the log promises. It is called from many goroutines.
type Recorder interface {
	Append(ctx context.Context, r *audit.Record) (audit.Receipt, error)
}

// Options configure a Service. The zero value of a field that is not required
// is its default.
type Options struct {
	Dir      string         // where archives are kept; required, made if missing
	Engine   *eval.Engine   // required; what it holds when Open is called stays below every set
	Bucket   storage.Bucket // metadata; required
	Recorder Recorder       // required

	// Verifier judges signatures; nil: one that takes nothing.
	Verifier      Verifier
	Limits        Limits
	KeepRevisions int // of each bundle; default 20
	// KeepDays is how long a revision is kept after it was pushed or active last;
	// 0: as long as KeepRevisions allows.
	KeepDays int
	// MaxAge is how long an active revision decides after it was made active or
	// confirmed; 0: for ever. MaxAges are those of single bundles.
	MaxAge  time.Duration
	MaxAges map[string]time.Duration
	// CanarySubject is a JSON Pointer into the input: which part of the subjects
	// a canary answers for goes by the value there. Default DefaultSubject.
	CanarySubject string
	GateOptions   GateOptions
	Gates         []Gate // more of them, in their order
	// Background calls a function that keeps a processor busy for a while and
	// returns when it has; nil: it is called as any other.
	Background func(func() error) error
	Now        func() time.Time
	Logger     zerolog.Logger
}

// Service receives bundles, keeps them, and decides which are active. Its
// methods may be called from any goroutine.
type Service struct {
	o     Options
	fixed []*eval.Bundle // the base layer and what was loaded from files
	disk  *archives
	meta  *metadata

	uploads chan struct{} // one for each archive that comes in
	judging chan struct{} // held while a candidate is read and judged

	// changing is held by whoever changes what is kept or active. It is held
	// while snapshots are built, so it is a channel, to be waited for with a
	// context.
	changing chan struct{}
	first    precedence // for it
	// confirming is held while a bundle is confirmed.
	confirming chan struct{}
	expiring   sync.Mutex // held while the engine is told of ages

	mu         sync.Mutex
	active     activeSet               // owned by mu; changed by the holder of changing
	changed    chan struct{}           // owned by mu; closed and replaced when active changes
	confirmed  map[string]confirmation // owned by mu; changed by the holder of confirming
	vouched    map[string]vouched      // owned by mu
	staging    *staging                // owned by mu; what is tried; nil: nothing
	restaged   chan struct{}           // owned by mu; closed and replaced when something is staged
	lastStaged map[string]*Staging     // owned by mu; what came of the last one, by bundle
	warm       []warmSet               // owned by the holder of changing, newest first

	trials          *trial.Metrics
	leftover        *staging // of the process before; owned by Run
	leftoverVersion uint64

	fault func(point string) error // for tests: what happens at a step
}

// warmSet is a former snapshot, ready to answer again.
type warmSet struct {
	key      string
	snapshot *eval.Snapshot
}

// Open makes the service ready and removes what a crash left half done. Nothing
// is active yet; see Restore.
func Open(ctx context.Context, o Options) (*Service, error) {
	if o.Engine == nil || o.Bucket == nil || o.Recorder == nil || o.Dir == "" {
		return nil, errors.New("open bundles: engine, bucket, recorder and folder are required")
	}
	if o.Verifier == nil {
		o.Verifier = Unsigned{}
	}
	if o.KeepRevisions == 0 {
		o.KeepRevisions = 20
	}
	if o.KeepRevisions < 0 || o.KeepDays < 0 || o.MaxAge < 0 {
		return nil, errors.New("open bundles: negative bound on what is kept or on its age")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Background == nil {
		o.Background = func(work func() error) error { return work() }
	}
	o.Limits, o.GateOptions = o.Limits.withDefaults(), o.GateOptions.withDefaults()
	s := &Service{
		o: o, fixed: o.Engine.Active().Bundles(), meta: &metadata{bucket: o.Bucket},
		uploads: make(chan struct{}, maxUploads), judging: make(chan struct{}, 1), changing: make(chan struct{}, 1), confirming: make(chan struct{}, 1),
		changed: make(chan struct{}), restaged: make(chan struct{}), lastStaged: map[string]*Staging{},
		vouched: map[string]vouched{},
		trials:  trial.NewMetrics(),
		fault:   func(string) error { return nil },
	}
	var err error
	if s.disk, err = openArchives(o.Dir); err != nil {
		return nil, fmt.Errorf("open bundles: %w", err)
	}
	if s.active, err = s.meta.activeSet(ctx); err != nil {
		return nil, fmt.Errorf("open bundles: %w", err)
	}
	if err := s.readConfirmations(ctx); err != nil {
		return nil, fmt.Errorf("open bundles: %w", err)
	}
	if err := s.readLeftover(ctx); err != nil {
		return nil, fmt.Errorf("open bundles: %w", err)
	}
	if err := s.countArchives(ctx); err != nil {
		return nil, fmt.Errorf("open bundles: %w", err)
	}
	removed, err := s.disk.sweep()
	if err != nil {
		return nil, fmt.Errorf("open bundles: %w", err)
	}
	if len(removed) > 0 {
		s.o.Logger.Warn().Strs("files", removed).Msg("removed what an interrupted push left behind")
	}
	return s, nil
}

// countArchives counts who needs which archive.
func (s *Service) countArchives(ctx context.Context) error {
	for _, kind := range []string{keyRevision, keyRefused} {
		err := s.meta.each(ctx, storage.Prefix(kind), func(r *Revision) error {
			s.disk.retain(r.Archive.SHA256)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Restore makes the last active set answer again, from what is kept on disk.
// It is called before anybody is served. An error says which bundle cannot be
// used: the set is active as a whole or not at all.
func (s *Service) Restore(ctx context.Context) error {
	set := s.fixed
	for name, entry := range s.active.Bundles {
		b, err := s.load(ctx, name, entry.Revision)
		if err != nil {
			return fmt.Errorf("restore bundle %s revision %s: %w", name, entry.Revision, err)
		}
		set = withBundle(set, b)
	}
	if len(s.active.Bundles) == 0 {
		return nil
	}
	if _, err := s.o.Engine.Write(func(d *eval.Draft) error { return d.SetBundles(set) }); err != nil {
		return fmt.Errorf("restore the active bundles: %w", err)
	}
	s.expire()
	return nil
}

// load reads a kept revision from its archive, and checks that the archive is
// what was accepted.
func (s *Service) load(ctx context.Context, name, revision string) (*eval.Bundle, error) {
	r, err := s.meta.revision(ctx, name, revision)
	if err != nil {
		return nil, err
	}
	c, err := s.readKept(r, nil)
	if err != nil {
		return nil, err
	}
	return c.bundle, nil
}

// readKept reads a kept revision; before is as for read.
func (s *Service) readKept(r *Revision, before *eval.Bundle) (*content, error) {
	a, err := s.disk.open(r)
	if err != nil {
		return nil, err
	}
	m, err := manifestOf(a)
	if err != nil {
		return nil, err
	}
	return read(r.Name, a, m, before)
}

// checkName refuses what cannot be the name of a pushed bundle.
func (s *Service) checkName(name string) error {
	if !ValidName(name) {
		return refuse(CodeName, "", "a bundle's name is 1 to 128 letters, digits, dots, dashes and underscores and starts with a letter or a digit").about("name")
	}
	for _, b := range s.fixed {
		if b.Name == name {
			return refuse(CodeName, "", "%q is the name of policies that were loaded at start", name).about("name")
		}
	}
	return nil
}

// ValidName tells whether name can be a bundle's: 1 to 128 letters, digits, dots,
// dashes and underscores, beginning with a letter or a digit.
func ValidName(name string) bool {
	ok, err := regexp.MatchString(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`, name)
	return err == nil && ok
}

// lock takes a channel that is used as a lock.
func lock(ctx context.Context, ch chan struct{}) (unlock func(), err error) {
	select {
	case ch <- struct{}{}:
		return func() { <-ch }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// current is the active set.
func (s *Service) current() activeSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}
