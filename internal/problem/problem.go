// Package problem writes errors as RFC 9457 problem details
// (application/problem+json).
package problem

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

// ContentType is the media type of a problem (RFC 9457, section 6.1).
const ContentType = "application/problem+json"

// Problem is one problem details object. A zero member is left out, except
// for Type, Title and Status, which get the defaults named there.
type Problem struct {
	// Type is a URI reference that names the kind of problem; empty: about:blank.
	Type string
	// Title is a short text that is the same for each problem of its type;
	// empty: the text of the status.
	Title string
	// Status is the HTTP status; 0 or out of 400..599: 500.
	Status int
	// Detail says what happened this time.
	Detail string
	// Instance is a URI reference that names this occurrence.
	Instance string
	// Members are the extension members, "code" and "field" for example. They
	// are written in the order of their names; one that bears the name of a
	// member above, or whose value JSON cannot hold, is left out.
	Members map[string]any
}

// Write answers with the problem. The header fields that tell its type and
// length are replaced, everything else that is set already stays.
func (p Problem) Write(w http.ResponseWriter) {
	status := p.status()
	body := p.AppendJSON(nil)
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Del("Content-Encoding")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone: nobody is left to be told
}

// AppendJSON appends the object and a line feed to dst. Every text is escaped
// for JSON and for HTML.
func (p Problem) AppendJSON(dst []byte) []byte {
	typ, title, status := p.Type, p.Title, p.status()
	if typ == "" {
		typ = "about:blank"
	}
	if title == "" {
		title = http.StatusText(status)
	}
	dst = appendMember(append(dst, '{'), "type", typ)
	dst = appendMember(dst, "title", title)
	dst = appendMember(dst, "status", status)
	if p.Detail != "" {
		dst = appendMember(dst, "detail", p.Detail)
	}
	if p.Instance != "" {
		dst = appendMember(dst, "instance", p.Instance)
	}
	names := make([]string, 0, len(p.Members))
	for name := range p.Members {
		switch name {
		case "type", "title", "status", "detail", "instance":
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		dst = appendMember(dst, name, p.Members[name])
	}
	return append(dst, '}', '\n')
}

func (p Problem) status() int {
	if p.Status < 400 || p.Status > 599 {
		return http.StatusInternalServerError
	}
	return p.Status
}

func appendMember(dst []byte, name string, value any) []byte {
	encoded, err := json.Marshal(value)
	if err != nil {
		return dst
	}
	key, err := json.Marshal(name)
	if err != nil {
		return dst
	}
	if !bytes.HasSuffix(dst, []byte{'{'}) {
		dst = append(dst, ',')
	}
	dst = append(dst, key...)
	return append(append(dst, ':'), encoded...)
}
