package eval

import (
	"maps"
	"slices"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// apiRevision names, in the revisions of a record, what was written through the
// API. The brackets keep it apart from every bundle name.
const apiRevision = "(api)"

// Snapshot is an immutable set of modules and data that answers queries.
type Snapshot struct {
	engine  *Engine
	program *program
	store   *store
	memo    *Memo
	staged  *Staged // nil: nothing is tried beside it

	bundles []*Bundle
	packed  ast.Object // what the bundles bring, before writes through the API
	data    ast.Object // packed and what the API wrote

	generation uint64
	apiWrites  uint64
	revisions  map[string]string
	encoded    []byte // revisions as JSON, for records
	masks      bool
}

func newSnapshot(e *Engine, p *program, bundles []*Bundle, modules map[string]*Module, packed, data ast.Object, apiWrites uint64) *Snapshot {
	s := &Snapshot{
		engine: e, program: p, bundles: bundles, packed: packed, data: data, apiWrites: apiWrites,
		store:     &store{data: data, modules: modules},
		revisions: make(map[string]string, len(bundles)),
	}
	if prev := e.active.Load(); prev != nil {
		s.generation = prev.generation + 1
	}
	if e.options.MemoBytes >= 0 {
		s.memo = NewMemo(p.reaches, e.options.MemoBytes)
	}
	for _, b := range bundles {
		s.revisions[b.Name] = b.Revision
	}
	s.encoded = encodeRevisions(s.revisions, apiWrites)
	s.masks = s.HasRules(ast.MustParseRef("data.system.log.mask"))
	if _, err := s.Read(storage.Path{"system", "log", "mask"}); err == nil {
		s.masks = true
	}
	return s
}

func encodeRevisions(revisions map[string]string, apiWrites uint64) []byte {
	obj := ast.NewObject()
	for name, revision := range revisions {
		obj.Insert(ast.StringTerm(name), ast.StringTerm(revision))
	}
	if apiWrites > 0 {
		obj.Insert(ast.StringTerm(apiRevision), ast.StringTerm(strconv.FormatUint(apiWrites, 10)))
	}
	encoded, err := AppendJSON(nil, obj)
	if err != nil {
		return []byte("{}")
	}
	return encoded
}

// Generation counts the snapshots of this process; the empty one is 0.
func (s *Snapshot) Generation() uint64 { return s.generation }

// Revisions returns the revision of each bundle by name.
func (s *Snapshot) Revisions() map[string]string { return maps.Clone(s.revisions) }

// RevisionsJSON returns the bundles' revisions as a JSON object; writes through
// the API are counted under "(api)". The bytes must not be changed.
func (s *Snapshot) RevisionsJSON() []byte { return s.encoded }

// Bundles returns the bundles the snapshot was built from, in their order.
func (s *Snapshot) Bundles() []*Bundle { return slices.Clone(s.bundles) }

// APIWrites returns how many writes through the API the snapshot contains.
func (s *Snapshot) APIWrites() uint64 { return s.apiWrites }

// Module returns a module by its id. The error is a *storage.Error with code
// NotFoundErr when there is none.
func (s *Snapshot) Module(id string) (*Module, error) {
	m, ok := s.store.modules[id]
	if !ok {
		return nil, errNoModule(id)
	}
	return m, nil
}

// ModuleIDs returns the ids of all modules, sorted.
func (s *Snapshot) ModuleIDs() []string { return slices.Sorted(maps.Keys(s.store.modules)) }

// Compiled returns the compiled form of a module, as OPA's policy API shows it;
// nil when there is none. It must not be changed.
func (s *Snapshot) Compiled(id string) *ast.Module { return s.program.compiler.Modules[id] }

// Read returns the base document at path. The error is a *storage.Error with
// code NotFoundErr when there is none.
func (s *Snapshot) Read(path storage.Path) (ast.Value, error) { return readDocument(s.data, path) }

// Store shows the snapshot to OPA's evaluator. It cannot be written.
func (s *Snapshot) Store() storage.Store { return s.store }

// HasRules tells whether a rule is defined at ref or above it.
func (s *Snapshot) HasRules(ref ast.Ref) bool {
	return len(s.program.compiler.GetRulesForVirtualDocument(ref)) > 0
}

// Defines tells whether anything is defined at a decision path, above or below
// it, by a rule or by data. Where nothing is, the decision is undefined.
func (s *Snapshot) Defines(ref ast.Ref) bool {
	opts := ast.RulesOptions{IncludeHiddenModules: true}
	if len(s.program.compiler.GetRulesDynamicWithOpts(ref, opts)) > 0 {
		return true
	}
	_, err := s.data.Find(ref[1:])
	return err == nil
}

// Reach returns what the answer to a decision path can depend on beside the
// snapshot.
func (s *Snapshot) Reach(path string) (Reach, error) {
	p, _, err := s.program.prepare(path)
	if err != nil {
		return Reach{}, err
	}
	return p.entry.Reach(), nil
}

// Masks tells whether data.system.log.mask is defined, by rules or by data.
func (s *Snapshot) Masks() bool { return s.masks }

// Warm prepares the query of each path, so that the first request after an
// activation does not pay for it. A path that cannot be prepared is left to
// fail when it is asked.
func (s *Snapshot) Warm(paths []string) {
	for _, path := range paths {
		_, _, _ = s.program.prepare(path)
	}
}

// Prepared returns the paths that have been asked for and are kept ready.
func (s *Snapshot) Prepared() []string { return s.program.paths() }
