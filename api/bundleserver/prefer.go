package bundleserver

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// waitOf is how long the request may wait, by its Prefer field as OPA writes it:
//
//	modes=snapshot,delta;wait=30
//
// A wait that cannot be read is none, as RFC 7240 has it; HEAD never waits.
func waitOf(r *http.Request) time.Duration {
	if r.Method != http.MethodGet {
		return 0
	}
	for _, field := range r.Header.Values("Prefer") {
		for part := range strings.FieldsFuncSeq(field, func(c rune) bool { return c == ',' || c == ';' }) {
			key, value, _ := strings.Cut(part, "=")
			if !strings.EqualFold(strings.TrimSpace(key), "wait") {
				continue
			}
			seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
			if err != nil {
				return 0
			}
			return min(time.Duration(seconds)*time.Second, MaxWait)
		}
	}
	return 0
}
