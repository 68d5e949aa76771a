package main

import (
	"bytes"
	"math"
	"os"
	"runtime/debug"
	"strconv"
)

const (
	// gcPercent lets the heap grow ninefold between collections: a decision's
	// garbage is short-lived, and the live heap of a server is its policy and
	// data. boundHeap takes it down when that is large.
	gcPercent = 800
	// memoryShare of the machine's or container's memory is the soft limit at
	// which the collector works harder again, whatever gcPercent says.
	memoryShare = 0.7
)

// runtimeSettings is what the garbage collector and the scheduler were told.
type runtimeSettings struct {
	gcPercent   int
	gcOurs      bool  // GOGC is not set in the environment
	memoryLimit int64 // bytes; math.MaxInt64: none
	procsChosen bool  // GOMAXPROCS is set in the environment
}

// tuneRuntime sets the garbage collector up for a server. GOGC and GOMEMLIMIT
// in the environment win.
func tuneRuntime(environ []string) runtimeSettings {
	s := runtimeSettings{memoryLimit: debug.SetMemoryLimit(-1), procsChosen: lookupEnv(environ, "GOMAXPROCS") != ""}
	if lookupEnv(environ, "GOGC") == "" {
		s.gcPercent, s.gcOurs = gcPercent, true
		debug.SetGCPercent(gcPercent)
	} else {
		s.gcPercent = debug.SetGCPercent(gcPercent)
		debug.SetGCPercent(s.gcPercent)
	}
	if lookupEnv(environ, "GOMEMLIMIT") == "" {
		if total := availableMemory(); total > 0 {
			s.memoryLimit = int64(float64(total) * memoryShare)
			debug.SetMemoryLimit(s.memoryLimit)
		}
	}
	return s
}

// availableMemory is the memory of the control group or of the machine,
// whichever is less; 0 when neither can be read.
func availableMemory() int64 {
	least := int64(math.MaxInt64)
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(string(bytes.TrimSpace(raw)), 10, 64); err == nil {
			least = min(least, n)
		}
	}
	if raw, err := os.ReadFile("/proc/meminfo"); err == nil {
		if fields := bytes.Fields(raw); len(fields) > 1 && string(fields[0]) == "MemTotal:" {
			if n, err := strconv.ParseInt(string(fields[1]), 10, 64); err == nil {
				least = min(least, n<<10)
			}
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}

// percent is the setting of the collector now.
func (s runtimeSettings) percent() int {
	if !s.gcOurs {
		return s.gcPercent
	}
	return int(readMetric(percentMetric))
}
