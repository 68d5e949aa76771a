package segment_test

import (
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/audit/storetest"
	"github.com/verdict-pdp/verdict/storage/segment"
)

// TestWindowIsNarrow checks that a window is found within blocks of 256 records,
// and that a clock that was set back hides nothing.
func TestWindowIsNarrow(t *testing.T) {
	store, err := segment.Open(t.TempDir(), segment.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	start := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	b := storetest.NewBatcher(store.Position())
	write := func(second int) {
		t.Helper()
		if err := store.Append(b.Next(100, start.Add(time.Duration(second)*time.Second))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		write(i)
	}
	first, next, err := store.Window(t.Context(), start.Add(50*time.Second), start.Add(51*time.Second))
	if err != nil || first < 5000-256 || first > 5000 || next < 5200 || next > 5200+256 {
		t.Errorf("[%d, %d), %v for [5000, 5200)", first, next, err)
	}
	if first, next, err = store.Window(t.Context(), start.Add(time.Hour), start.Add(2*time.Hour)); err != nil || next-first > 256 {
		t.Errorf("[%d, %d), %v for the future", first, next, err)
	}
	for i := range 10 { // the clock is an hour behind now
		write(i - 3600)
	}
	first, next, err = store.Window(t.Context(), start.Add(50*time.Second), start.Add(51*time.Second))
	if err != nil || first > 5000 || next < 5200 {
		t.Errorf("after the clock was set back: [%d, %d), %v for [5000, 5200)", first, next, err)
	}
}
