package eval

import (
	"fmt"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// The messages are those of OPA's in-memory store, since clients see them.
const (
	msgMissing    = "document does not exist"
	msgIndexType  = "array index must be integer"
	msgIndexRange = "array index out of range"
)

// errMissing is returned for a path that leads nowhere; one value, because a
// policy may ask for missing documents on every evaluation.
var errMissing = &storage.Error{Code: storage.NotFoundErr, Message: msgMissing}

// readDocument returns the value at path below root. The error is a
// *storage.Error with code NotFoundErr when there is none.
func readDocument(root ast.Value, path storage.Path) (ast.Value, error) {
	node := root
	for _, key := range path {
		switch curr := node.(type) {
		case ast.Object:
			child := curr.Get(keyTerm(key))
			if child == nil {
				return nil, errMissing
			}
			node = child.Value
		case *ast.Array:
			i, err := arrayIndex(curr, key, path)
			if err != nil {
				return nil, err
			}
			node = curr.Elem(i).Value
		default:
			return nil, errMissing
		}
	}
	return node, nil
}

// writeDocument returns a document that differs from root by one operation at
// path. Only the nodes along the path are copied; root stays as it was.
func writeDocument(root ast.Value, op storage.PatchOp, path storage.Path, value ast.Value) (ast.Value, error) {
	if len(path) == 0 {
		if op == storage.RemoveOp {
			return nil, &storage.Error{Code: storage.InvalidPatchErr, Message: "root cannot be removed"}
		}
		if _, ok := value.(ast.Object); !ok {
			return nil, &storage.Error{Code: storage.InvalidPatchErr, Message: "root must be object"}
		}
		return value, nil
	}
	return writeBelow(root, op, path, 0, value)
}

func writeBelow(node ast.Value, op storage.PatchOp, path storage.Path, at int, value ast.Value) (ast.Value, error) {
	switch node := node.(type) {
	case ast.Object:
		return writeObject(node, op, path, at, value)
	case *ast.Array:
		return writeArray(node, op, path, at, value)
	default:
		return nil, errMissing
	}
}

func writeObject(obj ast.Object, op storage.PatchOp, path storage.Path, at int, value ast.Value) (ast.Value, error) {
	key := keyTerm(path[at])
	old := obj.Get(key)
	last := at == len(path)-1
	if old == nil && (!last || op != storage.AddOp) {
		return nil, errMissing
	}
	if last && op == storage.RemoveOp {
		return copyObject(obj, key, nil), nil
	}
	if !last {
		next, err := writeBelow(old.Value, op, path, at+1, value)
		if err != nil {
			return nil, err
		}
		value = next
	}
	return copyObject(obj, key, ast.NewTerm(value)), nil
}

// copyObject copies obj one level deep with key set to value, or without key
// when value is nil.
func copyObject(obj ast.Object, key, value *ast.Term) ast.Object {
	pairs := make([][2]*ast.Term, 0, obj.Len()+1)
	found := false
	obj.Foreach(func(k, v *ast.Term) {
		if k.Equal(key) {
			found = true
			if value == nil {
				return
			}
			v = value
		}
		pairs = append(pairs, [2]*ast.Term{k, v})
	})
	if !found && value != nil {
		pairs = append(pairs, [2]*ast.Term{key, value})
	}
	return ast.NewObject(pairs...)
}

func writeArray(arr *ast.Array, op storage.PatchOp, path storage.Path, at int, value ast.Value) (ast.Value, error) {
	last := at == len(path)-1
	if last && (path[at] == "-" || path[at] == strconv.Itoa(arr.Len())) {
		if op != storage.AddOp {
			return nil, &storage.Error{Code: storage.InvalidPatchErr, Message: fmt.Sprintf("%v: invalid patch path", path)}
		}
		return arr.Append(ast.NewTerm(value)), nil
	}
	pos, err := arrayIndex(arr, path[at], path)
	if err != nil {
		return nil, err
	}
	if !last {
		if value, err = writeBelow(arr.Elem(pos).Value, op, path, at+1, value); err != nil {
			return nil, err
		}
		op = storage.ReplaceOp
	}
	elems := make([]*ast.Term, 0, arr.Len()+1)
	for i := range arr.Len() {
		if i == pos && op != storage.RemoveOp {
			elems = append(elems, ast.NewTerm(value))
		}
		if i != pos || op == storage.AddOp {
			elems = append(elems, arr.Elem(i))
		}
	}
	return ast.NewArray(elems...), nil
}

// makeFolder returns a document in which there is an object at path, adding
// empty ones where there is none on the way. Something else than an object at
// path, or at the last node above it that exists, is a storage write conflict.
func makeFolder(root ast.Value, path storage.Path) (ast.Value, error) {
	if len(path) == 0 {
		return root, nil
	}
	node, err := readDocument(root, path)
	switch {
	case storage.IsNotFound(err):
		if root, err = makeFolder(root, path[:len(path)-1]); err != nil {
			return nil, err
		}
		return writeDocument(root, storage.AddOp, path, ast.NewObject())
	case err != nil:
		return nil, err
	}
	if _, ok := node.(ast.Object); !ok {
		return nil, &storage.Error{Code: storage.WriteConflictErr, Message: path.String()}
	}
	return root, nil
}

// MergeData returns the union of two data documents. Objects are merged member
// by member; two values at one path are an error that names it.
func MergeData(a, b ast.Object) (ast.Object, error) { return mergeDocuments(a, b, nil) }

// mergeDocuments returns the union of two documents. Objects are merged member
// by member; two different values at one path are an error that names it.
func mergeDocuments(a, b ast.Object, at storage.Path) (ast.Object, error) {
	if a.Len() == 0 {
		return b, nil
	}
	if b.Len() == 0 {
		return a, nil
	}
	merged := ast.NewObject()
	a.Foreach(func(k, v *ast.Term) { merged.Insert(k, v) })
	err := b.Iter(func(k, v *ast.Term) error {
		old := a.Get(k)
		if old == nil {
			merged.Insert(k, v)
			return nil
		}
		name, _ := k.Value.(ast.String)
		path := append(at[:len(at):len(at)], string(name))
		oldObj, ok1 := old.Value.(ast.Object)
		newObj, ok2 := v.Value.(ast.Object)
		if !ok1 || !ok2 {
			return fmt.Errorf("data at %v is defined twice", path)
		}
		child, err := mergeDocuments(oldObj, newObj, path)
		if err != nil {
			return err
		}
		merged.Insert(k, ast.NewTerm(child))
		return nil
	})
	return merged, err
}

func arrayIndex(arr *ast.Array, key string, path storage.Path) (int, error) {
	i, err := strconv.Atoi(key)
	if err != nil {
		return 0, &storage.Error{Code: storage.NotFoundErr, Message: path.String() + ": " + msgIndexType}
	}
	if i < 0 || i >= arr.Len() {
		return 0, &storage.Error{Code: storage.NotFoundErr, Message: path.String() + ": " + msgIndexRange}
	}
	return i, nil
}

func keyTerm(key string) *ast.Term {
	if ast.HasInternedValue(key) {
		return ast.InternedTerm(key)
	}
	return ast.StringTerm(key)
}
