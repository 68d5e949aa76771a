package main_test

import (
	"testing"

	verdict "github.com/verdict-pdp/verdict/cmd/verdict"
)

func TestGarbage(t *testing.T) {
	const MiB = 1 << 20
	for live, want := range map[uint64]uint64{
		0: 0, 20 * MiB: 160 * MiB, 64 * MiB: 512 * MiB, 128 * MiB: 512 * MiB, 512 * MiB: 512 * MiB, 8192 * MiB: 8192 * MiB,
	} {
		if got := verdict.GarbageFor(live); got != want {
			t.Errorf("%d MiB live: %d MiB, want %d", live/MiB, got/MiB, want/MiB)
		}
	}
}
