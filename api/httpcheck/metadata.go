package httpcheck

import (
	"fmt"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"google.golang.org/protobuf/types/known/structpb"
)

// Struct is the result's metadata as a message, with the decision's id as
// decision_id. Its numbers are what Envoy has: 64-bit floating point.
func (r *Result) Struct(decisionID string) (*structpb.Struct, error) {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	if r != nil && r.Metadata != nil {
		var err error
		if s, err = structOf(r.Metadata); err != nil {
			return nil, fmt.Errorf("dynamic_metadata: %w", err)
		}
	}
	s.Fields["decision_id"] = structpb.NewStringValue(decisionID)
	return s, nil
}

func structOf(obj ast.Object) (*structpb.Struct, error) {
	s := &structpb.Struct{Fields: make(map[string]*structpb.Value, obj.Len()+1)}
	err := obj.Iter(func(k, v *ast.Term) error {
		value, err := valueOf(v.Value)
		s.Fields[keyText(k.Value)] = value
		return err
	})
	return s, err
}

func valueOf(v ast.Value) (*structpb.Value, error) {
	switch v := v.(type) {
	case ast.Null:
		return structpb.NewNullValue(), nil
	case ast.Boolean:
		return structpb.NewBoolValue(bool(v)), nil
	case ast.String:
		return structpb.NewStringValue(string(v)), nil
	case ast.Number:
		f, err := strconv.ParseFloat(string(v), 64)
		if err != nil {
			return nil, fmt.Errorf("number %s: %w", v, err)
		}
		return structpb.NewNumberValue(f), nil
	case ast.Object:
		s, err := structOf(v)
		return structpb.NewStructValue(s), err
	}
	list := &structpb.ListValue{}
	var failed error
	if !each(v, func(item ast.Value) {
		value, err := valueOf(item)
		if err != nil {
			failed = err
		}
		list.Values = append(list.Values, value)
	}) {
		return nil, fmt.Errorf("%T has no JSON", v)
	}
	return structpb.NewListValue(list), failed
}
