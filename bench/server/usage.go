package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clockTicks is USER_HZ, which Linux fixes at 100 for every architecture that
// Go runs on.
const clockTicks = 100

// Usage is what a server has used.
type Usage struct {
	// CPU is user and system time, to a hundredth of a second.
	CPU time.Duration
	// RSS is the resident memory in bytes, PeakRSS the most it ever was.
	RSS, PeakRSS int64
}

// Usage reads /proc/PID/stat and /proc/PID/status.
func (s *Server) Usage() (Usage, error) { return processUsage(s.PID()) }

func processUsage(pid int) (Usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	// proc(5): the second field is the name in brackets and may hold blanks;
	// utime and stime are fields 14 and 15.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return Usage{}, fmt.Errorf("read usage: /proc/%d/stat is short", pid)
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("read usage: %w", err)
		}
		ticks += n
	}
	u := Usage{CPU: time.Duration(ticks) * time.Second / clockTicks}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	u.RSS, u.PeakRSS = kilobytes(status, "VmRSS:"), kilobytes(status, "VmHWM:")
	return u, nil
}

func kilobytes(status []byte, name string) int64 {
	for line := range bytes.Lines(status) {
		fields := bytes.Fields(line)
		if len(fields) == 3 && string(fields[0]) == name {
			n, _ := strconv.ParseInt(string(fields[1]), 10, 64)
			return n << 10
		}
	}
	return 0
}

// LiveHeap returns the bytes that the last garbage collection of a Go server
// left alive, worked out from the heap size at which the next one is due:
// go_memstats_next_gc_bytes in /metrics is live * (1 + percent/100).
func (s *Server) LiveHeap(ctx context.Context, gcPercent int) (int64, error) {
	status, body, err := s.get(ctx, "/metrics", "")
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("read metrics: status %d", status)
	}
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "go_memstats_next_gc_bytes "); ok {
			next, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, fmt.Errorf("read metrics: %w", err)
			}
			return int64(next * 100 / float64(100+gcPercent)), nil
		}
	}
	return 0, fmt.Errorf("read metrics: no go_memstats_next_gc_bytes")
}

// FileSystem names the kind of file system that a folder lies on, and whether
// it keeps its files in memory.
func FileSystem(dir string) (name string, inMemory bool, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return "", false, fmt.Errorf("find the file system of %s: %w", dir, err)
	}
	switch int64(fs.Type) {
	case unix.TMPFS_MAGIC:
		return "tmpfs", true, nil
	case unix.RAMFS_MAGIC:
		return "ramfs", true, nil
	case unix.EXT4_SUPER_MAGIC:
		return "ext4", false, nil
	case unix.XFS_SUPER_MAGIC:
		return "xfs", false, nil
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs", false, nil
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs", false, nil
	default:
		return fmt.Sprintf("type %#x", fs.Type), false, nil
	}
}
