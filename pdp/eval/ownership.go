package eval

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// baseRoot is the path below which the standard policies stand. A bundle that
// owns everything owns there only data beside their rules.
const baseRoot = "verdict"

// ClashError is returned when two bundles, or a bundle and what was written
// through the API, claim one path.
type ClashError struct {
	Bundle string // the one that may not be active
	Other  string // the one that is in its way; empty: the API
	Path   string // without slashes at the ends
	Reason string
}

func (e *ClashError) Error() string {
	other := "what was written through the API"
	if e.Other != "" {
		other = fmt.Sprintf("bundle %q", e.Other)
	}
	return fmt.Sprintf("bundle %q and %s clash at path %q: %s", e.Bundle, other, e.Path, e.Reason)
}

// baseRule is a rule of the base layer.
type baseRule struct {
	bundle string
	pkg    []string // below data
	path   []string // below data, the rule's name included
}

// baseRules lists the rules of the base layer among bundles.
func baseRules(bundles []*Bundle) ([]baseRule, error) {
	var rules []baseRule
	for _, b := range bundles {
		if !b.Base {
			continue
		}
		for _, m := range b.Modules {
			pkg, err := m.Package()
			if err != nil {
				return nil, err
			}
			for _, r := range m.Parsed.Rules {
				rules = append(rules, baseRule{bundle: b.Name, pkg: pkg, path: slices.Concat([]string(pkg), RuleName(r))})
			}
		}
	}
	return rules, nil
}

// meets returns where a module, whose package pkg is, has a rule at, above or
// below this one, or nil. The head of a rule may reach into packages below the
// module's own.
func (r *baseRule) meets(pkg []string, m *Module) []string {
	for _, rule := range m.Parsed.Rules {
		if at := slices.Concat(pkg, RuleName(rule)); overlaps(at, r.path) {
			return at
		}
	}
	return nil
}

// RuleName is where a rule stands in its package, as far as that is fixed.
func RuleName(r *ast.Rule) []string {
	var path []string
	for i, term := range r.Head.Ref().GroundPrefix() {
		switch v := term.Value.(type) {
		case ast.String:
			path = append(path, string(v))
		case ast.Var:
			if i > 0 {
				return path
			}
			path = append(path, string(v))
		default:
			return path
		}
	}
	return path
}

// ReplacedRules lists the rules of the base layer among bundles that b puts
// its own in place of, sorted: those of packages that a root of b names.
func ReplacedRules(bundles []*Bundle, b *Bundle) ([]string, error) {
	rules, err := baseRules(bundles)
	if err != nil {
		return nil, err
	}
	var replaced []string
	for _, rule := range rules {
		if b.replaces(rule.pkg) {
			replaced = append(replaced, "data."+strings.Join(rule.path, "."))
		}
	}
	slices.Sort(replaced)
	return slices.Compact(replaced), nil
}

// replaces tells whether a root of b names the whole package.
func (b *Bundle) replaces(pkg []string) bool {
	if b.Base {
		return false
	}
	for _, root := range b.Roots {
		if root != "" && within(pkg, strings.Split(root, "/")) {
			return true
		}
	}
	return false
}

// ownsAll tells whether the bundle owns everything that it can.
func (b *Bundle) ownsAll() bool { return slices.Contains(b.Roots, "") }

// within tells whether path is root or lies below it.
func within(path, root []string) bool {
	return len(path) >= len(root) && overlaps(path, root)
}

// ownedBy tells whether a bundle owns path; above, whether one owns something
// below it.
func ownedBy(bundles []*Bundle, path []string) (yes, above bool) {
	for _, b := range bundles {
		for _, root := range b.Roots {
			if root == "" {
				return true, false
			}
			segments := strings.Split(root, "/")
			if within(path, segments) {
				return true, false
			}
			above = above || within(segments, path)
		}
	}
	return false, above
}

// CheckBundles returns a *ClashError unless the bundles can be active together:
// no two own one path, and none defines what the base layer has a rule for,
// unless it owns the whole package of that rule.
func CheckBundles(bundles []*Bundle) error {
	rules, err := baseRules(bundles)
	if err != nil {
		return err
	}
	for i, b := range bundles {
		for _, other := range bundles[:i] {
			if err := checkPair(b, other); err != nil {
				return err
			}
		}
		if b.Base {
			continue
		}
		if err := checkBase(b, rules); err != nil {
			return err
		}
	}
	return nil
}

func checkPair(b, other *Bundle) error {
	switch {
	case b.Name == other.Name:
		return &ClashError{Bundle: b.Name, Other: other.Name, Reason: "both have this name"}
	case b.Base || other.Base:
		return nil
	case b.Roots == nil && other.Roots == nil:
		return nil // values that both define are found when they are merged
	case b.Roots == nil:
		return checkFree(b, other, other, b)
	case other.Roots == nil:
		return checkFree(other, b, b, other)
	}
	for _, root := range b.Roots {
		for _, theirs := range other.Roots {
			if root == "" || theirs == "" || overlaps(strings.Split(root, "/"), strings.Split(theirs, "/")) {
				return &ClashError{Bundle: b.Name, Other: other.Name, Path: root, Reason: fmt.Sprintf("its root %q and root %q of the other overlap", root, theirs)}
			}
		}
	}
	return nil
}

// checkFree finds what a bundle without roots brings below a root of owner.
func checkFree(free, owner, blame, against *Bundle) error {
	clash := func(path []string) error {
		return &ClashError{
			Bundle: blame.Name, Other: against.Name, Path: strings.Join(path, "/"),
			Reason: fmt.Sprintf("bundle %q has something there, and a root of %q owns it", free.Name, owner.Name),
		}
	}
	for _, m := range free.Modules {
		pkg, err := m.Package()
		if err != nil {
			return err
		}
		if yes, _ := ownedBy([]*Bundle{owner}, pkg); yes {
			return clash(pkg)
		}
	}
	if free.Data == nil {
		return nil
	}
	return eachLeaf(free.Data, nil, func(path []string) error {
		if yes, _ := ownedBy([]*Bundle{owner}, path); yes {
			return clash(path)
		}
		return nil
	})
}

// checkBase finds where a bundle defines what the base layer has a rule for.
func checkBase(b *Bundle, rules []baseRule) error {
	if len(rules) == 0 {
		return nil
	}
	for _, rule := range rules {
		if b.replaces(rule.pkg) {
			continue
		}
		for _, root := range b.Roots {
			if root != "" && overlaps(rule.path, strings.Split(root, "/")) {
				return &ClashError{
					Bundle: b.Name, Other: rule.bundle, Path: root,
					Reason: fmt.Sprintf("the base layer has the rule data.%s; a rule is replaced only by a root that names its whole package, %q", strings.Join(rule.path, "."), strings.Join(rule.pkg, "/")),
				}
			}
		}
	}
	for _, m := range b.Modules {
		if err := checkBaseModule(b, m, rules); err != nil {
			return err
		}
	}
	if b.Data == nil {
		return nil
	}
	return checkBaseData(b, rules)
}

func checkBaseModule(b *Bundle, m *Module, rules []baseRule) error {
	pkg, err := m.Package()
	if err != nil {
		return err
	}
	if b.ownsAll() && within(pkg, []string{baseRoot}) {
		return &ClashError{
			Bundle: b.Name, Other: rules[0].bundle, Path: strings.Join(pkg, "/"),
			Reason: "a bundle without roots brings no rules below " + baseRoot + "; name the path in the manifest's roots",
		}
	}
	for _, rule := range rules {
		if !overlaps(pkg, rule.path) || b.replaces(rule.pkg) {
			continue // most rules of most bundles are nowhere near
		}
		if slices.Equal(rule.pkg, pkg) {
			return &ClashError{
				Bundle: b.Name, Other: rule.bundle, Path: strings.Join(pkg, "/"),
				Reason: "the base layer has rules in this package; they are replaced only by a root that names it",
			}
		}
		if at := rule.meets(pkg, m); at != nil {
			return &ClashError{
				Bundle: b.Name, Other: rule.bundle, Path: strings.Join(at, "/"),
				Reason: fmt.Sprintf("the base layer has the rule data.%s; it is replaced only by a root that names its whole package", strings.Join(rule.path, ".")),
			}
		}
	}
	return nil
}

func checkBaseData(b *Bundle, rules []baseRule) error {
	below, err := readDocument(b.Data, storage.Path{baseRoot})
	if err != nil {
		return nil // nothing there
	}
	return eachLeaf(below, []string{baseRoot}, func(path []string) error {
		for _, rule := range rules {
			if overlaps(path, rule.path) && !b.replaces(rule.pkg) {
				return &ClashError{
					Bundle: b.Name, Other: rule.bundle, Path: strings.Join(path, "/"),
					Reason: fmt.Sprintf("the base layer has the rule data.%s there", strings.Join(rule.path, ".")),
				}
			}
		}
		return nil
	})
}

// eachLeaf calls fn for the path of each value that is no object, and of each
// empty object.
func eachLeaf(v ast.Value, at []string, fn func(path []string) error) error {
	obj, ok := v.(ast.Object)
	if !ok {
		return fn(at)
	}
	return obj.Iter(func(k, child *ast.Term) error {
		name, _ := k.Value.(ast.String)
		path := append(at[:len(at):len(at)], string(name))
		if o, ok := child.Value.(ast.Object); ok && o.Len() == 0 {
			return nil
		}
		return eachLeaf(child.Value, path, fn)
	})
}
