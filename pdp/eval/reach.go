package eval

import (
	"slices"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
)

const (
	// maxReachInputs is how many separate parts of the input one rule's reach
	// names; a rule that reads more is taken to read all of it.
	maxReachInputs = 64
	// maxReachEdges bounds the dependencies that are followed in all. Rules past
	// it are taken to depend on anything.
	maxReachEdges = 4_000_000
)

// Reach is what the document at a ref can depend on beside the snapshot.
type Reach struct {
	// Inputs are the parts of the input, as refs that begin with input: none is
	// a prefix of another, and input alone stands for all of it.
	Inputs []ast.Ref
	// Deterministic means that equal inputs give equal results: nothing reached
	// asks the clock, chance, the network or the process.
	Deterministic bool
	// Unrecorded means that something is reached whose results no record keeps,
	// so that an evaluation may not be repeatable: a certificate checked at the
	// current time, or a built-in that is not known.
	Unrecorded bool
}

// Reaches is the result of Analyze. It is safe for concurrent use.
type Reaches struct {
	compiler *ast.Compiler
	rules    map[*ast.Rule]*summary
	opaque   bool // rules come from outside the compiler

	documents *documentNode // leaves of the rule tree
	slots     int           // number of them
	ids       atomic.Uint32 // last id given to an Entry
}

// summary is the reach of a rule.
type summary struct {
	inputs  inputTree
	anyhow  bool // not deterministic, or not known to be
	unkept  bool // no record keeps what it depends on
	pending bool // being analysed
}

// documentNode leads from a document's path to its Entry.
type documentNode struct {
	children map[string]*documentNode
	entry    *Entry
}

// Analyze finds out for each rule of a compiled policy which parts of the input
// it and all that it refers to may read. It errs on the safe side: a rule that
// uses with, or reads the input as a whole or under a name only known when it
// runs, reaches all of that; one that calls a built-in which is not known to be
// deterministic is not deterministic.
func Analyze(c *ast.Compiler) *Reaches {
	r := &Reaches{compiler: c, rules: map[*ast.Rule]*summary{}, documents: &documentNode{}}
	a := analysis{Reaches: r, builtins: map[string]*ast.Builtin{}}
	if caps := c.Capabilities(); caps != nil {
		for _, b := range caps.Builtins {
			a.builtins[b.Name] = b
		}
	}
	if c.RuleTree == nil {
		return r
	}
	c.RuleTree.DepthFirst(func(n *ast.TreeNode) bool {
		r.opaque = r.opaque || n.External != nil
		for _, rule := range n.Values {
			a.rule(rule)
		}
		return false
	})
	if root := c.RuleTree.Child(ast.DefaultRootDocument.Value); root != nil {
		r.index(r.documents, root, ast.Ref{ast.DefaultRootDocument})
	}
	return r
}

// union returns the reach of all rules that have to do with ref.
func (r *Reaches) union(ref ast.Ref) *summary {
	all := &summary{}
	for _, rule := range r.compiler.GetRulesDynamicWithOpts(ref, ast.RulesOptions{IncludeHiddenModules: true}) {
		all.add(r.rules[rule])
	}
	return all
}

// index makes an Entry for each document below n that rules define as a whole:
// where no other rule adds to it from further down, and which is no function.
func (r *Reaches) index(at *documentNode, n *ast.TreeNode, ref ast.Ref) {
	if len(n.Children) == 0 && len(n.Values) > 0 {
		if len(n.Values[0].Head.Args) > 0 {
			return
		}
		all := r.rules[n.Values[0]]
		if len(n.Values) > 1 {
			all = &summary{}
			for _, rule := range n.Values {
				all.add(r.rules[rule])
			}
		}
		at.entry = r.newEntry(ref, all)
		at.entry.slot = r.slots
		r.slots++
		return
	}
	for key, child := range n.Children {
		name, ok := key.(ast.String)
		if !ok {
			continue
		}
		if at.children == nil {
			at.children = make(map[string]*documentNode, len(n.Children))
		}
		next := &documentNode{}
		at.children[string(name)] = next
		r.index(next, child, append(slices.Clip(ref), ast.NewTerm(name)))
	}
}

// document returns the Entry of the document at exactly ref, or nil.
func (r *Reaches) document(ref ast.Ref) *Entry {
	if len(ref) == 0 || ref[0].Value != ast.DefaultRootDocument.Value {
		return nil
	}
	n := r.documents
	for _, t := range ref[1:] {
		name, ok := t.Value.(ast.String)
		if !ok {
			return nil
		}
		if n = n.children[string(name)]; n == nil {
			return nil
		}
	}
	return n.entry
}

// add makes s reach what other reaches.
func (s *summary) add(other *summary) {
	if other == nil {
		s.anyhow, s.unkept = true, true
		s.inputs.all()
		return
	}
	s.anyhow, s.unkept = s.anyhow || other.anyhow, s.unkept || other.unkept
	s.inputs.union(&other.inputs)
}

// analysis is one run of Analyze.
type analysis struct {
	*Reaches
	builtins map[string]*ast.Builtin
	edges    int
}

// rule analyses a rule with its else branches, and first what it refers to.
func (a *analysis) rule(rule *ast.Rule) *summary {
	if s, ok := a.rules[rule]; ok {
		if s.pending {
			return nil // the compiler knows better why this is no recursion
		}
		return s
	}
	s := &summary{pending: true}
	a.rules[rule] = s
	deps := map[*ast.Rule]struct{}{}
	a.walk(rule, s, deps)
	for r := rule; r != nil; r = r.Else {
		for _, t := range r.Head.Reference[min(1, len(r.Head.Reference)):] {
			a.walk(t, s, deps)
		}
		if a.compiler.Graph != nil {
			for dep := range a.compiler.Graph.Dependencies(r) {
				deps[dep.(*ast.Rule)] = struct{}{}
			}
		}
	}
	if a.edges += len(deps); a.edges > maxReachEdges {
		s.add(nil)
		deps = nil
	}
	for dep := range deps {
		s.add(a.rule(dep))
	}
	s.pending = false
	return s
}

// walk notes what the node x itself reads and calls, and adds the rules that it
// may refer to.
func (a *analysis) walk(x any, s *summary, deps map[*ast.Rule]struct{}) {
	walkRefs(x, func(ref ast.Ref) { a.ref(ref, s, deps) }, func(x any) {
		switch x := x.(type) {
		case *ast.Expr:
			if x.IsCall() {
				a.call(x.Operator(), s)
			}
		case ast.Call:
			a.call(x.Operator(), s)
		case *ast.With:
			s.inputs.all()
			if ref, ok := x.Value.Value.(ast.Ref); ok {
				a.call(ref, s)
			}
		}
	})
}

// ref notes what is read at ref, whose first term may also be a local variable.
func (a *analysis) ref(ref ast.Ref, s *summary, deps map[*ast.Rule]struct{}) {
	switch {
	case ref.HasPrefix(ast.InputRootRef):
		s.inputs.add(ref)
	case ref.HasPrefix(ast.DefaultRootRef):
		if a.edges > maxReachEdges {
			return
		}
		for _, rule := range a.compiler.GetRulesDynamicWithOpts(ref, ast.RulesOptions{IncludeHiddenModules: true}) {
			deps[rule] = struct{}{}
		}
	}
}

// call notes that a function is called, or handed over by with. Functions that
// are rules are dependencies like any other.
func (a *analysis) call(op ast.Ref, s *summary) {
	if op.HasPrefix(ast.DefaultRootRef) || op.HasPrefix(ast.InputRootRef) {
		return
	}
	b := a.builtins[op.String()]
	if b == nil || b.Nondeterministic || impure(b.Name) {
		s.anyhow = true
		s.unkept = s.unkept || b == nil || unkept(b.Name)
		return
	}
	if b = ast.BuiltinMap[b.Name]; b != nil && b.Nondeterministic {
		s.anyhow = true
	}
}

// impure names built-ins that OPA does not mark as non-deterministic, although
// what they do depends on more than their arguments: some have an effect that
// must not be left out, some check certificates against the current time, and
// some sign with chance.
func impure(name string) bool {
	switch name {
	case "print", "internal.print", "trace", "internal.test_case",
		"crypto.x509.parse_and_verify_certificates",
		"crypto.x509.parse_and_verify_certificates_with_options",
		"json.match_schema", "json.verify_schema",
		"providers.aws.sign_req", "opa.runtime":
		return true
	}
	return false
}

// unkept names the built-ins among the impure ones whose results depend on what
// no record holds: OPA gives them neither the evaluation's clock nor a place in
// the cache of non-deterministic results.
func unkept(name string) bool {
	return name == "crypto.x509.parse_and_verify_certificates" || name == "crypto.x509.parse_and_verify_certificates_with_options"
}

// held returns the refs of the documents that have a value in slots.
func (r *Reaches) held(slots []slot) []ast.Ref {
	var refs []ast.Ref
	var walk func(*documentNode)
	walk = func(n *documentNode) {
		if n.entry != nil && slots[n.entry.slot].state == slotValue {
			refs = append(refs, n.entry.ref)
		}
		for _, child := range n.children {
			walk(child)
		}
	}
	walk(r.documents)
	return refs
}
