// Package timespan reads durations as people write them, the same way wherever
// verdict takes one.
package timespan

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
	// maxText bounds a text, in bytes.
	maxText = 64
)

// Parse reads a duration as Go writes it, before which weeks and days may stand:
// 500ms, 1h30m, 30d, 2w, 1w3d, 1d12h. A week has seven days, a day 24 hours; both
// are whole numbers. A sign counts for the whole.
func Parse(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a duration; write a number with a unit, for example 500ms, 30s, 12h, 7d or 2w", shown(text))
	if len(text) > maxText {
		return 0, bad
	}
	rest, negative := strings.CutPrefix(text, "-")
	if !negative {
		rest = strings.TrimPrefix(rest, "+")
	}
	var total time.Duration
	for _, u := range []struct {
		name string
		size time.Duration
	}{{"w", week}, {"d", day}} {
		digits, after, found := strings.Cut(rest, u.name)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || n > uint64((math.MaxInt64-total)/u.size) {
			return 0, bad
		}
		total += time.Duration(n) * u.size
		if rest = after; rest == "" {
			return signed(total, negative), nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, "+") || d > math.MaxInt64-total {
		return 0, bad
	}
	return signed(total+d, negative), nil
}

func signed(d time.Duration, negative bool) time.Duration {
	if negative {
		return -d
	}
	return d
}

// shown bounds what is said again of a text.
func shown(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return text
}
