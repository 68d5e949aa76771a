package native

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/verdict-pdp/verdict/api"
)

// maxNamed bounds how much of a name somebody sent is said again.
const maxNamed = 64

// failBody answers what is wrong with the JSON of a request.
func failBody(w http.ResponseWriter, r *http.Request, err error) {
	if bad, ok := errors.AsType[*fieldError](err); ok {
		fail(w, http.StatusBadRequest, "invalid_parameter", bad.detail, bad.field)
		return
	}
	api.WriteProblem(w, r, api.AsError(err))
}

// strictJSON reads one JSON value that has no members which into lacks. What is
// wrong with it is a fieldError that names the member where there is one.
func strictJSON(from io.Reader, into any) error {
	raw, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return wrong("", "the body is empty; want a JSON object")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return bodyError(raw, into, err)
	}
	if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
		return wrong("", "something follows the object in the body")
	}
	return nil
}

// bodyError says in words of the API what encoding/json refused.
func bodyError(raw []byte, into any, err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return wrong("", "the body: at byte %d: it is not JSON", syntax.Offset)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return wrong("", "the body: it ends before the JSON does")
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if plain, err := strconv.Unquote(name); err == nil {
			name = plain
		}
		return wrong(shortName(name), "there is no such member here")
	}
	field := badMember(raw, into)
	if mistyped, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if mistyped.Field != "" {
			field = mistyped.Field
		}
		found, _, _ := strings.Cut(mistyped.Value, " ")
		if field == "" {
			return wrong("", "the body is of the type %s; want %s", found, wanted(mistyped.Type))
		}
		return wrong(shortName(field), "it is of the type %s; want %s", found, wanted(mistyped.Type))
	}
	// What has a text form of its own here is a time.
	return wrong(shortName(field), "it is not as it should be; write a time as RFC 3339 has it, for example 2026-11-23T09:00:00Z")
}

// wanted says what JSON a type is read from.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return wanted(t.Elem())
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "a whole number in its bounds"
}

// badMember finds the first member that into does not take.
func badMember(raw []byte, into any) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		alone, err := json.Marshal(map[string]json.RawMessage{name: members[name]})
		if err == nil && json.Unmarshal(alone, reflect.New(reflect.TypeOf(into).Elem()).Interface()) != nil {
			return name
		}
	}
	return ""
}

// shortName bounds a name that somebody sent.
func shortName(name string) string {
	if len(name) <= maxNamed {
		return strings.ToValidUTF8(name, "?")
	}
	return strings.ToValidUTF8(name[:maxNamed], "") + "..."
}

// parameters refuses a query that has another parameter than those named.
func parameters(w http.ResponseWriter, r *http.Request, names ...string) bool {
	bad := otherParameter(r, names...)
	if bad != nil {
		failBody(w, r, bad)
	}
	return bad == nil
}

// otherParameter finds a parameter that is not one of those named, or that is
// given twice: a misspelt dry_run must not become a push that counts.
func otherParameter(r *http.Request, names ...string) *fieldError {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return &fieldError{"", "the query cannot be read: a part of it is not encoded as a URL wants it"}
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains(names, name) {
			return &fieldError{shortName(name), "there is no such parameter; there are " + strings.Join(names, ", ")}
		}
		if len(query[name]) > 1 {
			return &fieldError{name, "it is given more than once"}
		}
	}
	return nil
}
