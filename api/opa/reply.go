package opa

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// serverBuffer is the size up to which net/http buffers an answer and gives it
// a Content-Length by itself.
const serverBuffer = 2048

// reply writes an answer, compressed where OPA would compress it.
func (s *Server) reply(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	if h["Content-Type"] == nil {
		h["Content-Type"] = s.contentJSON
	}
	if len(body) >= gzipMinLength && compressible(r) && acceptsGzip(headerValue(r.Header, "Accept-Encoding")) {
		body = compress(body)
		h.Set("Content-Encoding", "gzip")
	}
	if len(body) >= serverBuffer {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	if status != http.StatusOK {
		w.WriteHeader(status)
	}
	_, _ = w.Write(body) // the client may be gone; there is nobody left to tell
}

// replyJSON encodes v as OPA does and writes it.
func (s *Server) replyJSON(w http.ResponseWriter, r *http.Request, status int, v any, pretty bool) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	if pretty {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(v); err != nil {
		s.replyError(w, r, err)
		return
	}
	s.reply(w, r, status, buf.Bytes())
}

// vary names the request header that answers depend on.
func (s *Server) vary(h http.Header) {
	if h["Vary"] == nil {
		h["Vary"] = s.varyEncoding
		return
	}
	h.Add("Vary", s.varyEncoding[0])
}

// compressible tells whether OPA compresses answers to this request.
func compressible(r *http.Request) bool {
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		return false
	}
	path := r.URL.Path
	return strings.HasPrefix(path, "/v1/data") || strings.HasPrefix(path, "/v0/data") ||
		strings.HasPrefix(path, "/v1/batch/data") ||
		r.Method == http.MethodPost && strings.HasPrefix(path, "/v1/compile")
}

// acceptsGzip reads an Accept-Encoding header (RFC 9110, section 12.5.3).
func acceptsGzip(header string) bool {
	for coding := range strings.SplitSeq(header, ",") {
		name, parameters, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return quality(parameters) > 0
		}
	}
	return false
}

// quality returns the weight among a coding's parameters, 1 when there is none.
func quality(parameters string) float64 {
	for p := range strings.SplitSeq(parameters, ";") {
		p = strings.TrimSpace(p)
		if len(p) >= 2 && strings.EqualFold(p[:2], "q=") {
			q, err := strconv.ParseFloat(p[2:], 64)
			if err != nil {
				return 0
			}
			return q
		}
	}
	return 1
}

func compress(body []byte) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, _ = z.Write(body) // a bytes.Buffer takes everything
	_ = z.Close()
	return buf.Bytes()
}
