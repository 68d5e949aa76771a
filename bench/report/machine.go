package report

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine describes where the figures come from.
type Machine struct {
	// CPU is the processor's name and Cores how many were usable.
	CPU   string
	Cores int
	// Kernel is the kernel's version, without what the builder appended.
	Kernel string
	// Go is the version that built this program.
	Go string
	// FileSystem is the kind that verdict's log lay on.
	FileSystem string
	// Day is when it was measured.
	Day time.Time
}

// ThisMachine describes the machine that the program runs on.
func ThisMachine(fileSystem string) Machine {
	m := Machine{CPU: "unknown processor", Cores: runtime.NumCPU(), Kernel: "unknown", Go: runtime.Version(), FileSystem: fileSystem, Day: time.Now()}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				m.CPU = strings.Trim(name, "\t :\n")
				break
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel, _, _ = strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	}
	return m
}

// String describes the machine in one line.
func (m Machine) String() string {
	return fmt.Sprintf("Measured on %s: %d cores of %s, Linux %s, %s, verdict's log on %s",
		m.Day.Format(time.DateOnly), m.Cores, m.CPU, m.Kernel, m.Go, m.FileSystem)
}
