package native

import (
	"fmt"

	"github.com/verdict-pdp/verdict/internal/jsondoc"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/service"
)

// maxRules is how many pointers a request may name.
const maxRules = 1000

// sealing reads a document to encrypt: its fields are an object from pointers
// to classifications, or to objects with a classification and optional.
func (a *cryptoAsk) sealing() (*service.Document, error) {
	d, err := a.base()
	if err != nil {
		return nil, err
	}
	if a.fields == nil || a.fields.Kind != jsondoc.Object || len(a.fields.Children) == 0 {
		return nil, wrong("fields", "fields is an object from JSON Pointers to classifications")
	}
	d.Rules, err = readRules(a.fields)
	return d, err
}

// opening reads a document to decrypt: its fields are those that it was
// encrypted with, a list of pointers, or "*", as when they are left out, for
// every ciphertext in it.
func (a *cryptoAsk) opening() (*service.Document, error) {
	d, err := a.base()
	if err != nil || a.fields == nil {
		return d, err
	}
	switch text, ok := a.fields.Text(); {
	case ok && text == jsondoc.Any:
		return d, nil
	case a.fields.Kind == jsondoc.Object || a.fields.Kind == jsondoc.Array:
		d.Rules, err = readRules(a.fields)
		return d, err
	}
	return nil, wrong("fields", `fields is "*", a list of JSON Pointers, or an object from them to classifications`)
}

func (a *cryptoAsk) base() (*service.Document, error) {
	if err := a.only(0); err != nil {
		return nil, err
	}
	c, err := a.context(0)
	if err == nil && c.Pointer != "" {
		err = wrong("context.pointer", "each field has its own pointer; leave it out")
	}
	return &service.Document{Root: a.document, Context: c}, err
}

// readRules reads pointers with or without their classifications.
func readRules(n *jsondoc.Node) ([]service.Rule, error) {
	if len(n.Children) > maxRules {
		return nil, wrong("fields", "fields has at most %d pointers", maxRules)
	}
	rules := make([]service.Rule, len(n.Children))
	for i, c := range n.Children {
		text := c.Name
		if n.Kind == jsondoc.Array {
			var ok bool
			if text, ok = c.Text(); !ok {
				return nil, wrong(fmt.Sprintf("fields[%d]", i), "it is a JSON Pointer")
			}
		}
		place := fmt.Sprintf("fields[%q]", text)
		var err error
		if rules[i].Pattern, err = jsondoc.ParsePattern(text); err != nil {
			return nil, wrong(place, "%v, such as /address/street or /cards/*/number", err)
		}
		if n.Kind == jsondoc.Object {
			if err := readRule(&rules[i], c, place); err != nil {
				return nil, err
			}
		}
	}
	return rules, nil
}

func readRule(r *service.Rule, n *jsondoc.Node, place string) (err error) {
	if n.Kind != jsondoc.Object {
		text, _ := n.Text()
		r.Class, err = parseClass(text, place)
		return err
	}
	for _, c := range n.Children {
		switch {
		case c.Name == "classification":
			text, _ := c.Text()
			if r.Class, err = parseClass(text, place+".classification"); err != nil {
				return err
			}
		case c.Name == "optional" && c.Kind == jsondoc.Bool:
			r.Optional = string(c.Raw()) == "true"
		default:
			return wrong(place+"."+c.Name, "there are classification and optional, which is true or false")
		}
	}
	if r.Class == keys.Class(0) {
		return wrong(place+".classification", "classification is missing")
	}
	return nil
}
