package eval

import (
	"context"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// store shows one snapshot's data and modules to OPA's evaluator. It cannot be
// written and has one transaction that never ends, so reading takes no lock.
type store struct {
	storage.TriggersNotSupported
	storage.WritesNotSupported

	data    ast.Object
	modules map[string]*Module
}

// reading is the one transaction of every store.
type reading struct{}

func (reading) ID() uint64 { return 0 }

func (*store) NewTransaction(context.Context, ...storage.TransactionParams) (storage.Transaction, error) {
	return reading{}, nil
}

func (*store) Abort(context.Context, storage.Transaction) {}

func (*store) Commit(context.Context, storage.Transaction) error { return nil }

func (*store) Truncate(context.Context, storage.Transaction, storage.TransactionParams, storage.Iterator) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr}
}

func (s *store) Read(_ context.Context, _ storage.Transaction, path storage.Path) (any, error) {
	v, err := readDocument(s.data, path)
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (s *store) ListPolicies(context.Context, storage.Transaction) ([]string, error) {
	ids := make([]string, 0, len(s.modules))
	for id := range s.modules {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

func (s *store) GetPolicy(_ context.Context, _ storage.Transaction, id string) ([]byte, error) {
	m, ok := s.modules[id]
	if !ok {
		return nil, errNoModule(id)
	}
	return m.Raw, nil
}

func (*store) UpsertPolicy(context.Context, storage.Transaction, string, []byte) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr}
}

func (*store) DeletePolicy(context.Context, storage.Transaction, string) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr}
}

// baseDocuments answers the evaluator's reads of base documents straight from
// the snapshot's data, by the terms of the reference. It is shared by all
// queries of a snapshot and keeps nothing. A nil answer sends the evaluator to
// the store, which also knows the rarer forms (array indices written as text,
// the root document without `system`).
type baseDocuments struct {
	data ast.Object
}

func (b baseDocuments) Get(ref ast.Ref) ast.Value {
	if len(ref) < 2 {
		return nil
	}
	var node ast.Value = b.data
	for _, term := range ref[1:] {
		switch curr := node.(type) {
		case ast.Object:
			child := curr.Get(term)
			if child == nil {
				return nil
			}
			node = child.Value
		case *ast.Array:
			n, ok := term.Value.(ast.Number)
			if !ok {
				return nil
			}
			i, ok := n.Int()
			if !ok || i < 0 || i >= curr.Len() {
				return nil
			}
			node = curr.Elem(i).Value
		default:
			return nil
		}
	}
	return node
}

func (baseDocuments) Put(ast.Ref, ast.Value) {}
