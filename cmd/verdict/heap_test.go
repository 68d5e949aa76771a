package main_test

import (
	"testing"

	verdict "github.com/verdict-pdp/verdict/cmd/verdict"
)

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 800, 20 << 20: 800, 64 << 20: 800, 128 << 20: 400, 256 << 20: 200, 512 << 20: 100, 8 << 30: 100,
	} {
		if got := verdict.GCPercentFor(live); got != want {
			t.Errorf("%d MiB live: %d, want %d", live>>20, got, want)
		}
	}
}
