package audit_test

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
	"github.com/verdict-pdp/verdict/audit/storetest"
)

func hash(t testing.TB, text string) (h chain.Hash) {
	t.Helper()
	if n, err := hex.Decode(h[:], []byte(text)); err != nil || n != len(h) {
		t.Fatalf("hash %q: %v", text, err)
	}
	return h
}

// Small steps back are bridged, large ones in either direction recorded.
func TestClock(t *testing.T) {
	base := time.Date(2026, 11, 23, 9, 0, 0, 999_999_999, time.UTC)
	now := base
	store := storetest.NewMemory(origin)
	l := run(t, store, audit.Options{Now: func() time.Time { return now }})
	var want []time.Time
	at := func(d time.Duration) { want = append(want, base.Add(d).Truncate(time.Microsecond)) }
	at(0)
	at(0)
	step := func(d time.Duration, times ...time.Duration) {
		now = base.Add(d)
		if _, err := l.Append(t.Context(), decision()); err != nil {
			t.Fatal(err)
		}
		for _, d := range times {
			at(d)
		}
	}
	step(time.Second, time.Second)
	step(500*time.Millisecond, time.Second)                       // held
	step(0, time.Second)                                          // held: exactly 1 s
	step(-time.Microsecond, -time.Microsecond, -time.Microsecond) // step, record
	step(time.Hour, time.Hour)                                    // no monotonic clock tells that this is a jump
	step(0, 0, 0)
	at(0) // shutdown
	l.end(t)
	all := checkLog(t, store)
	if len(all) != len(want) {
		t.Fatalf("%d records, want %d: %s", len(all), len(want), events(all))
	}
	for i, r := range all {
		if !r.Time.Equal(want[i]) {
			t.Errorf("record %d (%s): %v, want %v", i, r.Event, r.Time, want[i])
		}
	}
	if d := all[5].Details; all[5].Event != audit.EventClockStep || !d.From.Equal(want[4]) || !d.To.Equal(want[5]) {
		t.Errorf("record 5: %s %+v", all[5].Event, d)
	}
}

func TestClockSetBackBetweenRuns(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	o := audit.Options{Now: func() time.Time { return now }}
	l := run(t, storetest.NewMemory(origin), o)
	l.end(t)
	now = now.Add(-time.Hour)
	l = run(t, l.store.Reopen(), o)
	l.end(t)
	all := checkLog(t, l.store)
	if got, want := events(all), "system.genesis system.start system.shutdown system.clock_step system.start system.shutdown"; got != want {
		t.Fatalf("events %s, want %s", got, want)
	}
	if epoch := *all[4].Details.Epoch; epoch != 4 {
		t.Errorf("epoch %d", epoch)
	}
}

func TestTimesBeyondTheFormat(t *testing.T) {
	for _, year := range []int{-5, 1969, 2038, 10000, 290000} {
		store := storetest.NewMemory(origin)
		l := run(t, store, audit.Options{Now: func() time.Time { return time.Date(year, 2, 1, 0, 0, 0, 0, time.UTC) }})
		if _, err := l.Append(t.Context(), decision()); err != nil {
			t.Error(err)
		}
		l.end(t)
		for i, rec := range store.Records() {
			if seq, _, _, err := audit.ParseHead(rec); err != nil || seq != uint64(i) {
				t.Errorf("year %d: %q: %v", year, rec, err)
			}
		}
	}
}

func TestFreeSpace(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	free := uint64(5000)
	store := storetest.NewMemory(origin)
	l, err := audit.Open(store, audit.Options{
		MinFreeBytes: 1000, Free: func() (uint64, error) { return free, nil }, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		free uint64
		want audit.Reason
	}{{5000, "<nil>"}, {1999, "<nil>"}, {1000, "<nil>"}, {999, audit.ReasonDiskFull}, {0, audit.ReasonDiskFull}, {1000, "<nil>"}} {
		free = tc.free
		audit.Look(l)
		if _, err := l.Submit(t.Context(), decision()); reason(err) != tc.want {
			t.Errorf("%d bytes free: %v, want %s", free, err, tc.want)
		}
		s := l.Status()
		if *s.FreeBytes != free || s.Healthy != (tc.want == "<nil>") || (l.Healthy() == nil) != s.Healthy {
			t.Errorf("%d bytes free: status %+v", free, s)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestGrowth(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	store := storetest.NewMemory(origin)
	l := run(t, store, audit.Options{Now: func() time.Time { return now }})
	first := l.Status().UsedBytes
	for range 48 * 6 {
		now = now.Add(10 * time.Minute)
		if _, err := l.Append(t.Context(), decision()); err != nil {
			t.Fatal(err)
		}
		audit.Look(l.Log)
	}
	s := l.Status()
	if want := float64(s.UsedBytes-first) / 2; s.GrowthPerDay < want*0.98 || s.GrowthPerDay > want*1.02 {
		t.Errorf("growth %v a day, want about %v", s.GrowthPerDay, want)
	}
	l.end(t)
}

func TestMetrics(t *testing.T) {
	l := run(t, storetest.NewMemory(origin), audit.Options{})
	registry := prometheus.NewPedanticRegistry()
	for _, c := range l.Collectors() {
		if err := registry.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		if _, err := l.Append(t.Context(), decision()); err != nil {
			t.Fatal(err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		switch m := f.GetMetric()[0]; {
		case m.Counter != nil:
			got[f.GetName()] = m.GetCounter().GetValue()
		case m.Gauge != nil:
			got[f.GetName()] = m.GetGauge().GetValue()
		default:
			got[f.GetName()] = float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{
		"verdict_audit_appended_total": 7, "verdict_audit_next_seq": 7, "verdict_audit_queue_records": 0, "verdict_audit_queue_bytes": 0,
		"verdict_audit_queue_wait_seconds": 7, "verdict_audit_commit_seconds": 7, "verdict_audit_commit_records": 7,
		"verdict_audit_errors_total": 0, "verdict_audit_poisoned": 0, "verdict_audit_unavailable_total": 0,
		"verdict_audit_growth_bytes_per_day": 0, "verdict_audit_free_bytes": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %v (%v), want %v", name, v, ok, want)
		}
	}
	if got["verdict_audit_size_bytes"] == 0 {
		t.Error("no size")
	}
	l.end(t)
}
