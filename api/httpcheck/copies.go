package httpcheck

import "github.com/verdict-pdp/verdict/pdp"

// Copies are the places of an input that hold its query or its body as text:
// where a parameter or a field is not recorded, they are not either.
func Copies() []pdp.Copy {
	const request = "/input/attributes/request/http/"
	return []pdp.Copy{
		{Of: "/input/parsed_query", At: []string{
			request + "path", request + "query", request + "headerMap",
			request + "headers/:path", request + "headers/x-envoy-original-path",
			request + "headers/x-original-uri", request + "headers/x-forwarded-uri",
		}},
		{Of: "/input/parsed_body", At: []string{request + "body", request + "rawBody"}},
	}
}
