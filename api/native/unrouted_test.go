package native_test

import (
	"encoding/json"
	"net/http"
	"testing"
)

// TestUnrouted wants a problem also where there is no route, and the methods
// where there is one for others.
func TestUnrouted(t *testing.T) {
	s := newSite(t, nil, nil)
	for _, tt := range []struct {
		method, path, code, allow string
		status                    int
	}{
		{method: "GET", path: "/api/v1/status", status: 200},
		{method: "PATCH", path: "/api/v1/status", status: 405, code: "method_not_allowed", allow: "GET"},
		{method: "POST", path: "/api/v1/audit/records/7", status: 405, code: "method_not_allowed", allow: "GET"},
		{method: "GET", path: "/api/v1/nothing", status: 404, code: "not_found"},
		{method: "GET", path: "/api/v1/audit/records/7/8", status: 404, code: "not_found"},
		{method: "DELETE", path: "/api/", status: 404, code: "not_found"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, s.url+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var p struct{ Code string }
		err = json.NewDecoder(resp.Body).Decode(&p)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.status || p.Code != tt.code || resp.Header.Get("Allow") != tt.allow ||
			tt.code != "" && resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d %+v %v, %v", tt.method, tt.path, resp.StatusCode, p, resp.Header, err)
		}
	}
}
