package httpcheck

import (
	"encoding/base64"
	"errors"
	"math"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
)

// errNotFinite is returned for metadata with a number that JSON does not have.
var errNotFinite = errors.New("the metadata holds a number that is not finite")

// message is the document of any message: its set fields under their names in
// proto JSON, enumerations as numbers, bytes in base64, 64-bit integers as
// numbers, and a Struct as the object that it stands for. depth is how deep it
// lies.
func (b *builder) message(m protoreflect.Message, depth int) ast.Value {
	if depth > b.depth {
		b.err = errTooLarge
		return nil
	}
	if s, ok := m.Interface().(*structpb.Struct); ok {
		return b.structValue(s, depth)
	}
	o := b.object(4)
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		key := ast.StringTerm(fd.JSONName())
		switch {
		case !b.spend(1):
		case fd.IsMap():
			o.put(key, b.messageMap(fd, v.Map(), depth+1))
		case fd.IsList():
			o.put(key, b.messageList(fd, v.List(), depth+1))
		default:
			o.put(key, b.field(fd, v, depth+1))
		}
		return b.err == nil
	})
	return o.value()
}

func (b *builder) messageMap(fd protoreflect.FieldDescriptor, m protoreflect.Map, depth int) ast.Value {
	o := b.object(m.Len())
	m.Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
		if b.spend(1) {
			o.put(ast.StringTerm(key.String()), b.field(fd.MapValue(), v, depth+1))
		}
		return b.err == nil
	})
	return o.value()
}

func (b *builder) messageList(fd protoreflect.FieldDescriptor, list protoreflect.List, depth int) ast.Value {
	if !b.spend(list.Len()) {
		return nil
	}
	terms := make([]*ast.Term, 0, list.Len())
	for i := range list.Len() {
		if v := b.field(fd, list.Get(i), depth+1); v != nil {
			terms = append(terms, ast.NewTerm(v))
		}
	}
	return ast.NewArray(terms...)
}

// field is one value of a field: its own, or an element of it.
func (b *builder) field(fd protoreflect.FieldDescriptor, v protoreflect.Value, depth int) ast.Value {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return b.message(v.Message(), depth)
	case protoreflect.BoolKind:
		return ast.Boolean(v.Bool())
	case protoreflect.StringKind:
		return ast.String(v.String())
	case protoreflect.BytesKind:
		return ast.String(base64.StdEncoding.EncodeToString(v.Bytes()))
	case protoreflect.EnumKind:
		return integer(int64(v.Enum())).Value
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return b.float(v.Float())
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		return ast.Number(strconv.FormatUint(v.Uint(), 10))
	default:
		return integer(v.Int()).Value
	}
}

func (b *builder) float(f float64) ast.Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		b.err = errNotFinite
		return nil
	}
	return ast.Number(strconv.FormatFloat(f, 'g', -1, 64))
}

func (b *builder) structValue(s *structpb.Struct, depth int) ast.Value {
	if depth > b.depth {
		b.err = errTooLarge
	}
	if b.err != nil || !b.spend(len(s.GetFields())) {
		return nil
	}
	o := b.object(len(s.GetFields()))
	for key, v := range s.GetFields() {
		o.put(ast.StringTerm(key), b.jsonValue(v, depth+1))
	}
	return o.value()
}

func (b *builder) jsonValue(v *structpb.Value, depth int) ast.Value {
	switch v := v.GetKind().(type) {
	case *structpb.Value_BoolValue:
		return ast.Boolean(v.BoolValue)
	case *structpb.Value_NumberValue:
		return b.float(v.NumberValue)
	case *structpb.Value_StringValue:
		return ast.String(v.StringValue)
	case *structpb.Value_StructValue:
		return b.structValue(v.StructValue, depth)
	case *structpb.Value_ListValue:
		return b.jsonList(v.ListValue.GetValues(), depth)
	}
	return ast.NullValue
}

func (b *builder) jsonList(values []*structpb.Value, depth int) ast.Value {
	if depth > b.depth {
		b.err = errTooLarge
	}
	if b.err != nil || !b.spend(len(values)) {
		return nil
	}
	terms := make([]*ast.Term, 0, len(values))
	for _, v := range values {
		if value := b.jsonValue(v, depth+1); value != nil {
			terms = append(terms, ast.NewTerm(value))
		}
	}
	return ast.NewArray(terms...)
}
