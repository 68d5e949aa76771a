package verify

import "context"

// RunLayout is Run for a log of another shape, so that tests can have many files
// and segments.
func RunLayout(ctx context.Context, src Source, o Options, tile, segment, file int) (Report, error) {
	return runLayout(ctx, src, o, layout{tile: tile, segment: segment, file: file})
}

// ParsePrefix is parsePrefix.
func ParsePrefix(rec []byte) (seq uint64, micros int64, ok bool) { return parsePrefix(rec) }

// ValidJSON is checker.valid.
func ValidJSON(b []byte) bool {
	var c checker
	return c.valid(b)
}
