package load

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// checkMethod is the method that a check calls.
const checkMethod = "/envoy.service.auth.v3.Authorization/Check"

// Frames of HTTP/2 (RFC 9113, section 6): length 24, type 8, flags 8, stream 32.
const (
	frameHeader = 9

	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4

	largestWindow = 1<<31 - 1
	firstWindow   = 1<<16 - 1
)

var (
	bodyAllowed = []byte(`{"result":true}`)
	bodyDenied  = []byte(`{"result":false}`)
)

// http2 is the client's end of one connection. It knows what calls of gRPC need
// and no more: headers of answers are not decoded, since a call that failed has no
// message.
type http2 struct {
	last  uint32 // stream of the newest call
	calls map[uint32]*conn
	begun bool // headers were sent, so that the server has them in its table
}

func newHTTP2() *http2 { return &http2{calls: map[uint32]*conn{}} }

func frame(dst []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	return append(binary.BigEndian.AppendUint32(dst, stream), payload...)
}

// hello is what a connection begins with: no bound on what the server may send,
// and no table for its headers.
func (h *http2) hello(dst []byte) []byte {
	clear(h.calls)
	h.last, h.begun = 0, false
	settings := []byte{0, 1, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff}
	dst = append(dst, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"...)
	dst = frame(dst, frameSettings, 0, 0, settings)
	return frame(dst, frameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, largestWindow-firstWindow))
}

// call appends the frames of a call with a caller's message.
func (h *http2) call(dst []byte, authority string, c *conn) []byte {
	if h.last == 0 {
		h.last = 1
	} else {
		h.last += 2
	}
	h.calls[h.last] = c
	c.answer = c.answer[:0]
	dst = frame(dst, frameHeaders, flagEndHeaders, h.last, h.headers(authority))
	n := len(c.out) + 5
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), frameData, flagEndStream)
	dst = append(binary.BigEndian.AppendUint32(dst, h.last), 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(c.out)))
	return append(dst, c.out...)
}

// headers is the header block (RFC 7541): the first one of a connection puts its
// fields into the server's table, the others name them there.
func (h *http2) headers(authority string) []byte {
	block := []byte{0x83, 0x86} // :method POST, :scheme http
	if h.begun {
		return append(block, 0xc1, 0xc0, 0xbf, 0xbe) // entries 65 to 62
	}
	h.begun = true
	for _, field := range []struct {
		name  []byte
		value string
	}{
		{[]byte{0x44}, checkMethod},
		{[]byte{0x41}, authority},
		{[]byte{0x5f}, "application/grpc"},
		{[]byte{0x40, 2, 't', 'e'}, "trailers"},
	} {
		block = append(append(block, field.name...), byte(len(field.value))) // all are shorter than 127
		block = append(block, field.value...)
	}
	return block
}

// read takes the frames that are complete off the start of b, up to the end of a
// call: done is its caller, nil when there is none. n is how many bytes they take;
// what the server wants to hear goes to reply.
func (h *http2) read(b []byte, reply *[]byte) (n int, done *conn, err error) {
	for len(b)-n >= frameHeader {
		head := b[n:]
		size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if len(head) < frameHeader+size {
			break
		}
		kind, flags := head[3], head[4]
		stream, payload := binary.BigEndian.Uint32(head[5:])&largestWindow, head[frameHeader:frameHeader+size]
		n += frameHeader + size
		switch {
		case kind == frameSettings && flags&flagAck == 0:
			*reply = frame(*reply, frameSettings, flagAck, 0, nil)
		case kind == framePing && flags&flagAck == 0:
			*reply = frame(*reply, framePing, flagAck, 0, payload)
		case kind == frameGoAway, kind == frameReset:
			return n, nil, fmt.Errorf("the server ends it with a frame of type %d: %x", kind, payload)
		case kind == frameData, kind == frameHeaders:
			c := h.calls[stream]
			if c == nil {
				return n, nil, fmt.Errorf("a frame of stream %d, which is none", stream)
			}
			if kind == frameData {
				c.answer = append(c.answer, payload...)
			}
			if flags&flagEndStream != 0 {
				delete(h.calls, stream)
				return n, c, nil
			}
		}
	}
	return n, nil, nil
}

var errCheck = errors.New("the call has no answer to the check")

// parseCheck reads the answer to a call as a response: status 200 for one that
// allows or denies.
//
//	CheckResponse {status = 1 {code = 1}, denied_response = 2, ok_response = 3}
func parseCheck(b []byte) (response, error) {
	if len(b) < 5 || b[0] != 0 || int(binary.BigEndian.Uint32(b[1:])) != len(b)-5 {
		return response{}, errCheck
	}
	var code uint64
	var denied, allowed bool
	for b = b[5:]; len(b) > 0; {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return response{}, errCheck
		}
		size := protowire.ConsumeFieldValue(field, kind, b[n:])
		if size < 0 {
			return response{}, errCheck
		}
		value := b[n : n+size]
		b = b[n+size:]
		switch field {
		case 1:
			if code, n = statusCode(value); n < 0 {
				return response{}, errCheck
			}
		case 2:
			denied = true
		case 3:
			allowed = true
		}
	}
	switch {
	case allowed && !denied && code == 0:
		return response{status: 200, body: bodyAllowed}, nil
	case denied && !allowed && code != 0:
		return response{status: 200, body: bodyDenied}, nil
	}
	return response{}, errCheck
}

// statusCode reads the code of a google.rpc.Status with its length before it; n is
// negative when it cannot be read.
func statusCode(value []byte) (code uint64, n int) {
	status, n := protowire.ConsumeBytes(value)
	if n < 0 || len(status) == 0 {
		return 0, n
	}
	field, kind, n := protowire.ConsumeTag(status)
	if n < 0 || field != 1 || kind != protowire.VarintType {
		return 0, n
	}
	return protowire.ConsumeVarint(status[n:])
}
