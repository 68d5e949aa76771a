package native

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/internal/jsondoc"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/service"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

const (
	cryptoWrapping = 3       // how deep a document or an item stands in a request
	cryptoNodes    = 200_000 // members and elements of a request
	// cryptoRoom is what a request to open has beside ciphertext and context,
	// and what a ciphertext may grow by when its class changes.
	cryptoRoom = 1 << 10
)

// cryptoAsk is the body of a request to encrypt, decrypt or re-encrypt: one
// value, the items of a batch, or a document.
type cryptoAsk struct {
	asker  *service.Asker
	batch  bool
	jobs   bool            // the request may name a job
	items  []*jsondoc.Node // those of a batch, or the request itself
	shared *jsondoc.Node   // the request

	document       *jsondoc.Node
	fields         *jsondoc.Node
	subject, facts ast.Value

	job *jobAnswer // that the batch was counted in

	size  int // of the body
	limit int // of a body
}

// sizeError is a value whose ciphertext could not be sent back to be opened.
type sizeError struct{ field string }

func (e *sizeError) Error() string { return e.field + ": " + keys.ErrTooLarge.Error() }

// Unwrap gives the error that it is one of.
func (e *sizeError) Unwrap() error { return keys.ErrTooLarge }

// opens refuses a ciphertext that does not fit into a request to open it: who
// keeps it would have a value that nobody opens.
func (a *cryptoAsk) opens(item int, text string) error {
	if len(text)+a.contextSize(item)+cryptoRoom > a.limit {
		return &sizeError{"plaintext"}
	}
	return nil
}

// opensDocument is opens for a document, which is sent again as it was asked
// about, with its fields.
func (a *cryptoAsk) opensDocument(sealed []byte) error {
	if a.size-len(a.document.Raw())+len(sealed)+cryptoRoom > a.limit {
		return &sizeError{"document"}
	}
	return nil
}

// contextSize is how long the context of an item is.
func (a *cryptoAsk) contextSize(item int) int {
	for _, n := range []*jsondoc.Node{a.items[item], a.shared} {
		if c := n.Member("context"); c != nil {
			return len(c.Raw())
		}
	}
	return 0
}

func wrong(field, format string, args ...any) error {
	return &fieldError{field, fmt.Sprintf(format, args...)}
}

// readCrypto reads a request as far as all of them are alike.
func readCrypto(body []byte, depth int) (*cryptoAsk, error) {
	root, err := jsondoc.Parse(body, jsondoc.Limits{Depth: depth + cryptoWrapping, Nodes: cryptoNodes})
	if bad, ok := errors.AsType[*jsondoc.Error](err); ok {
		if bad.Pointer != "" {
			return nil, wrong(strings.TrimPrefix(bad.Pointer, "/"), "the body: %v", bad)
		}
		return nil, wrong("", "the body: %v", bad)
	}
	if err != nil {
		return nil, err
	}
	if root.Kind != jsondoc.Object {
		return nil, wrong("", "the body must be an object")
	}
	ask := &cryptoAsk{shared: root, document: root.Member("document"), fields: root.Member("fields"), items: []*jsondoc.Node{root}}
	items := root.Member("items")
	switch {
	case items != nil && ask.document != nil:
		return nil, wrong("items", "items and document exclude each other")
	case ask.fields != nil && ask.document == nil:
		return nil, wrong("fields", "fields are of a document, which is missing")
	case items != nil && (items.Kind != jsondoc.Array || len(items.Children) == 0 || len(items.Children) > service.MaxItems):
		return nil, wrong("items", "items is an array of 1 to %d objects", service.MaxItems)
	case items != nil:
		ask.batch, ask.items = true, items.Children
	}
	return ask, ask.about()
}

// about reads on whose behalf the question is asked, and the facts.
func (a *cryptoAsk) about() error {
	for name, into := range map[string]*ast.Value{"subject": &a.subject, "facts": &a.facts} {
		n := a.shared.Member(name)
		if n == nil {
			continue
		}
		value, _, err := eval.ParseInput(n.Raw(), eval.Limits{Members: eval.DefaultMembers})
		if _, ok := value.(ast.Object); err != nil || !ok {
			return wrong(name, "%s is an object", name)
		}
		*into = value
	}
	if s := a.shared.Member("subject"); s != nil {
		for _, name := range []string{"type", "id"} {
			if text, ok := textOf(s.Member(name)); !ok || text == "" {
				return wrong("subject."+name, "a subject has a type and an id")
			}
		}
	}
	known := []string{"session", "device", "location", "network", "policy"}
	if facts := a.shared.Member("facts"); facts != nil {
		for _, c := range facts.Children {
			if !slices.Contains(known, c.Name) {
				return wrong("facts."+c.Name, "facts are %s", strings.Join(known, ", "))
			}
		}
	}
	return nil
}

func textOf(n *jsondoc.Node) (string, bool) {
	if n == nil {
		return "", false
	}
	return n.Text()
}

// only refuses members that the request, or an item of it, does not have.
func (a *cryptoAsk) only(item int, names ...string) error {
	shared := []string{"subject", "facts"}
	if a.batch || a.document != nil {
		shared = append(shared, "context")
	}
	switch {
	case a.document != nil:
		shared = append(shared, "document", "fields")
	case a.batch:
		shared = append(shared, "items", "classification")
	}
	if !a.batch {
		shared = append(shared, names...)
	}
	if a.jobs {
		shared = append(shared, "job", "batch")
	}
	for _, c := range a.shared.Children {
		if item == 0 && !slices.Contains(shared, c.Name) {
			return wrong(c.Name, "there is no such member here; there are %s", strings.Join(shared, ", "))
		}
	}
	if !a.batch {
		return nil
	}
	if a.items[item].Kind != jsondoc.Object {
		return wrong(a.at(item, ""), "an item is an object")
	}
	for _, c := range a.items[item].Children {
		if !slices.Contains(names, c.Name) {
			return wrong(a.at(item, c.Name), "there is no such member in an item; there are %s", strings.Join(names, ", "))
		}
	}
	return nil
}

// at names a member of an item, or of the request when it is the only one.
func (a *cryptoAsk) at(item int, name string) string {
	if !a.batch {
		return name
	}
	place := fmt.Sprintf("items[%d]", item)
	if name != "" {
		place += "." + name
	}
	return place
}

// context reads where a value belongs: what the request says for all of them,
// and for the item.
func (a *cryptoAsk) context(item int) (keys.Context, error) {
	var c keys.Context
	if err := readContext(&c, a.shared.Member("context"), "context"); err != nil {
		return c, err
	}
	if a.batch {
		if err := readContext(&c, a.items[item].Member("context"), a.at(item, "context")); err != nil {
			return c, err
		}
	}
	return c, nil
}

func readContext(c *keys.Context, n *jsondoc.Node, place string) error {
	if n == nil {
		return nil
	}
	if n.Kind != jsondoc.Object {
		return wrong(place, "a context is an object with tenant, type, id and pointer")
	}
	into := map[string]*string{"tenant": &c.Tenant, "type": &c.Type, "id": &c.ID, "pointer": &c.Pointer}
	for _, m := range n.Children {
		target := into[m.Name]
		if target == nil {
			return wrong(place+"."+m.Name, "a context has tenant, type, id and pointer")
		}
		text, ok := m.Text()
		if !ok || len(text) > keys.MaxContextPart {
			return wrong(place+"."+m.Name, "it is a string of at most %d bytes", keys.MaxContextPart)
		}
		*target = text
	}
	return nil
}

// class reads a classification; zero when there is none.
func (a *cryptoAsk) class(item int) (keys.Class, error) {
	n, place := a.items[item].Member("classification"), a.at(item, "classification")
	if n == nil {
		n, place = a.shared.Member("classification"), "classification"
	}
	if n == nil {
		return 0, nil
	}
	text, _ := n.Text()
	return parseClass(text, place)
}

func parseClass(text, place string) (keys.Class, error) {
	c, ok := keys.ParseClass(text)
	if !ok {
		return 0, wrong(place, "it is public, internal, confidential, restricted or top_secret")
	}
	return c, nil
}

// values reads what is to be encrypted.
func (a *cryptoAsk) values() ([]keys.Value, error) {
	values := make([]keys.Value, len(a.items))
	for i, n := range a.items {
		if err := a.only(i, "classification", "plaintext", "plaintext_base64", "context"); err != nil {
			return nil, err
		}
		v := &values[i]
		var err error
		if v.Class, err = a.class(i); err != nil {
			return nil, err
		}
		if v.Class == 0 {
			return nil, wrong(a.at(i, "classification"), "classification is missing: public, internal, confidential, restricted or top_secret")
		}
		if v.Context, err = a.context(i); err != nil {
			return nil, err
		}
		text, binary := n.Member("plaintext"), n.Member("plaintext_base64")
		if (text == nil) == (binary == nil) {
			return nil, wrong(a.at(i, "plaintext"), "exactly one of plaintext and plaintext_base64 is needed")
		}
		if text != nil {
			s, ok := text.Text()
			if !ok {
				return nil, wrong(a.at(i, "plaintext"), "plaintext is a string of Unicode text; anything else goes into plaintext_base64")
			}
			v.Data = []byte(s)
			continue
		}
		s, ok := binary.Text()
		if v.Data, err = base64.StdEncoding.Strict().DecodeString(s); err != nil || !ok {
			return nil, wrong(a.at(i, "plaintext_base64"), "it is not base64 (RFC 4648, section 4, with padding)")
		}
	}
	return values, nil
}

// ciphertexts reads what is to be opened.
func (a *cryptoAsk) ciphertexts() ([]keys.Ciphertext, error) {
	items := make([]keys.Ciphertext, len(a.items))
	for i := range a.items {
		if err := a.only(i, "ciphertext", "context"); err != nil {
			return nil, err
		}
		if err := a.ciphertext(i, &items[i]); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func (a *cryptoAsk) ciphertext(i int, into *keys.Ciphertext) (err error) {
	text, ok := textOf(a.items[i].Member("ciphertext"))
	if !ok {
		return wrong(a.at(i, "ciphertext"), "ciphertext is a string that begins with vd1.")
	}
	into.Text = text
	into.Context, err = a.context(i)
	return err
}

// reencryptions reads what is to be encrypted anew.
func (a *cryptoAsk) reencryptions() ([]keys.Reencryption, error) {
	if a.document != nil {
		return nil, wrong("document", "ciphertexts are encrypted anew one by one or as items")
	}
	a.jobs = true
	items := make([]keys.Reencryption, len(a.items))
	for i := range a.items {
		err := a.only(i, "ciphertext", "context", "classification")
		if err == nil {
			err = a.ciphertext(i, &items[i].Ciphertext)
		}
		if err == nil {
			items[i].Class, err = a.class(i)
		}
		if err != nil {
			return nil, err
		}
	}
	return items, nil
}
