//go:build !linux

package background

// yield does nothing where a thread has no priority of its own.
func yield() {}
