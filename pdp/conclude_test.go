package pdp_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/pdp"
)

func TestGranted(t *testing.T) {
	p := newPoint(t, pdp.Options{})
	for text, want := range map[string][2]bool{
		`true`: {true, true}, `false`: {false, true}, `null`: {}, `1`: {}, `"true"`: {}, `[]`: {}, `{}`: {},
		`{"allow": true}`: {true, true}, `{"allow": false, "x": 1}`: {false, true}, `{"allow": 1}`: {},
		`{"decision": true}`: {true, true}, `{"decision": "permit"}`: {}, `{"allow": true, "decision": "permit"}`: {true, true},
		`{"allow": "x", "decision": false}`: {false, true}, `{"allow": true, "decision": true}`: {true, true},
		`{"allow": true, "decision": false}`: {}, `{"allow": false, "decision": true}`: {},
		`{"allowed": true}`: {}, `{"allowed": false, "decision": true}`: {}, `{"allowed": true, "allow": true}`: {true, true},
	} {
		if granted, ok := p.Granted(parse(t, text)); granted != want[0] || ok != want[1] {
			t.Errorf("%s: %v, %v", text, granted, ok)
		}
	}
	if granted, ok := p.Granted(nil); granted || ok {
		t.Error("undefined is a decision")
	}
}

func TestConclude(t *testing.T) {
	p := newPoint(t, pdp.Options{}, app)
	q := &pdp.Query{Edge: "test", Path: "app/allow", Input: parse(t, `{"user": "alice"}`), Snapshot: p.engine.Active()}
	d, err := p.Conclude(t.Context(), q, &pdp.Conclusion{Value: parse(t, `{"n": 2}`), Took: time.Second, Details: []byte(`{"what":"x"}`)})
	if err != nil {
		t.Fatal(err)
	}
	rec := p.record(t, d.ID)
	if rec["event"] != "decision_evaluated" || fmt.Sprint(rec["result"], rec["details"], rec["input"]) != "map[n:2] map[what:x] map[user:alice]" ||
		fmt.Sprint(rec["duration_ns"]) != "1000000000" || fmt.Sprint(rec["seq"]) != fmt.Sprint(d.Receipt.Seq) {
		t.Errorf("record %v", rec)
	}
	d, err = p.Conclude(t.Context(), q, &pdp.Conclusion{Err: errors.New("went wrong"), Code: "my_code"})
	if err != nil {
		t.Fatal(err)
	}
	if rec := p.record(t, d.ID); rec["event"] != "decision_error" || fmt.Sprint(rec["error"]) != "map[code:my_code message:went wrong]" {
		t.Errorf("record %v", rec)
	}
}

func TestDecideUntil(t *testing.T) {
	p := newPoint(t, pdp.Options{}, app)
	queries := make([]pdp.Query, 4)
	for i, user := range []string{"alice", "bob", "alice", "bob"} {
		queries[i] = pdp.Query{Path: "app/allow", Input: parse(t, `{"user": "`+user+`"}`)}
	}
	before := p.log.Status().Next
	outcomes, err := p.DecideUntil(t.Context(), queries, func(o pdp.Outcome) bool { return !o.Decision.Allowed })
	if err != nil || len(outcomes) != 2 || p.log.Status().Next != before+2 {
		t.Errorf("%d outcomes, %d records, %v", len(outcomes), p.log.Status().Next-before, err)
	}
}
