package eval

import (
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Bounds of an input document, used where a field of Limits is zero.
const (
	DefaultDepth        = 64
	DefaultMembers      = 10_000
	DefaultNumberDigits = 4096
)

// The kinds of InputError.
const (
	// InputSyntax is a document that encoding/json refuses as well.
	InputSyntax InputErrorKind = "syntax"
	// InputEmpty is a document without any value: OPA treats such a body as
	// no body.
	InputEmpty InputErrorKind = "empty"
	// InputDepth is a document nested deeper than Limits.Depth.
	InputDepth InputErrorKind = "depth"
	// InputMembers is a document with more than Limits.Members members.
	InputMembers InputErrorKind = "members"
	// InputNumber is a number that is longer than Limits.NumberDigits, or whose
	// exponent OPA refuses to calculate with.
	InputNumber InputErrorKind = "number"
)

// Sizes of the chunks from which one document's strings and terms are cut. A
// value that outlives its document keeps at most one chunk of each alive.
const (
	maxTextChunk = 4096
	minTextChunk = 32
	maxTermChunk = 128
	minTermChunk = 4

	// scratchMembers is how many members may be open at once (in all containers
	// not yet closed) before the parser's working space moves to the heap.
	scratchMembers = 32
	// linearMembers is the size up to which an object is searched for duplicate
	// keys by comparing each pair.
	linearMembers = 12
)

// InputErrorKind says why a document was refused.
type InputErrorKind string

// InputError is returned for a document that is not JSON or exceeds a bound.
type InputError struct {
	Kind InputErrorKind
	// Offset is the number of bytes read before the offending one.
	Offset int
	// Message is encoding/json's own text for a syntax error.
	Message string
}

// Error returns the message alone: protocols put their own words before it.
func (e *InputError) Error() string { return e.Message }

// Limits bounds the work that one document can cause. The zero value stands for
// the defaults.
type Limits struct {
	// Depth is how many arrays and objects may contain one another. Default 64.
	Depth int
	// Members is how many object members and array elements the whole document
	// may have. Default 10,000.
	Members int
	// NumberDigits is the length of the longest number, in bytes. Default 4,096.
	// Calculating with a number takes time quadratic in its length.
	NumberDigits int
}

func (l Limits) withDefaults() Limits {
	if l.Depth <= 0 {
		l.Depth = DefaultDepth
	}
	if l.Members <= 0 {
		l.Members = DefaultMembers
	}
	if l.NumberDigits <= 0 {
		l.NumberDigits = DefaultNumberDigits
	}
	return l
}

// ParseInput reads the first JSON value of b (RFC 8259) and reports how many
// bytes it took, leading white space included. What follows the value is not
// looked at.
//
// The value equals what OPA makes of the same bytes: the text of numbers is
// kept, the last of several members with one name counts, and invalid UTF-8 or a
// lone surrogate becomes U+FFFD. It shares no memory with b. The error is always
// an *InputError.
func ParseInput(b []byte, lim Limits) (ast.Value, int, error) {
	var pairs [scratchMembers][2]*ast.Term
	var elems [scratchMembers]*ast.Term
	p := parser{b: b, lim: lim.withDefaults(), pairs: pairs[:0], elems: elems[:0]}
	p.space()
	if p.i == len(b) {
		return nil, p.i, &InputError{Kind: InputEmpty, Offset: p.i, Message: "EOF"}
	}
	t, err := p.term(0)
	if err != nil {
		return nil, p.i, err
	}
	return t.Value, p.i, nil
}

// parser holds one document. Errors are concrete pointers inside, so that a nil
// costs nothing; ParseInput turns them into the interface.
type parser struct {
	b   []byte
	i   int // next byte
	n   int // members seen
	lim Limits

	shared *sharedTerms // of a data document; nil: nothing is shared

	text  strings.Builder // chunk from which strings are cut
	terms []ast.Term      // rest of the chunk from which terms are cut

	// Members and elements of the containers being read, as stacks.
	pairs [][2]*ast.Term
	elems []*ast.Term
}

func (p *parser) space() {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

// term reads a value; the cursor is at its first byte, or at the end of b. The
// commonest scalars are terms that OPA shares.
func (p *parser) term(depth int) (*ast.Term, *InputError) {
	if p.i == len(p.b) {
		return nil, p.invalid("")
	}
	switch c := p.b[p.i]; {
	case c == '"':
		start := p.i
		raw, plain, err := p.scanString()
		if err != nil {
			return nil, err
		}
		if slot := p.shared.slot(p.b[start:p.i]); slot != nil && slot.term != nil && slot.text == string(p.b[start:p.i]) {
			return slot.term, nil
		}
		return p.share(start, p.newTerm(ast.String(p.keep(raw, plain)))), nil
	case c == '{':
		return p.object(depth + 1)
	case c == '[':
		return p.array(depth + 1)
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case c == 't':
		return ast.InternedTerm(true), p.literal("true")
	case c == 'f':
		return ast.InternedTerm(false), p.literal("false")
	case c == 'n':
		return ast.InternedNullTerm, p.literal("null")
	}
	return nil, p.invalid("looking for beginning of value")
}

func (p *parser) newTerm(v ast.Value) *ast.Term {
	if len(p.terms) == 0 {
		p.terms = make([]ast.Term, min(max((len(p.b)-p.i)/8, minTermChunk), maxTermChunk))
	}
	t := &p.terms[0]
	p.terms = p.terms[1:]
	t.Value = v
	return t
}

// enter counts a container's depth, and step each of its members.
func (p *parser) enter(depth int) *InputError {
	if depth > p.lim.Depth {
		return &InputError{
			Kind: InputDepth, Offset: p.i,
			Message: "document is nested deeper than " + strconv.Itoa(p.lim.Depth) + " levels",
		}
	}
	p.i++
	p.space()
	return nil
}

func (p *parser) step() *InputError {
	if p.n++; p.n > p.lim.Members {
		return &InputError{
			Kind: InputMembers, Offset: p.i,
			Message: "document has more than " + strconv.Itoa(p.lim.Members) + " members",
		}
	}
	return nil
}

func (p *parser) array(depth int) (*ast.Term, *InputError) {
	start := p.i
	if err := p.enter(depth); err != nil {
		return nil, err
	}
	if p.i < len(p.b) && p.b[p.i] == ']' {
		p.i++
		return ast.InternedEmptyArray, nil
	}
	base := len(p.elems)
	for {
		if err := p.step(); err != nil {
			return nil, err
		}
		t, err := p.term(depth)
		if err != nil {
			return nil, err
		}
		p.elems = append(p.elems, t)
		p.space()
		if p.i == len(p.b) || p.b[p.i] != ',' && p.b[p.i] != ']' {
			return nil, p.invalid("after array element")
		}
		p.i++
		if p.b[p.i-1] == ']' {
			break
		}
		p.space()
	}
	t := p.newTerm(ast.NewArray(slices.Clone(p.elems[base:])...))
	p.elems = p.elems[:base]
	return p.share(start, t), nil
}

func (p *parser) object(depth int) (*ast.Term, *InputError) {
	start := p.i
	if err := p.enter(depth); err != nil {
		return nil, err
	}
	if p.i < len(p.b) && p.b[p.i] == '}' {
		p.i++
		return ast.InternedEmptyObject, nil
	}
	base := len(p.pairs)
	for {
		if err := p.step(); err != nil {
			return nil, err
		}
		key, err := p.key()
		if err != nil {
			return nil, err
		}
		val, err := p.term(depth)
		if err != nil {
			return nil, err
		}
		p.pairs = append(p.pairs, [2]*ast.Term{key, val})
		p.space()
		if p.i == len(p.b) || p.b[p.i] != ',' && p.b[p.i] != '}' {
			return nil, p.invalid("after object key:value pair")
		}
		p.i++
		if p.b[p.i-1] == '}' {
			break
		}
		p.space()
	}
	t := p.newTerm(ast.NewObject(lastWins(p.pairs[base:])...))
	p.pairs = p.pairs[:base]
	return p.share(start, t), nil
}

// key reads a member's name and the colon behind it.
func (p *parser) key() (*ast.Term, *InputError) {
	if p.i == len(p.b) || p.b[p.i] != '"' {
		return nil, p.invalid("looking for beginning of object key string")
	}
	raw, plain, err := p.scanString()
	if err != nil {
		return nil, err
	}
	p.space()
	if p.i == len(p.b) || p.b[p.i] != ':' {
		return nil, p.invalid("after object key")
	}
	p.i++
	p.space()
	if v := commonKey(raw); v != nil {
		return p.newTerm(v), nil
	}
	return p.newTerm(ast.String(p.keep(raw, plain))), nil
}

// lastWins removes, in place, members whose name occurs again further on.
// ast.NewObject would keep them all.
func lastWins(pairs [][2]*ast.Term) [][2]*ast.Term {
	if len(pairs) <= linearMembers {
		for i := 1; i < len(pairs); i++ {
			key := pairs[i][0].Value.(ast.String)
			for j := range i {
				if pairs[j][0].Value.(ast.String) == key {
					pairs[j][1] = pairs[i][1]
					pairs = slices.Delete(pairs, i, i+1)
					i--
					break
				}
			}
		}
		return pairs
	}
	at := make(map[ast.String]int, len(pairs))
	kept := pairs[:0]
	for _, kv := range pairs {
		key := kv[0].Value.(ast.String)
		if j, ok := at[key]; ok {
			kept[j][1] = kv[1]
			continue
		}
		at[key] = len(kept)
		kept = append(kept, kv)
	}
	return kept
}

func (p *parser) literal(word string) *InputError {
	for j := range len(word) {
		if p.i == len(p.b) || p.b[p.i] != word[j] {
			return p.invalid("in literal " + word + " (expecting " + quoteByte(word[j]) + ")")
		}
		p.i++
	}
	return nil
}

// number reads a number and keeps its text.
func (p *parser) number() (*ast.Term, *InputError) {
	start := p.i
	if p.b[p.i] == '-' {
		p.i++
	}
	switch {
	case p.i < len(p.b) && p.b[p.i] == '0':
		p.i++
	case !p.digits():
		return nil, p.invalid("in numeric literal")
	}
	if p.i < len(p.b) && p.b[p.i] == '.' {
		p.i++
		if !p.digits() {
			return nil, p.invalid("after decimal point in numeric literal")
		}
	}
	exponent := p.i < len(p.b) && p.b[p.i]|0x20 == 'e'
	if exponent {
		p.i++
		if p.i < len(p.b) && (p.b[p.i] == '+' || p.b[p.i] == '-') {
			p.i++
		}
		if !p.digits() {
			return nil, p.invalid("in exponent of numeric literal")
		}
	}
	raw := p.b[start:p.i]
	if len(raw) <= 3 {
		if t := ast.InternedIntNumberTermFromString(string(raw)); t != nil {
			return t, nil
		}
	}
	if len(raw) > p.lim.NumberDigits {
		return nil, &InputError{
			Kind: InputNumber, Offset: start,
			Message: "number is longer than " + strconv.Itoa(p.lim.NumberDigits) + " bytes",
		}
	}
	text := p.cut(raw)
	if exponent {
		if _, err := ast.NumberChecked(text); err != nil {
			return nil, &InputError{Kind: InputNumber, Offset: start, Message: err.Error()}
		}
	}
	return p.newTerm(ast.Number(text)), nil
}

// digits skips a run of digits and reports whether there was one.
func (p *parser) digits() bool {
	start := p.i
	for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		p.i++
	}
	return p.i > start
}

// invalid is the syntax error for the byte at the cursor, in encoding/json's
// words.
func (p *parser) invalid(where string) *InputError {
	if p.i == len(p.b) {
		return &InputError{Kind: InputSyntax, Offset: p.i, Message: "unexpected EOF"}
	}
	return &InputError{
		Kind: InputSyntax, Offset: p.i,
		Message: "invalid character " + quoteByte(p.b[p.i]) + " " + where,
	}
}

func quoteByte(c byte) string {
	switch c {
	case '\'':
		return `'\''`
	case '"':
		return `'"'`
	}
	s := strconv.Quote(string(rune(c)))
	return "'" + s[1:len(s)-1] + "'"
}
