package audit_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/storetest"
)

func TestFind(t *testing.T) {
	l := run(t, storetest.NewMemory(origin), audit.Options{})
	id, other := uuid.Must(uuid.NewV7()).String(), uuid.Must(uuid.NewV7()).String()
	forged := decision() // carries the id everywhere but in its own place
	forged.DecisionID, forged.Subject = other, `","decision_id":"`+id+`"`
	forged.Input = []byte(`{"x":1,"outcome":"success","decision_id":"` + id + `"}`)
	config := &audit.Record{
		Type: audit.TypeAdministrative, Event: audit.EventConfigChange, Severity: audit.SeverityInfo, Outcome: audit.OutcomeSuccess,
		Details: forged.Input,
	}
	mine := decision()
	mine.DecisionID = id
	var want audit.Receipt
	for _, r := range []*audit.Record{forged, config, mine} {
		var err error
		if want, err = l.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	seq, rec, err := l.Find(t.Context(), id)
	if err != nil || seq != want.Seq || !strings.Contains(string(rec), id) {
		t.Errorf("Find = %d, %q, %v, want %d", seq, rec, err, want.Seq)
	}
	for _, id := range []string{
		uuid.Must(uuid.NewV7()).String(), uuid.NewString(), "", "x", strings.ToUpper(id), "urn:uuid:" + id, id[:35],
	} {
		if _, _, err := l.Find(t.Context(), id); !errors.Is(err, audit.ErrNotFound) {
			t.Errorf("Find(%q) = %v, want ErrNotFound", id, err)
		}
	}
	l.end(t)
}

func TestTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := run(t, storetest.NewMemory(origin), audit.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		var seen []uint64
		ended := make(chan error, 3)
		go func() {
			ended <- l.Tail(ctx, 1, func(seq uint64, rec []byte) error {
				if got, _, _, err := audit.ParseHead(rec); err != nil || got != seq {
					t.Errorf("record %d as %d, %v", got, seq, err)
				}
				seen = append(seen, seq)
				return nil
			})
		}()
		for range 5 {
			if _, err := l.Append(t.Context(), decision()); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		cancel()
		if err := <-ended; err != nil || len(seen) != 6 || seen[0] != 1 || seen[5] != 6 {
			t.Errorf("Tail = %v after %v", err, seen)
		}
		stop := errors.New("stop")
		if err := l.Tail(t.Context(), 0, func(uint64, []byte) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("Tail = %v, want fn's error", err)
		}
		// One that waits in the future ends with the log.
		go func() { ended <- l.Tail(t.Context(), 1000, func(uint64, []byte) error { return nil }) }()
		synctest.Wait()
		l.end(t)
		if err := <-ended; !errors.Is(err, audit.ErrClosed) {
			t.Errorf("Tail = %v, want ErrClosed", err)
		}
	})
}
