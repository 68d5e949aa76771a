package workload

import (
	_ "embed"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// checkPolicy decides the first set's questions about HTTP requests.
//
//go:embed check.rego
var checkPolicy []byte

// question is one question of the first two sets.
type question struct {
	user, country string
	permission
	id, hour, weekday int
	allowed           bool
}

// body is the question for OPA's Data API.
func (q *question) body() Request {
	body := fmt.Appendf(nil, `{"input":{"subject":{"id":%q},"action":%q,"resource":{"type":%q,"id":"res-`, q.user, q.action, q.kind)
	offset := len(body)
	body = fmt.Appendf(body, `%0*d"},"environment":{"hour":%d,"weekday":%d,"country":%q}}}`, idDigits, q.id, q.hour, q.weekday, q.country)
	return Request{Body: body, Want: strconv.AppendBool(nil, q.allowed), ID: offset}
}

// check is the question as Envoy asks it: an envoy.service.auth.v3.CheckRequest
// about POST /TYPE/ID/ACTION, with the headers of a usual request, those of the
// question among them.
//
//	CheckRequest      {attributes = 1}
//	AttributeContext  {source = 1, request = 4}
//	Peer              {address = 1};  Address {socket_address = 1}
//	SocketAddress     {address = 2, port_value = 3}
//	Request           {http = 2}
//	HttpRequest       {id = 1, method = 2, headers = 3, path = 4, host = 5, scheme = 6, protocol = 10}
func (q *question) check() Request {
	var http []byte
	text := func(dst []byte, field protowire.Number, value string) []byte {
		return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), value)
	}
	nested := func(dst []byte, field protowire.Number, message []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), message)
	}
	http = text(http, 1, "5213981379287236407")
	http = text(http, 2, "POST")
	for _, h := range [][2]string{
		{":authority", "shop.example"},
		{":method", "POST"},
		{":scheme", "https"},
		{"accept", "*/*"},
		{"user-agent", "curl/8.5"},
		{"x-forwarded-proto", "https"},
		{"x-request-id", "5c1b2f6e-6ad9-4dd5-8d3e-63cf0b6d5a10"},
		{"x-user", q.user},
		{"x-country", q.country},
		{"x-hour", strconv.Itoa(q.hour)},
		{"x-weekday", strconv.Itoa(q.weekday)},
	} {
		http = nested(http, 3, text(text(nil, 1, h[0]), 2, h[1]))
	}
	http = text(http, 5, "shop.example")
	http = text(http, 6, "https")
	http = text(http, 10, "HTTP/1.1")
	before := "/" + q.kind + "/res-"
	http = text(http, 4, fmt.Sprintf("%s%0*d/%s", before, idDigits, q.id, q.action)) // last, so that the id is found
	fromEnd := idDigits + 1 + len(q.action)

	socket := protowire.AppendVarint(protowire.AppendTag(text(nil, 2, "10.1.2.3"), 3, protowire.VarintType), 51234)
	attributes := nested(nil, 1, nested(nil, 1, nested(nil, 1, socket)))
	attributes = nested(attributes, 4, nested(nil, 2, http))
	body := nested(nil, 1, attributes)
	return Request{Body: body, Want: strconv.AppendBool(nil, q.allowed), ID: len(body) - fromEnd}
}
