package audit_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/storetest"
)

// stuck returns a store whose Append waits for the gate from record 2 on.
func stuck() (*storetest.Memory, chan struct{}) {
	store, gate := storetest.NewMemory(origin), make(chan struct{})
	store.BeforeAppend = func(b *audit.Batch) error {
		if b.First >= 2 {
			<-gate
		}
		return nil
	}
	return store, gate
}

// A disk that hangs makes callers fail at their deadline; when it comes back the
// log goes on.
func TestQueueWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, gate := stuck()
		l := run(t, store, audit.Options{QueueRecords: 2, QueueWait: 2 * time.Second})
		type result struct {
			err  error
			took time.Duration
		}
		submit := func(ctx context.Context) chan result {
			got := make(chan result, 1)
			start := time.Now()
			go func() {
				_, err := l.Append(ctx, decision())
				got <- result{err, time.Since(start)}
			}()
			synctest.Wait()
			return got
		}
		expect := func(name string, got chan result, why audit.Reason, took time.Duration) {
			t.Helper()
			if r := <-got; reason(r.err) != why || r.took != took {
				t.Errorf("%s: %v after %v, want %s after %v", name, r.err, r.took, why, took)
			}
		}
		short, cancelShort := context.WithTimeout(t.Context(), time.Second)
		defer cancelShort()
		gone, cancel := context.WithCancel(t.Context())
		inHand := submit(t.Context())
		queued := submit(t.Context())
		queuedGone := submit(gone)
		outside := submit(t.Context())
		outsideShort := submit(short)
		if s := l.Status(); s.QueueRecords != 2 || s.QueueOutside != 2 {
			t.Fatalf("%d queued, %d outside", s.QueueRecords, s.QueueOutside)
		}
		cancel()
		expect("cancelled in the queue", queuedGone, audit.ReasonQueueFull, 0)
		expect("own deadline", outsideShort, audit.ReasonQueueFull, time.Second)
		expect("in the writer's hands", inHand, audit.ReasonTimeout, 2*time.Second)
		expect("queued", queued, audit.ReasonQueueFull, 2*time.Second)
		expect("outside", outside, audit.ReasonQueueFull, 2*time.Second)
		close(gate)
		if _, err := l.Append(t.Context(), decision()); err != nil {
			t.Error(err)
		}
		l.end(t)
		// Only the one whose writing had begun is there, and the last.
		if n := len(store.Records()); n != 2+1+1+1 {
			t.Errorf("%d records: withdrawn ones were written", n)
		}
	})
}

// Waiting callers come in by their order, and none is forgotten.
func TestQueueIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, gate := stuck()
		l := run(t, store, audit.Options{QueueRecords: 3, QueueWait: time.Minute})
		const callers = 40
		seqs := make([]uint64, callers)
		for i := range callers {
			go func() {
				r, err := l.Append(t.Context(), decision())
				if err != nil {
					t.Error(err)
				}
				seqs[i] = r.Seq
			}()
			synctest.Wait()
		}
		close(gate)
		synctest.Wait()
		for i, seq := range seqs {
			if seq != uint64(2+i) {
				t.Errorf("caller %d got record %d", i, seq)
			}
		}
		l.end(t)
	})
}

// Bytes bound the queue as records do, and one huge record passes alone.
func TestQueueBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, gate := stuck()
		l := run(t, store, audit.Options{QueueBytes: 100_000})
		large := decision()
		large.Input = []byte(`"` + strings.Repeat("x", 40_000) + `"`)
		for range 5 {
			go l.Append(t.Context(), large)
			synctest.Wait()
		}
		s := l.Status()
		if s.QueueRecords != 2 || s.QueueOutside != 2 || s.QueueBytes > 100_000 || s.QueueBytes < 80_000 {
			t.Errorf("%d records of %d bytes, %d outside", s.QueueRecords, s.QueueBytes, s.QueueOutside)
		}
		close(gate)
		synctest.Wait()
		huge := decision()
		huge.Input = []byte(`"` + strings.Repeat("x", 200_000) + `"`)
		if _, err := l.Append(t.Context(), huge); err != nil {
			t.Error(err)
		}
		l.end(t)
	})
}

func TestGroupsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, gate := stuck()
		l := run(t, store, audit.Options{})
		for range 3000 {
			if _, err := l.Submit(t.Context(), decision()); err != nil {
				t.Fatal(err)
			}
		}
		close(gate)
		l.end(t)
		for _, n := range store.Batches() {
			if n > audit.MaxGroupRecords {
				t.Errorf("a group of %d", n)
			}
		}
		if n := len(store.Records()); n != 3003 {
			t.Errorf("%d records", n)
		}
	})
}

// What is given to Append may be used again when it returns, also when it fails.
func TestInputIsCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, gate := stuck()
		l := run(t, store, audit.Options{QueueWait: time.Second})
		r := decision()
		r.Input = []byte(`"` + strings.Repeat("a", 100_000) + `"`)
		if _, err := l.Append(t.Context(), r); reason(err) != audit.ReasonTimeout {
			t.Fatal(err)
		}
		for i := range r.Input {
			r.Input[i] = 'b'
		}
		close(gate)
		l.end(t)
		rec := string(store.Records()[2])
		i := strings.Index(rec, `"sha256":"`)
		blob, err := store.Blob(hash(t, rec[i+10:i+74]))
		if err != nil || strings.Count(string(blob), "a") != 100_000 {
			t.Errorf("blob of %d bytes, %v", len(blob), err)
		}
	})
}

func TestModeQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, gate := stuck()
		l := run(t, store, audit.Options{Durability: audit.Queued, QueueRecords: 3, QueueWait: time.Second})
		for range 4 {
			start := time.Now()
			if r, err := l.Append(t.Context(), decision()); err != nil || r.Seq != 0 || time.Since(start) != 0 {
				t.Errorf("Append = %+v, %v after %v", r, err, time.Since(start))
			}
			synctest.Wait()
		}
		if _, err := l.Append(t.Context(), decision()); reason(err) != audit.ReasonQueueFull {
			t.Errorf("full: %v", err)
		}
		close(gate)
		l.end(t)
		if n := len(store.Records()); n != 7 {
			t.Errorf("%d records", n)
		}
	})
}

// In the mode queued a failed write fails the next callers.
func TestModeQueuedFailsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory(origin)
		store.BeforeAppend = func(b *audit.Batch) error {
			if b.First >= 2 {
				return errors.New("boom")
			}
			return nil
		}
		l := run(t, store, audit.Options{Durability: audit.Queued})
		if _, err := l.Append(t.Context(), decision()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if _, err := l.Append(t.Context(), decision()); reason(err) != audit.ReasonPoisoned {
			t.Errorf("Append = %v", err)
		}
		if err := <-l.ran; !errors.Is(err, audit.ErrPoisoned) {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestModeOff(t *testing.T) {
	store := storetest.NewMemory(origin)
	l := run(t, store, audit.Options{Durability: audit.Off})
	for range 3 {
		if _, err := l.Append(t.Context(), decision()); err != nil {
			t.Error(err)
		}
	}
	ticket, err := l.Submit(t.Context(), decision())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ticket.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := l.Append(t.Context(), &audit.Record{}); !errors.Is(err, audit.ErrRecord) {
		t.Errorf("invalid record: %v", err)
	}
	l.end(t)
	if got, want := events(checkLog(t, store)), "system.genesis system.start system.shutdown"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
}

func TestSubmitManyThenWait(t *testing.T) {
	store := storetest.NewMemory(origin)
	l := run(t, store, audit.Options{})
	var tickets []*audit.Ticket
	for range 100 {
		ticket, err := l.Submit(t.Context(), decision())
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, ticket)
	}
	for i, ticket := range tickets {
		if r, err := ticket.Wait(t.Context()); err != nil || r.Seq != uint64(2+i) {
			t.Errorf("ticket %d: %+v, %v", i, r, err)
		}
	}
	l.end(t)
}

func TestSubmitWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, gate := stuck()
		l := run(t, store, audit.Options{QueueRecords: 1, QueueWait: time.Second})
		var passed atomic.Int32
		for range 4 {
			go func() {
				if _, err := l.Submit(t.Context(), decision()); err == nil {
					passed.Add(1)
				} else if reason(err) != audit.ReasonQueueFull {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		if n := passed.Load(); n != 2 {
			t.Errorf("%d passed, want 2", n)
		}
		time.Sleep(2 * time.Second)
		go l.Submit(t.Context(), decision())
		synctest.Wait()
		close(gate)
		l.end(t)
		if n := len(store.Records()); n != 2+3+1 {
			t.Errorf("%d records", n)
		}
	})
}
