package bundles

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// The gates of every push, in their order. Options.Gates come behind them.
const (
	GateArchive      = "archive"      // a tarball within the limits, nothing in it that is no bundle
	GateSignature    = "signature"    // signed by a key that may
	GateManifest     = "manifest"     // manifest and data are right, nothing lies outside of the roots
	GateHistory      = "history"      // no quiet return to the past
	GateRoots        = "roots"        // nobody else owns what it owns
	GateCompile      = "compile"      // it compiles with everything else that is active
	GateCapabilities = "capabilities" // it calls nothing that is refused
	GateTests        = "tests"        // its own tests pass in time
	GateCoverage     = "coverage"     // its tests cover enough of it
)

// Outcome is how a gate ended.
type Outcome string

// The outcomes of gates.
const (
	Passed Outcome = "passed"
	Failed Outcome = "failed"
	Off    Outcome = "off"     // by configuration
	NotRun Outcome = "not_run" // one before it failed
)

// GateResult is what one gate said.
type GateResult struct {
	Name    string  `json:"name"`
	Result  Outcome `json:"result"`
	Millis  float64 `json:"duration_ms"`
	Message string  `json:"message,omitempty"`
	Details any     `json:"details,omitempty"`
	// Evidence is a hash of what the gate went by, which records keep.
	Evidence string `json:"evidence,omitempty"`
}

// Gate is a condition for the activation of a bundle.
type Gate struct {
	// Name stands in answers and records.
	Name string
	// Check judges the candidate. It keeps to the context, changes nothing, and
	// may run beside decisions for as long as it takes. An *Error refuses; any
	// other error says that it could not be told, which refuses as well.
	Check func(ctx context.Context, c *Candidate) (Finding, error)
	// Activation says that it judges activations of kept revisions too. Of the
	// candidate it then has Name, By, Active and Snapshot only.
	Activation bool
}

// Finding is what a gate that did not refuse has to say.
type Finding struct {
	Off     bool
	Message string
	Details any // encodes as JSON
	// Evidence is GateResult's.
	Evidence string
}

// Candidate is a bundle on its way through the gates. What a gate finds out
// stands there for those behind it.
type Candidate struct {
	Name    string
	By      Origin
	Archive *Archive
	Signer  Signer
	// Bundle and Tests are set behind the gate "manifest".
	Bundle *eval.Bundle
	Tests  []*eval.Module
	// Active is the revision that answers now, nil when there is none.
	Active *eval.Bundle
	// Snapshot is what would answer, behind the gate "compile".
	Snapshot *eval.Snapshot

	manifest *bundle.Manifest
	serial   *int64
	dropped  []string // what the API wrote and would be gone
	replaced []string // rules of the base layer
	coverage *float64
	// parseError is of a module, found by the gate "manifest" and told by
	// "compile".
	parseError *Error
}

// Signer is who vouches for a bundle.
type Signer struct {
	KeyID     string `json:"key_id,omitempty"`
	Algorithm string `json:"algorithm,omitempty"`
	// Statement names what was signed, which the bytes of data files may differ
	// in without another signature; empty: the same as the digest.
	Statement string `json:"statement,omitempty"`
	// Unsigned says that nobody does, and that the configuration allows it.
	Unsigned bool `json:"unsigned,omitempty"`
}

// Verifier decides whether a bundle may be believed. It is called from several
// goroutines.
type Verifier interface {
	// Verify checks the signature of what was pushed under a name, and that it
	// is about exactly these files. It reads nothing but the archive. Every
	// error refuses the bundle and is shown to the caller.
	Verify(name string, a *Archive) (Signer, error)
	// Vouch judges again, by the content of .signatures.json (nil: there is
	// none), what Verify took under this name: its key may be gone, or its time
	// over. The files are not looked at again.
	Vouch(name string, signatures []byte) (Signer, error)
}

// Unsigned is a Verifier that looks at no signature.
type Unsigned struct {
	// Allow takes every bundle; otherwise none is.
	Allow bool
}

// Verify implements Verifier.
func (u Unsigned) Verify(name string, a *Archive) (Signer, error) {
	return u.Vouch(name, nil)
}

// Vouch implements Verifier.
func (u Unsigned) Vouch(string, []byte) (Signer, error) {
	if !u.Allow {
		return Signer{}, errors.New("no key is configured that could vouch for it, and unsigned bundles are not allowed (bundles.allow_unsigned)")
	}
	return Signer{Unsigned: true}, nil
}

// GateOptions are the gates that can be told something. The zero value is the
// documented default.
type GateOptions struct {
	Coverage     float64       // least line coverage by the bundle's tests, in percent; 0: off
	TestsTimeout time.Duration // of all tests together; default 30 s
	TestsMemory  uint64        // bytes that tests may add to the heap; default 1 GiB
	// Refused are the built-ins that a bundle may not call; nil: those that
	// reach the network.
	Refused []string
	// Lenient turns the compiler's strict mode off.
	Lenient bool
}

func (o GateOptions) withDefaults() GateOptions {
	if o.TestsTimeout == 0 {
		o.TestsTimeout = 30 * time.Second
	}
	if o.TestsMemory == 0 {
		o.TestsMemory = 1 << 30
	}
	if o.Refused == nil {
		o.Refused = []string{"http.send", "net.lookup_ip_addr"}
	}
	return o
}

// gates are those of every push.
func (s *Service) gates() []Gate {
	return append([]Gate{
		{Name: GateSignature, Check: s.checkSignature},
		{Name: GateManifest, Check: s.checkManifest},
		{Name: GateHistory, Check: s.checkHistory},
		{Name: GateRoots, Check: s.checkRoots},
		{Name: GateCompile, Check: s.checkCompile},
		{Name: GateCapabilities, Check: s.checkCapabilities},
		{Name: GateTests, Check: s.checkTests},
		{Name: GateCoverage, Check: s.checkCoverage},
	}, s.o.Gates...)
}

// pass sends a candidate through the gates until one refuses.
func (s *Service) pass(ctx context.Context, c *Candidate, archive GateResult) ([]GateResult, error) {
	return s.try(ctx, c, s.gates(), []GateResult{archive})
}

// try is pass for some gates; results are those of gates before them.
func (s *Service) try(ctx context.Context, c *Candidate, gates []Gate, results []GateResult) ([]GateResult, error) {
	var failed error
	for _, g := range gates {
		r := GateResult{Name: g.Name, Result: NotRun}
		if failed == nil {
			start := s.o.Now()
			found, err := g.Check(ctx, c)
			r = GateResult{Name: g.Name, Result: Passed, Message: found.Message, Details: found.Details, Evidence: found.Evidence, Millis: millis(s.o.Now().Sub(start))}
			if found.Off {
				r.Result = Off
			}
			if err != nil {
				refused := s.refusal(g.Name, err)
				failed, r.Result, r.Message = refused, Failed, refused.Message
			}
		}
		results = append(results, r)
	}
	return results, failed
}

// refusal is a gate's error as an *Error that names the gate. What belongs to
// another gate keeps its message: a file is read once for several gates.
func (s *Service) refusal(gate string, err error) *Error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		s.o.Logger.Error().Err(err).Str("gate", gate).Msg("a gate could not judge a bundle")
		return &Error{Code: CodeUnavailable, Gate: gate, Message: "the gate could not judge the bundle", Err: err}
	}
	refused := *e
	refused.Gate = gate
	return &refused
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (s *Service) checkSignature(_ context.Context, c *Candidate) (Finding, error) {
	signer, err := s.o.Verifier.Verify(c.Name, c.Archive)
	if err != nil {
		return Finding{}, refuse(CodeGate, GateSignature, "%s", bounded(err.Error()))
	}
	c.Signer = signer
	return Finding{Details: signer}, nil
}

// checkManifest reads the whole bundle. A module that does not parse is left to
// the gate "compile".
func (s *Service) checkManifest(_ context.Context, c *Candidate) (f Finding, err error) {
	if c.manifest, err = manifestOf(c.Archive); err != nil {
		return Finding{}, err
	}
	found, err := read(c.Name, c.Archive, c.manifest, c.Active)
	if err != nil {
		if refused, ok := errors.AsType[*Error](err); ok && refused.Gate == GateCompile {
			c.parseError = refused
			return Finding{Details: map[string]any{"revision": c.manifest.Revision, "roots": *c.manifest.Roots}}, nil
		}
		return Finding{}, err
	}
	c.Bundle, c.Tests, c.serial = found.bundle, found.tests, found.serial
	return Finding{Details: map[string]any{"revision": c.Bundle.Revision, "roots": c.Bundle.Roots, "modules": len(c.Bundle.Modules), "tests": len(c.Tests)}}, nil
}

// checkRoots asks whether the bundle can stand beside those that are active.
func (s *Service) checkRoots(_ context.Context, c *Candidate) (Finding, error) {
	if c.parseError != nil {
		return Finding{}, nil // told by the next gate
	}
	set := withBundle(s.o.Engine.Active().Bundles(), c.Bundle)
	if err := eval.CheckBundles(set); err != nil {
		return Finding{}, asClash(err)
	}
	var err error
	if c.replaced, err = eval.ReplacedRules(set, c.Bundle); err != nil {
		return Finding{}, fmt.Errorf("list replaced rules: %w", err)
	}
	if len(c.replaced) == 0 {
		return Finding{}, nil
	}
	return Finding{Message: fmt.Sprintf("%d rules of the base layer are replaced", len(c.replaced))}, nil
}

func asClash(err error) error {
	if clash, ok := errors.AsType[*eval.ClashError](err); ok {
		return refuse(CodeGate, GateRoots, "%s", bounded(clash.Error()))
	}
	return err
}

// withBundle is a set with b in place of the bundle of its name, or behind all.
func withBundle(set []*eval.Bundle, b *eval.Bundle) []*eval.Bundle {
	next := make([]*eval.Bundle, 0, len(set)+1)
	found := false
	for _, other := range set {
		if other.Name == b.Name {
			other, found = b, true
		}
		next = append(next, other)
	}
	if !found {
		next = append(next, b)
	}
	return next
}

// checkCompile builds the snapshot that would answer.
func (s *Service) checkCompile(_ context.Context, c *Candidate) (Finding, error) {
	if c.parseError != nil {
		return Finding{}, c.parseError
	}
	snapshot, dropped, err := s.stage(withBundle(s.o.Engine.Active().Bundles(), c.Bundle), c.strictName(s))
	if err != nil {
		return Finding{}, err
	}
	c.Snapshot, c.dropped = snapshot, dropped
	f := Finding{}
	if len(dropped) > 0 {
		f.Message = "what the API wrote below its roots would be gone"
		f.Details = map[string]any{"api_writes_dropped": first(dropped, maxListed)}
	}
	return f, nil
}

func (c *Candidate) strictName(s *Service) string {
	if s.o.GateOptions.Lenient {
		return ""
	}
	return c.Name
}

// stage builds the snapshot of a set. strict names the bundle that the
// compiler's strict mode holds for; empty: none.
func (s *Service) stage(set []*eval.Bundle, strict string) (snapshot *eval.Snapshot, dropped []string, err error) {
	snapshot, err = s.o.Engine.Stage(func(d *eval.Draft) error {
		if strict != "" {
			d.RequireStrict(strict)
		}
		err := d.SetBundles(set)
		dropped = d.Dropped()
		return err
	})
	if err == nil {
		return snapshot, dropped, nil
	}
	if compile, ok := errors.AsType[*eval.CompileError](err); ok {
		return nil, nil, &Error{Code: CodeGate, Gate: GateCompile, Message: compileMessage(compile), Err: err}
	}
	if _, ok := errors.AsType[*eval.ClashError](err); ok {
		return nil, nil, asClash(err)
	}
	return nil, nil, &Error{Code: CodeGate, Gate: GateRoots, Message: bounded(err.Error()), Err: err}
}

// compileMessage is one error a line.
func compileMessage(e *eval.CompileError) string {
	lines := make([]string, 0, len(e.Errors))
	for _, one := range e.Errors {
		lines = append(lines, one.Error())
	}
	return bounded(strings.Join(lines, "\n"))
}

// checkCapabilities looks for built-ins that are refused, by the names that
// they have once the bundle is compiled.
func (s *Service) checkCapabilities(_ context.Context, c *Candidate) (Finding, error) {
	refused := map[string]bool{}
	for _, name := range s.o.GateOptions.Refused {
		refused[name] = true
	}
	var found error
	for _, m := range c.Bundle.Modules {
		ast.WalkRefs(c.Snapshot.Compiled(m.ID), func(ref ast.Ref) bool {
			if found != nil {
				return true
			}
			if name, ok := builtinName(ref); ok && refused[name] {
				at := m.ID
				if loc := ref[0].Location; loc != nil {
					at = fmt.Sprintf("%s:%d", m.ID, loc.Row)
				}
				found = refuse(CodeGate, GateCapabilities, "%s: the built-in %s is refused", at, name)
			}
			return false
		})
	}
	return Finding{}, found
}

// builtinName is the name of a reference that can be one of a built-in.
func builtinName(ref ast.Ref) (string, bool) {
	if _, ok := ref[0].Value.(ast.Var); !ok || ref.HasPrefix(ast.DefaultRootRef) || ref.HasPrefix(ast.InputRootRef) {
		return "", false
	}
	return ref.String(), true
}
