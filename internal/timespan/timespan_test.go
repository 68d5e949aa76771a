package timespan_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/timespan"
)

func TestParse(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"0": 0, "500ms": 500 * time.Millisecond, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "720h": 30 * day,
		"30d": 30 * day, "2w": 14 * day, "1w3d": 10 * day, "1d12h": 36 * time.Hour, "1w1ms": 7*day + time.Millisecond,
		"0d": 0, "-1h": -time.Hour, "-2d1h": -49 * time.Hour, "+7d": 7 * day, "106751d": 106751 * day,
		"9223372036854775807ns": math.MaxInt64,
	} {
		if got, err := timespan.Parse(text); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", "-", "+", "d", "w", "7", "7x", "1.5d", "-", "--1h", "+-1h", "1d-1h", "1d+1h", "1d2w", "1d2d", "1d5", "12h1d", "1 d", " 1d",
		"106752d", "15251w", "99999999999d", "106751d24h", "1D", "0x1d", "1_0d", strings.Repeat("0", 100) + "1d",
	} {
		if got, err := timespan.Parse(text); err == nil {
			t.Errorf("%q is taken as %v", text, got)
		} else if len(err.Error()) > 300 || !strings.Contains(err.Error(), "7d or 2w") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzParse: what Go reads is read the same, and nothing else but days and
// weeks is.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"30d", "1w3d", "1h30m", "-1d", "µs", "1d1d"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := timespan.Parse(text)
		plain, plainErr := time.ParseDuration(text)
		switch {
		case err == nil && plainErr == nil && got != plain:
			t.Errorf("%q: %v, Go reads %v", text, got, plain)
		case err == nil && plainErr != nil && !strings.ContainsAny(text, "dw"):
			t.Errorf("%q: %v, Go refuses it", text, got)
		case err != nil && plainErr == nil && len(text) <= 64 && plain != math.MinInt64:
			t.Errorf("%q is refused: %v", text, err)
		}
	})
}
