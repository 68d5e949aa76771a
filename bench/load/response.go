package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
)

// errResponse is returned when the bytes are not an HTTP/1.1 response that
// this parser understands.
var errResponse = errors.New("response is not HTTP/1.1 with a length")

// response is one HTTP response, cut out of a connection's buffer.
type response struct {
	status int
	body   []byte
	size   int // bytes that it takes of the buffer
}

// parseResponse reads a response from the start of b. It reports false when b
// does not hold all of it yet. A chunked body is joined in place, so b is
// changed, but only when the whole response is there.
func parseResponse(b []byte) (response, bool, error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return response{}, false, nil
	}
	head := b[:end+2]
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 ")) || len(head) < 14 {
		return response{}, false, errResponse
	}
	status, err := strconv.Atoi(string(head[9:12]))
	if err != nil {
		return response{}, false, errResponse
	}
	r := response{status: status, size: end + 4}
	if length, ok := header(head, "\r\nContent-Length: "); ok {
		n, err := strconv.Atoi(string(length))
		if err != nil || n < 0 {
			return response{}, false, errResponse
		}
		if len(b) < r.size+n {
			return response{}, false, nil
		}
		r.body = b[r.size : r.size+n]
		r.size += n
		return r, true, nil
	}
	if coding, ok := header(head, "\r\nTransfer-Encoding: "); !ok || string(coding) != "chunked" {
		return response{}, false, errResponse
	}
	size, ok, err := chunks(b[r.size:], nil)
	if !ok || err != nil {
		return response{}, false, err
	}
	body := b[r.size:r.size]
	if _, _, err := chunks(b[r.size:r.size+size], func(chunk []byte) { body = append(body, chunk...) }); err != nil {
		return response{}, false, err
	}
	r.body = body
	r.size += size
	return r, true, nil
}

// header returns the value of a header of a response head that ends in CRLF.
// The name comes with the CRLF before and the colon and blank behind it, in
// the spelling that Go's server uses.
func header(head []byte, name string) ([]byte, bool) {
	i := bytes.Index(head, []byte(name))
	if i < 0 {
		return nil, false
	}
	value := head[i+len(name):]
	return value[:bytes.IndexByte(value, '\r')], true
}

// chunks walks over a chunked body and returns how many bytes it takes, false
// when it is not complete. Trailers are not understood.
func chunks(b []byte, each func([]byte)) (int, bool, error) {
	at := 0
	for {
		line := bytes.Index(b[at:], []byte("\r\n"))
		if line < 0 {
			return 0, false, nil
		}
		n, err := strconv.ParseUint(string(b[at:at+line]), 16, 31)
		if err != nil {
			return 0, false, errResponse
		}
		at += line + 2
		if len(b) < at+int(n)+2 {
			return 0, false, nil
		}
		if n > 0 && each != nil {
			each(b[at : at+int(n)])
		}
		at += int(n) + 2
		if n == 0 {
			return at, true, nil
		}
	}
}

// matches reports whether an answer of the Data API holds the wanted result.
// Bytes are compared first, JSON values only when they differ.
func matches(body, want []byte) bool {
	const key = `"result":`
	if i := bytes.Index(body, []byte(key)); i >= 0 {
		rest := body[i+len(key):]
		if len(rest) > len(want) && bytes.HasPrefix(rest, want) && (rest[len(want)] == '}' || rest[len(want)] == ',') {
			return true
		}
	}
	var answer struct {
		Result any `json:"result"`
	}
	var wanted any
	if json.Unmarshal(body, &answer) != nil || json.Unmarshal(want, &wanted) != nil {
		return false
	}
	return reflect.DeepEqual(answer.Result, wanted)
}
