package opa

import (
	"net/http"
	"runtime"
	"strconv"
)

// allocBytes answers GET /metrics/alloc_bytes with the memory in use.
func allocBytes(w http.ResponseWriter, r *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	total := m.HeapInuse + m.StackInuse + m.MCacheInuse + m.MSpanInuse
	text := strconv.FormatUint(total, 10)
	if r.URL.Query().Get("pretty") == "true" {
		text = formatBytes(total)
	}
	_, _ = w.Write(append([]byte(text), '\n')) // the client may be gone
}

// formatBytes writes a size in the largest decimal unit that it fills.
func formatBytes(n uint64) string {
	const unit = 1000
	value, suffixes := float64(n), "KMGTPE"
	suffix := ""
	for i := 0; value >= unit && i < len(suffixes); i++ {
		value, suffix = value/unit, suffixes[i:i+1]
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + suffix + "B"
}
