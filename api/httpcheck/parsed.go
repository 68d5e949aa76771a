package httpcheck

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"strconv"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// errTrailing is returned for a JSON body with something behind its document.
var errTrailing = errors.New("something follows the document")

// replacement stands for bytes that are no UTF-8, so that what is evaluated is
// what the record can hold.
const replacement = "\uFFFD"

// path is parsed_path: the path decoded as a whole, without leading slashes,
// cut at its slashes.
func (b *builder) path(path string) (ast.Value, error) {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return nil, parseError("path", err)
	}
	decoded = strings.TrimLeft(decoded, "/")
	if !b.spend(strings.Count(decoded, "/") + 1) {
		return nil, b.err
	}
	return b.list(strings.Split(decoded, "/")), nil
}

// query is parsed_query: each parameter with its values.
func (b *builder) query(raw string) (ast.Value, error) {
	if !b.spend(strings.Count(raw, "&")) {
		return nil, b.err
	}
	return b.form("query", raw)
}

func (b *builder) form(what, raw string) (ast.Value, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, parseError(what, err)
	}
	items := make([][2]*ast.Term, 0, len(values))
	for key, list := range values {
		items = append(items, ast.Item(b.textTerm(strings.ToValidUTF8(key, replacement)), b.term(b.list(list))))
	}
	return ast.NewObject(items...), nil
}

func (b *builder) list(list []string) *ast.Array {
	terms := make([]*ast.Term, len(list))
	for i, s := range list {
		terms[i] = b.textTerm(strings.ToValidUTF8(s, replacement))
	}
	return ast.NewArray(terms...)
}

// body is parsed_body and truncated_body. A body that nobody sent, that is cut
// off, or of a type that nobody reads is null.
func (b *builder) body(r *authv3.AttributeContext_HttpRequest) (parsed ast.Value, truncated bool, err error) {
	headers := r.GetHeaders()
	if headers["x-envoy-auth-partial-body"] == "true" {
		return ast.NullValue, true, nil
	}
	kind := headers["content-type"]
	var read func(kind, body string) (ast.Value, error)
	switch {
	case strings.Contains(kind, "application/json"):
		read = func(_, body string) (ast.Value, error) { return b.json(body) }
	case strings.Contains(kind, "application/grpc"):
		return ast.NullValue, false, nil // its messages are known to nobody here
	case strings.Contains(kind, "application/x-www-form-urlencoded"):
		read = func(_, body string) (ast.Value, error) {
			if !b.spend(strings.Count(body, "&")) {
				return nil, b.err
			}
			return b.form("body", body)
		}
	case strings.Contains(kind, "multipart/form-data"):
		read = b.multipart
	default:
		return ast.NullValue, false, nil
	}
	body := r.GetBody()
	if body == "" {
		body = string(r.GetRawBody())
	}
	if body == "" {
		return ast.NullValue, false, nil
	}
	if length, ok := headers["content-length"]; ok {
		announced, err := strconv.ParseInt(length, 10, 64)
		if err != nil {
			return nil, false, parseError("content-length", err)
		}
		if announced > int64(len(body)) {
			return ast.NullValue, true, nil
		}
	}
	parsed, err = read(kind, body)
	return parsed, false, err
}

func (b *builder) json(body string) (ast.Value, error) {
	v, n, err := eval.ParseInput([]byte(body), eval.Limits{Depth: b.depth, Members: max(b.left, 1)})
	if err == nil && strings.Trim(body[n:], " \t\r\n") != "" {
		err = errTrailing
	}
	if err != nil {
		return nil, parseError("body", err)
	}
	return v, nil
}

// multipart reads the named parts of a form: JSON where a part says that it is,
// text otherwise.
func (b *builder) multipart(kind, body string) (ast.Value, error) {
	_, params, err := mime.ParseMediaType(kind)
	if err != nil {
		return nil, parseError("content-type", err)
	}
	boundary, ok := params["boundary"]
	if !ok {
		return ast.NullValue, nil
	}
	values := map[string][]*ast.Term{}
	for r := multipart.NewReader(strings.NewReader(body), boundary); ; {
		part, err := r.NextPart()
		if err == io.EOF { // wrapped, it is a form that ends early
			break
		}
		if err != nil {
			return nil, parseError("body", err)
		}
		if !b.spend(1) {
			return nil, b.err
		}
		name := part.FormName()
		if name == "" {
			continue
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return nil, parseError("body", err)
		}
		var value ast.Value = ast.String(strings.ToValidUTF8(string(content), replacement))
		if strings.Contains(part.Header.Get("Content-Type"), "application/json") {
			if value, err = b.json(string(content)); err != nil {
				return nil, fmt.Errorf("part %q: %w", name, err)
			}
		}
		values[name] = append(values[name], ast.NewTerm(value))
	}
	o := b.object(len(values))
	for name, list := range values {
		o.put(ast.StringTerm(strings.ToValidUTF8(name, replacement)), ast.NewArray(list...))
	}
	return o.value(), nil
}
