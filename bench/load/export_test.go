package load

// Matches lets tests reach matches.
var Matches = matches

// ParseResponse lets tests reach parseResponse.
func ParseResponse(b []byte) (status int, body []byte, size int, complete bool, err error) {
	r, ok, err := parseResponse(b)
	return r.status, r.body, r.size, ok, err
}
