package audit

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrRecord is returned by Append and Submit for a record that breaks the rules
	// of its type: an unknown event, invalid JSON. Nothing is recorded.
	ErrRecord = errors.New("invalid record")

	// ErrUnavailable is what every *UnavailableError is: the record is not known to
	// be in the log, so what it records must not be answered.
	ErrUnavailable = errors.New("audit log unavailable")

	// ErrPoisoned is returned by Run, and is part of what Healthy and Append return,
	// after a write failed. The process must end; only a restart, which reads back
	// what is on the disk, makes the log usable again.
	ErrPoisoned = errors.New("audit log poisoned")

	// ErrNotFound is returned when the log holds no such record.
	ErrNotFound = errors.New("record not found")

	// ErrClosed is returned by reads after Close.
	ErrClosed = errors.New("audit log closed")
)

// Reason tells why a record could not be appended.
type Reason string

// The reasons of an UnavailableError.
const (
	// ReasonQueueFull: the queue had no room before the deadline.
	ReasonQueueFull Reason = "queue_full"
	// ReasonTimeout: the disk did not confirm before the deadline. The record may
	// appear in the log all the same.
	ReasonTimeout Reason = "timeout"
	// ReasonPoisoned: a write failed. The record may be found in the log after the
	// restart; the system.start record then covers it by delivery_unknown.
	ReasonPoisoned Reason = "poisoned"
	// ReasonDiskFull: free space is below Options.MinFreeBytes.
	ReasonDiskFull Reason = "disk_full"
	// ReasonClosed: the log is shutting down.
	ReasonClosed Reason = "closed"
)

// UnavailableError says that a record is not known to be durable. It wraps
// ErrUnavailable.
type UnavailableError struct {
	Reason     Reason
	RetryAfter time.Duration // how long a caller does well to wait
	Err        error         // the cause, may be nil
}

// Error names the reason and the cause.
func (e *UnavailableError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%v: %s", ErrUnavailable, e.Reason)
	}
	return fmt.Sprintf("%v: %s: %v", ErrUnavailable, e.Reason, e.Err)
}

// Unwrap returns ErrUnavailable and the cause.
func (e *UnavailableError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrUnavailable}
	}
	return []error{ErrUnavailable, e.Err}
}
