package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/policies"
)

// standardName is the name of the standard policies in revisions and module
// ids.
const standardName = "standard"

// policyFiles says what an engine is loaded with at start.
type policyFiles struct {
	standard bool     // the standard policies
	example  bool     // with the example organisation's data
	paths    []string // folders and tarballs
	limits   bundles.Limits
}

// load makes the policies the active snapshot and returns what was loaded.
func (f *policyFiles) load(engine *eval.Engine) ([]*eval.Bundle, error) {
	var list []*eval.Bundle
	if f.standard {
		b, err := standardBundle(f.example)
		if err != nil {
			return nil, fmt.Errorf("load standard policies: %w", err)
		}
		list = append(list, b)
	}
	for _, path := range f.paths {
		b, err := bundles.Load(bundleName(path), path, f.limits)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	_, err := engine.Write(func(d *eval.Draft) error { return d.SetBundles(list) })
	if err != nil {
		return nil, fmt.Errorf("load policies: %w", err)
	}
	return list, nil
}

// standardBundle is the base layer: it has no roots, and its data gives way to
// nobody.
func standardBundle(example bool) (*eval.Bundle, error) {
	read := policies.Standard
	if example {
		read = policies.Example
	}
	set, err := read()
	if err != nil {
		return nil, err
	}
	data, err := ast.InterfaceToValue(set.Data)
	if err != nil {
		return nil, fmt.Errorf("convert data: %w", err)
	}
	obj, ok := data.(ast.Object)
	if !ok {
		return nil, fmt.Errorf("convert data: the document is %T", data)
	}
	b := &eval.Bundle{Name: standardName, Revision: set.Revision, Base: true, Data: obj}
	for name, text := range set.Modules {
		m, err := eval.ParseModule(standardName+"/"+name, []byte(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		b.Modules = append(b.Modules, m)
	}
	slices.SortFunc(b.Modules, func(x, y *eval.Module) int { return strings.Compare(x.ID, y.ID) })
	return b, nil
}

// bundleName is the name of a bundle on the command line: its path, cleaned,
// as OPA names it.
func bundleName(path string) string {
	return strings.Trim(filepath.ToSlash(filepath.Clean(path)), "/")
}
