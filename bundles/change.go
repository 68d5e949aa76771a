package bundles

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

const (
	// maxListed is how many entries a list of changes names; its count is of
	// all.
	maxListed = 1000
	// maxPathDepth is how deep data are compared before a difference is told.
	maxPathDepth = 32
)

// Changes is what differs between two revisions of a bundle.
type Changes struct {
	// Against is the revision that it is compared with; empty: none.
	Against string     `json:"against"`
	Rules   Difference `json:"rules"` // by their path: data.app.allow
	Data    Difference `json:"data"`  // JSON pointers
	// BaseRulesReplaced are rules of the base layer that the bundle puts its
	// own in place of.
	BaseRulesReplaced []string `json:"base_rules_replaced,omitempty"`
	// APIWritesDropped is what was written through the API below the bundle's
	// roots and is gone with its activation.
	APIWritesDropped []string `json:"api_writes_dropped,omitempty"`
}

// Difference lists names, each list sorted and of at most 1,000.
type Difference struct {
	Added   []string `json:"added"`
	Removed []string `json:"removed"`
	Changed []string `json:"changed"`
	// Count is how many there are in all three.
	Count int `json:"count"`
}

// changesOf compares a candidate with what is active.
func changesOf(c *Candidate) (*Changes, error) {
	changes, err := Compare(c.Active, c.Bundle)
	if err != nil {
		return nil, err
	}
	changes.BaseRulesReplaced = first(c.replaced, maxListed)
	changes.APIWritesDropped = first(c.dropped, maxListed)
	return changes, nil
}

// Compare tells what is different in the bundle b; a may be nil.
func Compare(a, b *eval.Bundle) (*Changes, error) {
	changes := &Changes{}
	before, beforeData := map[string]string{}, ast.Object(ast.NewObject())
	if a != nil {
		changes.Against = a.Revision
		if a.Data != nil {
			beforeData = a.Data
		}
		var err error
		if before, err = rulesOf(a, b); err != nil {
			return nil, err
		}
	}
	after, err := rulesOf(b, a)
	if err != nil {
		return nil, err
	}
	rules := &difference{}
	for path, text := range after {
		if old, ok := before[path]; !ok {
			rules.added = append(rules.added, path)
		} else if old != text {
			rules.changed = append(rules.changed, path)
		}
	}
	for path := range before {
		if _, ok := after[path]; !ok {
			rules.removed = append(rules.removed, path)
		}
	}
	data := &difference{}
	afterData := b.Data
	if afterData == nil {
		afterData = ast.NewObject()
	}
	data.objects(beforeData, afterData, "", 0)
	changes.Rules, changes.Data = rules.listed(), data.listed()
	return changes, nil
}

// rulesOf is the text of the rules at each path, in an order that the files'
// does not matter for, without comments and layout.
// Files that both bundles have count for nothing but that there is something at
// their rules' paths.
func rulesOf(b, other *eval.Bundle) (map[string]string, error) {
	texts := map[string][]string{}
	shared := map[*ast.Module]bool{}
	if other != nil {
		for _, m := range other.Modules {
			shared[m.Parsed] = true
		}
	}
	for _, m := range b.Modules {
		pkg, err := m.Package()
		if err != nil {
			return nil, err
		}
		imports := make([]string, 0, len(m.Parsed.Imports))
		for _, i := range m.Parsed.Imports {
			if head := i.Path.String(); strings.HasPrefix(head, "rego.") || strings.HasPrefix(head, "future.") {
				continue // means nothing in Rego v1
			}
			imports = append(imports, i.String())
		}
		// What a rule means depends on the imports of its file.
		head := strings.Join(imports, "\n") + "\n"
		for _, r := range m.Parsed.Rules {
			path := "data." + strings.Join(append(slices.Clone([]string(pkg)), eval.RuleName(r)...), ".")
			if shared[m.Parsed] {
				texts[path] = append(texts[path], "")
				continue
			}
			texts[path] = append(texts[path], head+r.String())
		}
	}
	joined := make(map[string]string, len(texts))
	for path, list := range texts {
		slices.Sort(list)
		joined[path] = strings.Join(list, "\n")
	}
	return joined, nil
}

type difference struct{ added, removed, changed []string }

func (d *difference) objects(a, b ast.Object, at string, depth int) {
	b.Foreach(func(k, v *ast.Term) {
		old, path := a.Get(k), at+"/"+pointerSegment(k)
		switch {
		case old == nil:
			d.added = append(d.added, path)
		case old != v:
			d.values(old.Value, v.Value, path, depth+1)
		}
	})
	a.Foreach(func(k, _ *ast.Term) {
		if b.Get(k) == nil {
			d.removed = append(d.removed, at+"/"+pointerSegment(k))
		}
	})
}

func (d *difference) values(a, b ast.Value, path string, depth int) {
	x, ok1 := a.(ast.Object)
	y, ok2 := b.(ast.Object)
	if ok1 && ok2 && depth < maxPathDepth {
		d.objects(x, y, path, depth)
		return
	}
	if a.Compare(b) != 0 {
		d.changed = append(d.changed, path)
	}
}

// listed sorts and bounds the lists.
func (d *difference) listed() Difference {
	out := Difference{Count: len(d.added) + len(d.removed) + len(d.changed)}
	for _, list := range []struct {
		from []string
		to   *[]string
	}{{d.added, &out.Added}, {d.removed, &out.Removed}, {d.changed, &out.Changed}} {
		slices.Sort(list.from)
		*list.to = first(list.from, maxListed)
		if *list.to == nil {
			*list.to = []string{}
		}
	}
	return out
}

// pointerSegment is a key as JSON Pointer writes it (RFC 6901).
func pointerSegment(k *ast.Term) string {
	name, ok := k.Value.(ast.String)
	if !ok {
		return k.String()
	}
	return strings.ReplaceAll(strings.ReplaceAll(string(name), "~", "~0"), "/", "~1")
}

// first is at most n of a list.
func first(list []string, n int) []string { return list[:min(n, len(list))] }
