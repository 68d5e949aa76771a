package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
	"github.com/verdict-pdp/verdict/audit/storetest"
)

const origin = "verdict.example/log"

// running is a log whose Run runs.
type running struct {
	*audit.Log
	store *storetest.Memory
	stop  context.CancelFunc
	ran   chan error
}

// run opens a log over the store and runs it. The test ends it with end.
func run(t testing.TB, store *storetest.Memory, o audit.Options) *running {
	t.Helper()
	log, err := audit.Open(store, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Log: log, store: store, stop: stop, ran: make(chan error, 1)}
	go func() { r.ran <- log.Run(ctx) }()
	return r
}

// end stops the log cleanly.
func (r *running) end(t testing.TB) {
	t.Helper()
	r.stop()
	if err := <-r.ran; err != nil {
		t.Errorf("Run = %v", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	checkLog(t, r.store)
}

// record is what the tests read of a record.
type record struct {
	Seq        uint64
	Time       time.Time
	Event      string
	DecisionID string `json:"decision_id"`
	Details    struct {
		Epoch           *uint64
		Format          int
		Origin          string
		Version, Config string
		Durability      string
		Recovered       bool
		DeliveryUnknown []uint64 `json:"delivery_unknown"`
		From, To        time.Time
		Records         uint64
	}
}

// checkLog verifies the whole store: numbers, times, chain and tree.
func checkLog(t testing.TB, store *storetest.Memory) (all []record) {
	t.Helper()
	head, tree := chain.Genesis(origin), chain.Tree{}
	var last time.Time
	for i, rec := range store.Records() {
		var r record
		if err := json.Unmarshal(rec, &r); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		if r.Seq != uint64(i) || r.Time.Before(last) && r.Event != audit.EventClockStep {
			t.Errorf("record %d: number %d, time %v after %v", i, r.Seq, r.Time, last)
		}
		last = r.Time
		leaf := chain.Leaf(rec)
		head = chain.Next(head, leaf)
		tree.Append(leaf)
		all = append(all, r)
	}
	if p := store.Position(); p.Head != head || p.Tree.Root() != tree.Root() || p.Next != uint64(len(all)) {
		t.Errorf("the store's head and root at %d are not those of its %d records", p.Next, len(all))
	}
	return all
}

func events(all []record) string {
	var names []string
	for _, r := range all {
		names = append(names, r.Event)
	}
	return strings.Join(names, " ")
}

func TestLifeOfALog(t *testing.T) {
	store := storetest.NewMemory(origin)
	l := run(t, store, audit.Options{Version: "1.2.3", ConfigDigest: "abc"})
	r, err := l.Append(t.Context(), decision())
	if err != nil {
		t.Fatal(err)
	}
	rec, err := l.Record(r.Seq)
	if err != nil || r.Seq != 2 || chain.Leaf(rec) != r.Leaf || r.Time.IsZero() {
		t.Errorf("receipt %+v of %q, %v", r, rec, err)
	}
	l.end(t)
	if _, err := l.Append(t.Context(), decision()); reason(err) != audit.ReasonClosed {
		t.Errorf("Append after Close: %v", err)
	}
	if _, err := l.Record(0); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("Record after Close: %v", err)
	}

	l = run(t, store.Reopen(), audit.Options{})
	l.end(t)
	all := checkLog(t, l.store)
	if got, want := events(all), "system.genesis system.start permission_granted system.shutdown system.start system.shutdown"; got != want {
		t.Fatalf("events %s, want %s", got, want)
	}
	genesis, start, down, again := all[0].Details, all[1].Details, all[3].Details, all[4].Details
	if genesis.Format != 1 || genesis.Origin != origin {
		t.Errorf("genesis %+v", genesis)
	}
	if *start.Epoch != 1 || start.Version != "1.2.3" || start.Config != "abc" || start.Durability != "durable" || start.Recovered {
		t.Errorf("start %+v", start)
	}
	if *down.Epoch != 1 || down.Records != 2 {
		t.Errorf("shutdown %+v", down)
	}
	if *again.Epoch != 4 || again.Recovered || again.DeliveryUnknown != nil {
		t.Errorf("second start %+v", again)
	}
}

func reason(err error) audit.Reason {
	var u *audit.UnavailableError
	if !errors.As(err, &u) || !errors.Is(err, audit.ErrUnavailable) {
		return audit.Reason(fmt.Sprint(err))
	}
	return u.Reason
}

// Both kinds of fault poison the log, and the next run says what it cannot know.
func TestPoison(t *testing.T) {
	boom := errors.New("input/output error")
	for _, tc := range []struct {
		name    string
		applied bool
	}{{"failed, not applied", false}, {"failed, yet applied", true}} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := storetest.NewMemory(origin)
				gate := make(chan struct{})
				fault := func(b *audit.Batch) error {
					if b.First < 3 {
						return nil
					}
					<-gate
					return boom
				}
				if tc.applied {
					store.AfterAppend = fault
				} else {
					store.BeforeAppend = fault
				}
				l := run(t, store, audit.Options{QueueRecords: 4, PoisonLinger: 30 * time.Second})
				if _, err := l.Append(t.Context(), decision()); err != nil {
					t.Fatal(err)
				}
				// One in the writer's hands, four in the queue, five outside.
				got := make(chan error, 10)
				for range 10 {
					go func() {
						_, err := l.Append(t.Context(), decision())
						got <- err
					}()
					synctest.Wait()
				}
				if s := l.Status(); s.QueueRecords != 4 || s.QueueOutside != 5 {
					t.Errorf("%d queued, %d outside", s.QueueRecords, s.QueueOutside)
				}
				start := time.Now()
				close(gate)
				for range 10 {
					if err := <-got; reason(err) != audit.ReasonPoisoned || !errors.Is(err, boom) || !errors.Is(err, audit.ErrPoisoned) {
						t.Errorf("Append = %v", err)
					}
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("waiters failed after %v", d)
				}
				if _, err := l.Append(t.Context(), decision()); reason(err) != audit.ReasonPoisoned {
					t.Errorf("Append = %v", err)
				}
				if err := l.Healthy(); !errors.Is(err, audit.ErrPoisoned) {
					t.Errorf("Healthy = %v", err)
				}
				if s := l.Status(); s.Healthy || s.Refusing != audit.ReasonPoisoned || !strings.Contains(s.Poisoned, boom.Error()) || s.LastErrorAt == nil {
					t.Errorf("status %+v", s)
				}
				if err := <-l.ran; !errors.Is(err, audit.ErrPoisoned) || !errors.Is(err, boom) || time.Since(start) != 30*time.Second {
					t.Errorf("Run = %v after %v", err, time.Since(start))
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}

				next := run(t, store.Reopen(), audit.Options{})
				next.end(t)
				all := checkLog(t, next.store)
				restart := all[len(all)-2].Details
				want := []uint64{2, 2}
				if tc.applied {
					want[1] = 3
				}
				if !restart.Recovered || len(restart.DeliveryUnknown) != 2 || [2]uint64(restart.DeliveryUnknown) != [2]uint64(want) {
					t.Errorf("restart %+v, want delivery unknown of %v", restart, want)
				}
			})
		})
	}
}

// The end of ctx cuts the linger short.
func TestPoisonedRunEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory(origin)
		var gone atomic.Bool
		store.Missing = func() error {
			if gone.Load() {
				return errors.New("file was replaced")
			}
			return nil
		}
		l := run(t, store, audit.Options{MonitorInterval: time.Second})
		synctest.Wait()
		gone.Store(true)
		time.Sleep(time.Second)
		synctest.Wait()
		if _, err := l.Append(t.Context(), decision()); reason(err) != audit.ReasonPoisoned {
			t.Errorf("Append = %v", err)
		}
		start := time.Now()
		l.stop()
		if err := <-l.ran; !errors.Is(err, audit.ErrPoisoned) || time.Since(start) != 0 {
			t.Errorf("Run = %v after %v", err, time.Since(start))
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestOpenFailsWhenTheStartCannotBeRecorded(t *testing.T) {
	store := storetest.NewMemory(origin)
	store.BeforeAppend = func(*audit.Batch) error { return errors.New("no space left on device") }
	if _, err := audit.Open(store, audit.Options{}); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("Open = %v", err)
	}
}

// A clean stop makes durable what is queued and fails what is not.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory(origin)
		gate := make(chan struct{})
		store.BeforeAppend = func(b *audit.Batch) error {
			if b.First >= 2 {
				<-gate
			}
			return nil
		}
		l := run(t, store, audit.Options{QueueRecords: 4})
		got := make(chan error, 7)
		for range 7 {
			go func() {
				_, err := l.Append(t.Context(), decision())
				got <- err
			}()
			synctest.Wait()
		}
		l.stop()
		close(gate)
		l.end(t)
		var stored, refused int
		for range 7 {
			switch err := <-got; {
			case err == nil:
				stored++
			case reason(err) == audit.ReasonClosed:
				refused++
			default:
				t.Error(err)
			}
		}
		// The writer may let one more round in before it sees the end.
		if stored < 5 || stored+refused != 7 || len(store.Records()) != 3+stored {
			t.Errorf("%d stored, %d refused, %d records", stored, refused, len(store.Records()))
		}
	})
}

func TestCloseWithoutRun(t *testing.T) {
	store := storetest.NewMemory(origin)
	log, err := audit.Open(store, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := log.Submit(t.Context(), decision())
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ticket.Wait(t.Context()); reason(err) != audit.ReasonClosed {
		t.Errorf("Wait = %v", err)
	}
	if _, err := ticket.Wait(t.Context()); reason(err) != audit.ReasonClosed {
		t.Errorf("second Wait = %v", err)
	}
	if err := log.Run(t.Context()); err == nil {
		t.Error("Run after Close")
	}
	if err := log.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
}

// Many callers at once: every receipt names its own record.
func TestConcurrentAppends(t *testing.T) {
	store := storetest.NewMemory(origin)
	store.Limit = 37 // batches are cut where the store says
	l := run(t, store, audit.Options{QueueRecords: 16})
	var wg sync.WaitGroup
	for c := range 32 {
		wg.Go(func() {
			for i := range 50 {
				r := decision()
				r.DecisionID = fmt.Sprintf("%d-%d", c, i)
				receipt, err := l.Append(t.Context(), r)
				if err != nil {
					t.Error(err)
					return
				}
				rec, err := l.Record(receipt.Seq)
				if err != nil || !strings.Contains(string(rec), `"decision_id":"`+r.DecisionID+`"`) || chain.Leaf(rec) != receipt.Leaf {
					t.Errorf("record %d of %s: %q, %v", receipt.Seq, r.DecisionID, rec, err)
				}
			}
		})
	}
	wg.Wait()
	l.end(t)
	if n := len(store.Records()); n != 3+32*50 {
		t.Errorf("%d records", n)
	}
	for _, n := range store.Batches() {
		if n > 37 {
			t.Errorf("a batch of %d", n)
		}
	}
}

func TestRefusesBadOptions(t *testing.T) {
	for _, o := range []audit.Options{
		{Durability: "maybe"}, {QueueRecords: -1}, {QueueBytes: -1}, {QueueWait: -1}, {PoisonLinger: -1}, {MonitorInterval: -1},
	} {
		if _, err := audit.Open(storetest.NewMemory(origin), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}
