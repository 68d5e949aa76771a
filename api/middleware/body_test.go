package middleware_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/verdict-pdp/verdict/api/middleware"
)

func TestBodyLimit(t *testing.T) {
	for _, tc := range []struct {
		name      string
		body      string
		announced bool
		status    int
	}{
		{"none", "", true, 200},
		{"at the bound", "12345678", true, 200},
		{"at the bound, not announced", "12345678", false, 200},
		{"announced too large", "123456789", true, 413},
		{"turns out too large", "123456789", false, 413},
		{"turns out much too large", strings.Repeat("x", 1<<20), false, 413},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tooLarge := func(w http.ResponseWriter, _ *http.Request, err *middleware.BodyTooLargeError) {
				if err.Limit != 8 {
					t.Errorf("limit %d", err.Limit)
				}
				w.WriteHeader(http.StatusRequestEntityTooLarge)
			}
			h := middleware.BodyLimit(func() int64 { return 8 }, tooLarge)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got, err := io.ReadAll(r.Body)
				if large := (*middleware.BodyTooLargeError)(nil); errors.As(err, &large) {
					if len(got) != 8 {
						t.Errorf("%d bytes before the error", len(got))
					}
					if _, again := r.Body.Read(make([]byte, 1)); !errors.Is(again, err) {
						t.Errorf("read again: %v", again)
					}
					tooLarge(w, r, large)
					return
				}
				if string(got) != tc.body || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			}))
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(tc.body))
			if !tc.announced {
				r.Body = io.NopCloser(iotest.OneByteReader(strings.NewReader(tc.body)))
				r.ContentLength = -1
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tc.status {
				t.Errorf("status %d, want %d", w.Code, tc.status)
			}
			if closes := w.Result().Header.Get("Connection") == "close"; closes != (tc.announced && tc.status == 413) {
				t.Errorf("Connection: close is %v", closes)
			}
		})
	}
}

// TestBodyLimitUnanswered leaves a body that announces too much to the handler.
func TestBodyLimitUnanswered(t *testing.T) {
	h := middleware.BodyLimit(func() int64 { return 8 }, nil)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if large := (*middleware.BodyTooLargeError)(nil); !errors.As(err, &large) || len(got) != 8 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader("123456789")))
}

func TestBodyReader(t *testing.T) {
	content := strings.Repeat("0123456789", 1000)
	h := middleware.BodyLimit(func() int64 { return 1 << 20 }, nil)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := iotest.TestReader(r.Body, []byte(content)); err != nil {
			t.Error(err)
		}
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader(content)))
}
