package authzen_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/verdict-pdp/verdict/api/authzen"
	"github.com/verdict-pdp/verdict/audit"
)

// nowhere takes records and keeps none, so that what is tested is not the disk.
type nowhere struct{}

func (nowhere) Append(context.Context, *audit.Record) (audit.Receipt, error) {
	return audit.Receipt{}, nil
}

func (nowhere) Submit(context.Context, *audit.Record) (*audit.Ticket, error) {
	return &audit.Ticket{}, nil
}

// FuzzBody sends any body to every endpoint: whatever it is, the answer is JSON
// of the protocol's shape, and what holds for one endpoint holds for the other.
func FuzzBody(f *testing.F) {
	fixtureStand, labStand := newStand(f, setup{recorder: nowhere{}}), newStand(f, setup{recorder: nowhere{}, Options: authzen.Options{Path: "lab/decision"}})
	file, err := os.Open(filepath.Join(fixture, "cases.jsonl"))
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var c certificationCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			f.Fatal(err)
		}
		if c.Body != nil {
			body, err := json.Marshal(c.Body)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(body))
		}
	}
	for _, id := range []string{"decision", "authzen", "step-up", "step-up permitted", "conflict", "echo", "contradiction"} {
		f.Add(asked(id))
	}
	f.Add(`{"subject":{"type":"user"},"action":{"name":"read"},"resource":{"type":"record","id":"record-1"},"page":{"limit":1,"token":"AAAA"}}`)
	f.Fuzz(func(t *testing.T, body string) {
		for _, s := range []*stand{fixtureStand, labStand} {
			for _, path := range []string{
				authzen.PathEvaluation, authzen.PathEvaluations,
				authzen.PathSearchSubject, authzen.PathSearchResource, authzen.PathSearchAction,
			} {
				w := s.post(path, body)
				doc := decode(t, w)
				switch w.Code {
				case http.StatusBadRequest:
				case http.StatusInternalServerError: // of the lab's results only
					if s == fixtureStand || doc["message"] == "internal error" {
						t.Fatalf("%s: %v", path, doc)
					}
				case http.StatusOK:
					_, decided := doc["decision"].(bool)
					_, several := doc["evaluations"].([]any)
					_, found := doc["results"].([]any)
					if !decided && !several && !found {
						t.Fatalf("%s: %v", path, doc)
					}
				default:
					t.Fatalf("%s: %d %v", path, w.Code, doc)
				}
			}
		}
	})
}
