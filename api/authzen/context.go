package authzen

import (
	"encoding/hex"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// stepUp is the type of the one obligation that the working group's draft
// profile and the standard policies share.
const stepUp = "step-up"

// appendRest writes the members of a result that go into the context, each
// followed by a comma: all but the decision itself and what only verdict says.
// The members of an object named context are taken out of it, so that a policy
// may answer with an AuthZEN decision.
func appendRest(dst, result []byte) []byte {
	for m := (members{rest: result}); m.next(); {
		switch string(m.name) {
		case "allow", "decision":
			if isBoolean(m.value) {
				continue
			}
		case "decision_id", "receipt":
			continue
		case "context":
			if m.value[0] == '{' {
				dst = appendInner(dst, m.value, result)
				continue
			}
		}
		dst = m.append(dst)
	}
	return dst
}

// appendInner writes the members of a result's own context, except for those
// that the result or verdict gives.
func appendInner(dst, inner, result []byte) []byte {
	for m := (members{rest: inner}); m.next(); {
		switch string(m.name) {
		case "decision_id", "receipt":
			continue
		}
		if !hasMember(result, m.name) {
			dst = m.append(dst)
		}
	}
	return dst
}

func isBoolean(value []byte) bool { return value[0] == 't' || value[0] == 'f' }

// hasMember tells whether appendRest writes a member of that name from an object
// itself.
func hasMember(object, name []byte) bool {
	for m := (members{rest: object}); m.next(); {
		if string(m.name) == string(name) {
			return (string(name) != "allow" && string(name) != "decision") || !isBoolean(m.value)
		}
	}
	return false
}

// members walks over the members of an object as eval.AppendJSON writes it:
// without white space. Other bytes must not be given to it.
type members struct {
	rest        []byte
	name, value []byte // between the quotes, as it is written; and the value
	whole       []byte // "name":value
}

// next goes to the next member and tells whether there is one.
func (m *members) next() bool {
	if len(m.rest) < 2 || m.rest[1] == '}' {
		return false
	}
	b := m.rest[1:] // behind the brace or the comma
	n := endOfString(b)
	m.name = b[1 : n-1]
	end := n + 1 + endOfValue(b[n+1:])
	m.value, m.whole, m.rest = b[n+1:end], b[:end], b[end:]
	return true
}

func (m *members) append(dst []byte) []byte { return append(append(dst, m.whole...), ',') }

// endOfString is the length of the string that b begins with.
func endOfString(b []byte) int {
	i := 1
	for b[i] != '"' {
		if b[i] == '\\' {
			i++
		}
		i++
	}
	return i + 1
}

// endOfValue is the length of the value that b begins with, inside an object.
func endOfValue(b []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch b[i] {
		case '"':
			i += endOfString(b[i:]) - 1
		case '{', '[':
			depth++
		case ',':
			if depth == 0 {
				return i
			}
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
		}
	}
}

// appendStepUp writes what the first step-up obligation of a result asks for as
// acr_values and amr_values, in the form of RFC 9470 and the specification's
// example: names with spaces between them.
func (s *Server) appendStepUp(dst []byte, result ast.Object) []byte {
	list, ok := member(result, s.names.obligations).(*ast.Array)
	if !ok {
		return dst
	}
	for i := range list.Len() {
		obligation, ok := list.Elem(i).Value.(ast.Object)
		if !ok {
			continue
		}
		if kind, ok := member(obligation, s.names.kind).(ast.String); !ok || kind != stepUp {
			continue
		}
		properties, ok := member(obligation, s.names.properties).(ast.Object)
		if !ok {
			return dst
		}
		inner, _ := member(result, s.names.context).(ast.Object)
		for _, name := range [...]*ast.Term{s.names.acr, s.names.amr} {
			if member(result, name) == nil && (inner == nil || member(inner, name) == nil) {
				dst = appendSpaced(dst, text(name), member(properties, name))
			}
		}
		return dst
	}
	return dst
}

// appendSpaced writes an array of strings as one member; nothing for none.
func appendSpaced(dst []byte, name string, value ast.Value) []byte {
	list, ok := value.(*ast.Array)
	if !ok || list.Len() == 0 {
		return dst
	}
	joined := make([]byte, 0, 64)
	for i := range list.Len() {
		one, ok := list.Elem(i).Value.(ast.String)
		if !ok {
			return dst
		}
		if i > 0 {
			joined = append(joined, ' ')
		}
		joined = append(joined, one...)
	}
	dst = append(append(append(dst, '"'), name...), '"', ':')
	return append(append(dst, quote(string(joined))...), ',')
}

// appendReceipt writes the members of a receipt and closes it.
func appendReceipt(dst []byte, r audit.Receipt) []byte {
	dst = append(dst, `"seq":`...)
	dst = strconv.AppendUint(dst, r.Seq, 10)
	dst = append(dst, `,"leaf_hash":"`...)
	dst = hex.AppendEncode(dst, r.Leaf[:])
	return append(dst, '"', '}')
}

// quote is a JSON string.
func quote(text string) []byte {
	b, err := eval.AppendJSON(nil, ast.String(text))
	if err != nil {
		return []byte(`""`) // a string can always be written
	}
	return b
}
