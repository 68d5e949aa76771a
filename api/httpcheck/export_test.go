package httpcheck

import (
	"github.com/open-policy-agent/opa/v1/ast"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// MessageDocument is the document of any message.
func MessageDocument(m protoreflect.Message) ast.Value {
	b := builder{names: newNames(), left: 1 << 20, depth: 1 << 10}
	return b.message(m, 0)
}
