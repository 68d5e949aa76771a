package middleware

import (
	"net/http"
	"runtime/debug"
)

// Recover turns a panic into an answer: caught is told of it once, with the
// stack, and answer writes a 500 in the shape of the protocol. When part of an
// answer is out already the connection is cut instead, so that the client
// cannot take the part for the whole. http.ErrAbortHandler goes through.
func Recover(caught func(r *http.Request, value any, stack []byte), answer func(http.ResponseWriter, *http.Request)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			wrapped := Wrap(w)
			defer func() {
				value := recover()
				if value == nil {
					return
				}
				if value == http.ErrAbortHandler {
					panic(value)
				}
				caught(r, value, debug.Stack())
				if wrapped.Status() != 0 {
					panic(http.ErrAbortHandler)
				}
				answer(wrapped, r)
			}()
			next.ServeHTTP(wrapped, r)
		})
	}
}
