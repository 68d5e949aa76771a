package issuer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/open-policy-agent/opa/v1/ast"
)

// Bounds of what a token's JSON may be.
const (
	maxDepth   = 16
	maxMembers = 500
	maxNumber  = 64 // bytes
	// maxDate is the last second that a date may name, in the year 5138: what is
	// beyond it has other units.
	maxDate = 1e11
)

// strict reads JSON that means the same to everybody: bounded, and without a
// member that is there twice.
type strict struct {
	decoder *json.Decoder
	members int // counted so far
	depth   int // the deepest so far
}

// parseObject reads an object, and nothing behind it.
func parseObject(raw []byte) (ast.Object, *strict, error) {
	s := &strict{decoder: json.NewDecoder(bytes.NewReader(raw))}
	s.decoder.UseNumber()
	v, err := s.value(1)
	if err != nil {
		return nil, nil, err
	}
	if _, err := s.decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("there is more behind the JSON")
	}
	o, ok := v.(ast.Object)
	if !ok {
		return nil, nil, errors.New("not a JSON object")
	}
	return o, s, nil
}

func (s *strict) value(depth int) (ast.Value, error) {
	token, err := s.decoder.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		if s.depth = max(s.depth, depth); depth > maxDepth {
			return nil, errors.New("nested too deeply")
		}
		if t == '{' {
			return s.object(depth)
		}
		return s.array(depth)
	case string:
		return ast.String(t), nil
	case bool:
		return ast.Boolean(t), nil
	case json.Number:
		if _, err := t.Float64(); err != nil || len(t) > maxNumber {
			return nil, errors.New("a number out of bounds")
		}
		return ast.Number(t), nil
	}
	return ast.Null{}, nil
}

func (s *strict) object(depth int) (ast.Value, error) {
	seen, items := map[string]bool{}, [][2]*ast.Term{}
	for s.decoder.More() {
		token, err := s.decoder.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string)
		if seen[name] {
			return nil, errors.New("a member is there twice")
		}
		seen[name] = true
		value, err := s.member(depth)
		if err != nil {
			return nil, err
		}
		items = append(items, ast.Item(ast.StringTerm(name), value))
	}
	_, err := s.decoder.Token()
	return ast.NewObject(items...), err
}

func (s *strict) array(depth int) (ast.Value, error) {
	var items []*ast.Term
	for s.decoder.More() {
		value, err := s.member(depth)
		if err != nil {
			return nil, err
		}
		items = append(items, value)
	}
	_, err := s.decoder.Token()
	return ast.NewArray(items...), err
}

func (s *strict) member(depth int) (*ast.Term, error) {
	if s.members++; s.members > maxMembers {
		return nil, errors.New("too many members")
	}
	v, err := s.value(depth + 1)
	return ast.NewTerm(v), err
}

// claimSet is the payload of a token. It implements jwt.Claims.
type claimSet struct {
	object         ast.Object
	members, depth int
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *claimSet) UnmarshalJSON(raw []byte) error {
	o, s, err := parseObject(raw)
	if err != nil {
		return err
	}
	c.object, c.members, c.depth = o, s.members, s.depth
	return nil
}

// claim is the value of a claim, nil when there is none.
func (c *claimSet) claim(name string) ast.Value { return member(c.object, name) }

func member(o ast.Object, name string) ast.Value {
	if o == nil {
		return nil
	}
	if t := o.Get(ast.StringTerm(name)); t != nil {
		return t.Value
	}
	return nil
}

// date is a NumericDate (RFC 7519, section 2), nil when there is none.
func (c *claimSet) date(name string) (*jwt.NumericDate, error) {
	v := c.claim(name)
	if v == nil {
		return nil, nil
	}
	n, ok := v.(ast.Number)
	if !ok {
		return nil, wrongType(name)
	}
	seconds, err := strconv.ParseFloat(string(n), 64)
	if err != nil || math.Abs(seconds) > maxDate {
		return nil, wrongType(name)
	}
	whole, part := math.Modf(seconds)
	return &jwt.NumericDate{Time: time.Unix(int64(whole), int64(part*1e9))}, nil
}

// text is a claim that is a string, empty when there is none.
func (c *claimSet) text(name string) (string, error) {
	v := c.claim(name)
	if v == nil {
		return "", nil
	}
	s, ok := v.(ast.String)
	if !ok {
		return "", wrongType(name)
	}
	return string(s), nil
}

func wrongType(name string) error { return fmt.Errorf("%s: %w", name, jwt.ErrInvalidType) }

// GetExpirationTime implements jwt.Claims.
func (c *claimSet) GetExpirationTime() (*jwt.NumericDate, error) { return c.date("exp") }

// GetIssuedAt implements jwt.Claims.
func (c *claimSet) GetIssuedAt() (*jwt.NumericDate, error) { return c.date("iat") }

// GetNotBefore implements jwt.Claims.
func (c *claimSet) GetNotBefore() (*jwt.NumericDate, error) { return c.date("nbf") }

// GetIssuer implements jwt.Claims.
func (c *claimSet) GetIssuer() (string, error) { return c.text("iss") }

// GetSubject implements jwt.Claims.
func (c *claimSet) GetSubject() (string, error) { return c.text("sub") }

// GetAudience implements jwt.Claims: a string, or a list of them.
func (c *claimSet) GetAudience() (jwt.ClaimStrings, error) {
	switch v := c.claim("aud").(type) {
	case nil:
		return nil, nil
	case ast.String:
		return jwt.ClaimStrings{string(v)}, nil
	case *ast.Array:
		list := make(jwt.ClaimStrings, 0, v.Len())
		for i := range v.Len() {
			s, ok := v.Elem(i).Value.(ast.String)
			if !ok {
				return nil, wrongType("aud")
			}
			list = append(list, string(s))
		}
		return list, nil
	}
	return nil, wrongType("aud")
}
