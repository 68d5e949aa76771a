package client_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/client"
)

// patience is far above what a loaded machine needs.
const patience = 30 * time.Second

// serve is a client of a server of the test's own.
func serve(t *testing.T, o client.Options, h http.HandlerFunc) *client.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c := connect(t, s.URL, o)
	return c
}

func connect(t *testing.T, url string, o client.Options) *client.Client {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = patience
	}
	c, err := client.New(url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// reply answers with JSON.
func reply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

var question = client.Request{
	Subject:  client.Entity{Type: "user", ID: "ana", Properties: map[string]any{"roles": []string{"clerk"}}},
	Action:   client.Action{Name: "read"},
	Resource: client.Entity{Type: "bill", ID: "b-1"},
	Context:  map[string]any{"network": map[string]any{"ip": "10.0.0.1"}},
}
