package opa_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/verdict-pdp/verdict/api/opa"
)

// slowReader is a client that takes no answer until it is let.
type slowReader struct {
	*httptest.ResponseRecorder
	let <-chan struct{}
}

func (s slowReader) Write(b []byte) (int, error) {
	<-s.let
	return s.ResponseRecorder.Write(b)
}

// TestExplanationsTakeTurns holds two explanations back: a third is refused
// after a while, an ordinary decision is not held up, and when they are done
// there is room again.
func TestExplanationsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, opa.Options{PolicyWrites: true})
		s.must(t, 200, "PUT", "/v1/policies/b", batchPolicy)
		let, done := make(chan struct{}), make(chan int, 2)
		for _, target := range []string{"/v1/data/b/echo?explain=full", "/v1/query?q=x=1&explain=notes"} {
			go func() {
				w := slowReader{httptest.NewRecorder(), let}
				r := httptest.NewRequest(http.MethodGet, target, nil)
				r.Header.Set("Authorization", bearer)
				s.handler.ServeHTTP(w, r)
				done <- w.Code
			}()
		}
		synctest.Wait()
		refused := s.do(t, "POST", "/v1/data/b/echo?explain=debug&pretty", `{"input":1}`)
		if refused.Code != http.StatusServiceUnavailable || refused.Header().Get("Retry-After") != "10" || !strings.Contains(refused.Body.String(), `"code": "busy"`) {
			t.Errorf("the third got %d %v: %s", refused.Code, refused.Header(), refused.Body)
		}
		s.must(t, 200, "POST", "/v1/data/b/echo", `{"input":1}`)
		s.must(t, 200, "POST", "/v1/data/b/echo?explain=off", `{"input":1}`)
		close(let)
		for range 2 {
			if code := <-done; code != http.StatusOK {
				t.Errorf("one that was held back got %d", code)
			}
		}
		s.must(t, 200, "GET", "/v1/data/b/echo?explain=full", "")
	})
}
