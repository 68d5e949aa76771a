//go:build !linux

package background

// yield does nothing where a thread has no priority of its own.
func yield() {}

// Prompt does nothing where the kernel cannot be asked.
func Prompt() error { return nil }
